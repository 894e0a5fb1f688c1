/* Reads and writes the small files below ROOT that rooms above keep. */
#include "store/note.h"

#include <stdlib.h>
#include "base/cleanup.h"
#include "base/file.h"
#include "store/root.h"
#include "store/store_private.h"

static const char *path_of(enum store_note note) {
    return note == NOTE_HISTORY ? HISTORY : FILLED;
}

bool store_note_write(struct store *store, enum store_note note, const void *bytes, size_t length,
                      struct error *error) {
    return root_replace(store, path_of(note), bytes, length, DURABILITY_FILE, error);
}

bool store_note_read(struct store *store, enum store_note note, size_t limit, struct buffer *out,
                     struct error *error) {
    struct stat state;
    size_t length;
    cleanup_close int fd = root_open_file(store, path_of(note), &state, error);
    if (fd < 0)
        return false;
    cleanup_free char *bytes = file_read_open(fd, limit, FILE_REGULAR, &length, NULL, error);
    if (!bytes)
        return error_wrap(error, "read %s/%s", store->path, path_of(note));
    return buffer_append(out, bytes, length) || error_set(error, ERROR_MEMORY, "out of memory");
}
