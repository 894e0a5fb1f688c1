/*
 * Which images can stream: the indexes of their layers and of themselves (layer/index.h), which are
 * made in the background and kept beside the blobs (store/aside.h).
 *
 * An image streams whole or not at all. Its indexes are made once its manifest, configuration and
 * layers are stored, if a layer has at least min_layer bytes; then all layers are indexed. What
 * refuses an image is kept, too, so that it is not tried again: for each layer and diff ID alone,
 * because the diff ID comes from a configuration, which may lie.
 *
 * Threads: all calls from any thread. Reading a verdict reads from the disk.
 */
#ifndef CACHE_STREAMS_H
#define CACHE_STREAMS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/buffer.h"
#include "base/error.h"
#include "layer/refusal.h"
#include "oci/digest.h"
#include "oci/reference.h"
#include "store/store.h"

struct streams;
struct upkeep;

enum { STREAMS_THREADS_LIMIT = 16 };

struct streams_settings {
    bool enabled;
    uint64_t min_layer; /* bytes of a layer's blob; an image without such a layer is not indexed */
    unsigned threads;   /* that make indexes, 1 to STREAMS_THREADS_LIMIT */
};
struct streams_settings streams_settings_default(void);

/* ---- verdicts ---- */

enum stream_state {
    STREAM_ABSENT,  /* it is not all here, or is nothing that could stream */
    STREAM_PENDING, /* its indexes are being made */
    STREAM_REFUSED, /* it cannot stream: `why` */
    STREAM_READY
};
const char *
stream_state_name(enum stream_state state); /* "absent", "pending", "refused", "ready" */

struct stream_verdict {
    enum stream_state state;
    enum layer_refusal why; /* LAYER_FINE, unless refused, or absent because of LAYER_OFF */
};

/* Whether the image of a manifest can stream. */
struct stream_verdict stream_of_manifest(struct store *store,
                                         const struct streams_settings *settings,
                                         const struct digest *manifest);
/* The same of a manifest, or of an index: the best that is said of the manifests it names. */
struct stream_verdict stream_of_image(struct store *store, const struct streams_settings *settings,
                                      const struct digest *digest);
/* Whether a layer has an index, for the readers of a repository that has it; if not, what the
 * images of the repository that have the layer say. */
struct stream_verdict stream_of_layer(struct store *store, const struct streams_settings *settings,
                                      const struct repository_name *repository,
                                      const struct digest *layer);

/* ---- making ---- */

/* `upkeep` outlives the streams. NULL: out of memory. */
struct streams *streams_new(const struct streams_settings *settings, struct upkeep *upkeep);
/* Starts the threads, which also look through what the store has. */
void streams_start(struct streams *streams);
void streams_stop(struct streams *streams); /* the threads end soon */
void streams_free(struct streams *streams); /* after streams_stop(); waits for the threads */
void streams_change(struct streams *streams, const struct streams_settings *settings);
struct streams_settings streams_settings_now(struct streams *streams);

/* A manifest is stored and linked. Cheap. */
void streams_note_manifest(struct streams *streams, const struct repository_name *repository,
                           const struct digest *manifest);
/* A blob has come into the store. Cheap. */
void streams_note_blob(struct streams *streams, const struct digest *digest);

void streams_declare_metrics(void);
void streams_update_metrics(struct streams *streams);

/* ---- chains ---- */

/* Calls `each` for every image that has the layers of the chain ID (image-spec config.md, "Layer
 * ChainID") and can stream; `layers` is how many of its layers the chain is. Only images that were
 * looked at since the start are known. `each` is called without a lock. */
void streams_of_chain(struct streams *streams, const struct digest *chain,
                      void (*each)(void *context, const struct repository_name *repository,
                                   const struct digest *manifest, size_t layers),
                      void *context);

#endif
