/*
 * Uncompresses a layer as it comes, and cuts it into spans: parts that can be uncompressed without
 * what is before them.
 *
 * A span has about SPAN_BYTES uncompressed bytes, and never more than SPAN_LIMIT. In gzip it begins
 * between two blocks of deflate, with the bytes before it that it refers to (its window), or with a
 * member. In zstd it begins with a frame. Each span has a digest of its compressed bytes, so that
 * nothing is uncompressed that was not looked at when the index was made.
 *
 * Pure; one thread at a time.
 */
#ifndef LAYER_SCAN_H
#define LAYER_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buffer.h"
#include "base/error.h"

enum {
    SPAN_BYTES = 2 << 20,   /* a span ends at the first border behind so many uncompressed bytes */
    SPAN_LIMIT = 64 << 20,  /* of a span, compressed or not; a layer that needs more is refused */
    FRAME_LIMIT = 8 << 20,  /* of a frame of zstd that is a span as it is; larger ones are copied */
    WINDOW_BYTES = 32 << 10 /* how far deflate refers back */
};

#define BOMB_FREE  (UINT64_C(1) << 30) /* uncompressed bytes that are never too many */
#define BOMB_RATIO UINT64_C(200)

enum layer_compression { LAYER_PLAIN = 0, LAYER_GZIP = 1, LAYER_ZSTD = 2 };

enum span_kind {
    SPAN_DEFLATE, /* begins between two blocks */
    SPAN_MEMBER,  /* begins with the header of a gzip member */
    SPAN_PLAIN,
    SPAN_ZSTD /* whole frames */
};

struct layer_span {
    uint64_t in, out;               /* where it begins, compressed and uncompressed */
    uint32_t in_length, out_length; /* bytes; in_length has every byte that holds a bit of it */
    uint64_t window_at;             /* in the windows */
    uint32_t window_length;         /* 0: the span refers to nothing before it */
    uint8_t kind;
    uint8_t bits; /* of the first byte, those that belong to the span; 0: all of it */
    uint8_t sha256[32];
};

struct layer_spans { /* zeroed is empty */
    struct layer_span *list;
    size_t count, capacity;
    struct buffer windows; /* each by itself compressed with zstd */
};
void layer_spans_finish(struct layer_spans *spans);

/* By the first bytes, of which 4 are enough: gzip or zstd, else plain. As containerd. */
enum layer_compression layer_compression_of(const void *bytes, size_t length);

/* Takes uncompressed bytes. False: no more, with the error set. */
typedef bool scan_sink(void *context, const void *bytes, size_t length, struct error *error);

struct scan;

/* `spans` gets the spans and outlives the scan. NULL: out of memory. */
struct scan *scan_new(enum layer_compression compression, struct layer_spans *spans,
                      scan_sink *sink, void *context);
void scan_free(struct scan *scan); /* NULL is allowed */

/* The next bytes. False: LAYER_COMPRESSION, LAYER_SPAN, LAYER_BOMB, or the sink's error. */
bool scan_feed(struct scan *scan, const void *bytes, size_t length, struct error *error);
/* There are no more bytes. */
bool scan_finish(struct scan *scan, struct error *error);

uint64_t scan_read(const struct scan *scan);  /* compressed bytes so far */
uint64_t scan_wrote(const struct scan *scan); /* uncompressed bytes so far */

/* The spans are not those of the blob: frames of zstd may be as large as they like. */
void scan_allow_large_frames(struct scan *scan);
/* No spans are wanted, and the caller bounds what comes out: nothing is refused as LAYER_SPAN or
 * LAYER_BOMB. */
void scan_without_spans(struct scan *scan);

/* Whether the last failure was a frame of zstd above FRAME_LIMIT, so that a copy in small frames is
 * needed (build.h). */
bool scan_needs_copy(const struct scan *scan);

/*
 * Uncompresses one span. `bytes` are its in_length compressed bytes, `window` the window_length
 * bytes of its window, as they stand in the index; `out` has space for out_length bytes. False:
 * ERROR_CORRUPT, when the digest or the result is wrong, or ERROR_MEMORY.
 */
bool span_unpack(const struct layer_span *span, const void *bytes, const void *window, void *out,
                 struct error *error);

#endif
