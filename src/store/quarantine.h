/*
 * Inside of store/: what to do with a blob whose bytes turned out to be wrong. It is kept under
 * ROOT/bad/ for people to look at; of those only the newest few, so that a bad disk cannot fill
 * itself with its own mistakes.
 */
#ifndef STORE_QUARANTINE_H
#define STORE_QUARANTINE_H

#include "base/metric.h"
#include "store/store_private.h"

enum { BAD_FILES_LIMIT = 16 };
#define BAD_BYTES_LIMIT ((uint64_t)1 << 30)

/* Takes the name `path` from the blob of `digest`, which the caller holds alone. Logged and
 * counted. False: it still has the name. */
bool bad_blob_set_aside(struct store *store, const struct digest *digest, const char *path,
                        struct error *error);

/* Shown from the start on, so that the first one is seen to be counted. */
struct metric *bad_blobs_counter(void);

#endif
