/* A folder in OCI's image layout: its files, and the list of its images. */
#include "copy/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"

enum { LAYOUT_FILE_LIMIT = 4096 };

static const char layout_file[] = "{\"imageLayoutVersion\":\"1.0.0\"}";

/* ---- the folder ---- */

static bool fail(const struct copy_layout *layout, const char *name, struct error *error) {
    int number = errno;
    if (number == ELOOP || number == ENOTDIR)
        return error_set(error, ERROR_INVALID,
                         "oci:%s: %s is a symbolic link or of a wrong kind, which is not followed",
                         layout->path, name);
    error_set_errno(error, number, "oci:%s: %s", layout->path, name);
    if (error && number == ENOENT)
        error->kind = ERROR_NOT_FOUND;
    return false;
}

/* Reads one small file of the folder. NULL: the error is set. */
static char *read_file(const struct copy_layout *layout, const char *name, size_t limit,
                       size_t *length, struct error *error) {
    cleanup_close int fd =
        openat(layout->folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) {
        fail(layout, name, error);
        return NULL;
    }
    char *bytes = file_read_open(fd, limit, FILE_REGULAR, length, NULL, error);
    if (!bytes)
        error_wrap(error, "oci:%s: %s", layout->path, name);
    return bytes;
}

/* Writes a small file in one step. */
static bool write_file(const struct copy_layout *layout, const char *name, const void *bytes,
                       size_t length, struct error *error) {
    char temporary[64];
    snprintf(temporary, sizeof temporary, ".tarn-%d-%.30s", (int)getpid(), name);
    cleanup_close int fd = openat(layout->folder, temporary,
                                  O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0)
        return fail(layout, name, error);
    if (!file_write_all(fd, bytes, length, error)) {
        unlinkat(layout->folder, temporary, 0);
        return error_wrap(error, "oci:%s: %s", layout->path, name);
    }
    if (renameat(layout->folder, temporary, layout->folder, name) == 0)
        return true;
    fail(layout, name, error);
    unlinkat(layout->folder, temporary, 0);
    return false;
}

/* Makes the folder and its parents. */
static bool make_folders(const char *path, struct error *error) {
    cleanup_free char *copy = text_dup(text_of(path));
    if (!copy)
        return error_set(error, ERROR_MEMORY, "out of memory");
    for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(copy, 0755) != 0 && errno != EEXIST)
            return error_set_errno(error, errno, "oci:%s: the folder %s cannot be made", path,
                                   copy);
        *slash = '/';
    }
    return mkdir(copy, 0755) == 0 || errno == EEXIST ||
           error_set_errno(error, errno, "oci:%s: the folder cannot be made", path);
}

/* Whether `oci-layout` says what a layout says. */
static bool check_version(const struct copy_layout *layout, bool make, struct error *error) {
    size_t length;
    cleanup_free char *bytes = read_file(layout, "oci-layout", LAYOUT_FILE_LIMIT, &length, error);
    if (!bytes && error->kind == ERROR_NOT_FOUND) {
        if (make) {
            error_clear(error);
            return write_file(layout, "oci-layout", layout_file, sizeof layout_file - 1, error);
        }
        return error_set(error, ERROR_INVALID,
                         "oci:%s: it has no file oci-layout, so it is no OCI image layout",
                         layout->path);
    }
    if (!bytes)
        return false;
    cleanup_json json_t *json = bounded_json_load(bytes, length, NULL);
    const char *version = json_string_value(json_object_get(json, "imageLayoutVersion"));
    return (version && strncmp(version, "1.", 2) == 0) ||
           error_set(error, ERROR_INVALID,
                     "oci:%s: its file oci-layout does not name version 1 of the image layout",
                     layout->path);
}

bool copy_layout_open(struct copy_layout *layout, const char *path, bool make,
                      struct error *error) {
    struct error unwanted = {0};
    error = error ? error : &unwanted;
    *layout = (struct copy_layout){.folder = -1, .path = text_dup(text_of(path))};
    if (!layout->path)
        return error_set(error, ERROR_MEMORY, "out of memory");
    if (make && !make_folders(path, error))
        return false;
    layout->folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (layout->folder < 0) {
        error_set_errno(error, errno, "oci:%s", path);
        if (errno == ENOENT)
            error->kind = ERROR_NOT_FOUND;
        return false;
    }
    return check_version(layout, make, error);
}

void copy_layout_close(struct copy_layout *layout) {
    if (layout->path && layout->folder >= 0)
        close(layout->folder);
    free(layout->path);
    *layout = (struct copy_layout){.folder = -1};
}

/* ---- blobs ---- */

/* Opens a folder in another one; `make`: makes it. */
static int open_folder(int in, const char *name, bool make) {
    if (make && mkdirat(in, name, 0755) != 0 && errno != EEXIST)
        return -1;
    return openat(in, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
}

int copy_layout_blobs(const struct copy_layout *layout, enum digest_algorithm algorithm, bool make,
                      struct error *error) {
    cleanup_close int blobs = open_folder(layout->folder, "blobs", make);
    if (blobs < 0) {
        fail(layout, "blobs", error);
        return -1;
    }
    int fd = open_folder(blobs, digest_algorithm_name(algorithm), make);
    if (fd < 0)
        fail(layout, digest_algorithm_name(algorithm), error);
    return fd;
}

int copy_layout_open_blob(const struct copy_layout *layout, const struct digest *digest,
                          uint64_t *size, struct error *error) {
    char name[DIGEST_STRING_SIZE];
    struct stat status;
    cleanup_close int blobs = copy_layout_blobs(layout, digest->algorithm, false, error);
    if (blobs < 0)
        return -1;
    const char *hex = strchr(digest_format(digest, name), ':') + 1;
    cleanup_close int fd = openat(blobs, hex, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &status) != 0) {
        fail(layout, name, error);
        return -1;
    }
    if (!S_ISREG(status.st_mode)) {
        error_set(error, ERROR_INVALID, "oci:%s: %s is no regular file", layout->path, name);
        return -1;
    }
    *size = (uint64_t)status.st_size;
    return take_fd(fd);
}

/* ---- index.json ---- */

json_t *copy_layout_read_index(const struct copy_layout *layout, bool make, struct error *error) {
    size_t length;
    struct error why = {0};
    cleanup_free char *bytes =
        read_file(layout, "index.json", COPY_LAYOUT_INDEX_LIMIT, &length, &why);
    if (!bytes && why.kind == ERROR_NOT_FOUND && make) {
        json_t *empty = json_pack("{s:i, s:s, s:[]}", "schemaVersion", 2, "mediaType",
                                  "application/vnd.oci.image.index.v1+json", "manifests");
        if (!empty)
            error_set(error, ERROR_MEMORY, "out of memory");
        return empty;
    }
    if (!bytes) {
        if (error)
            *error = why;
        return NULL;
    }
    json_t *index = bounded_json_load_by(0, bytes, length, error);
    if (!index)
        error_wrap(error, "oci:%s: index.json", layout->path);
    if (index && !json_is_array(json_object_get(index, "manifests"))) {
        error_set(error, ERROR_INVALID, "oci:%s: index.json has no list of manifests",
                  layout->path);
        json_decref(index);
        return NULL;
    }
    return index;
}

bool copy_layout_write_index(const struct copy_layout *layout, const json_t *index,
                             struct error *error) {
    cleanup_buffer struct buffer text = {0};
    return (bounded_json_dump(index, JSON_COMPACT, &text) ||
            error_set(error, ERROR_MEMORY, "out of memory")) &&
           write_file(layout, "index.json", text.bytes, text.length, error);
}

const json_t *copy_layout_manifests(const json_t *index) {
    return json_object_get(index, "manifests");
}

const char *copy_layout_tag(const json_t *descriptor) {
    const char *name = json_string_value(
        json_object_get(json_object_get(descriptor, "annotations"), COPY_LAYOUT_NAME));
    const char *slash = name ? strrchr(name, '/') : NULL;
    const char *colon = slash ? strchr(slash, ':') : NULL;
    return colon ? colon + 1 : name;
}

bool copy_layout_digest(const json_t *descriptor, struct digest *out) {
    const json_t *digest = json_object_get(descriptor, "digest");
    return digest_parse((struct text){json_string_value(digest), json_string_length(digest)}, out);
}

/* Says which images there are. */
static void refuse(const struct copy_layout *layout, const json_t *manifests, const char *reference,
                   struct error *error) {
    cleanup_buffer struct buffer there = {.limit = 300};
    size_t i, named = 0;
    const json_t *descriptor;
    json_array_foreach (manifests, i, descriptor) {
        const char *tag = copy_layout_tag(descriptor);
        if (tag && reference_is_tag(text_of(tag)))
            buffer_printf(&there, "%s%s", named++ ? ", " : "", tag);
    }
    if (!reference[0] && json_array_size(manifests) > 0)
        error_set(error, ERROR_NOT_FOUND,
                  "oci:%s: it has several images, so that a tag is needed: %s", layout->path,
                  named ? there.bytes : "but none of them has a tag");
    else if (!reference[0])
        error_set(error, ERROR_NOT_FOUND, "oci:%s: it has no image", layout->path);
    else
        error_set(error, ERROR_NOT_FOUND, "oci:%s: it has no image %s%s%s", layout->path, reference,
                  named ? "; there are: " : "", named ? there.bytes : "");
}

/* Whether the descriptor is what the tag or digest means. */
static bool means(const json_t *descriptor, const char *reference) {
    const char *tag = copy_layout_tag(descriptor);
    const char *digest = json_string_value(json_object_get(descriptor, "digest"));
    return (tag && strcmp(tag, reference) == 0) || (digest && strcmp(digest, reference) == 0);
}

const json_t *copy_layout_find(const struct copy_layout *layout, const json_t *index,
                               const char *reference, struct error *error) {
    const json_t *manifests = copy_layout_manifests(index), *descriptor;
    size_t i;
    if (!reference[0] && json_array_size(manifests) == 1)
        return json_array_get(manifests, 0);
    json_array_foreach (manifests, i, descriptor) {
        if (reference[0] && means(descriptor, reference))
            return descriptor;
    }
    refuse(layout, manifests, reference, error);
    return NULL;
}
