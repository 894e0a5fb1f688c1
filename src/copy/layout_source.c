/* Reads images of a folder in OCI's image layout. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "copy/describe.h"
#include "copy/layout.h"
#include "copy/sources.h"
#include "oci/manifest.h"

enum { PIECE = 128 << 10 };

struct layout_source {
    struct copy_source source;
    struct copy_layout layout;
};

static const struct copy_layout *layout_of(struct copy_source *source) {
    return &((struct layout_source *)source)->layout;
}

/* ---- manifests ---- */

/* Reads a blob that is to be a manifest. */
static bool read_manifest(const struct copy_layout *layout, const struct digest *digest,
                          const char *hint, struct copy_manifest *out, struct error *error) {
    uint64_t size;
    char text[DIGEST_STRING_SIZE];
    cleanup_close int fd = copy_layout_open_blob(layout, digest, &size, error);
    if (fd < 0)
        return false;
    if (size > MANIFEST_SIZE_LIMIT)
        return error_set(error, ERROR_INVALID, "oci:%s: the manifest %s has more than %d bytes",
                         layout->path, digest_format(digest, text), MANIFEST_SIZE_LIMIT);
    if (!buffer_reserve(&out->bytes, size + 1))
        return error_set(error, ERROR_MEMORY, "out of memory");
    if (!file_read_all_at(fd, out->bytes.bytes, size, 0, error))
        return error_wrap(error, "oci:%s: %s", layout->path, digest_format(digest, text));
    out->bytes.length = size;
    out->bytes.bytes[size] = '\0';
    return copy_describe(out, hint, digest, error) || error_wrap(error, "oci:%s", layout->path);
}

static bool get_manifest(struct copy_source *source, const char *reference,
                         struct copy_manifest *out, struct error *error) {
    const struct copy_layout *layout = layout_of(source);
    struct digest digest;
    cleanup_json json_t *index = copy_layout_read_index(layout, false, error);
    if (!index)
        return false;
    struct error why = {0};
    const json_t *descriptor = copy_layout_find(layout, index, reference, &why);
    const char *hint = json_string_value(json_object_get(descriptor, "mediaType"));
    /* A child of an index is not in index.json. */
    bool is_digest = descriptor ? copy_layout_digest(descriptor, &digest)
                                : digest_parse(text_of(reference), &digest);
    if (!descriptor && !is_digest) {
        if (error)
            *error = why;
        return false;
    }
    if (!is_digest)
        return error_set(error, ERROR_INVALID,
                         "oci:%s: the image %s of index.json has no digest that is one",
                         layout->path, reference);
    return read_manifest(layout, &digest, hint, out, error);
}

/* ---- blobs ---- */

static bool hand_on(const struct copy_read *read, int fd, uint64_t end, struct error *error) {
    cleanup_free char *bytes = malloc(PIECE);
    if (!bytes)
        return error_set(error, ERROR_MEMORY, "out of memory");
    for (uint64_t at = read->first; at < end;) {
        size_t want = end - at < PIECE ? (size_t)(end - at) : PIECE;
        if (read->stop && atomic_load(read->stop))
            return error_set(error, ERROR_CLOSED, "stopped");
        if (!file_read_all_at(fd, bytes, want, at, error) ||
            !read->on_bytes(read->context, bytes, want, error))
            return false;
        at += want;
    }
    return true;
}

static bool read_blob(struct copy_source *source, const struct copy_read *read,
                      struct error *error) {
    const struct copy_layout *layout = layout_of(source);
    uint64_t size;
    cleanup_close int fd = copy_layout_open_blob(layout, &read->digest, &size, error);
    if (fd < 0)
        return false;
    uint64_t end = read->last < size ? read->last + 1 : size;
    return hand_on(read, fd, end, error);
}

/* ---- lists ---- */

/* Adds the manifest to the list if it names the subject. False: out of memory, or it cannot be
 * read. */
static bool add_referrer(const struct copy_layout *layout, const json_t *entry,
                         const struct digest *subject, json_t *list, struct error *error) {
    cleanup_copy_manifest struct copy_manifest manifest = {0};
    const char *hint = json_string_value(json_object_get(entry, "mediaType"));
    struct digest digest, named;
    if (!copy_layout_digest(entry, &digest))
        return true;
    if (!read_manifest(layout, &digest, hint, &manifest, error))
        return error && error->kind == ERROR_NOT_FOUND;
    if (!copy_describe_subject(&manifest, &named) || !digest_equal(&named, subject))
        return true;
    return json_array_append_new(list, copy_describe_descriptor(&manifest, true)) == 0 ||
           error_set(error, ERROR_MEMORY, "out of memory");
}

static bool get_referrers(struct copy_source *source, const struct digest *subject,
                          struct buffer *out, struct error *error) {
    const struct copy_layout *layout = layout_of(source);
    struct error unwanted;
    size_t i;
    const json_t *entry;
    cleanup_json json_t *index = copy_layout_read_index(layout, false, error);
    cleanup_json json_t *list = json_array();
    error = error ? error : &unwanted;
    if (!index)
        return false;
    json_array_foreach (copy_layout_manifests(index), i, entry) {
        if (!add_referrer(layout, entry, subject, list, error))
            return false;
    }
    return copy_describe_index(list, out) || error_set(error, ERROR_MEMORY, "out of memory");
}

static bool list_tags(struct copy_source *source, struct copy_names *out, struct error *error) {
    size_t i;
    const json_t *entry;
    cleanup_json json_t *index = copy_layout_read_index(layout_of(source), false, error);
    if (!index)
        return false;
    json_array_foreach (copy_layout_manifests(index), i, entry) {
        const char *tag = copy_layout_tag(entry);
        if (tag && reference_is_tag(text_of(tag)) && !copy_names_add(out, text_of(tag)))
            return error_set(error, ERROR_MEMORY, "out of memory");
    }
    copy_names_settle(out);
    return true;
}

/* ---- its life ---- */

static void free_source(struct copy_source *source) {
    struct layout_source *own = (struct layout_source *)source;
    copy_layout_close(&own->layout);
    free(own);
}

static const struct copy_source_kind kind = {
    .get_manifest = get_manifest,
    .read_blob = read_blob,
    .get_referrers = get_referrers,
    .list_tags = list_tags,
    .free = free_source,
};

struct copy_source *copy_layout_source_open(const struct copy_reference *reference,
                                            struct error *error) {
    struct layout_source *own = calloc(1, sizeof *own);
    if (!own) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    own->source.kind = &kind;
    if (copy_layout_open(&own->layout, reference->path, false, error))
        return &own->source;
    free_source(&own->source);
    return NULL;
}
