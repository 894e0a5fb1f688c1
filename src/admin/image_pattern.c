/* Parses and matches patterns of images. */
#include "admin/image_pattern.h"

#include <stdio.h>
#include <stdlib.h>
#include "base/cleanup.h"
#include "upstream/upstream.h"

static bool refuse(struct error *error, struct text text, const char *why) {
    return error_set(error, ERROR_INVALID,
                     "%.*s: %s; write UPSTREAM/REPOSITORY, with :TAG or @DIGEST behind it, as in "
                     "docker.io/library/alpine:3.20 or 'ghcr.io/org/**'",
                     TEXT_PRINT(text), why);
}

/* The pattern with a letter in place of each wildcard, so that the grammar of names can check it.
 */
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

/* Docker Hub's one-part names get library/ in front, but not `**`, which may match many parts. */
static bool read_repository(struct text text, const char *host, char *out, size_t size) {
    char like[NAME_LIMIT + 1], name[NAME_LIMIT + 1];
    if (!text_copy(text, name, sizeof name) ||
        !reference_is_repository(sample(name, like, sizeof like)))
        return false;
    bool add_library = strcmp(host, "docker.io") == 0 && !strchr(name, '/') && !strstr(name, "**");
    int length = snprintf(out, size, "%s/%s%s", host, add_library ? "library/" : "", name);
    return length > 0 && (size_t)length < size;
}

bool image_pattern_parse(struct text text, struct image_pattern *out, struct error *error) {
    char host[HOST_LIMIT + 1], like[TAG_LIMIT + 1];
    struct text digest, tag, name;
    *out = (struct image_pattern){0};
    if (text_is(text, "**")) {
        text_copy(text, out->repository, sizeof out->repository);
        return true;
    }
    if (text.length > sizeof *out)
        return refuse(error, (struct text){text.at, 40}, "too long");
    struct text upstream = text_cut(text, '/', &name);
    if (!name.at)
        return refuse(error, text, "it has no upstream in front");
    name = text_cut(name, '@', &digest);
    name = text_cut(name, ':', &tag);
    if (!read_host(upstream, host))
        return refuse(error, text, "the part in front is not the host of an upstream");
    if (!read_repository(name, host, out->repository, sizeof out->repository))
        return refuse(error, text, "it has no valid repository name");
    if (digest.at && !digest_parse(digest, &out->digest))
        return refuse(error, text, "the part behind the @ is not a digest");
    /* As in a pull, a digest wins over a tag. */
    if (!tag.at)
        return true;
    if (!text_copy(tag, out->tag, sizeof out->tag) ||
        !reference_is_tag(sample(out->tag, like, sizeof like)))
        return refuse(error, text, "the part behind the : is not a tag");
    if (digest.at)
        out->tag[0] = '\0';
    return true;
}

struct image_pattern *image_patterns_parse(const char *const *texts, size_t *count,
                                           struct error *error) {
    for (*count = 0; texts && texts[*count];)
        ++*count;
    cleanup_free struct image_pattern *names = calloc(*count + 1, sizeof *names);
    if (!names)
        error_set(error, ERROR_MEMORY, "out of memory");
    for (size_t i = 0; names && i < *count; i++) {
        if (!image_pattern_parse(text_of(texts[i]), &names[i], error))
            return NULL;
    }
    return take(names);
}

bool image_pattern_is_whole(const struct image_pattern *pattern) {
    return !pattern->tag[0] && pattern->digest.algorithm == 0;
}

bool image_pattern_matches_repository(const struct image_pattern *pattern,
                                      const struct repository_name *repository) {
    char whole[HOST_LIMIT + 1 + NAME_LIMIT + 1];
    snprintf(whole, sizeof whole, "%s/%s", repository->host, repository->path);
    return text_matches_glob(pattern->repository, text_of(whole));
}

bool image_pattern_matches_tag(const struct image_pattern *pattern, const char *tag,
                               const struct digest *digest) {
    if (pattern->digest.algorithm)
        return digest_equal(&pattern->digest, digest);
    return pattern->tag[0] && text_matches_glob(pattern->tag, text_of(tag));
}
