/* The opening of one image: what is known of it so far. Private to spans/; one thread. */
#ifndef SPANS_OPEN_H
#define SPANS_OPEN_H

#include "node/spans/private.h"
#include "oci/manifest.h"

struct spans_opened_layer {
    struct digest digest, diff_id;
    uint64_t size;          /* as the manifest claims */
    const char *media_type; /* in the manifest */
};

struct spans_opening { /* zeroed is empty */
    struct spans *spans;
    const atomic_bool *stop; /* may be NULL */
    struct cancel cancel;
    struct image_name name;
    struct spans_asked asked;
    int64_t began_ms;
    struct digest digest; /* of the manifest, or the chain ID of its lowest layers */
    struct manifest manifest;
    struct spans_opened_layer *layers; /* the lowest first; owned */
    size_t layer_count;
    struct spans_layer **pulled; /* whole ones, until the image has them; NULL: none; owned */
    struct buffer bytes;         /* of the image's index */
    struct image_index index;
    char reason[32]; /* why it is pulled whole; "": it streams */
    _Atomic uint64_t fetched;
    bool is_offline;  /* no index is to be fetched */
    bool has_network; /* but a trace is */
};

/* spans_opening_finish() is owed either way. */
bool spans_opening_begin(struct spans_opening *opening, struct spans *spans, const char *image,
                         const char *from, struct error *error);
void spans_opening_finish(struct spans_opening *opening);

typedef bool spans_question(const struct stream_asking *asking, void *context, struct error *error);
/* Asks one tarn after the other until one answers. The error is that of the one that knows most. */
bool spans_opening_ask(struct spans_opening *opening, spans_question *question, void *context,
                       struct error *error);
/* Counts bytes that came. */
void spans_opening_count(struct spans_opening *opening, struct metric *metric, size_t bytes);

/*
 * Pulls the layers that the root does not have whole, unpacks and verifies them, and makes the
 * image's index here (spans_whole.c). False: also ERROR_CORRUPT, when a layer does not have its
 * digest or its diff ID, and ERROR_INVALID, when it cannot be unpacked.
 */
bool spans_whole_pull(struct spans_opening *opening, struct error *error);

#endif
