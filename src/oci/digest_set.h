/* A set of digests, which may come from untrusted peers. One thread at a time for each set. */
#ifndef OCI_DIGEST_SET_H
#define OCI_DIGEST_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "oci/digest.h"

enum { DIGEST_SET_KEYS = 8 };

struct digest_set { /* zeroed is empty */
    struct digest *slots;
    size_t count, capacity; /* capacity: 0 or a power of two */
    /* Secret keys of the hash function. A manifest can name any digests; because its author does
     * not know the keys, the digests cannot be chosen to fall into one slot. */
    uint64_t keys[DIGEST_SET_KEYS];
};
void digest_set_finish(struct digest_set *set);

/* *added (may be NULL) says whether the digest was not in the set before. False: out of memory. */
bool digest_set_add(struct digest_set *set, const struct digest *digest, bool *added);
bool digest_set_has(const struct digest_set *set, const struct digest *digest);

/* The next digest, in no order; NULL at the end. *cursor is 0 at first. */
const struct digest *digest_set_next(const struct digest_set *set, size_t *cursor);

#define cleanup_digest_set __attribute__((cleanup(digest_set_finish)))

#endif
