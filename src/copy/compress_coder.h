/* How one block of a layer is compressed: gzip.c's way and zstd.c's. Pure; a state is one
 * worker's. */
#ifndef COPY_COMPRESS_CODER_H
#define COPY_COMPRESS_CODER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    COMPRESS_DICTIONARY_SIZE = 32 << 10,
    COMPRESS_MARK_SIZE = 16, /* most bytes in front of all blocks, and behind them */
};

struct compress_block {
    unsigned char *bytes; /* what is to be compressed */
    size_t length;
    bool is_first, is_last;
    /* The bytes before the block. */
    unsigned char dictionary[COMPRESS_DICTIONARY_SIZE];
    size_t dictionary_length;
    unsigned char *out; /* has the coder's bound(block_size) bytes */
    size_t out_length;
    uint32_t checksum; /* of `bytes`, if the coder has one */
};

struct compress_coder {
    size_t block_size;
    unsigned most_workers; /* bounds the memory */
    size_t (*bound)(size_t length);
    void *(*new_state)(void); /* NULL: out of memory */
    void (*free_state)(void *state);
    bool (*run)(void *state, struct compress_block *block); /* false: out of memory */
    /* What stands in front of all blocks, and behind them; returns its length. May be NULL. */
    size_t (*begin)(unsigned char mark[static COMPRESS_MARK_SIZE]);
    size_t (*end)(unsigned char mark[static COMPRESS_MARK_SIZE], uint32_t checksum, uint64_t size);
    uint32_t (*join)(uint32_t checksum, const struct compress_block *next); /* NULL: none */
};

extern const struct compress_coder compress_gzip, compress_zstd;

#endif
