/* What an image consists of, as far as streaming is concerned. Private to cache/. One thread at a
 * time for each struct. */
#ifndef CACHE_STREAM_PARTS_H
#define CACHE_STREAM_PARTS_H

#include "cache/streams.h"

struct stream_layer {
    struct digest digest, diff_id;
    uint64_t size;
    bool is_plain; /* its media type says that it is not compressed */
};

struct stream_parts {            /* zeroed is empty */
    struct stream_layer *layers; /* the lowest first; owned */
    size_t count;
    struct stream_verdict verdict; /* PENDING: all parts are here, and there may be indexes */
    struct digest missing;         /* if ABSENT: the first part that is not here; or none */
};

/* Reads manifest and configuration from the store. False: ERROR_MEMORY. */
bool stream_parts_read(struct store *store, const struct streams_settings *settings,
                       const struct digest *manifest, struct stream_parts *out,
                       struct error *error);
void stream_parts_finish(struct stream_parts *parts);
#define cleanup_stream_parts __attribute__((cleanup(stream_parts_finish)))

/* Why there is no index for the layer with this diff ID, or no image index (`diff_id` zeroed).
 * LAYER_FINE: nothing was refused. */
enum layer_refusal stream_refusal(struct store *store, const struct digest *digest,
                                  const struct digest *diff_id);
/* The same for any diff ID. */
enum layer_refusal stream_refusal_any(struct store *store, const struct digest *digest);
/* Keeps it. */
bool stream_refuse(struct store *store, const struct digest *digest, const struct digest *diff_id,
                   enum layer_refusal why, struct error *error);
/* Forgets a refusal that was an error of our own. */
void stream_forget_errors(struct store *store, const struct digest *digest);

/* Whether the layer's index is there and says this diff ID. */
bool stream_has_index(struct store *store, const struct digest *layer,
                      const struct digest *diff_id);

#endif
