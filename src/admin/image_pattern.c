#include "admin/image_pattern.h"

#include <stdio.h>
#include <stdlib.h>
#include "admin/order.h"
#include "base/cleanup.h"
#include "upstream/upstream.h"

static bool refuse(struct error *error, struct text text, const char *why) {
    return error_set(error, ERROR_INVALID,
                     "%.*s: %s; write UPSTREAM/REPOSITORY, with :TAG or @DIGEST behind it, as in "
                     "docker.io/library/alpine:3.20 or 'ghcr.io/org/**'",
                     TEXT_PRINT(text), why);
}

/* The pattern with a letter for each wildcard, to be judged by a name's own grammar. */
static struct text sample(const char *pattern, char *out, size_t size) {
    snprintf(out, size, "%s", pattern);
    for (char *c = out; *c; c++) {
        if (*c == '*' || *c == '?')
            *c = 'a';
    }
    return text_of(out);
}

static bool read_host(struct text text, char out[static HOST_LIMIT + 1]) {
    char like[HOST_LIMIT + 1];
    if (!text_copy(text, out, HOST_LIMIT + 1) || !reference_is_host(sample(out, like, sizeof like)))
        return false;
    return strpbrk(out, "*?") || upstream_canonical_host(text, out);
}

/* Docker Hub's one-part names stand for library/. `**` may be of many parts already. */
static bool read_repository(struct text text, const char *host, char *out, size_t size) {
    char like[NAME_LIMIT + 1], name[NAME_LIMIT + 1];
    if (!text_copy(text, name, sizeof name) ||
        !reference_is_repository(sample(name, like, sizeof like)))
        return false;
    bool add_library = strcmp(host, "docker.io") == 0 && !strchr(name, '/') && !strstr(name, "**");
    int length = snprintf(out, size, "%s/%s%s", host, add_library ? "library/" : "", name);
    return length > 0 && (size_t)length < size;
}

bool content_name_parse(struct text text, struct content_name *out, struct error *error) {
    char host[HOST_LIMIT + 1], like[TAG_LIMIT + 1];
    struct text digest, tag, name;
    *out = (struct content_name){0};
    if (text_is(text, "**")) {
        text_copy(text, out->repository, sizeof out->repository);
        return true;
    }
    if (text.length > sizeof *out)
        return refuse(error, (struct text){text.at, 40}, "too long");
    struct text upstream = text_cut(text, '/', &name);
    if (!name.at)
        return refuse(error, text, "no upstream stands in front");
    name = text_cut(name, '@', &digest);
    name = text_cut(name, ':', &tag);
    if (!read_host(upstream, host))
        return refuse(error, text, "what stands in front is no upstream's host");
    if (!read_repository(name, host, out->repository, sizeof out->repository))
        return refuse(error, text, "it holds no repository name");
    if (digest.at && !digest_parse(digest, &out->digest))
        return refuse(error, text, "what stands behind the @ is no digest");
    /* As in a pull, a digest outweighs the tag that stands beside it. */
    if (!tag.at)
        return true;
    if (!text_copy(tag, out->tag, sizeof out->tag) ||
        !reference_is_tag(sample(out->tag, like, sizeof like)))
        return refuse(error, text, "what stands behind the : is no tag");
    if (digest.at)
        out->tag[0] = '\0';
    return true;
}

struct content_name *content_names_parse(const char *const *texts, size_t *count,
                                         struct error *error) {
    for (*count = 0; texts && texts[*count];)
        ++*count;
    cleanup_free struct content_name *names = calloc(*count + 1, sizeof *names);
    if (!names)
        error_set(error, ERROR_MEMORY, "out of memory");
    for (size_t i = 0; names && i < *count; i++) {
        if (!content_name_parse(text_of(texts[i]), &names[i], error))
            return NULL;
    }
    return take(names);
}

bool contents_is_name(const char *text, struct error *error) {
    struct content_name name;
    return content_name_parse(text_of(text), &name, error);
}

bool content_name_is_whole(const struct content_name *name) {
    return !name->tag[0] && name->digest.algorithm == 0;
}

bool content_name_takes_repository(const struct content_name *name, const char *host,
                                   const char *repository) {
    char whole[HOST_LIMIT + 1 + NAME_LIMIT + 1];
    snprintf(whole, sizeof whole, "%s/%s", host, repository);
    return text_matches_glob(name->repository, text_of(whole));
}

bool content_name_takes_tag(const struct content_name *name, const char *tag,
                            const struct digest *digest) {
    if (name->digest.algorithm)
        return digest_equal(&name->digest, digest);
    return name->tag[0] && text_matches_glob(name->tag, text_of(tag));
}
