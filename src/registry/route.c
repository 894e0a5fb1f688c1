/* Reads the path of a request. */
#include "registry/route.h"

#include <stdio.h>

enum { PATH_LIMIT = HOST_LIMIT + NAME_LIMIT + DIGEST_STRING_SIZE + 32 };

static const struct {
    const char *path;
    enum route_kind kind;
} fixed[] = {
    {"/", ROUTE_PAGE},
    {"/livez", ROUTE_LIVE},
    {"/readyz", ROUTE_READY},
    {"/metrics", ROUTE_METRICS},
    {"/v2/", ROUTE_API},
    {"/v2", ROUTE_API},
    {"/v2/_catalog", ROUTE_CATALOG},
    {"/tarn/v1/flights", ROUTE_FLIGHTS},
};

static void read_reference(struct text text, struct route *route) {
    bool by_digest = memchr(text.at, ':', text.length) != NULL;
    bool only_digest = route->kind != ROUTE_MANIFEST;
    if (!reference_parse(text, &route->reference) || (only_digest && !route->reference.is_digest))
        route->bad = by_digest || only_digest ? "DIGEST_INVALID" : "TAG_INVALID";
}

/* Cuts the part behind the last '/' off `path` and returns it; at == NULL when there is no '/'. */
static struct text cut_last(struct text *path) {
    const char *slash = memrchr(path->at, '/', path->length);
    if (!slash)
        return (struct text){NULL, 0};
    size_t before = (size_t)(slash - path->at);
    struct text last = text_from(*path, before + 1);
    path->length = before;
    return last;
}

/* NAME/manifests/REFERENCE, NAME/blobs/DIGEST, NAME/referrers/DIGEST, NAME/tags/list, and
 * NAME/blobs/uploads/ with whatever follows. The path is read from its end, because a name may
 * contain these words too. */
static void read_resource(struct text path, struct route *route) {
    struct text before = path;
    struct text last = cut_last(&before);
    if (!last.at)
        return;
    struct text name = before;
    struct text word = cut_last(&name);
    if (!word.at || name.length == 0)
        return;
    if (text_is(word, "uploads")) {
        struct text outer = name;
        struct text blobs = cut_last(&outer);
        if (blobs.at && text_is(blobs, "blobs") && outer.length) {
            route->kind = ROUTE_UPLOAD;
            text_copy(outer, route->name, sizeof route->name);
            return;
        }
    }
    if (text_is(word, "blobs") && text_is(last, "uploads"))
        route->kind = ROUTE_UPLOAD;
    else if (text_is(word, "manifests"))
        route->kind = ROUTE_MANIFEST;
    else if (text_is(word, "blobs"))
        route->kind = ROUTE_BLOB;
    else if (text_is(word, "referrers"))
        route->kind = ROUTE_REFERRERS;
    else if (text_is(word, "tags") && text_is(last, "list"))
        route->kind = ROUTE_TAGS;
    else
        return;
    if (!text_copy(name, route->name, sizeof route->name)) {
        route->bad = "NAME_INVALID";
        return;
    }
    if (route->kind != ROUTE_TAGS && route->kind != ROUTE_UPLOAD)
        read_reference(last, route);
}

void route_parse(struct text path, struct route *route) {
    char decoded[PATH_LIMIT * 2];
    *route = (struct route){.kind = ROUTE_NONE};
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) {
        if (text_is(path, fixed[i].path)) {
            route->kind = fixed[i].kind;
            return;
        }
    }
    if (!text_starts(path, "/v2/"))
        return;
    if (!text_percent_decode(path, decoded, sizeof decoded)) {
        /* Longer than any name and reference, or a malformed percent escape. */
        route->kind = ROUTE_MANIFEST;
        route->bad = "NAME_INVALID";
        return;
    }
    read_resource(text_from(text_of(decoded), strlen("/v2/")), route);
}

const char *route_name(enum route_kind kind) {
    switch (kind) {
    case ROUTE_NONE:
        return "none";
    case ROUTE_PAGE:
        return "page";
    case ROUTE_LIVE:
        return "livez";
    case ROUTE_READY:
        return "readyz";
    case ROUTE_METRICS:
        return "metrics";
    case ROUTE_FLIGHTS:
        return "flights";
    case ROUTE_API:
        return "base";
    case ROUTE_CATALOG:
        return "catalog";
    case ROUTE_MANIFEST:
        return "manifest";
    case ROUTE_BLOB:
        return "blob";
    case ROUTE_TAGS:
        return "tags";
    case ROUTE_REFERRERS:
        return "referrers";
    case ROUTE_UPLOAD:
        return "blob-upload";
    case ROUTE_KINDS:
        break;
    }
    return "none";
}
