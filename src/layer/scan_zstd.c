/* Zstandard: whole frames are a span. */
#include "layer/scan_private.h"

bool scan_zstd_init(struct scan *scan) {
    scan->unpacker = ZSTD_createDCtx();
    return scan->unpacker != NULL;
}

/* Whether the frame is too large for a span. */
static bool is_too_large(struct scan *scan, struct error *error) {
    if (scan->any_frames || scan->out - scan->frame_out <= FRAME_LIMIT)
        return false;
    scan->needs_copy = true;
    layer_refuse(error, LAYER_SPAN, "a frame of zstd has more than %d MiB", FRAME_LIMIT >> 20);
    return true;
}

bool scan_zstd_feed(struct scan *scan, const uint8_t *bytes, size_t length, struct error *error) {
    ZSTD_inBuffer input = {bytes, length, 0};
    bool more = false; /* libzstd may have more to say when there is no space for output */
    while (input.pos < input.size || more) {
        ZSTD_outBuffer output = {scan->output, SCAN_OUTPUT, 0};
        size_t before = input.pos;
        size_t result = ZSTD_decompressStream(scan->unpacker, &output, &input);
        uint64_t in = scan->in + input.pos;
        if (ZSTD_isError(result))
            return layer_refuse(error, LAYER_COMPRESSION, "zstd: %s at byte %llu",
                                ZSTD_getErrorName(result), (unsigned long long)in);
        scan_hash(scan, bytes + before, input.pos - before);
        if (!scan_emit(scan, scan->output, output.pos, in, error) || is_too_large(scan, error))
            return false;
        scan->in_frame = result != 0;
        more = scan->in_frame && output.pos == output.size;
        if (scan->in_frame)
            continue;
        scan->frame_out = scan->out;
        if (!scan->any_frames && scan->out - scan->current.out >= SPAN_BYTES &&
            (!scan_end_span(scan, in, error) || !scan_begin_span(scan, in, SPAN_ZSTD, error)))
            return false;
    }
    return true;
}

bool scan_zstd_end(struct scan *scan, struct error *error) {
    if (scan->in_frame)
        return layer_refuse(error, LAYER_COMPRESSION, "zstd: the end in the middle of a frame");
    return scan->any_frames || scan->out == scan->current.out ||
           scan_end_span(scan, scan->in, error);
}
