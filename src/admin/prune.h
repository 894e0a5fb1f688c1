/* The order that makes the cache smaller. Threads: any. */
#ifndef ADMIN_PRUNE_H
#define ADMIN_PRUNE_H

#include "admin/target.h"

struct prune_options {
    int64_t older_than_ms; /* delete what was not used for so long; -1: age does not matter */
    int64_t to_size; /* delete until at most so many bytes are left; -1: size does not matter */
    bool dry_run;    /* only say what would be deleted */
};

/* Deletes blobs, the least recently used first, but none that is in use or pinned. Writes one line
 * for each, {"digest","size","last_used"}, then deletes the records whose blobs are gone.
 * The last line has "blobs", "bytes", "dry_run" and "remaining_bytes". A blob that cannot be
 * deleted makes the order fail at its end; many such blobs in a row end it at once. */
bool order_prune(struct order_target *target, const struct prune_options *options,
                 const struct line_sink *sink, struct error *error);

#endif
