/* What the files that scan a layer share. */
#ifndef LAYER_SCAN_PRIVATE_H
#define LAYER_SCAN_PRIVATE_H

#include <openssl/evp.h>
#include <zlib.h>
#include <zstd.h>
#include "layer/refusal.h"
#include "layer/scan.h"

enum {
    SCAN_OUTPUT = 256 << 10, /* uncompressed bytes that are handed on at once */
    SCAN_CAPTURE = 64 << 10, /* compressed bytes of a span that are kept to cut its window */
};

/* Cuts windows to what is referred to. */
struct window_cutter {
    ZSTD_CCtx *packer;
    unsigned char *memory; /* for the three tries and their windows */
};

struct scan {
    enum layer_compression compression;
    struct layer_spans *spans;
    scan_sink *sink;
    void *context;
    uint64_t in, out;          /* bytes so far */
    EVP_MD_CTX *hash;          /* of the span under way */
    struct layer_span current; /* the span under way; its lengths are not set yet */
    unsigned char *output;
    bool needs_copy;
    bool no_spans; /* none are cut, and no bombs looked for */

    /* gzip */
    z_stream inflater;
    bool has_inflater;
    bool between;          /* a member has ended, and the next one has not begun */
    bool padded;           /* only zeros have come since the last member */
    uint64_t hashed_in;    /* compressed bytes that are hashed, or need not be */
    unsigned char *window; /* of the span under way */
    size_t window_length;
    unsigned char *capture; /* its first compressed bytes */
    size_t captured;
    unsigned char last_byte; /* of the compressed bytes */
    struct window_cutter cutter;

    /* zstd */
    ZSTD_DCtx *unpacker;
    uint64_t frame_out; /* uncompressed bytes when the frame began */
    bool in_frame;
    bool any_frames; /* of any size: spans are not wanted */
};

/* The span under way ends at `in` and `out`; its digest is that of the bytes that were hashed. */
bool scan_end_span(struct scan *scan, uint64_t in, struct error *error);
/* The next one begins. */
bool scan_begin_span(struct scan *scan, uint64_t in, enum span_kind kind, struct error *error);
void scan_hash(struct scan *scan, const void *bytes, size_t length);
/* Hands uncompressed bytes on, and checks that they are not too many. `in`: compressed bytes that
 * were used for all so far. */
bool scan_emit(struct scan *scan, const void *bytes, size_t length, uint64_t in,
               struct error *error);

bool scan_gzip_init(struct scan *scan);
void scan_gzip_finish(struct scan *scan);
bool scan_gzip_feed(struct scan *scan, const uint8_t *bytes, size_t length, struct error *error);
bool scan_gzip_end(struct scan *scan, struct error *error);

bool scan_zstd_init(struct scan *scan);
bool scan_zstd_feed(struct scan *scan, const uint8_t *bytes, size_t length, struct error *error);
bool scan_zstd_end(struct scan *scan, struct error *error);

bool window_cutter_init(struct window_cutter *cutter);
void window_cutter_finish(struct window_cutter *cutter);

/* A span whose window is to be cut. */
struct window_span {
    const unsigned char *window;
    size_t window_length;
    const unsigned char *bytes; /* the span's first compressed bytes */
    size_t length;
    bool is_whole; /* those are all of its bytes */
    unsigned bits;
};
/* Appends what is left of the window, compressed; *length is 0 if nothing of it is needed. */
bool window_cut(struct window_cutter *cutter, const struct window_span *span, struct buffer *out,
                uint32_t *length, struct error *error);
/* Uncompresses a window into `out`; returns its length, 0 if it is malformed. */
size_t window_unpack(const void *bytes, size_t length, unsigned char out[static WINDOW_BYTES]);

#endif
