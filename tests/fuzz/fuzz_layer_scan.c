/* Compressed layers: every span unpacks alone to what the whole does. */
#include <string.h>
#include "base/buffer.h"
#include "base/cleanup.h"
#include "fuzz.h"
#include "layer/scan.h"

enum { OUTPUT_LIMIT = 16 << 20 };

static bool gather(void *context, const void *bytes, size_t length, struct error *error) {
    struct buffer *out = context;
    if (out->length + length > OUTPUT_LIMIT)
        return error_set(error, ERROR_INVALID, "enough");
    return buffer_append(out, bytes, length);
}

static void check_spans(const struct layer_spans *spans, const uint8_t *bytes,
                        const struct buffer *whole) {
    /* An empty buffer has no memory, and nothing may be added to NULL. */
    const char *windows = spans->windows.bytes ? spans->windows.bytes : "";
    const char *all = whole->bytes ? whole->bytes : "";
    uint64_t end = 0;
    for (size_t i = 0; i < spans->count; i++) {
        const struct layer_span *span = &spans->list[i];
        cleanup_free char *out = malloc(span->out_length + 1);
        struct error error = {0};
        MUST(span->out == end);
        MUST(span_unpack(span, bytes + span->in, windows + span->window_at, out, &error));
        MUST(memcmp(out, all + span->out, span->out_length) == 0);
        end += span->out_length;
    }
    MUST(end == whole->length);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    cleanup_buffer struct buffer whole = {0};
    struct layer_spans spans = {0};
    struct error error = {0};
    struct scan *scan = scan_new(layer_compression_of(bytes, length), &spans, gather, &whole);
    size_t half = length / 2;
    MUST(scan);
    if (scan_feed(scan, bytes, half, &error) &&
        scan_feed(scan, bytes + half, length - half, &error) && scan_finish(scan, &error))
        check_spans(&spans, bytes, &whole);
    scan_free(scan);
    layer_spans_finish(&spans);
    return 0;
}
