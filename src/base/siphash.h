/*
 * SipHash (Aumasson and Bernstein, 2012): a fast keyed hash. Nobody who does not know the key can
 * find inputs of the same hash, or tell the hash of an input.
 *
 * The hashes only compute. Nothing here allocates or can fail. Any thread.
 */
#ifndef BASE_SIPHASH_H
#define BASE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

/* Fill it with random bytes. Both parts are read as little-endian numbers. */
struct siphash_key {
    uint64_t parts[2];
};

/* Fills a key for a table. Before the system has random bytes, the time stands in for them: the
 * table is correct then, too. */
void siphash_key_fill(struct siphash_key *key);

/* SipHash-1-3, for tables whose keys others choose. */
uint64_t siphash_of(const struct siphash_key *key, const void *bytes, size_t length);

/* SipHash-2-4 of 128 bits, to recognize a secret without keeping it. */
struct siphash_tag {
    uint64_t parts[2];
};
struct siphash_tag siphash_tag_of(const struct siphash_key *key, const void *bytes, size_t length);

#endif
