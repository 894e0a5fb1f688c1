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

bool store_path_flat_digest(struct text name, struct digest *out) {
    char text[DIGEST_STRING_SIZE];
    if (!text_copy(name, text, sizeof text))
        return false;
    char *dash = strchr(text, '-');
    if (!dash)
        return false;
    *dash = ':';
    return digest_parse(text_of(text), out);
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

static const char hex_digits[] = "0123456789abcdef";

enum { FILE_SIZE = TAG_LIMIT + 1 + TAG_LIMIT / 4 + 1 }; /* of a tag's file name: '+', the digits */

static bool is_upper(char c) {
    return c >= 'A' && c <= 'Z';
}

/* The name on a file system that ignores case. */
static void fold_tag(const char *tag, char out[static FILE_SIZE]) {
    const size_t length = strlen(tag);
    unsigned digits[TAG_LIMIT / 4] = {0};
    size_t count = 0;
    for (size_t i = 0; i < length; i++) {
        out[i] = is_upper(tag[i]) ? (char)(tag[i] - 'A' + 'a') : tag[i];
        if (is_upper(tag[i])) {
            digits[i / 4] |= 1U << i % 4;
            count = i / 4 + 1;
        }
    }
    out[length] = '+';
    for (size_t i = 0; i < count; i++)
        out[length + 1 + i] = hex_digits[digits[i]];
    out[length + 1 + count] = '\0';
}

bool store_path_tag(char out[static PATH_SIZE], const struct repository_name *repository,
                    const char *tag, bool ignores_case) {
    char file[FILE_SIZE];
    if (!tag || !reference_is_tag(text_of(tag)))
        return false;
    if (ignores_case)
        fold_tag(tag, file);
    return path_format(out, REPOSITORY "_tags/%s", NAMES(repository), ignores_case ? file : tag);
}

bool store_path_tag_of_file(const char *name, bool ignores_case, char tag[static TAG_SIZE]) {
    struct text digits = {0};
    const struct text lower = ignores_case ? text_cut(text_of(name), '+', &digits) : text_of(name);
    if (!reference_is_tag(lower) || !text_copy(lower, tag, TAG_SIZE))
        return false;
    if (!ignores_case)
        return true;
    for (size_t i = 0; i < lower.length && i / 4 < digits.length; i++) {
        const char *digit = strchr(hex_digits, digits.at[i / 4]);
        if (digit && (digit - hex_digits) >> i % 4 & 1 && tag[i] >= 'a' && tag[i] <= 'z')
            tag[i] = (char)(tag[i] - 'a' + 'A');
    }
    /* Only the name that fold_tag() gives is the tag's: no two files are one tag. */
    char file[FILE_SIZE];
    fold_tag(tag, file);
    return strcmp(file, name) == 0;
}
