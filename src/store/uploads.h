/*
 * Uploads: the bytes of a blob that a client is pushing, in ROOT/uploads/ID. They arrive in order,
 * and nobody knows their digest yet.
 *
 * Life: store_upload_open() -> upload_write() -> upload_commit() (now it is a blob) or
 * upload_drop()
 * -> upload_free(). An upload that is neither stays, also after the end of the process, until it is
 * UPLOAD_AGE_S old. What uploads take counts in store_usage().
 *
 * Threads: one thread at a time writes, commits or drops; any thread may read from the descriptor.
 */
#ifndef STORE_UPLOADS_H
#define STORE_UPLOADS_H

#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"
#include "oci/digest.h"
#include "store/store.h"

enum { UPLOAD_ID_SIZE = 32 + 1, UPLOAD_AGE_S = 24 * 3600 };

struct upload;

/* Opens the upload of an id (32 lower-case hex digits): a new one if `creates`, else one that is
 * there. NULL: ERROR_NOT_FOUND, or the disk's error. The caller has it open once at a time. */
struct upload *store_upload_open(struct store *store, const char *id, bool creates,
                                 struct error *error);
int upload_fd(const struct upload *upload);        /* read-write; owned by the upload */
uint64_t upload_size(const struct upload *upload); /* bytes that were written */

/* Appends bytes. False: NO_SPACE, IO; what was written before stays. */
bool upload_write(struct upload *upload, const void *bytes, size_t length, struct error *error);

/* Counts `bytes` as reserved in store_usage(), in place of what this upload had reserved before. */
void upload_reserve(struct upload *upload, uint64_t bytes);

/* Makes the upload the blob of this digest, which the caller has checked, as partial_commit(). */
bool upload_commit(struct upload *upload, const struct digest *digest, struct error *error);
/* Deletes the file. No effect after a commit. */
void upload_drop(struct upload *upload);
void upload_free(struct upload *upload); /* NULL is fine; the bytes stay unless dropped */

/* Deletes uploads that nobody wrote to for `age_s` seconds, and counts what the others take. For a
 * background thread. */
void store_uploads_clean(struct store *store, int64_t age_s);

/* ---- the key of the sessions ---- */

enum { UPLOAD_KEY_SIZE = 32 };

/* Reads ROOT/uploads.key, or makes it (mode 0600) of random bytes. False: IO, NO_SPACE; INVALID:
 * the file is none that tarn has written. */
bool store_upload_key(struct store *store, unsigned char key[static UPLOAD_KEY_SIZE],
                      struct error *error);

#endif
