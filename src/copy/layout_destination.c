/* Writes images to a folder in OCI's image layout. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "copy/describe.h"
#include "copy/destinations.h"
#include "copy/held.h"
#include "copy/layout.h"

enum { PIECE = 128 << 10, NAME_SIZE = 64 };

struct layout_destination {
    struct copy_destination destination;
    struct copy_layout layout; /* opened for writing by check_rights(), made if need be */
    bool is_new;               /* nothing is there yet, and nothing was made yet */
    atomic_uint written;       /* number of temporary files so far, for their names */
};

static struct layout_destination *own_of(struct copy_destination *destination) {
    return (struct layout_destination *)destination;
}

static bool check_rights(struct copy_destination *destination, struct error *error) {
    struct layout_destination *own = own_of(destination);
    const struct copy_layout *layout = &own->layout;
    if (own->is_new) {
        char *path = take(own->layout.path);
        copy_layout_close(&own->layout);
        bool made = copy_layout_open(&own->layout, path, true, error);
        free(path);
        if (!made)
            return false;
        own->is_new = false;
    }
    cleanup_close int blobs = copy_layout_blobs(layout, DIGEST_SHA256, true, error);
    if (blobs < 0)
        return false;
    return faccessat(blobs, ".", W_OK, AT_EACCESS) == 0 ||
           error_set_errno(error, errno, "oci:%s: nothing can be written", layout->path);
}

/* ---- blobs ---- */

static bool has_blob(struct copy_destination *destination, const struct digest *digest,
                     uint64_t size, bool *has, struct error *error) {
    struct error why = {0};
    uint64_t is;
    *has = false;
    if (own_of(destination)->is_new)
        return true;
    int fd = copy_layout_open_blob(&own_of(destination)->layout, digest, &is, &why);
    *has = fd >= 0 && is == size;
    if (fd >= 0)
        close(fd);
    if (fd >= 0 || why.kind == ERROR_NOT_FOUND)
        return true;
    if (error)
        *error = why;
    return false;
}

/* Copies all bytes of the body to the file. */
static bool write_body(int fd, struct copy_body *body, struct digest *digest, uint64_t *size,
                       struct error *error) {
    size_t length;
    bool ended = false, ok = body->seek(body->context, 0, error);
    cleanup_free char *bytes = malloc(PIECE);
    if (ok && !bytes)
        ok = error_set(error, ERROR_MEMORY, "out of memory");
    *digest = body->digest;
    *size = 0;
    while (ok && !ended) {
        ok = copy_body_read(body, bytes, PIECE, &length, &ended, error) &&
             file_write_all(fd, bytes, length, error);
        *size += ok ? length : 0;
    }
    return ok && (!body->finish || body->finish(body->context, digest, size, error));
}

static bool write_blob(struct copy_destination *destination, struct copy_body *body,
                       struct digest *digest, uint64_t *size, struct error *error) {
    struct layout_destination *own = own_of(destination);
    enum digest_algorithm algorithm =
        body->digest.algorithm ? body->digest.algorithm : DIGEST_SHA256;
    char temporary[NAME_SIZE], text[DIGEST_STRING_SIZE];
    cleanup_close int blobs = copy_layout_blobs(&own->layout, algorithm, true, error);
    if (blobs < 0)
        return false;
    snprintf(temporary, sizeof temporary, ".tarn-%d-%u", (int)getpid(),
             atomic_fetch_add(&own->written, 1));
    cleanup_close int fd =
        openat(blobs, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0)
        return error_set_errno(error, errno, "oci:%s: a blob cannot be written", own->layout.path);
    bool ok = write_body(fd, body, digest, size, error);
    if (ok && renameat(blobs, temporary, blobs, strchr(digest_format(digest, text), ':') + 1) != 0)
        ok = error_set_errno(error, errno, "oci:%s: %s", own->layout.path, text);
    if (!ok)
        unlinkat(blobs, temporary, 0);
    return ok;
}

/* ---- manifests ---- */

static bool find_manifest(struct copy_destination *destination, const char *reference,
                          struct digest *digest, struct error *error) {
    struct layout_destination *own = own_of(destination);
    struct digest wanted;
    bool has = false;
    uint64_t size;
    *digest = (struct digest){0};
    if (own->is_new)
        return true;
    if (digest_parse(text_of(reference), &wanted)) {
        int fd = copy_layout_open_blob(&own->layout, &wanted, &size, NULL);
        if (fd >= 0) {
            *digest = wanted;
            close(fd);
        }
        return true;
    }
    cleanup_json json_t *index = copy_layout_read_index(&own->layout, true, error);
    if (!index)
        return false;
    const json_t *descriptor =
        reference[0] ? copy_layout_find(&own->layout, index, reference, NULL) : NULL;
    return !descriptor || !copy_layout_digest(descriptor, digest) ||
           has_blob(destination, digest,
                    (uint64_t)json_integer_value(json_object_get(descriptor, "size")), &has, error);
}

/* Whether the entry stands for the new image: it has the tag, or it is the same without a tag. */
static bool is_replaced(const json_t *entry, const struct copy_manifest *manifest,
                        const char *tag) {
    const char *name = copy_layout_tag(entry);
    struct digest digest;
    if (tag[0])
        return name && strcmp(name, tag) == 0;
    return !name && copy_layout_digest(entry, &digest) && digest_equal(&digest, &manifest->digest);
}

static bool change_index(json_t *index, const struct copy_manifest *manifest, const char *tag) {
    json_t *manifests = json_object_get(index, "manifests");
    json_t *entry = copy_describe_descriptor(manifest, false);
    for (size_t i = json_array_size(manifests); i-- > 0;) {
        if (is_replaced(json_array_get(manifests, i), manifest, tag))
            json_array_remove(manifests, i);
    }
    bool ok =
        entry && (!tag[0] || json_object_set_new(entry, "annotations",
                                                 json_pack("{s:s}", COPY_LAYOUT_NAME, tag)) == 0);
    if (ok)
        return json_array_append_new(manifests, entry) == 0;
    json_decref(entry);
    return false;
}

/* Other threads and processes change index.json under the same lock of the folder. */
static bool add_to_index(struct layout_destination *own, const struct copy_manifest *manifest,
                         const char *tag, struct error *error) {
    const struct copy_layout *layout = &own->layout;
    cleanup_close int fd = openat(layout->folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || flock(fd, LOCK_EX) != 0)
        return error_set_errno(error, errno, "oci:%s", layout->path);
    cleanup_json json_t *index = copy_layout_read_index(layout, true, error);
    if (!index)
        return false;
    return (change_index(index, manifest, tag) ||
            error_set(error, ERROR_MEMORY, "out of memory")) &&
           copy_layout_write_index(layout, index, error);
}

static bool put_manifest(struct copy_destination *destination, const struct copy_manifest *manifest,
                         const char *tag, bool *has_referrers, struct error *error) {
    struct layout_destination *own = own_of(destination);
    struct held held;
    struct copy_body body = held_body(&held, &manifest->bytes, &manifest->digest, NULL);
    struct digest digest;
    uint64_t size;
    bool ok = write_blob(destination, &body, &digest, &size, error);
    *has_referrers = true; /* they are found by the subject that they name */
    if (!ok || !tag)
        return ok;
    return add_to_index(own, manifest, tag, error);
}

/* ---- its life ---- */

static void free_destination(struct copy_destination *destination) {
    struct layout_destination *own = own_of(destination);
    copy_layout_close(&own->layout);
    free(own);
}

static const struct copy_destination_kind kind = {
    .check_rights = check_rights,
    .has_blob = has_blob,
    .write_blob = write_blob,
    .find_manifest = find_manifest,
    .put_manifest = put_manifest,
    .free = free_destination,
};

struct copy_destination *copy_layout_destination_open(const struct copy_reference *reference,
                                                      struct error *error) {
    struct layout_destination *own = calloc(1, sizeof *own);
    if (!own) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    struct error why = {0};
    own->destination = (struct copy_destination){.kind = &kind, .takes_index = true};
    bool is_open = copy_layout_open(&own->layout, reference->path, false, &why);
    /* A folder that is no layout becomes one. */
    own->is_new = !is_open && (why.kind == ERROR_NOT_FOUND || own->layout.folder >= 0);
    if (is_open || own->is_new)
        return &own->destination;
    if (error)
        *error = why;
    free_destination(&own->destination);
    return NULL;
}
