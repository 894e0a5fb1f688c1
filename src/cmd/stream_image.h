/*
 * An image whose files are read from a tarn: its tree, and the bytes of files, of which only the
 * spans that hold them are fetched, and each is checked before it is unpacked. One thread.
 */
#ifndef CMD_STREAM_IMAGE_H
#define CMD_STREAM_IMAGE_H

#include "cmd/arguments.h"
#include "layer/index.h"
#include "node/spans/stream_source.h"

enum { STREAM_LINKS_MOST = 40 }; /* symbolic links on the way to a file */

struct stream_layer_reader;

struct stream_image {      /* zeroed is closed */
    struct client *client; /* owned */
    struct stream_source source;
    struct image_name name;
    struct buffer bytes; /* of the image's index */
    struct image_index index;
    struct tree *tree;
    struct stream_layer_reader *layers; /* one for each; owned */
    /* The symbolic links that the last stream_image_find() followed. */
    struct tree_node *passed[STREAM_LINKS_MOST];
    unsigned passed_count;
};

/* The options of the commands that read images. */
#define STREAM_IMAGE_OPTIONS                                                                       \
    {"from", OPTION_STRING, "URL", "the tarn to read from (default: " STREAM_DEFAULT_URL ")"}, {   \
        "platform", OPTION_STRING, "PLATFORM",                                                     \
            "the image of an index for this platform, like linux/arm64 (default: this machine's)"  \
    }

/* Opens the image that the first operand names. Returns the exit status: 0, or 1 or 2 after
 * printing the reason. stream_image_close() is owed either way. */
int stream_image_open(struct stream_image *image, const struct arguments *arguments);
void stream_image_close(struct stream_image *image);
#define cleanup_stream_image __attribute__((cleanup(stream_image_close)))

/* The node at a path; `follow`: a symbolic link at its end is followed, too. Links in the middle
 * are followed always, and ".." stops at the root. NULL: ERROR_NOT_FOUND. */
struct tree_node *stream_image_find(struct stream_image *image, const char *path, bool follow,
                                    struct error *error);

/* Hands the bytes of a file on in their order; holes come as zeros. */
bool stream_image_read(struct stream_image *image, const struct tree_inode *inode,
                       bool (*sink)(void *context, const void *bytes, size_t length,
                                    struct error *error),
                       void *context, struct error *error);

/* Appends the node's path, "/a/b"; of the root "/". */
void stream_image_path(const struct tree_node *node, struct buffer *out);

/* Prints "tarn COMMAND: IMAGE: PATH: reason" on standard error. Returns 1. `path` may be NULL. */
int stream_image_fail(const struct arguments *arguments, const char *path,
                      const struct error *error);

#endif
