/* zstd in frames of their own, so that each can be made by another worker, and unpacked by one. */
#include <zstd.h>
#include "copy/compress_coder.h"

enum {
    BLOCK_SIZE = 1 << 20,
    LEVEL = 3, /* zstd's default */
};

static size_t bound(size_t length) {
    return ZSTD_compressBound(length);
}

static void *new_state(void) {
    ZSTD_CCtx *context = ZSTD_createCCtx();
    if (context && (ZSTD_isError(ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, LEVEL)) ||
                    ZSTD_isError(ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1)))) {
        ZSTD_freeCCtx(context);
        return NULL;
    }
    return context;
}

static void free_state(void *state) {
    ZSTD_freeCCtx(state);
}

static bool run(void *state, struct compress_block *block) {
    block->out_length = 0;
    if (block->length == 0 && !block->is_first) /* the blocks before it hold everything */
        return true;
    const size_t length = ZSTD_compress2(state, block->out, ZSTD_compressBound(BLOCK_SIZE),
                                         block->bytes, block->length);
    if (ZSTD_isError(length))
        return false;
    block->out_length = length;
    return true;
}

const struct compress_coder compress_zstd = {
    .block_size = BLOCK_SIZE,
    .most_workers = 12,
    .bound = bound,
    .new_state = new_state,
    .free_state = free_state,
    .run = run,
};
