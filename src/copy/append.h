/*
 * A new image from a base, folders and changes of its config. Nothing is kept on the disk: the
 * base's blobs are mounted or copied, several at once, and each folder becomes a layer while it is
 * sent.
 *
 * The order: what is at the base, the base's layers, the new layers, the config, and last the
 * manifest under its tag. When something fails before, no manifest is written.
 *
 * Threads: append_image() blocks the thread that calls it, and starts others.
 */
#ifndef COPY_APPEND_H
#define COPY_APPEND_H

#include "copy/append_config.h"
#include "copy/image.h"
#include "copy/layer.h"

struct append_image {
    struct copy_source *base; /* NULL: from scratch */
    const char *reference;    /* of the base, as copy_source_get_manifest() takes it */
    struct copy_platform platform;
    bool is_platform_wanted; /* a base that is no index must be for the platform, too */

    struct copy_destination *destination;
    const char *tag; /* as copy_destination_put_manifest() takes it */

    const struct layer_content *layers; /* one layer each, in this order */
    size_t layer_count;
    struct append_changes changes;
    struct pack_settings pack; /* its time is also that of the config */
    enum compress_kind compression;

    /* Set by a signal to end the work within a second (CLOSED), and by append_image() itself when a
     * blob of the base fails. Not NULL. */
    atomic_bool *stop;
    /* As of copy_events. Progress of a new layer has the digest of nothing, until it is known. */
    void (*on_event)(void *context, const struct copy_event *event);
    void (*on_layer)(void *context, const struct layer_content *content,
                     const struct compress_result *result);
    void *context;
};

/* The rights to push were checked before. False: the error says what failed; *result says what was
 * done until then. */
bool append_image(const struct append_image *image, struct copy_image_result *result,
                  struct error *error);

#endif
