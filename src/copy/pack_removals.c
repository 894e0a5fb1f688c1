/* Removals as the archive of a layer: an empty file `.wh.NAME` for each. */
#include <stdlib.h>
#include <string.h>
#include "base/cleanup.h"
#include "copy/pack_private.h"

/* Whether `path` is `folder` or lies in it. */
static bool is_within(const char *path, const char *folder) {
    const size_t length = strlen(folder);
    return strncmp(path, folder, length) == 0 && (path[length] == '\0' || path[length] == '/');
}

/* Whether another path removes this one as well: a folder around it, or the same path earlier. */
static bool is_covered(const char *const *paths, size_t count, size_t at) {
    for (size_t i = 0; i < count; i++) {
        const bool is_same = strcmp(paths[i], paths[at]) == 0;
        if (is_same ? i < at : is_within(paths[at], paths[i]))
            return true;
    }
    return false;
}

/* ---- names ---- */

struct name {
    char *path;
    bool is_parent;
};

struct names {
    struct name *names;
    size_t count, capacity;
};

static bool add(struct names *names, char *path, bool is_parent) {
    if (path && names->count == names->capacity) {
        const size_t capacity = names->capacity ? 2 * names->capacity : 16;
        struct name *grown = realloc(names->names, capacity * sizeof *grown);
        if (grown) {
            names->names = grown;
            names->capacity = capacity;
        }
    }
    if (!path || names->count == names->capacity) {
        free(path);
        return false;
    }
    names->names[names->count++] = (struct name){path, is_parent};
    return true;
}

static bool add_removal(struct names *names, const char *path) {
    const char *slash = strrchr(path, '/');
    const size_t parent = slash ? (size_t)(slash - path) + 1 : 0;
    cleanup_buffer struct buffer mark = {0};
    for (const char *at = path; (at = strchr(at, '/')); at++)
        if (!add(names, strndup(path, (size_t)(at - path)), true))
            return false;
    buffer_append(&mark, path, parent);
    buffer_append_string(&mark, PACK_WHITEOUT);
    return buffer_append_string(&mark, path + parent) && add(names, take(mark.bytes), false);
}

static int compare(const void *a, const void *b) {
    return strcmp(((const struct name *)a)->path, ((const struct name *)b)->path);
}

static void finish(struct names *names) {
    for (size_t i = 0; i < names->count; i++)
        free(names->names[i].path);
    free(names->names);
}

/* ---- the archive ---- */

static bool write_mark(struct pack_archive *archive, const char *path, struct error *error) {
    const struct tar_entry entry = {
        .type = TAR_FILE, .path = path, .mode = 0644, .time = archive->settings->time};
    return pack_header(archive, &entry, error);
}

static bool write_names(struct pack_archive *archive, const struct names *names,
                        struct error *error) {
    for (size_t i = 0; i < names->count; i++) {
        const struct name *name = &names->names[i];
        if (i > 0 && strcmp(name->path, name[-1].path) == 0)
            continue;
        if (!(name->is_parent ? pack_parent : write_mark)(archive, name->path, error))
            return false;
    }
    return pack_end(archive, error);
}

bool pack_removals(const char *const *paths, size_t count, const struct pack_settings *settings,
                   const struct sink *sink, struct error *error) {
    struct pack_archive archive = {.settings = settings, .sink = sink};
    struct names names = {0};
    bool ok = true;
    for (size_t i = 0; ok && i < count; i++)
        if (!is_covered(paths, count, i))
            ok = add_removal(&names, paths[i]) || error_set(error, ERROR_MEMORY, "out of memory");
    if (ok && names.count)
        qsort(names.names, names.count, sizeof *names.names, compare);
    ok = ok && write_names(&archive, &names, error);
    finish(&names);
    buffer_finish(&archive.header);
    return ok;
}
