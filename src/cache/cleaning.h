/*
 * Makes the bucket smaller: deletes the blobs that were not used for long, and then those that were
 * used longest ago, until what is left is small enough; and aborts uploads that were never
 * completed.
 *
 * The memory is the same for any number of blobs. A first walk (inventory.h) sums up the bytes by
 * their age, and a second one deletes, so that a bucket costs two requests for each 1,000 blobs and
 * marks. Deleting under a reader is harmless: it gets the rest from elsewhere. Two that clean at
 * once delete the same things.
 *
 * Threads: any; a cleaning blocks.
 */
#ifndef CACHE_CLEANING_H
#define CACHE_CLEANING_H

#include "cache/inventory.h"

struct cleaning_rule {
    int64_t older_than_s; /* delete what was not used for longer; -1: age does not matter */
    int64_t to_size;      /* bytes that may be left; -1: size does not matter */
    bool dry_run;         /* deletes and aborts nothing */
    const struct cancel *cancel;
    /* Called for each blob that goes, or would go. False ends the cleaning, with the error set. May
     * be NULL. */
    bool (*on_blob)(void *context, const struct inventory_entry *blob, struct error *error);
    void *context;
};

struct cleaning_result {
    uint64_t blobs, bytes; /* what is left, or would be left */
    uint64_t removed_blobs, removed_bytes;
    uint64_t aborted; /* uploads */
    bool forbidden;   /* something had to be deleted, and there is no right to: nothing more was */
    int64_t now_s;    /* the bucket's clock; 0: it did not say */
};

/* Names the metrics before there are any. */
void cleaning_declare_metrics(void);

/* False: the bucket could not be read or written, or it was cancelled. What came of it until then
 * is in *result. */
bool cleaning_run(struct bucket *bucket, const struct cleaning_rule *rule,
                  struct cleaning_result *result, struct error *error);

#endif
