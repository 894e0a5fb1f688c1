/* The files of uploads. */
#include "store/uploads.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/file.h"
#include "store/root.h"
#include "store/store_private.h"

#define UPLOADS "uploads"
#define KEY     "uploads.key"

struct upload {
    struct store *store;
    char path[sizeof UPLOADS + UPLOAD_ID_SIZE];
    int fd;
    uint64_t size, reserved;
    bool committed;
};

/* False: it is no id. */
static bool make_path(const char *id, char *out, size_t size) {
    if (strlen(id) != UPLOAD_ID_SIZE - 1 || strspn(id, "0123456789abcdef") != UPLOAD_ID_SIZE - 1)
        return false;
    snprintf(out, size, UPLOADS "/%s", id);
    return true;
}

struct upload *store_upload_open(struct store *store, const char *id, bool creates,
                                 struct error *error) {
    struct upload *upload = calloc(1, sizeof *upload);
    if (!upload) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    *upload = (struct upload){.store = store, .fd = -1};
    if (make_path(id, upload->path, sizeof upload->path))
        upload->fd = root_open(store, upload->path, creates ? O_RDWR | O_CREAT | O_EXCL : O_RDWR);
    else
        errno = ENOENT;
    struct stat file;
    if (upload->fd >= 0 && fstat(upload->fd, &file) == 0 && S_ISREG(file.st_mode)) {
        upload->size = (uint64_t)file.st_size;
        upload_reserve(upload, upload->size);
        return upload;
    }
    if (errno == ENOENT)
        error_set(error, ERROR_NOT_FOUND, "there is no such upload");
    else
        error_set_errno(error, errno, "open %s/%s", store->path, upload->path);
    upload_free(upload);
    return NULL;
}

int upload_fd(const struct upload *upload) {
    return upload->fd;
}

uint64_t upload_size(const struct upload *upload) {
    return upload->size;
}

void upload_reserve(struct upload *upload, uint64_t bytes) {
    index_reserve(&upload->store->index, upload->reserved, bytes);
    upload->reserved = bytes;
}

bool upload_write(struct upload *upload, const void *bytes, size_t length, struct error *error) {
    if (!file_write_all_at(upload->fd, bytes, length, upload->size, error))
        return error_wrap(error, "write %s/%s", upload->store->path, upload->path);
    upload->size += length;
    if (upload->size > upload->reserved)
        upload_reserve(upload, upload->size);
    return true;
}

bool upload_commit(struct upload *upload, const struct digest *digest, struct error *error) {
    struct store *store = upload->store;
    char blob[PATH_SIZE];
    struct stat file;
    if (!store_path_blob(blob, digest))
        return error_set(error, ERROR_INVALID, "commit an upload: not a digest");
    if (fdatasync(upload->fd) < 0 || fstat(upload->fd, &file) < 0)
        return error_set_errno(error, errno, "sync %s/%s", store->path, upload->path);
    if ((uint64_t)file.st_size != upload->size)
        return error_set(error, ERROR_CORRUPT, "%s/%s has %lld bytes instead of %llu", store->path,
                         upload->path, (long long)file.st_size, (unsigned long long)upload->size);
    struct index_hold hold;
    if (!index_hold(&store->index, digest, true, &hold))
        return error_set(error, ERROR_MEMORY, "commit %s/%s: out of memory", store->path,
                         upload->path);
    bool renamed = root_rename(store, upload->path, blob, DURABILITY_FILE, error);
    if (renamed) {
        hold.reserved = upload->reserved;
        upload->reserved = 0;
        upload->committed = true;
    }
    index_settle(&store->index, &hold, renamed ? upload->size : hold.size);
    index_release(&store->index, &hold, renamed);
    return renamed && root_sync_parent(store, blob, error);
}

void upload_drop(struct upload *upload) {
    if (!upload->committed)
        unlinkat(upload->store->root, upload->path, 0);
    upload->committed = true; /* nothing is left to be dropped */
    upload_reserve(upload, 0);
}

void upload_free(struct upload *upload) {
    if (!upload)
        return;
    if (upload->fd >= 0)
        close(upload->fd);
    upload_reserve(upload, 0);
    free(upload);
}

void store_uploads_clean(struct store *store, int64_t age_s) {
    DIR *directory = root_open_directory(store, UPLOADS);
    uint64_t bytes = 0;
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        char path[sizeof UPLOADS + UPLOAD_ID_SIZE];
        struct stat file;
        if (!make_path(entry->d_name, path, sizeof path) || !root_stat(store, path, &file))
            continue;
        if (clock_wall_s() - file.st_mtim.tv_sec < age_s || unlinkat(store->root, path, 0) < 0)
            bytes += (uint64_t)file.st_blocks * 512;
    }
    if (directory)
        closedir(directory);
    atomic_store(&store->upload_bytes, bytes);
}

/* ---- the key ---- */

bool store_upload_key(struct store *store, unsigned char key[static UPLOAD_KEY_SIZE],
                      struct error *error) {
    char held[UPLOAD_KEY_SIZE + 2];
    ssize_t length = root_read_record(store, KEY, held, sizeof held);
    if (length == UPLOAD_KEY_SIZE) {
        memcpy(key, held, UPLOAD_KEY_SIZE);
        return true;
    }
    struct stat file;
    if (root_stat(store, KEY, &file) && file.st_size > 0)
        return error_set(error, ERROR_INVALID,
                         "%s/" KEY " is no key that tarn has written; remove it", store->path);
    if (RAND_bytes(key, UPLOAD_KEY_SIZE) != 1)
        return error_set(error, ERROR_IO, "no random bytes for the key of uploads");
    return root_replace(store, KEY, key, UPLOAD_KEY_SIZE, DURABILITY_DIRECTORY, error);
}
