/* Uncompresses one span, and checks it. */
#include <openssl/evp.h>
#include <string.h>
#include "base/cleanup.h"
#include "layer/scan_private.h"

static bool wrong(const struct layer_span *span, struct error *error, const char *what) {
    return error_set(error, ERROR_CORRUPT, "the %u bytes from byte %llu on %s", span->in_length,
                     (unsigned long long)span->in, what);
}

/* Behind the end of a member: its sums, which zlib checks only if it has read the header. */
static bool next_member(z_stream *inflater, bool was_raw) {
    uInt sums = was_raw ? 8 : 0;
    if (inflater->avail_in < sums)
        return false;
    inflater->next_in += sums;
    inflater->avail_in -= sums;
    return inflateReset2(inflater, 15 + 16) == Z_OK;
}

static bool inflate_all(z_stream *inflater, bool raw) {
    for (;;) {
        int result = inflate(inflater, Z_SYNC_FLUSH);
        if (result == Z_STREAM_END && inflater->avail_out) {
            if (!next_member(inflater, raw))
                return false;
            raw = false;
        } else if (result == Z_STREAM_END || (result == Z_OK && inflater->avail_out == 0)) {
            return true;
        } else if (result != Z_OK || inflater->avail_in == 0) {
            return false;
        }
    }
}

static bool unpack_gzip(const struct layer_span *span, const unsigned char *bytes,
                        const void *window, unsigned char *out, struct error *error) {
    const bool raw = span->kind == SPAN_DEFLATE;
    cleanup_free unsigned char *dictionary = span->window_length ? malloc(WINDOW_BYTES) : NULL;
    size_t length = dictionary ? window_unpack(window, span->window_length, dictionary) : 0;
    z_stream inflater = {0};
    if (span->window_length && !dictionary)
        return error_set(error, ERROR_MEMORY, "unpack a span: out of memory");
    if (span->window_length && length == 0)
        return wrong(span, error, "have a malformed window");
    if (inflateInit2(&inflater, raw ? -15 : 15 + 16) != Z_OK)
        return error_set(error, ERROR_MEMORY, "unpack a span: out of memory");
    inflater.next_in = (unsigned char *)(uintptr_t)bytes;
    inflater.avail_in = span->in_length;
    inflater.next_out = out;
    inflater.avail_out = span->out_length;
    bool ok = !length || inflateSetDictionary(&inflater, dictionary, (uInt)length) == Z_OK;
    if (ok && raw && span->bits) {
        ok = span->bits < 8 && inflater.avail_in > 0 &&
             inflatePrime(&inflater, span->bits, bytes[0] >> (8 - span->bits)) == Z_OK;
        inflater.next_in++;
        inflater.avail_in--;
    }
    ok = ok && inflate_all(&inflater, raw) && inflater.avail_out == 0;
    inflateEnd(&inflater);
    return ok || wrong(span, error, "do not unpack to what the index says");
}

bool span_unpack(const struct layer_span *span, const void *bytes, const void *window, void *out,
                 struct error *error) {
    unsigned char sha256[EVP_MAX_MD_SIZE];
    if (!EVP_Digest(bytes, span->in_length, sha256, NULL, EVP_sha256(), NULL))
        return error_set(error, ERROR_MEMORY, "hash a span: out of memory");
    if (memcmp(sha256, span->sha256, sizeof span->sha256) != 0)
        return wrong(span, error, "do not have the digest that the index says");
    switch (span->kind) {
    case SPAN_DEFLATE:
    case SPAN_MEMBER:
        return unpack_gzip(span, bytes, window, out, error);
    case SPAN_ZSTD:
        return ZSTD_decompress(out, span->out_length, bytes, span->in_length) == span->out_length ||
               wrong(span, error, "do not unpack to what the index says");
    case SPAN_PLAIN:
        if (span->in_length != span->out_length)
            return wrong(span, error, "are not as many as the index says");
        memcpy(out, bytes, span->out_length);
        return true;
    default:
        return wrong(span, error, "are packed in a way that is not known");
    }
}
