/*
 * Digests (image-spec descriptor.md, "Digests"): `sha256:` or `sha512:` and lower-case hex, parsed
 * into a plain value, and a running hash to check bytes against one. Pure; any thread.
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
    uint8_t bytes[64];               /* the first 32 for SHA-256, the rest zero: memcmp compares */
};

bool digest_parse(struct text text, struct digest *out); /* strict: exact length, lower case */
/* Writes "sha256:<hex>" ("" for no digest) and gives `out` back. */
const char *digest_format(const struct digest *digest, char out[static DIGEST_STRING_SIZE]);
bool digest_equal(const struct digest *a, const struct digest *b);  /* no digest equals nothing */
const char *digest_algorithm_name(enum digest_algorithm algorithm); /* "sha256" */

/* A hash in progress. digest_hash_new() gives NULL when out of memory. */
struct digest_hash;
struct digest_hash *digest_hash_new(enum digest_algorithm algorithm);
void digest_hash_free(struct digest_hash *hash);
void digest_hash_update(struct digest_hash *hash, const void *bytes, size_t length);
/* Then only free. Should the library have failed on the way, *out is no digest and equals none. */
void digest_hash_finish(struct digest_hash *hash, struct digest *out);

/* The digest of bytes in one go; false when out of memory. */
bool digest_of(enum digest_algorithm algorithm, const void *bytes, size_t length,
               struct digest *out);

#endif
