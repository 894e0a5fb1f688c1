/* Reads, writes and lists the files of ROOT/pending. */
#include "store/pending.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include "base/cleanup.h"
#include "base/file.h"
#include "store/root.h"
#include "store/store_private.h"

bool store_pending_write(struct store *store, const struct digest *digest, const void *bytes,
                         size_t length, struct error *error) {
    char path[PATH_SIZE];
    if (!store_path_flat(path, PENDING, digest, ""))
        return error_set(error, ERROR_INVALID, "no digest");
    return root_replace(store, path, bytes, length, DURABILITY_NONE, error);
}

bool store_pending_read(struct store *store, const struct digest *digest, size_t limit,
                        struct buffer *out, struct error *error) {
    char path[PATH_SIZE];
    struct stat state;
    size_t length;
    if (!store_path_flat(path, PENDING, digest, ""))
        return error_set(error, ERROR_NOT_FOUND, "no digest");
    cleanup_close int fd = root_open_file(store, path, &state, error);
    if (fd < 0)
        return false;
    cleanup_free char *bytes = file_read_open(fd, limit, FILE_REGULAR, &length, NULL, error);
    if (!bytes)
        return error_wrap(error, "read %s/%s", store->path, path);
    return buffer_append(out, bytes, length) || error_set(error, ERROR_MEMORY, "out of memory");
}

bool store_pending_delete(struct store *store, const struct digest *digest) {
    char path[PATH_SIZE];
    return !store_path_flat(path, PENDING, digest, "") || root_unlink_record(store, path) ||
           errno == ENOENT;
}

void store_pending_list(struct store *store,
                        bool (*each)(void *context, const struct digest *digest), void *context) {
    DIR *directory = root_open_directory(store, PENDING);
    struct digest digest;
    if (!directory)
        return;
    for (struct dirent *entry; (entry = readdir(directory));) {
        if (store_path_flat_digest(text_of(entry->d_name), &digest) && !each(context, &digest))
            break;
    }
    closedir(directory);
}
