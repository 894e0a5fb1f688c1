/* Reads and writes ROOT/history. */
#include "store/history.h"

#include <stdlib.h>
#include "base/cleanup.h"
#include "base/file.h"
#include "store/root.h"
#include "store/store_private.h"

bool store_history_write(struct store *store, const void *bytes, size_t length,
                         struct error *error) {
    return root_replace(store, HISTORY, bytes, length, DURABILITY_FILE, error);
}

bool store_history_read(struct store *store, size_t limit, struct buffer *out,
                        struct error *error) {
    struct stat state;
    size_t length;
    cleanup_close int fd = root_open_file(store, HISTORY, &state, error);
    if (fd < 0)
        return false;
    cleanup_free char *bytes = file_read_open(fd, limit, FILE_REGULAR, &length, NULL, error);
    if (!bytes)
        return error_wrap(error, "read %s/%s", store->path, HISTORY);
    return buffer_append(out, bytes, length) || error_set(error, ERROR_MEMORY, "out of memory");
}
