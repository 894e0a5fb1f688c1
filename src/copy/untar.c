/* Reads tar archives, and decompresses layers. */
#include "copy/untar.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE = 128 << 10 };

static bool fail(struct archive *archive, const char *path, struct error *error) {
    int number = archive_errno(archive);
    const char *why = archive_error_string(archive);
    if (number == ENOMEM)
        return error_set(error, ERROR_MEMORY, "out of memory");
    if (number == ENOENT)
        return error_set(error, ERROR_NOT_FOUND, "docker-archive:%s: no such file", path);
    return error_set(error, ERROR_INVALID, "docker-archive:%s: %s", path,
                     why ? why : "it cannot be read");
}

/* What of libarchive's compressions is understood. Others may start programs. */
static void support_filters(struct archive *archive) {
    archive_read_support_filter_gzip(archive);
    archive_read_support_filter_zstd(archive);
    archive_read_support_filter_xz(archive);
    archive_read_support_filter_bzip2(archive);
}

struct archive *copy_untar_open(const char *path, struct error *error) {
    struct archive *archive = archive_read_new();
    if (!archive) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    support_filters(archive);
    archive_read_support_format_tar(archive);
    if (archive_read_open_filename(archive, path, PIECE) == ARCHIVE_OK)
        return archive;
    fail(archive, path, error);
    archive_read_free(archive);
    return NULL;
}

bool copy_untar_next(struct archive *archive, const char *path, struct archive_entry **entry,
                     struct error *error) {
    int status = archive_read_next_header(archive, entry);
    if (status == ARCHIVE_EOF)
        *entry = NULL;
    /* A warning is about attributes, which do not matter here. */
    return status == ARCHIVE_EOF || status == ARCHIVE_OK || status == ARCHIVE_WARN ||
           fail(archive, path, error);
}

/* ---- names ---- */

/* Takes the last part off. False: there is none. */
static bool go_up(char *name) {
    char *slash = strrchr(name, '/');
    if (!*name)
        return false;
    if (slash)
        *slash = '\0';
    else
        *name = '\0';
    return true;
}

static bool go_down(char *name, struct text part) {
    size_t length = strlen(name);
    if (length + 1 + part.length > COPY_UNTAR_NAME_LIMIT)
        return false;
    snprintf(name + length, COPY_UNTAR_NAME_LIMIT + 1 - length, "%s%.*s", length ? "/" : "",
             TEXT_PRINT(part));
    return true;
}

bool copy_untar_clean_name(const char *from, const char *name,
                           char out[static COPY_UNTAR_NAME_LIMIT + 1]) {
    struct text rest = text_of(name);
    out[0] = '\0';
    if (name[0] != '/' && from) {
        if (!text_copy(text_of(from), out, COPY_UNTAR_NAME_LIMIT + 1))
            return false;
        go_up(out);
    }
    while (rest.at) {
        struct text part = text_cut(rest, '/', &rest);
        if (part.length == 0 || text_is(part, "."))
            continue;
        if (!(text_is(part, "..") ? go_up(out) : go_down(out, part)))
            return false;
    }
    return out[0] != '\0';
}

/* ---- data ---- */

static bool pass_data(struct archive *archive, const char *path,
                      bool (*take)(void *context, const void *bytes, size_t length,
                                   struct error *error),
                      void *context, const struct error *inner, struct error *error) {
    char *bytes = malloc(PIECE);
    if (!bytes)
        return error_set(error, ERROR_MEMORY, "out of memory");
    ssize_t length;
    bool ok = true;
    /* A warning is passed over as libarchive's own programs do; what is fatal is below 0, too. */
    while (ok && (length = archive_read_data(archive, bytes, PIECE)) > 0)
        ok = take(context, bytes, (size_t)length, error);
    free(bytes);
    if (!ok || length == 0)
        return ok;
    if (!inner || inner->kind == ERROR_NONE)
        return fail(archive, path, error);
    if (error)
        *error = *inner;
    return false;
}

bool copy_untar_read(struct archive *archive, const char *path,
                     bool (*take)(void *context, const void *bytes, size_t length,
                                  struct error *error),
                     void *context, struct error *error) {
    return pass_data(archive, path, take, context, NULL, error);
}

/* A body as libarchive reads it. */
struct inflating {
    struct copy_body *body;
    char *piece;
    bool ended;
    struct error error;
};

static la_ssize_t give_piece(struct archive *archive, void *context, const void **bytes) {
    struct inflating *inflating = context;
    size_t length = 0;
    *bytes = inflating->piece;
    if (inflating->ended)
        return 0;
    if (copy_body_read(inflating->body, inflating->piece, PIECE, &length, &inflating->ended,
                       &inflating->error))
        return (la_ssize_t)length;
    archive_set_error(archive, EIO, "%s", inflating->error.text);
    return -1;
}

static bool inflate_opened(struct archive *archive, struct inflating *inflating,
                           bool (*take)(void *context, const void *bytes, size_t length,
                                        struct error *error),
                           void *context, struct error *error) {
    struct archive_entry *entry;
    int status = archive_read_open(archive, inflating, NULL, give_piece, NULL);
    if (status == ARCHIVE_OK)
        status = archive_read_next_header(archive, &entry);
    if (status == ARCHIVE_EOF) /* no byte at all */
        return true;
    if (status == ARCHIVE_OK || status == ARCHIVE_WARN)
        return pass_data(archive, "a layer", take, context, &inflating->error, error);
    if (inflating->error.kind == ERROR_NONE)
        return error_set(error, ERROR_INVALID, "a layer cannot be decompressed: %s",
                         archive_error_string(archive));
    if (error)
        *error = inflating->error;
    return false;
}

bool copy_untar_inflate(struct copy_body *body,
                        bool (*take)(void *context, const void *bytes, size_t length,
                                     struct error *error),
                        void *context, struct error *error) {
    struct inflating inflating = {.body = body, .piece = malloc(PIECE)};
    struct archive *archive = archive_read_new();
    bool ok = (inflating.piece && archive) || error_set(error, ERROR_MEMORY, "out of memory");
    if (ok) {
        support_filters(archive);
        archive_read_support_format_raw(archive);
        archive_read_support_format_empty(archive);
        ok = body->seek(body->context, 0, error) &&
             inflate_opened(archive, &inflating, take, context, error);
    }
    /* Bytes behind the end of the compression are checked and dropped. */
    size_t length;
    while (ok && !inflating.ended)
        ok = copy_body_read(body, inflating.piece, PIECE, &length, &inflating.ended, error);
    archive_read_free(archive);
    free(inflating.piece);
    return ok;
}

bool copy_untar_is_gzip(const void *bytes, size_t length) {
    return length >= 2 && memcmp(bytes, "\x1f\x8b", 2) == 0;
}

bool copy_untar_is_zstd(const void *bytes, size_t length) {
    return length >= 4 && memcmp(bytes, "\x28\xb5\x2f\xfd", 4) == 0;
}
