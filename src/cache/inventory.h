/*
 * What lies in the bucket: its blobs, and when each was last used.
 *
 * The blobs and the marks of use (share.h) are listed side by side, because both lists are in the
 * order of the digests. So a walk takes the same memory for any number of blobs: two pages. Each
 * 1,000 blobs and each 1,000 marks cost one request.
 *
 * Threads: any; a walk blocks.
 */
#ifndef CACHE_INVENTORY_H
#define CACHE_INVENTORY_H

#include <stdbool.h>
#include <stdint.h>
#include "base/cancel.h"
#include "base/error.h"
#include "bucket/bucket.h"
#include "oci/digest.h"

struct inventory_entry {
    struct digest digest;
    bool has_blob; /* false: a mark whose blob is gone */
    bool has_mark;
    uint64_t size; /* of the blob */
    /* By the bucket's clock, in seconds since 1970: the later of the blob's own time and its
     * mark's. 0: the bucket did not say. */
    int64_t used_s;
    int64_t now_s; /* the bucket's clock at the last answer */
};

/*
 * Calls `each` for every entry, in the order of the digests, until it returns false with the error
 * set. `each` may ask the bucket. False: the error of `each` or of the bucket, or ERROR_UNAVAILABLE
 * when the lists are not in order: nothing that follows from them would be true.
 */
bool inventory_walk(struct bucket *bucket, const struct cancel *cancel,
                    bool (*each)(void *context, const struct inventory_entry *entry,
                                 struct error *error),
                    void *context, struct error *error);

#endif
