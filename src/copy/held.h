/* Bytes in memory as the body of a blob: a config, or a manifest that a layout keeps as one.
 * Private to copy/. One thread. */
#ifndef COPY_HELD_H
#define COPY_HELD_H

#include "copy/destination.h"

struct held {
    const struct buffer *bytes; /* borrowed */
    size_t at;
};

/* The body; `held` and `bytes` outlive it. `digest` is that of the bytes. */
struct copy_body held_body(struct held *held, const struct buffer *bytes,
                           const struct digest *digest, const atomic_bool *stop);

#endif
