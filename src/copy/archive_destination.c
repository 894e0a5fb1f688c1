/*
 * Writes an image as an archive as `docker load` reads it: the layers uncompressed, the config, and
 * manifest.json. The size of an uncompressed layer is known at its end, so that its header is
 * written last. The archive gets its name when it is complete.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "copy/destinations.h"
#include "copy/tar.h"
#include "copy/untar.h"
#include "oci/digest_set.h"
#include "oci/manifest.h"

enum { NAME_SIZE = 100, BINARY_SIZE_FROM_BIT = 33 };

struct archive_destination {
    struct copy_destination destination;
    struct copy_reference reference;
    char *temporary; /* owned; NULL: nothing was written */
    int fd;
    uint64_t end;                    /* of what is complete; a whole number of blocks */
    uint64_t at;                     /* of the file under way */
    struct digest_set written, json; /* blobs; those that begin as JSON does */
    bool has_manifest;
};

static struct archive_destination *own_of(struct copy_destination *destination) {
    return (struct archive_destination *)destination;
}

static bool check_rights(struct copy_destination *destination, struct error *error) {
    struct archive_destination *own = own_of(destination);
    const char *path = own->reference.path;
    if (own->fd >= 0)
        return true;
    if (asprintf(&own->temporary, "%s.tarn-%d", path, (int)getpid()) < 0) {
        own->temporary = NULL;
        return error_set(error, ERROR_MEMORY, "out of memory");
    }
    own->fd = open(own->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (own->fd >= 0)
        return true;
    error_set_errno(error, errno, "docker-archive:%s cannot be written", path);
    free(take(own->temporary));
    return false;
}

/* ---- files of the archive ---- */

/* A size that does not fit into eleven octal digits is binary, with the first bit set (GNU). */
static void write_size(uint64_t size, char out[static 12]) {
    if (size >> BINARY_SIZE_FROM_BIT == 0) {
        snprintf(out, 12, "%011llo", (unsigned long long)size);
        return;
    }
    memset(out, 0, 12);
    out[0] = (char)0x80;
    for (int i = 11; size > 0; i--, size >>= 8)
        out[i] = (char)(size & 0xff);
}

/* Writes the header of a file of 1970 which everybody may read. It has one block whatever the size
 * is, unlike those of copy/tar.h, because its place is kept before the size is known. */
static void write_header(const char *name, uint64_t size, char out[static TAR_BLOCK]) {
    unsigned sum = 0;
    memset(out, 0, TAR_BLOCK);
    snprintf(out, NAME_SIZE, "%s", name);
    snprintf(out + 100, 8, "%07o", 0444U);
    snprintf(out + 108, 8, "%07o", 0U);
    snprintf(out + 116, 8, "%07o", 0U);
    write_size(size, out + 124);
    snprintf(out + 136, 12, "%011o", 0U);
    memset(out + 148, ' ', 8);
    out[156] = TAR_FILE;
    memcpy(out + 257, "ustar", sizeof "ustar");
    out[263] = out[264] = '0'; /* the version */
    for (size_t i = 0; i < TAR_BLOCK; i++)
        sum += (unsigned char)out[i];
    snprintf(out + 148, 8, "%06o", sum);
}

static bool wrap(const struct archive_destination *own, struct error *error) {
    return error_wrap(error, "docker-archive:%s", own->reference.path);
}

static bool add_bytes(void *context, const void *bytes, size_t length, struct error *error) {
    struct archive_destination *own = context;
    if (!file_write_all_at(own->fd, bytes, length, own->at, error))
        return wrap(own, error);
    own->at += length;
    return true;
}

static void begin_file(struct archive_destination *own) {
    own->at = own->end + TAR_BLOCK;
}

/* Fills the last block up, and writes the header. */
static bool end_file(struct archive_destination *own, const char *name, struct error *error) {
    char header[TAR_BLOCK];
    static const char zeros[TAR_BLOCK];
    uint64_t size = own->at - own->end - TAR_BLOCK;
    size_t rest = (size_t)(size % TAR_BLOCK);
    write_header(name, size, header);
    if ((rest && !add_bytes(own, zeros, TAR_BLOCK - rest, error)) ||
        (!file_write_all_at(own->fd, header, sizeof header, own->end, error) && !wrap(own, error)))
        return false;
    own->end = own->at;
    return true;
}

/* The name of a blob's file, which ends as people expect of a config and of a layer. */
static void name_of(const struct archive_destination *own, const struct digest *digest,
                    char out[static NAME_SIZE]) {
    char text[DIGEST_STRING_SIZE];
    snprintf(out, NAME_SIZE, "%.64s.%s", strchr(digest_format(digest, text), ':') + 1,
             digest_set_has(&own->json, digest) ? "json" : "tar");
}

/* ---- blobs ---- */

static bool has_blob(struct copy_destination *destination, const struct digest *digest,
                     uint64_t size, bool *has, struct error *error) {
    (void)size, (void)error;
    *has = digest_set_has(&own_of(destination)->written, digest);
    return true;
}

/* Looks at the first byte, and passes the rest on. */
struct inspected {
    struct archive_destination *own;
    bool has_begun, is_json;
};

static bool take_bytes(void *context, const void *bytes, size_t length, struct error *error) {
    struct inspected *inspected = context;
    if (!inspected->has_begun && length)
        inspected->is_json = *(const char *)bytes == '{';
    inspected->has_begun = inspected->has_begun || length;
    return add_bytes(inspected->own, bytes, length, error);
}

static bool write_blob(struct copy_destination *destination, struct copy_body *body,
                       struct digest *digest, uint64_t *size, struct error *error) {
    struct archive_destination *own = own_of(destination);
    struct inspected inspected = {.own = own};
    char name[NAME_SIZE];
    *digest = body->digest;
    *size = body->size;
    begin_file(own);
    if (!copy_untar_inflate(body, take_bytes, &inspected, error) ||
        (body->finish && !body->finish(body->context, digest, size, error)))
        return false;
    if (!digest_set_add(&own->written, digest, NULL) ||
        (inspected.is_json && !digest_set_add(&own->json, digest, NULL)))
        return error_set(error, ERROR_MEMORY, "out of memory");
    name_of(own, digest, name);
    return end_file(own, name, error);
}

/* ---- manifest.json ---- */

static bool find_manifest(struct copy_destination *destination, const char *reference,
                          struct digest *digest, struct error *error) {
    (void)destination, (void)reference, (void)error;
    *digest = (struct digest){0};
    return true;
}

/* [{"Config":…,"RepoTags":[…],"Layers":[…]}] */
static json_t *describe(const struct archive_destination *own, const struct manifest *manifest,
                        const char *tag) {
    const struct copy_reference *reference = &own->reference;
    char config[NAME_SIZE] = "", name[COPY_REFERENCE_SIZE];
    cleanup_json json_t *layers = json_array(), *tags = json_array();
    for (size_t i = 0; i < manifest->count; i++) {
        const struct descriptor *descriptor = &manifest->descriptors[i];
        if (descriptor->role == DESCRIPTOR_CONFIG)
            name_of(own, &descriptor->digest, config);
        if (descriptor->role != DESCRIPTOR_LAYER)
            continue;
        name_of(own, &descriptor->digest, name);
        json_array_append_new(layers, json_string(name));
    }
    if (reference->name.path[0]) {
        snprintf(name, sizeof name, "%s%s%s:%s", reference->name.host,
                 reference->name.host[0] ? "/" : "", reference->name.path, tag[0] ? tag : "latest");
        json_array_append_new(tags, json_string(name));
    }
    return json_pack("[{s:s, s:O, s:O}]", "Config", config, "RepoTags", tags, "Layers", layers);
}

static bool put_manifest(struct copy_destination *destination, const struct copy_manifest *manifest,
                         const char *tag, bool *has_referrers, struct error *error) {
    struct archive_destination *own = own_of(destination);
    cleanup_buffer struct buffer text = {0};
    struct manifest parsed;
    *has_referrers = true;
    if (!tag || own->has_manifest)
        return error_set(
            error, ERROR_UNSUPPORTED,
            "docker-archive:%s: an archive holds an image of one platform, and nothing "
            "that refers to it",
            own->reference.path);
    if (!manifest_parse(manifest->bytes.bytes, manifest->bytes.length, &parsed, error))
        return false;
    cleanup_json json_t *json = describe(own, &parsed, tag);
    manifest_finish(&parsed);
    if (!bounded_json_dump(json, JSON_COMPACT, &text))
        return error_set(error, ERROR_MEMORY, "out of memory");
    begin_file(own);
    own->has_manifest =
        add_bytes(own, text.bytes, text.length, error) && end_file(own, "manifest.json", error);
    return own->has_manifest;
}

static bool finish(struct copy_destination *destination, struct error *error) {
    struct archive_destination *own = own_of(destination);
    static const char zeros[2 * TAR_BLOCK]; /* the end of an archive */
    own->at = own->end;
    if (!add_bytes(own, zeros, sizeof zeros, error))
        return false;
    if (rename(own->temporary, own->reference.path) != 0)
        return error_set_errno(error, errno, "docker-archive:%s", own->reference.path);
    free(take(own->temporary));
    return true;
}

/* ---- its life ---- */

static void free_destination(struct copy_destination *destination) {
    struct archive_destination *own = own_of(destination);
    if (own->fd >= 0)
        close(own->fd);
    if (own->temporary)
        unlink(own->temporary);
    free(own->temporary);
    digest_set_finish(&own->written);
    digest_set_finish(&own->json);
    free(own);
}

static const struct copy_destination_kind kind = {
    .check_rights = check_rights,
    .has_blob = has_blob,
    .write_blob = write_blob,
    .find_manifest = find_manifest,
    .put_manifest = put_manifest,
    .finish = finish,
    .free = free_destination,
};

struct copy_destination *copy_archive_destination_open(const struct copy_reference *reference,
                                                       struct error *error) {
    struct archive_destination *own = calloc(1, sizeof *own);
    if (!own) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    own->destination = (struct copy_destination){.kind = &kind, .is_sequential = true};
    own->reference = *reference;
    own->fd = -1;
    return &own->destination;
}
