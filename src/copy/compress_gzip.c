/* gzip in blocks: deflate with the bytes before a block as its dictionary, as pigz does it. */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include "copy/compress_coder.h"

enum {
    BLOCK_SIZE = 128 << 10,
    LEVEL = 6,         /* gzip's and pigz's default */
    WINDOW_BITS = -15, /* raw deflate */
    MEMORY_LEVEL = 8,
};

/* More than deflateBound() says of zlib and of its forks, and what a flush adds. */
static size_t bound(size_t length) {
    return length + (length >> 4) + 1024;
}

static void *new_state(void) {
    z_stream *stream = calloc(1, sizeof *stream);
    if (stream && deflateInit2(stream, LEVEL, Z_DEFLATED, WINDOW_BITS, MEMORY_LEVEL,
                               Z_DEFAULT_STRATEGY) != Z_OK) {
        free(stream);
        return NULL;
    }
    return stream;
}

static void free_state(void *state) {
    if (state)
        deflateEnd(state);
    free(state);
}

static bool run(void *state, struct compress_block *block) {
    z_stream *stream = state;
    if (deflateReset(stream) != Z_OK ||
        (block->dictionary_length &&
         deflateSetDictionary(stream, block->dictionary, (uInt)block->dictionary_length) != Z_OK))
        return false;
    const size_t size = bound(BLOCK_SIZE);
    stream->next_in = block->bytes;
    stream->avail_in = (uInt)block->length;
    stream->next_out = block->out;
    stream->avail_out = (uInt)size;
    const int outcome = deflate(stream, block->is_last ? Z_FINISH : Z_SYNC_FLUSH);
    block->out_length = size - stream->avail_out;
    block->checksum = (uint32_t)crc32(0, block->bytes, (uInt)block->length);
    return outcome == (block->is_last ? Z_STREAM_END : Z_OK) && stream->avail_in == 0 &&
           stream->avail_out > 0;
}

static uint32_t join(uint32_t checksum, const struct compress_block *next) {
    return (uint32_t)crc32_combine(checksum, next->checksum, (z_off_t)next->length);
}

/* RFC 1952 §2.3: no name, no time, and no system that it was made on. */
static size_t begin(unsigned char mark[static COMPRESS_MARK_SIZE]) {
    static const unsigned char header[] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255};
    memcpy(mark, header, sizeof header);
    return sizeof header;
}

static size_t end(unsigned char mark[static COMPRESS_MARK_SIZE], uint32_t checksum, uint64_t size) {
    const uint32_t numbers[] = {checksum, (uint32_t)size};
    for (size_t i = 0; i < 8; i++)
        mark[i] = (unsigned char)(numbers[i / 4] >> (8 * (i % 4)));
    return 8;
}

const struct compress_coder compress_gzip = {
    .block_size = BLOCK_SIZE,
    .most_workers = 32,
    .bound = bound,
    .new_state = new_state,
    .free_state = free_state,
    .run = run,
    .begin = begin,
    .end = end,
    .join = join,
};
