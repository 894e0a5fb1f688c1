/*
 * Digests (image-spec descriptor.md, "Digests").
 *
 * A digest is `sha256:` or `sha512:` and lower-case hex; here it is a plain value, which is
 * compared with digest_equal(). A `struct digest_hash` hashes bytes as they come, to check them
 * against a digest. Pure; any thread, but one at a time for each hash.
 */
#ifndef OCI_DIGEST_H
#define OCI_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/text.h"

enum digest_algorithm { DIGEST_SHA256 = 1, DIGEST_SHA512 = 2 };

enum { DIGEST_STRING_SIZE = 7 + 128 + 1 }; /* "sha512:" + hex + NUL */

struct digest {
    enum digest_algorithm algorithm; /* 0: no digest */
    uint8_t bytes[64];               /* SHA-256 has 32 of them, and the others are zero */
};

/* Strict: the exact length, and lower case only. */
bool digest_parse(struct text text, struct digest *out);

/* Writes "sha256:<hex>", or "" for no digest. Returns `out`. */
const char *digest_format(const struct digest *digest, char out[static DIGEST_STRING_SIZE]);

/* False when either is no digest. */
bool digest_equal(const struct digest *a, const struct digest *b);

/* "sha256", "sha512"; "" for no algorithm. */
const char *digest_algorithm_name(enum digest_algorithm algorithm);

/* A hash in progress. */
struct digest_hash;

/* NULL: out of memory. */
struct digest_hash *digest_hash_new(enum digest_algorithm algorithm);
void digest_hash_free(struct digest_hash *hash);
void digest_hash_update(struct digest_hash *hash, const void *bytes, size_t length);

/* Ends the hash: afterwards only digest_hash_free() is allowed. If OpenSSL has failed at any point,
 * *out is no digest and equals none. */
void digest_hash_finish(struct digest_hash *hash, struct digest *out);

/* The digest of `bytes`; false: out of memory. */
bool digest_of(enum digest_algorithm algorithm, const void *bytes, size_t length,
               struct digest *out);

/* Writes the SHA-256 digest of the text as digest_format() does. False: out of memory. */
bool digest_format_text(struct text text, char out[static DIGEST_STRING_SIZE]);

#endif
