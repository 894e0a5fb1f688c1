/* Reads and writes the file of mounts. */
#include "node/agent/mount_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"

#define NAME      "mounts.json"
#define TEMPORARY ".mounts.json"

enum { FILE_LIMIT = 64 << 20, VERSION = 1 };

bool mount_record_init(struct mount_record *record, const char *folder, const char *image,
                       const char *layer, const char *token) {
    *record = (struct mount_record){.folder = strdup(folder), .image = strdup(image)};
    text_copy(text_of(token), record->token, sizeof record->token);
    if (record->folder && record->image &&
        text_copy(text_of(layer), record->layer, sizeof record->layer))
        return true;
    mount_record_finish(record);
    return false;
}

bool mount_record_copy(const struct mount_record *record, struct mount_record *out) {
    if (!mount_record_init(out, record->folder, record->image, record->layer, record->token))
        return false;
    out->number = record->number;
    return true;
}

void mount_record_finish(struct mount_record *record) {
    free(record->folder);
    free(record->image);
    *record = (struct mount_record){0};
}

json_t *mount_record_write(const struct mount_record *record) {
    return json_pack("{s:s, s:s, s:s, s:s, s:I}", "dir", record->folder, "image", record->image,
                     "layer", record->layer, "token", record->token, "number",
                     (json_int_t)record->number);
}

bool mount_record_read(const json_t *json, struct mount_record *out) {
    const char *folder = json_member_text(json, "dir");
    if (*folder != '/' ||
        !mount_record_init(out, folder, json_member_text(json, "image"),
                           json_member_text(json, "layer"), json_member_text(json, "token")))
        return false;
    out->number = (uint32_t)json_integer_value(json_object_get(json, "number"));
    return true;
}

bool mount_file_read(const char *folder, json_t **root, struct error *error) {
    char path[PATH_MAX + 32];
    size_t length = 0;
    struct error why = {0};
    *root = NULL;
    snprintf(path, sizeof path, "%s/" NAME, folder);
    cleanup_free char *bytes = file_read_small(path, FILE_LIMIT, FILE_REGULAR, &length, NULL, &why);
    if (bytes)
        *root = json_load_own(bytes, length);
    if (!bytes && why.kind == ERROR_NOT_FOUND)
        return true;
    if (!bytes) {
        if (error)
            *error = why;
        return error_wrap(error, "%s", path);
    }
    if (json_integer_value(json_object_get(*root, "version")) == VERSION)
        return true;
    json_decref(*root);
    *root = NULL;
    return error_set(error, ERROR_INVALID,
                     "%s is damaged, or of another version of tarn; remove it to begin without "
                     "mounts",
                     path);
}

/* Writes the file beside the old one, and puts it in its place. */
static bool replace(const char *folder, const struct buffer *bytes, struct error *error) {
    cleanup_close int directory = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cleanup_close int fd = directory < 0 ? -1
                                         : openat(directory, TEMPORARY,
                                                  O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_set_errno(error, errno, "making %s/" TEMPORARY, folder);
    if (!file_write_all(fd, bytes->bytes, bytes->length, error))
        return error_wrap(error, "%s/" TEMPORARY, folder);
    return (fsync(fd) == 0 && renameat(directory, TEMPORARY, directory, NAME) == 0 &&
            fsync(directory) == 0) ||
           error_set_errno(error, errno, "replacing %s/" NAME, folder);
}

bool mount_file_save(const char *folder, json_t *mounts, json_t *trees, struct error *error) {
    cleanup_buffer struct buffer bytes = {0};
    cleanup_json json_t *root = NULL;
    if (mounts && trees) {
        root = json_pack("{s:i, s:o, s:o}", "version", VERSION, "mounts", mounts, "trees", trees);
    } else {
        json_decref(mounts);
        json_decref(trees);
    }
    if (!bounded_json_dump(root, JSON_INDENT(1), &bytes))
        return error_set(error, ERROR_MEMORY, "out of memory");
    return replace(folder, &bytes, error);
}
