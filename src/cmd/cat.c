/* tarn cat: prints one file of an image. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/file.h"
#include "cmd/commands.h"
#include "cmd/stream_image.h"

static bool write_out(void *context, const void *bytes, size_t length, struct error *error) {
    (void)context;
    return file_write_all(STDOUT_FILENO, bytes, length, error);
}

static bool print_file(struct stream_image *image, const char *path, struct error *error) {
    const struct tree_node *node = stream_image_find(image, path, true, error);
    if (!node)
        return false;
    if (S_ISDIR(node->inode->mode))
        return error_set(error, ERROR_INVALID, "is a directory");
    if (!S_ISREG(node->inode->mode))
        return error_set(error, ERROR_INVALID, "is no file with content");
    return stream_image_read(image, node->inode, write_out, NULL, error);
}

static int run(const struct arguments *arguments) {
    cleanup_stream_image struct stream_image image = {0};
    struct error error = {0};
    int status = stream_image_open(&image, arguments);
    if (status != 0)
        return status;
    const char *path = arguments->operands[1];
    return print_file(&image, path, &error) ? 0 : stream_image_fail(arguments, path, &error);
}

static const struct command_option options[] = {STREAM_IMAGE_OPTIONS};

const struct command cat_command = {
    .name = "cat",
    .arguments = "IMAGE PATH",
    .least = 2,
    .most = 2,
    .summary = "print a file of an image, without the rest of the image",
    .text =
        "IMAGE is HOST/NAME[:TAG][@DIGEST]; it must be in the cache of a tarn that runs with\n"
        "streaming switched on. Symbolic links in the image are followed. Only the parts of the\n"
        "image that hold the file are fetched, and they are checked.\n",
    COMMAND_OPTIONS(options),
    .run = run,
};
