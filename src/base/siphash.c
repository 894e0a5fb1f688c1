/* SipHash-1-3 and SipHash-2-4. */
#include "base/siphash.h"

#include <endian.h>
#include <string.h>
#include <sys/random.h>
#include "base/clock.h"

struct state {
    uint64_t a, b, c, d;
};

static uint64_t rotate(uint64_t word, int bits) {
    return word << bits | word >> (64 - bits);
}

static inline void mix(struct state *state, int rounds) {
    for (int i = 0; i < rounds; i++) {
        state->a += state->b;
        state->c += state->d;
        state->b = rotate(state->b, 13) ^ state->a;
        state->d = rotate(state->d, 16) ^ state->c;
        state->a = rotate(state->a, 32);
        state->c += state->b;
        state->a += state->d;
        state->b = rotate(state->b, 17) ^ state->c;
        state->d = rotate(state->d, 21) ^ state->a;
        state->c = rotate(state->c, 32);
    }
}

static struct state start(const struct siphash_key *key) {
    uint64_t first = le64toh(key->parts[0]), second = le64toh(key->parts[1]);
    return (struct state){first ^ 0x736f6d6570736575, second ^ 0x646f72616e646f6d,
                          first ^ 0x6c7967656e657261, second ^ 0x7465646279746573};
}

/* Inline, so that the compiler unrolls the rounds. */
static inline void absorb(struct state *state, int rounds, const void *bytes, size_t length) {
    const unsigned char *at = bytes, *end = at + length / 8 * 8;
    uint64_t word;
    for (; at < end; at += sizeof word) {
        memcpy(&word, at, sizeof word);
        word = le64toh(word);
        state->d ^= word;
        mix(state, rounds);
        state->a ^= word;
    }
    word = 0;
    if (length % 8)
        memcpy(&word, end, length % 8);
    word = le64toh(word) | (uint64_t)length << 56;
    state->d ^= word;
    mix(state, rounds);
    state->a ^= word;
}

static uint64_t sum(const struct state *state) {
    return state->a ^ state->b ^ state->c ^ state->d;
}

void siphash_key_fill(struct siphash_key *key) {
    if (getrandom(key, sizeof *key, GRND_NONBLOCK) < 0)
        key->parts[0] = (uint64_t)clock_us();
}

uint64_t siphash_of(const struct siphash_key *key, const void *bytes, size_t length) {
    struct state state = start(key);
    absorb(&state, 1, bytes, length);
    state.c ^= 0xff;
    mix(&state, 3);
    return sum(&state);
}

struct siphash_tag siphash_tag_of(const struct siphash_key *key, const void *bytes, size_t length) {
    struct state state = start(key);
    struct siphash_tag tag;
    state.b ^= 0xee;
    absorb(&state, 2, bytes, length);
    state.c ^= 0xee;
    mix(&state, 4);
    tag.parts[0] = sum(&state);
    state.b ^= 0xdd;
    mix(&state, 4);
    tag.parts[1] = sum(&state);
    return tag;
}
