/* A scan as a whole: spans and their digests, what is plain, and the limits. */
#include "layer/scan.h"

#include <stdlib.h>
#include <string.h>
#include "layer/scan_private.h"

void layer_spans_finish(struct layer_spans *spans) {
    free(spans->list);
    buffer_finish(&spans->windows);
    *spans = (struct layer_spans){0};
}

enum layer_compression layer_compression_of(const void *bytes, size_t length) {
    static const unsigned char gzip[] = {0x1f, 0x8b, 0x08}, zstd[] = {0x28, 0xb5, 0x2f, 0xfd};
    const unsigned char *at = bytes;
    if (length >= sizeof gzip && memcmp(at, gzip, sizeof gzip) == 0)
        return LAYER_GZIP;
    if (length >= 4 &&
        (memcmp(at, zstd, 4) == 0 || /* or a frame to be skipped */
         ((at[0] & 0xf0) == 0x50 && at[1] == 0x2a && at[2] == 0x4d && at[3] == 0x18)))
        return LAYER_ZSTD;
    return LAYER_PLAIN;
}

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "index a layer: out of memory");
}

/* ---- spans ---- */

void scan_hash(struct scan *scan, const void *bytes, size_t length) {
    if (length)
        EVP_DigestUpdate(scan->hash, bytes, length);
}

bool scan_begin_span(struct scan *scan, uint64_t in, enum span_kind kind, struct error *error) {
    scan->current = (struct layer_span){.in = in, .out = scan->out, .kind = (uint8_t)kind};
    return EVP_DigestInit_ex(scan->hash, EVP_sha256(), NULL) || no_memory(error);
}

bool scan_end_span(struct scan *scan, uint64_t in, struct error *error) {
    struct layer_spans *spans = scan->spans;
    struct layer_span *span = &scan->current;
    if (spans->count == spans->capacity) {
        size_t capacity = spans->capacity ? spans->capacity * 2 : 256;
        void *list = realloc(spans->list, capacity * sizeof *spans->list);
        if (!list)
            return no_memory(error);
        spans->list = list;
        spans->capacity = capacity;
    }
    span->in_length = (uint32_t)(in - span->in);
    span->out_length = (uint32_t)(scan->out - span->out);
    if (!EVP_DigestFinal_ex(scan->hash, span->sha256, NULL))
        return no_memory(error);
    spans->list[spans->count++] = *span;
    return true;
}

bool scan_emit(struct scan *scan, const void *bytes, size_t length, uint64_t in,
               struct error *error) {
    scan->out += length;
    if (!scan->no_spans && scan->out > BOMB_FREE && scan->out / BOMB_RATIO > in)
        return layer_refuse(error, LAYER_BOMB,
                            "%llu compressed bytes unpack to more than %llu times as many",
                            (unsigned long long)in, (unsigned long long)BOMB_RATIO);
    if (!scan->any_frames &&
        (scan->out - scan->current.out > SPAN_LIMIT || in > scan->current.in + SPAN_LIMIT))
        return layer_refuse(error, LAYER_SPAN,
                            "no part of it can be unpacked alone within %d MiB behind byte %llu",
                            SPAN_LIMIT >> 20, (unsigned long long)scan->current.in);
    return length == 0 || scan->sink(scan->context, bytes, length, error);
}

/* ---- what is not compressed ---- */

static bool plain_feed(struct scan *scan, const uint8_t *bytes, size_t length,
                       struct error *error) {
    while (length) {
        uint64_t left = SPAN_BYTES - (scan->out - scan->current.out);
        size_t part = length < left ? length : (size_t)left;
        scan_hash(scan, bytes, part);
        if (!scan_emit(scan, bytes, part, scan->out + part, error))
            return false;
        bytes += part;
        length -= part;
        if (part == left && (!scan_end_span(scan, scan->out, error) ||
                             !scan_begin_span(scan, scan->out, SPAN_PLAIN, error)))
            return false;
    }
    return true;
}

static bool plain_end(struct scan *scan, struct error *error) {
    return scan->out == scan->current.out || scan_end_span(scan, scan->out, error);
}

/* ---- the scan ---- */

static bool init(struct scan *scan) {
    scan->hash = EVP_MD_CTX_new();
    scan->output = malloc(SCAN_OUTPUT);
    if (!scan->hash || !scan->output)
        return false;
    switch (scan->compression) {
    case LAYER_GZIP:
        return scan_gzip_init(scan) && scan_begin_span(scan, 0, SPAN_MEMBER, NULL);
    case LAYER_ZSTD:
        return scan_zstd_init(scan) && scan_begin_span(scan, 0, SPAN_ZSTD, NULL);
    default:
        return scan_begin_span(scan, 0, SPAN_PLAIN, NULL);
    }
}

struct scan *scan_new(enum layer_compression compression, struct layer_spans *spans,
                      scan_sink *sink, void *context) {
    struct scan *scan = calloc(1, sizeof *scan);
    if (!scan)
        return NULL;
    scan->compression = compression;
    scan->spans = spans;
    scan->sink = sink;
    scan->context = context;
    if (init(scan))
        return scan;
    scan_free(scan);
    return NULL;
}

void scan_free(struct scan *scan) {
    if (!scan)
        return;
    EVP_MD_CTX_free(scan->hash);
    free(scan->output);
    scan_gzip_finish(scan);
    ZSTD_freeDCtx(scan->unpacker);
    free(scan);
}

bool scan_feed(struct scan *scan, const void *bytes, size_t length, struct error *error) {
    bool ok = true;
    if (length == 0)
        return true;
    if (scan->compression == LAYER_GZIP)
        ok = scan_gzip_feed(scan, bytes, length, error);
    else if (scan->compression == LAYER_ZSTD)
        ok = scan_zstd_feed(scan, bytes, length, error);
    else
        ok = plain_feed(scan, bytes, length, error);
    scan->in += length;
    return ok;
}

bool scan_finish(struct scan *scan, struct error *error) {
    if (scan->compression == LAYER_GZIP)
        return scan_gzip_end(scan, error);
    if (scan->compression == LAYER_ZSTD)
        return scan_zstd_end(scan, error);
    return plain_end(scan, error);
}

uint64_t scan_read(const struct scan *scan) {
    return scan->in;
}

uint64_t scan_wrote(const struct scan *scan) {
    return scan->out;
}

void scan_allow_large_frames(struct scan *scan) {
    scan->any_frames = true;
}

void scan_without_spans(struct scan *scan) {
    scan->any_frames = true;
    scan->no_spans = true;
}

bool scan_needs_copy(const struct scan *scan) {
    return scan->needs_copy;
}
