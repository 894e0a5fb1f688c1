/*
 * Windows of deflate: the bytes before a span that it may refer to, cut to those to which it does.
 *
 * Only the first 32 KiB that a span uncompresses to can refer to its window directly. They are
 * uncompressed three times: with a window whose bytes are the low part of their own place, with one
 * of the high parts, and with one of the low parts inverted. Where the first and the last differ,
 * the byte came from the window, and the first two say from where.
 */
#include <stdlib.h>
#include "base/cleanup.h"
#include "layer/scan_private.h"

enum { PACK_LEVEL = 9 };

bool window_cutter_init(struct window_cutter *cutter) {
    cutter->packer = ZSTD_createCCtx();
    cutter->memory = malloc((size_t)WINDOW_BYTES * 5);
    return cutter->packer && cutter->memory;
}

void window_cutter_finish(struct window_cutter *cutter) {
    ZSTD_freeCCtx(cutter->packer);
    free(cutter->memory);
}

/* Uncompresses the beginning of the span with this window. Returns how many bytes came; SIZE_MAX:
 * no memory. */
static size_t inflate_with(const struct window_span *span, const unsigned char *window,
                           unsigned char *out) {
    z_stream inflater = {0};
    if (inflateInit2(&inflater, -15) != Z_OK)
        return SIZE_MAX;
    inflater.next_in = (unsigned char *)(uintptr_t)span->bytes;
    inflater.avail_in = (unsigned)span->length;
    bool ok = inflateSetDictionary(&inflater, window, (unsigned)span->window_length) == Z_OK;
    if (ok && span->bits && inflater.avail_in) {
        ok = inflatePrime(&inflater, (int)span->bits, span->bytes[0] >> (8 - span->bits)) == Z_OK;
        inflater.next_in++;
        inflater.avail_in--;
    }
    inflater.next_out = out;
    inflater.avail_out = WINDOW_BYTES;
    int result = ok ? inflate(&inflater, Z_SYNC_FLUSH) : Z_MEM_ERROR;
    size_t came = WINDOW_BYTES - inflater.avail_out;
    bool ended = result == Z_STREAM_END || span->is_whole;
    inflateEnd(&inflater);
    if (result == Z_MEM_ERROR)
        return SIZE_MAX;
    return ended ? came : came == WINDOW_BYTES ? came : 0; /* 0: the beginning was too short */
}

/* Marks in `needed` which bytes of the window are referred to. */
static bool find_needed(struct window_cutter *cutter, const struct window_span *span,
                        unsigned char *window, unsigned char *needed, bool *known) {
    unsigned char *low = cutter->memory + WINDOW_BYTES, *high = low + WINDOW_BYTES,
                  *inverted = high + WINDOW_BYTES;
    size_t counts[3];
    unsigned char *const outputs[] = {low, high, inverted};
    for (int try = 0; try < 3; try++) {
        for (size_t i = 0; i < span->window_length; i++)
            window[i] = (unsigned char)(try == 0 ? i : try == 1 ? i >> 8 : ~i);
        counts[try] = inflate_with(span, window, outputs[try]);
        if (counts[try] == SIZE_MAX)
            return false;
    }
    *known = (counts[0] > 0 || span->is_whole) && counts[0] == counts[1] && counts[0] == counts[2];
    memset(needed, 0, WINDOW_BYTES);
    for (size_t i = 0; *known && i < counts[0]; i++)
        if (low[i] != inverted[i])
            needed[low[i] | (size_t)(high[i] & 0x7f) << 8] = 1;
    return true;
}

bool window_cut(struct window_cutter *cutter, const struct window_span *span, struct buffer *out,
                uint32_t *length, struct error *error) {
    unsigned char *kept = cutter->memory, *needed = cutter->memory + (size_t)WINDOW_BYTES * 4;
    bool known;
    size_t first = 0;
    *length = 0;
    if (span->window_length == 0)
        return true;
    if (!find_needed(cutter, span, kept, needed, &known))
        return error_set(error, ERROR_MEMORY, "cut a window: out of memory");
    memcpy(kept, span->window, span->window_length);
    for (size_t i = 0; known && i < span->window_length; i++)
        if (!needed[i])
            kept[i] = 0;
    while (known && first < span->window_length && !needed[first])
        first++;
    if (first == span->window_length)
        return true;
    size_t bound = ZSTD_compressBound(span->window_length);
    if (!buffer_reserve(out, bound))
        return error_set(error, ERROR_MEMORY, "keep a window: out of memory");
    size_t packed = ZSTD_compressCCtx(cutter->packer, out->bytes + out->length, bound, kept + first,
                                      span->window_length - first, PACK_LEVEL);
    if (ZSTD_isError(packed))
        return error_set(error, ERROR_MEMORY, "keep a window: %s", ZSTD_getErrorName(packed));
    out->length += packed;
    *length = (uint32_t)packed;
    return true;
}

size_t window_unpack(const void *bytes, size_t length, unsigned char out[static WINDOW_BYTES]) {
    size_t came = ZSTD_decompress(out, WINDOW_BYTES, bytes, length);
    return ZSTD_isError(came) ? 0 : came;
}
