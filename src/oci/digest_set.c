/* A set of digests: a hash table with open addressing and a secret hash function. */
#include "oci/digest_set.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { CAPACITY_LEAST = 16 };

static void make_keys(struct digest_set *set) {
    if (getrandom(set->keys, sizeof set->keys, 0) != sizeof set->keys)
        memset(set->keys, 0x5a, sizeof set->keys);
    for (size_t i = 0; i < DIGEST_SET_KEYS; i++)
        set->keys[i] |= 1;
}

static size_t slot_of(const struct digest_set *set, const struct digest *digest) {
    uint64_t words[DIGEST_SET_KEYS], sum = 0;
    _Static_assert(sizeof words == sizeof digest->bytes, "all bytes of a digest");
    memcpy(words, digest->bytes, sizeof words);
    for (size_t i = 0; i < DIGEST_SET_KEYS; i++)
        sum += (words[i] ^ words[i] >> 32) * set->keys[i];
    return (size_t)(sum >> 32) & (set->capacity - 1);
}

/* The digest's slot, or the empty slot where it would be put. The set is never full. */
static struct digest *find(const struct digest_set *set, const struct digest *digest) {
    size_t at = slot_of(set, digest);
    while (set->slots[at].algorithm && !digest_equal(&set->slots[at], digest))
        at = (at + 1) & (set->capacity - 1);
    return &set->slots[at];
}

static bool grow(struct digest_set *set) {
    struct digest_set larger = *set;
    if (set->capacity == 0)
        make_keys(&larger);
    larger.capacity = set->capacity ? set->capacity * 2 : CAPACITY_LEAST;
    larger.slots = calloc(larger.capacity, sizeof *larger.slots);
    if (!larger.slots)
        return false;
    for (size_t i = 0; i < set->capacity; i++) {
        if (set->slots[i].algorithm)
            *find(&larger, &set->slots[i]) = set->slots[i];
    }
    free(set->slots);
    *set = larger;
    return true;
}

void digest_set_finish(struct digest_set *set) {
    free(set->slots);
    *set = (struct digest_set){0};
}

bool digest_set_add(struct digest_set *set, const struct digest *digest, bool *added) {
    if (set->count * 4 >= set->capacity * 3 && !grow(set))
        return false;
    struct digest *slot = find(set, digest);
    bool is_new = slot->algorithm == 0;
    if (is_new) {
        *slot = *digest;
        set->count++;
    }
    if (added)
        *added = is_new;
    return true;
}

bool digest_set_has(const struct digest_set *set, const struct digest *digest) {
    return set->count > 0 && find(set, digest)->algorithm != 0;
}

const struct digest *digest_set_next(const struct digest_set *set, size_t *cursor) {
    while (*cursor < set->capacity) {
        const struct digest *slot = &set->slots[(*cursor)++];
        if (slot->algorithm)
            return slot;
    }
    return NULL;
}
