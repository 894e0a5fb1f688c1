/*
 * ROOT/pending/: a small file for each digest with which a room above still has something to do,
 * after a restart as well. The store does not look into the files.
 *
 *   ROOT/pending/sha256-abcd…
 *
 * After a power loss a file may be gone, empty or old: the caller checks what it reads. Threads:
 * any; for one digest the calls that write come one at a time (the caller's promise).
 */
#ifndef STORE_PENDING_H
#define STORE_PENDING_H

#include <stdbool.h>
#include <stddef.h>
#include "base/buffer.h"
#include "base/error.h"
#include "oci/digest.h"
#include "store/store.h"

/* Puts the bytes in place of the digest's old file, in one step. */
bool store_pending_write(struct store *store, const struct digest *digest, const void *bytes,
                         size_t length, struct error *error);
/* Appends the file's bytes to `out`. ERROR_NOT_FOUND: there is no such file. ERROR_INVALID: it has
 * more than `limit` bytes. */
bool store_pending_read(struct store *store, const struct digest *digest, size_t limit,
                        struct buffer *out, struct error *error);
/* False: it could not be deleted. There may be none. */
bool store_pending_delete(struct store *store, const struct digest *digest);

/* Calls `each` for every file, in no order, until `each` returns false. */
void store_pending_list(struct store *store,
                        bool (*each)(void *context, const struct digest *digest), void *context);

#endif
