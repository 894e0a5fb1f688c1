/* tarn files: lists the files of an image. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include "base/base64.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "cmd/commands.h"
#include "cmd/stream_image.h"

static const char *type_of(uint32_t mode) {
    switch (mode & S_IFMT) {
    case S_IFREG:
        return "file";
    case S_IFDIR:
        return "dir";
    case S_IFLNK:
        return "symlink";
    case S_IFCHR:
        return "char";
    case S_IFBLK:
        return "block";
    default:
        return "fifo";
    }
}

/* Adds a text, or as base64 under KEY_base64 if it is not UTF-8. False: out of memory. */
static bool add_text(json_t *line, const char *key, const char *bytes, size_t length) {
    char long_key[32];
    json_t *text = json_stringn(bytes, length);
    if (text)
        return json_object_set_new(line, key, text) == 0;
    cleanup_free char *encoded = base64_encode(bytes, length);
    snprintf(long_key, sizeof long_key, "%s_base64", key);
    return encoded && json_object_set_new(line, long_key, json_string(encoded)) == 0;
}

/* NULL: out of memory. */
static json_t *xattrs_of(const struct tree_inode *inode) {
    cleanup_json json_t *object = json_object();
    for (const struct tree_xattr *xattr = inode->xattrs; xattr; xattr = xattr->next) {
        cleanup_free char *value = base64_encode(xattr->value.at, xattr->value.length);
        cleanup_free char *name = text_dup(xattr->name);
        if (!value || !name || json_object_set_new_nocheck(object, name, json_string(value)) != 0)
            return NULL;
    }
    return json_incref(object);
}

static json_t *line_of(const struct tree_node *node, const struct buffer *path) {
    const struct tree_inode *inode = node->inode;
    char mode[8], mtime[48];
    snprintf(mode, sizeof mode, "%04o", inode->mode & 07777);
    snprintf(mtime, sizeof mtime, "%" PRIu64 ".%09" PRIu32, inode->mtime_s, inode->mtime_ns);
    cleanup_json json_t *line = json_object();
    bool is_link = S_ISLNK(inode->mode);
    json_int_t size = S_ISREG(inode->mode) || is_link ? (json_int_t)inode->size : 0;
    cleanup_json json_t *rest = json_pack(
        "{s:s, s:s, s:I, s:I, s:I, s:s, s:I, s:I, s:I, s:o}", "type", type_of(inode->mode), "mode",
        mode, "uid", (json_int_t)inode->uid, "gid", (json_int_t)inode->gid, "size", size, "mtime",
        mtime, "nlink", (json_int_t)inode->links, "major", (json_int_t)inode->major, "minor",
        (json_int_t)inode->minor, "xattrs", xattrs_of(inode));
    bool ok = rest && add_text(line, "path", path->bytes, path->length) &&
              json_object_update(line, rest) == 0 &&
              (is_link ? add_text(line, "link", inode->target, (size_t)inode->size)
                       : json_object_set_new(line, "link", json_null()) == 0);
    return ok ? json_incref(line) : NULL;
}

static bool print_json(const struct tree_node *node, const struct buffer *path) {
    cleanup_json json_t *line = line_of(node, path);
    cleanup_buffer struct buffer out = {0};
    if (!line || !bounded_json_dump(line, JSON_COMPACT, &out))
        return false;
    fwrite(out.bytes, 1, out.length, stdout);
    putchar('\n');
    return true;
}

/* "drwxr-xr-x 0/0 4096 2024-02-01 12:30:00 /usr" */
static void print_plain(const struct tree_node *node, const struct buffer *path) {
    static const char bits[] = "rwxrwxrwx";
    const struct tree_inode *inode = node->inode;
    char mode[11] = "----------", owner[32], when[32] = "";
    time_t mtime = (time_t)inode->mtime_s;
    struct tm broken;
    mode[0] = "?pc?d?b?-?l?s???"[inode->mode >> 12 & 15];
    for (int i = 0; i < 9; i++)
        if (inode->mode & (0400u >> i))
            mode[i + 1] = bits[i];
    for (int i = 0; i < 3; i++) /* setuid, setgid, sticky */
        if (inode->mode & (04000u >> i))
            mode[3 * (i + 1)] = mode[3 * (i + 1)] == 'x' ? "sst"[i] : "SST"[i];
    snprintf(owner, sizeof owner, "%" PRIu32 "/%" PRIu32, inode->uid, inode->gid);
    if (gmtime_r(&mtime, &broken))
        strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &broken);
    printf("%s %-9s %10" PRIu64 " %s ", mode, owner, S_ISDIR(inode->mode) ? 0 : inode->size, when);
    fwrite(path->bytes, 1, path->length, stdout);
    putchar('\n');
}

static bool print_all(struct stream_image *image, const char *wanted, bool json,
                      struct error *error) {
    cleanup_buffer struct buffer path = {0};
    struct tree_node *top = stream_image_find(image, wanted, false, error);
    if (!top)
        return false;
    for (struct tree_node *node = top; node; node = tree_next(top, node)) {
        if (!node->parent)
            continue;
        buffer_clear(&path);
        stream_image_path(node, &path);
        if (path.failed || (json && !print_json(node, &path)))
            return error_set(error, ERROR_MEMORY, "out of memory");
        if (!json)
            print_plain(node, &path);
    }
    return fflush(stdout) == 0 || error_set(error, ERROR_IO, "cannot write to standard output");
}

static int run(const struct arguments *arguments) {
    cleanup_stream_image struct stream_image image = {0};
    struct error error = {0};
    int status = stream_image_open(&image, arguments);
    if (status != 0)
        return status;
    const char *path = arguments->operand_count > 1 ? arguments->operands[1] : NULL;
    return print_all(&image, path ? path : "/", arguments_flag(arguments, "json"), &error)
               ? 0
               : stream_image_fail(arguments, path, &error);
}

static const struct command_option options[] = {
    {"json", OPTION_FLAG, NULL, "print a JSON object for each file, one a line"},
    STREAM_IMAGE_OPTIONS};

const struct command files_command = {
    .name = "files",
    .arguments = "IMAGE [PATH]",
    .least = 1,
    .most = 2,
    .summary = "list the files of an image, without pulling it",
    .text = "One line for each file at or below PATH: mode, owner, size, time (UTC) and path. "
            "IMAGE is\n"
            "HOST/NAME[:TAG][@DIGEST]; it must be in the cache of a tarn that runs with streaming\n"
            "switched on.\n",
    COMMAND_OPTIONS(options),
    .run = run,
};
