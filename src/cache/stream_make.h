/* Makes the indexes of one image. Private to cache/. Threads: any; two threads must not make the
 * index of one layer at once (the caller's promise). */
#ifndef CACHE_STREAM_MAKE_H
#define CACHE_STREAM_MAKE_H

#include "base/cancel.h"
#include "cache/stream_parts.h"
#include "retention/upkeep.h"

struct stream_maker {
    struct upkeep *upkeep;
    const struct cancel *cancel;
};

/* Makes the layer's index, and puts it beside the blob, or a refusal. False: ERROR_CLOSED when
 * cancelled, ERROR_NOT_FOUND when the blob went; else *why says what was refused. */
bool stream_make_layer(const struct stream_maker *maker, const struct stream_layer *layer,
                       enum layer_refusal *why, struct error *error);

/* The same for the image, all of whose layers have indexes. */
bool stream_make_image(const struct stream_maker *maker, const struct digest *manifest,
                       const struct stream_parts *parts, enum layer_refusal *why,
                       struct error *error);

/* The counters, so that they are there before the first index. */
void stream_make_declare_metrics(void);

#endif
