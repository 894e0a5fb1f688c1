/* Makes the names of everything below the root. */
#include "store/paths.h"

#include <stdarg.h>
#include <stdio.h>

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

/* The directory of a repository's records; `format` continues it. */
#define REPOSITORY        "repositories/%s/%s/"
#define NAMES(repository) (repository)->host, (repository)->path

void store_path_links(char out[static PATH_SIZE], const struct repository_name *repository,
                      const char *kind, enum digest_algorithm algorithm) {
    path_format(out, REPOSITORY "%s/%s", NAMES(repository), kind, digest_algorithm_name(algorithm));
}

bool store_path_link(char out[static PATH_SIZE], const struct repository_name *repository,
                     const char *kind, const struct digest *digest) {
    char text[DIGEST_STRING_SIZE];
    const char *hex = digest_hex(digest, text);
    return hex && path_format(out, REPOSITORY "%s/%s/%s", NAMES(repository), kind,
                              digest_algorithm_name(digest->algorithm), hex);
}

void store_path_tags(char out[static PATH_SIZE], const struct repository_name *repository) {
    path_format(out, REPOSITORY "_tags", NAMES(repository));
}

bool store_path_tag(char out[static PATH_SIZE], const struct repository_name *repository,
                    const char *tag) {
    return tag && reference_is_tag(text_of(tag)) &&
           path_format(out, REPOSITORY "_tags/%s", NAMES(repository), tag);
}
