/* Makes the names of everything below the root. */
#include "store/paths.h"

#include <stdarg.h>
#include <stdio.h>
#include "oci/reference.h"

static bool path_format(char out[static PATH_SIZE], const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static bool path_format(char out[static PATH_SIZE], const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(out, PATH_SIZE, format, arguments);
    va_end(arguments);
    return length > 0 && length < PATH_SIZE;
}

/* The hex part of a digest's text, which is in `text`; NULL for what is no digest. */
static const char *digest_hex(const struct digest *digest, char text[static DIGEST_STRING_SIZE]) {
    if (digest->algorithm != DIGEST_SHA256 && digest->algorithm != DIGEST_SHA512)
        return NULL;
    return digest_format(digest, text) + strlen("sha256:");
}

bool store_path_blob(char out[static PATH_SIZE], const struct digest *digest) {
    char text[DIGEST_STRING_SIZE];
    const char *hex = digest_hex(digest, text);
    return hex &&
           path_format(out, "blobs/%s/%.2s/%s", digest_algorithm_name(digest->algorithm), hex, hex);
}

bool store_path_flat(char out[static PATH_SIZE], const char *folder, const struct digest *digest,
                     const char *suffix) {
    char text[DIGEST_STRING_SIZE];
    const char *hex = digest_hex(digest, text);
    return hex && path_format(out, "%s/%s-%s%s", folder, digest_algorithm_name(digest->algorithm),
                              hex, suffix);
}

static bool is_repository_of_host(const char *host, const char *repository) {
    return host && repository && reference_is_host(text_of(host)) &&
           reference_is_repository(text_of(repository));
}

bool store_path_links(char out[static PATH_SIZE], const char *host, const char *repository,
                      const char *kind, enum digest_algorithm algorithm) {
    return (algorithm == DIGEST_SHA256 || algorithm == DIGEST_SHA512) &&
           is_repository_of_host(host, repository) &&
           path_format(out, "repositories/%s/%s/%s/%s", host, repository, kind,
                       digest_algorithm_name(algorithm));
}

bool store_path_link(char out[static PATH_SIZE], const char *host, const char *repository,
                     const char *kind, const struct digest *digest) {
    char text[DIGEST_STRING_SIZE];
    const char *hex = digest_hex(digest, text);
    return hex && is_repository_of_host(host, repository) &&
           path_format(out, "repositories/%s/%s/%s/%s/%s", host, repository, kind,
                       digest_algorithm_name(digest->algorithm), hex);
}

bool store_path_tags(char out[static PATH_SIZE], const char *host, const char *repository) {
    return is_repository_of_host(host, repository) &&
           path_format(out, "repositories/%s/%s/_tags", host, repository);
}

bool store_path_tag(char out[static PATH_SIZE], const char *host, const char *repository,
                    const char *tag) {
    return tag && is_repository_of_host(host, repository) && reference_is_tag(text_of(tag)) &&
           path_format(out, "repositories/%s/%s/_tags/%s", host, repository, tag);
}
