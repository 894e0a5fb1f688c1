/*
 * Deletes blobs of the bucket, several at once: a bucket takes its time for each, and S3's way to
 * delete many keys by one request does not exist at Google.
 *
 * Blobs are gathered into a batch, which is deleted when it is full, and in the end. So the memory
 * is bounded, and so are the requests at once. The very first blob is deleted alone: if there is no
 * right to delete, one request shows it, and nothing else is tried.
 *
 * Private to cache/. Threads: one thread uses a struct removals; it deletes with a few others,
 * which have ended when a function returns.
 */
#ifndef CACHE_REMOVALS_H
#define CACHE_REMOVALS_H

#include "cache/inventory.h"

enum { REMOVALS_BATCH = 256, REMOVALS_AT_ONCE = 4 };

struct removals;

/* What became of a blob or a mark: called for each in the order in which they were added, on the
 * thread that uses the removals. False ends them with the error that it set. */
typedef bool removals_told(void *context, const struct inventory_entry *entry, bool is_gone,
                           struct error *error);

/* The bucket and `cancel` (may be NULL) outlive the removals. Only the calling thread asks
 * `cancel->is_wanted`. NULL: out of memory. */
struct removals *removals_new(struct bucket *bucket, const struct cancel *cancel,
                              removals_told *told, void *context);
void removals_free(struct removals *removals); /* NULL is allowed */

/* Adds a blob or a mark, and deletes the batch if it is full. False: the bucket fails, or it was
 * cancelled; what was deleted until then has been told, and nothing else will be. */
bool removals_add(struct removals *removals, const struct inventory_entry *entry,
                  struct error *error);
/* Deletes what was added. False as above. */
bool removals_finish(struct removals *removals, struct error *error);

/* There is no right to delete: nothing more is tried. */
bool removals_are_forbidden(const struct removals *removals);

#endif
