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
    struct digest digest; /* of the manifest, or of the layer */
    struct manifest manifest;
    struct spans_opened_layer *layers; /* the lowest first; owned */
    size_t layer_count;
    struct buffer bytes; /* of the image's index */
    struct image_index index;
    char reason[32]; /* why it is pulled whole; "": it streams */
    uint64_t fetched;
    bool is_offline; /* nothing is to be fetched */
};

/* spans_opening_finish() is owed either way. */
bool spans_opening_begin(struct spans_opening *opening, struct spans *spans, const char *image,
                         const char *from, struct error *error);
void spans_opening_finish(struct spans_opening *opening);

typedef bool spans_question(const struct stream_asking *asking, void *context, struct error *error);
/* Asks one tarn after the other until one answers. The error is that of the one that knows most. */
bool spans_opening_ask(struct spans_opening *opening, spans_question *question, void *context,
                       struct error *error);

#endif
