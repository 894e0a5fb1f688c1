/*
 * Private to store/: the quarantine, ROOT/bad/, where a blob whose bytes are wrong is kept for
 * people to look at. It keeps only the newest few, so that a failing disk cannot fill itself with
 * bad blobs.
 */
#ifndef STORE_QUARANTINE_H
#define STORE_QUARANTINE_H

#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"
#include "base/metric.h"
#include "oci/digest.h"
#include "store/store.h"

enum { QUARANTINE_FILES_LIMIT = 16 };
#define QUARANTINE_BYTES_LIMIT ((uint64_t)1 << 30)

/* Moves the file `path` of the blob `digest` to the quarantine; if that fails, deletes it. The
 * caller holds the blob's index entry alone. Logged and counted. False: the file still has its
 * name. */
bool quarantine_blob(struct store *store, const struct digest *digest, const char *path,
                     struct error *error);

/* Counts the bytes of the quarantine: store_usage.bad_bytes. Deletes what is over its limits. */
void quarantine_count(struct store *store);

/* The counter of bad blobs. Called once at the start, so that the metric is there before the first
 * bad blob. */
struct metric *quarantine_counter(void);

#endif
