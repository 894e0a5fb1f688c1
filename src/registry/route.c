/* Reads the path of a request. */
#include "registry/route.h"

#include <stdio.h>

enum {
    PATH_LIMIT = 2 * HOST_LIMIT + NAME_LIMIT + DIGEST_STRING_SIZE + 32,
    MALFORMED_MOST = DIGEST_STRING_SIZE - 1, /* bytes that are kept of a malformed reference */
    RAW_MOST = 3 * DIGEST_STRING_SIZE, /* of a reference that cannot be decoded; no valid one is as
                                          long */
};

static const struct {
    const char *path;
    enum route_kind kind;
} fixed[] = {
    {"/", ROUTE_PAGE},
    {"/livez", ROUTE_LIVE},
    {"/readyz", ROUTE_READY},
    {"/debug/health", ROUTE_READY}, /* as the CNCF registry calls it */
    {"/metrics", ROUTE_METRICS},
    {"/v2/", ROUTE_API},
    {"/v2", ROUTE_API},
    {"/v2/_catalog", ROUTE_CATALOG},
    {"/tarn/v1/flights", ROUTE_FLIGHTS},
    {"/tarn/v1/replicas", ROUTE_REPLICAS},
    {"/tarn/v1/forget", ROUTE_FORGET},
    {"/tarn/v1/renew", ROUTE_RENEW},
    {"/tarn/page.css", ROUTE_PAGE_FILE},
    {"/tarn/page.js", ROUTE_PAGE_FILE},
    {"/tarn/page.svg", ROUTE_PAGE_FILE},
};

static void read_reference(struct text text, struct route *route) {
    bool by_digest = memchr(text.at, ':', text.length) != NULL;
    bool only_digest = route->kind != ROUTE_MANIFEST;
    if (reference_parse(text, &route->reference) && (!only_digest || route->reference.is_digest))
        return;
    route->reference = (struct reference){0};
    route->fault = by_digest || only_digest ? ROUTE_BAD_DIGEST : ROUTE_BAD_TAG;
    text.length = text.length < MALFORMED_MOST ? text.length : MALFORMED_MOST;
    text_copy(text, route->malformed, sizeof route->malformed);
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

/* HOST/_catalog, NAME/manifests/REFERENCE, NAME/blobs/DIGEST, NAME/referrers/DIGEST,
 * NAME/tags/list, and NAME/blobs/uploads/ with whatever follows. The path is read from its end,
 * because a name may contain these words too. */
static void read_resource(struct text path, struct route *route) {
    struct text before = path;
    struct text last = cut_last(&before);
    if (!last.at)
        return;
    if (text_is(last, "_catalog") && reference_is_host(before)) {
        route->kind = ROUTE_CATALOG;
        text_copy(before, route->host, sizeof route->host);
        return;
    }
    struct text name = before;
    struct text word = cut_last(&name);
    if (!word.at || name.length == 0)
        return;
    if (text_is(word, "uploads")) {
        struct text outer = name;
        struct text blobs = cut_last(&outer);
        if (blobs.at && text_is(blobs, "blobs") && outer.length) {
            route->kind = ROUTE_UPLOAD;
            if (!text_copy(outer, route->name, sizeof route->name))
                route->fault = ROUTE_BAD_NAME;
            if (!text_copy(last, route->upload, sizeof route->upload))
                text_copy(text_of("?"), route->upload, sizeof route->upload); /* no session's */
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
        route->fault = ROUTE_BAD_NAME;
        return;
    }
    if (route->kind != ROUTE_TAGS && route->kind != ROUTE_UPLOAD)
        read_reference(last, route);
}

static bool read_fixed(struct text path, struct route *route) {
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) {
        if (text_is(path, fixed[i].path)) {
            route->kind = fixed[i].kind;
            return true;
        }
    }
    return false;
}

/*
 * Decodes the path. If that fails because of the last part (too long for any reference, or a
 * malformed escape), the rest is decoded, and the last part stays as given: it is a malformed
 * reference of a sound name.
 */
static bool decode(struct text path, char *out, size_t size) {
    if (text_percent_decode(path, out, size))
        return true;
    struct text before = path, last = cut_last(&before);
    if (!last.at || !text_percent_decode(before, out, size))
        return false;
    size_t length = strlen(out);
    last.length = last.length < RAW_MOST ? last.length : RAW_MOST;
    out[length] = '/';
    return length + 1 < size && text_copy(last, out + length + 1, size - length - 1);
}

/* Cuts "/HOST" off "/HOST/v2" and "/HOST/v2/…", which is what dockerd and containerd ask for when
 * the address of a mirror has a path. */
static struct text cut_host(struct text path, struct route *route) {
    struct text rest;
    struct text host = text_cut(text_from(path, 1), '/', &rest);
    if (!rest.at || !reference_is_host(host) ||
        !(text_is(rest, "v2") || text_starts(rest, "v2/")) ||
        !text_copy(host, route->host, sizeof route->host))
        return path;
    return text_from(path, 1 + host.length);
}

/* HOST/NAME behind /tarn/v1/images/. */
static bool read_images(struct text path, struct route *route) {
    static const char prefix[] = "/tarn/v1/images/";
    if (!text_starts(path, prefix))
        return false;
    route->kind = ROUTE_IMAGES;
    if (!text_percent_decode(text_from(path, strlen(prefix)), route->name, sizeof route->name)) {
        route->name[0] = '\0';
        route->fault = ROUTE_BAD_NAME;
    }
    return true;
}

/* HOST/NAME@DIGEST, or a digest, behind /tarn/v1/streaming/WORD/. */
static bool read_streaming(struct text path, struct route *route) {
    static const struct {
        const char *prefix;
        enum route_kind kind;
    } words[] = {
        {"/tarn/v1/streaming/layer/", ROUTE_STREAM_LAYER},
        {"/tarn/v1/streaming/image/", ROUTE_STREAM_IMAGE},
        {"/tarn/v1/streaming/frames/", ROUTE_STREAM_COPY},
        {"/tarn/v1/streaming/trace/", ROUTE_STREAM_TRACE},
        {"/tarn/v1/streaming/chain/", ROUTE_STREAM_CHAIN},
    };
    char decoded[PATH_LIMIT];
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (!text_starts(path, words[i].prefix))
            continue;
        route->kind = words[i].kind;
        struct text rest = text_from(path, strlen(words[i].prefix)), digest;
        if (!text_percent_decode(rest, decoded, sizeof decoded)) {
            route->fault = ROUTE_BAD_NAME;
            return true;
        }
        rest = text_of(decoded);
        if (route->kind == ROUTE_STREAM_CHAIN) {
            read_reference(rest, route);
            return true;
        }
        struct text name = text_cut(rest, '@', &digest);
        if (name.length == 0 || !text_copy(name, route->name, sizeof route->name))
            route->fault = ROUTE_BAD_NAME;
        else
            read_reference(digest.at ? digest : (struct text){"", 0}, route);
        return true;
    }
    return false;
}

void route_parse(struct text path, struct route *route) {
    char decoded[PATH_LIMIT * 2];
    *route = (struct route){.kind = ROUTE_NONE};
    if (path.length == 0 || read_fixed(path, route) || read_images(path, route) ||
        read_streaming(path, route))
        return;
    if (!decode(path, decoded, sizeof decoded)) {
        /* Longer than any name and reference, or a malformed percent escape in the name. */
        if (text_starts(path, "/v2/")) {
            route->kind = ROUTE_MANIFEST;
            route->fault = ROUTE_BAD_NAME;
        }
        return;
    }
    struct text rest = text_of(decoded);
    if (!text_starts(rest, "/v2/"))
        rest = cut_host(rest, route);
    if (route->host[0] && read_fixed(rest, route))
        return;
    if (text_starts(rest, "/v2/"))
        read_resource(text_from(rest, strlen("/v2/")), route);
}

bool route_is_for_probes(enum route_kind kind) {
    return kind == ROUTE_LIVE || kind == ROUTE_READY || kind == ROUTE_METRICS;
}

bool route_is_for_replicas(enum route_kind kind) {
    return kind == ROUTE_FORGET || kind == ROUTE_RENEW;
}

const char *route_name(enum route_kind kind) {
    switch (kind) {
    case ROUTE_NONE:
        return "none";
    case ROUTE_PAGE:
        return "page";
    case ROUTE_PAGE_FILE:
        return "page-file";
    case ROUTE_LIVE:
        return "livez";
    case ROUTE_READY:
        return "readyz";
    case ROUTE_METRICS:
        return "metrics";
    case ROUTE_FLIGHTS:
        return "flights";
    case ROUTE_REPLICAS:
        return "replicas";
    case ROUTE_FORGET:
        return "forget";
    case ROUTE_RENEW:
        return "renew";
    case ROUTE_IMAGES:
        return "images";
    case ROUTE_STREAM_LAYER:
        return "streaming-layer";
    case ROUTE_STREAM_IMAGE:
        return "streaming-image";
    case ROUTE_STREAM_COPY:
        return "streaming-frames";
    case ROUTE_STREAM_TRACE:
        return "streaming-trace";
    case ROUTE_STREAM_CHAIN:
        return "streaming-chain";
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
