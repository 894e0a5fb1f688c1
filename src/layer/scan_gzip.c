/*
 * Gzip: members of deflate, in which zlib stops after each block (as its example zran.c does). A
 * span begins where it stopped, or with a member. Zeros behind the last member are ignored, as gzip
 * does.
 */
#include <stdlib.h>
#include <string.h>
#include "layer/scan_private.h"

enum { GZIP_ALONE = 15 + 16 }; /* zlib reads headers of gzip and no other, and checks the sums */

bool scan_gzip_init(struct scan *scan) {
    scan->window = malloc(WINDOW_BYTES);
    scan->capture = malloc(SCAN_CAPTURE);
    scan->has_inflater = inflateInit2(&scan->inflater, GZIP_ALONE) == Z_OK;
    return window_cutter_init(&scan->cutter) && scan->window && scan->capture && scan->has_inflater;
}

void scan_gzip_finish(struct scan *scan) {
    window_cutter_finish(&scan->cutter);
    free(scan->window);
    free(scan->capture);
    if (scan->has_inflater)
        inflateEnd(&scan->inflater);
}

static bool bad(const struct scan *scan, struct error *error, const char *what, uint64_t in) {
    (void)scan;
    return layer_refuse(error, LAYER_COMPRESSION, "gzip: %s at byte %llu", what,
                        (unsigned long long)in);
}

/* Counts compressed bytes to the span under way. */
static void take(struct scan *scan, const uint8_t *bytes, size_t length) {
    if (length == 0)
        return;
    scan_hash(scan, bytes, length);
    size_t part = SCAN_CAPTURE - scan->captured;
    if (part > length)
        part = length;
    memcpy(scan->capture + scan->captured, bytes, part);
    scan->captured += part;
    scan->last_byte = bytes[length - 1];
}

static bool end_span(struct scan *scan, uint64_t in, struct error *error) {
    const struct window_span span = {.window = scan->window,
                                     .window_length = scan->window_length,
                                     .bytes = scan->capture,
                                     .length = scan->captured,
                                     .is_whole = in - scan->current.in <= SCAN_CAPTURE,
                                     .bits = scan->current.bits};
    scan->current.window_at = scan->spans->windows.length;
    return window_cut(&scan->cutter, &span, &scan->spans->windows, &scan->current.window_length,
                      error) &&
           scan_end_span(scan, in, error);
}

/* A span begins behind the compressed byte `in`. If zlib has not used all bits of the last byte,
 * the span begins in it. */
static bool begin_span(struct scan *scan, uint64_t in, enum span_kind kind, struct error *error) {
    unsigned bits = kind == SPAN_DEFLATE ? (unsigned)scan->inflater.data_type & 7 : 0;
    uInt length = 0;
    if (!scan_begin_span(scan, in - (bits > 0), kind, error))
        return false;
    scan->current.bits = (uint8_t)bits;
    scan->captured = 0;
    if (kind == SPAN_DEFLATE)
        inflateGetDictionary(&scan->inflater, scan->window, &length);
    scan->window_length = length;
    const uint8_t last = scan->last_byte;
    if (bits)
        take(scan, &last, 1);
    return true;
}

/* Whether the span under way is long enough to end here. */
static bool is_due(const struct scan *scan, uint64_t in) {
    const uint64_t out = scan->out - scan->current.out;
    return !scan->no_spans &&
           (out >= SPAN_BYTES || (out > 0 && in - scan->current.in >= 2 * SPAN_BYTES));
}

static bool cut(struct scan *scan, uint64_t in, enum span_kind kind, struct error *error) {
    return end_span(scan, in, error) && begin_span(scan, in, kind, error);
}

/* Between two members. Returns how many bytes were used; 0 with *ok: a member begins. */
static size_t skip_padding(struct scan *scan, const uint8_t *bytes, size_t length, uint64_t in,
                           bool *ok, struct error *error) {
    size_t zeros = 0;
    while (zeros < length && bytes[zeros] == 0)
        zeros++;
    *ok = true;
    if (zeros) {
        scan->padded = true;
        return zeros;
    }
    if (scan->padded || bytes[0] != 0x1f) {
        *ok = bad(scan, error, "something that is no member", in);
        return 0;
    }
    scan->between = false;
    inflateReset2(&scan->inflater, GZIP_ALONE);
    if (is_due(scan, in))
        *ok = cut(scan, in, SPAN_MEMBER, error);
    return 0;
}

/* Uncompresses up to the end of a block, of the bytes, or of the space for output. */
static bool inflate_some(struct scan *scan, const uint8_t *bytes, size_t length, uint64_t in,
                         size_t *used, struct error *error) {
    z_stream *inflater = &scan->inflater;
    inflater->next_in = (unsigned char *)(uintptr_t)bytes;
    inflater->avail_in = (unsigned)length;
    inflater->next_out = scan->output;
    inflater->avail_out = SCAN_OUTPUT;
    int result = inflate(inflater, Z_BLOCK);
    *used = length - inflater->avail_in;
    take(scan, bytes, *used);
    if (result == Z_MEM_ERROR)
        return error_set(error, ERROR_MEMORY, "unpack a layer: out of memory");
    if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR)
        return bad(scan, error, inflater->msg ? inflater->msg : "no more data", in + *used);
    if (!scan_emit(scan, scan->output, SCAN_OUTPUT - inflater->avail_out, in + *used, error))
        return false;
    if (result == Z_STREAM_END) {
        scan->between = true;
        scan->padded = false;
        scan->hashed_in = in + *used;
        return true;
    }
    bool at_border = (inflater->data_type & 0xc0) == 0x80; /* and not behind the last block */
    return !at_border || !is_due(scan, in + *used) || cut(scan, in + *used, SPAN_DEFLATE, error);
}

bool scan_gzip_feed(struct scan *scan, const uint8_t *bytes, size_t length, struct error *error) {
    uint64_t in = scan->in;
    bool more = true; /* zlib may have more to say when there is no space for output */
    while (length || more) {
        size_t used;
        bool ok = true;
        if (scan->between) {
            if (length == 0)
                return true;
            used = skip_padding(scan, bytes, length, in, &ok, error);
            more = used == 0;
        } else {
            size_t part = length < UINT32_MAX ? length : UINT32_MAX;
            ok = inflate_some(scan, bytes, part, in, &used, error);
            more = ok && scan->inflater.avail_out == 0;
        }
        if (!ok)
            return false;
        in += used;
        bytes += used;
        length -= used;
    }
    return true;
}

bool scan_gzip_end(struct scan *scan, struct error *error) {
    if (!scan->between)
        return bad(scan, error, "the end in the middle of a member", scan->in);
    /* What pads the end belongs to no span. */
    return scan->no_spans || scan->out == scan->current.out ||
           end_span(scan, scan->hashed_in, error);
}
