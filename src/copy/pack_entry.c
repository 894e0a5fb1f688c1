/* Entries of a layer's archive, and the paths in an image. */
#include <string.h>
#include "copy/pack_private.h"

bool pack_path(struct text text, struct buffer *path, struct error *error) {
    const struct text whole = text;
    buffer_clear(path);
    if (memchr(text.at, '\0', text.length))
        return error_set(error, ERROR_INVALID, "the path holds a NUL byte");
    while (text.at) {
        const struct text part = text_cut(text, '/', &text);
        if (part.length == 0 || text_is(part, "."))
            continue;
        if (text_is(part, ".."))
            return error_set(error, ERROR_INVALID, "\"%.*s\" leads upwards by \"..\"",
                             TEXT_PRINT(whole));
        if (text_starts(part, PACK_WHITEOUT))
            return error_set(error, ERROR_INVALID,
                             "\"%.*s\" has a part that begins with \"" PACK_WHITEOUT
                             "\", which marks a removal in a layer",
                             TEXT_PRINT(whole));
        if (path->length)
            buffer_append_string(path, "/");
        buffer_append(path, part.at, part.length);
    }
    return buffer_append_string(path, "") || error_set(error, ERROR_MEMORY, "out of memory");
}

bool pack_header(struct pack_archive *archive, const struct tar_entry *entry, struct error *error) {
    buffer_clear(&archive->header);
    return tar_append_header(&archive->header, entry, error) &&
           sink_write(archive->sink, archive->header.bytes, archive->header.length, error);
}

bool pack_parent(struct pack_archive *archive, const char *path, struct error *error) {
    const struct tar_entry entry = {
        .type = TAR_FOLDER, .path = path, .mode = 0755, .time = archive->settings->time};
    return pack_header(archive, &entry, error);
}

bool pack_end(struct pack_archive *archive, struct error *error) {
    return sink_write_zeros(archive->sink, TAR_END_SIZE, error);
}
