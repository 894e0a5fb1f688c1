/*
 * What a start of an image reads: recorded for a while from the first read on, posted to a tarn,
 * and fetched ahead by the next start, on whichever node that is.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "node/spans/private.h"

enum {
    READS_LIMIT = 1800, /* of a trace, which has 256 KiB at most (docs/streaming.md) */
    NEWS_PERCENT = 10,  /* of a start that must be new before another trace is posted */
    TRACE_VERSION = 1,
};

struct spans_read {
    size_t layer, first, end; /* spans [first, end) of the layer */
};

struct spans_start {
    int64_t until_ms; /* clock_ms(); 0: nothing has been read yet */
    bool is_over;
    size_t count, capacity;
    struct spans_read *reads; /* owned */
    size_t seen, foreseen;    /* spans that were read; those of them that an earlier trace has */
    uint8_t **marks;          /* of each layer's spans: MARK_ */
};

enum { MARK_SEEN = 1, MARK_FORESEEN = 2 };

/* A trace to be posted. */
struct spans_errand {
    struct spans_errand *next;
    struct image_name name;
    struct spans_asked asked;
    struct digest digest;
    struct buffer json;
};

/* ---- life ---- */

void spans_start_free(struct spans_start *start, size_t layers) {
    if (!start)
        return;
    for (size_t i = 0; start->marks && i < layers; i++)
        free(start->marks[i]);
    free(start->marks);
    free(start->reads);
    free(start);
}

/* NULL: out of memory, and the start is not recorded. */
struct spans_start *spans_start_new(struct spans_layer *const *layers, size_t count) {
    struct spans_start *start = calloc(1, sizeof *start);
    if (!start)
        return NULL;
    start->marks = calloc(count + 1, sizeof *start->marks);
    bool ok = start->marks != NULL;
    for (size_t i = 0; ok && i < count; i++) {
        start->marks[i] = calloc(layers[i]->count + 1, 1);
        ok = start->marks[i] != NULL;
    }
    if (ok)
        return start;
    spans_start_free(start, count);
    return NULL;
}

/* ---- recording ---- */

static void add_read(struct spans_start *start, size_t layer, size_t at) {
    struct spans_read *last = start->count ? &start->reads[start->count - 1] : NULL;
    if (last && last->layer == layer && last->end == at) {
        last->end++;
        return;
    }
    if (start->count == READS_LIMIT)
        return;
    if (start->count == start->capacity) {
        size_t capacity = start->capacity ? start->capacity * 2 : 64;
        void *reads = realloc(start->reads, capacity * sizeof *start->reads);
        if (!reads)
            return;
        start->reads = reads;
        start->capacity = capacity;
    }
    start->reads[start->count++] = (struct spans_read){layer, at, at + 1};
}

void spans_trace_note(struct spans *spans, struct spans_image *image,
                      const struct spans_layer *layer, size_t at) {
    struct spans_start *start = image->start;
    if (!start || start->is_over)
        return;
    int64_t now_ms = clock_ms();
    if (start->until_ms == 0) {
        start->until_ms = now_ms + spans->settings.trace_time_ms;
        condition_broadcast(&spans->changed); /* the keeper posts it then */
    }
    for (size_t i = 0; now_ms < start->until_ms && i < image->layer_count; i++) {
        uint8_t *mark = image->layers[i] == layer ? &start->marks[i][at] : NULL;
        if (!mark || *mark & MARK_SEEN)
            continue;
        start->seen++;
        start->foreseen += (*mark & MARK_FORESEEN) != 0;
        *mark |= MARK_SEEN;
        add_read(start, i, at);
    }
}

/* ---- posting ---- */

static bool write_trace(const struct spans_image *image, struct buffer *out) {
    const struct spans_start *start = image->start;
    char digest[DIGEST_STRING_SIZE];
    buffer_printf(out, "{\"version\":%d,\"reads\":[", TRACE_VERSION);
    for (size_t i = 0; i < start->count; i++) {
        const struct spans_read *read = &start->reads[i];
        const struct spans_layer *layer = image->layers[read->layer];
        uint64_t first, length, last;
        spans_layer_bounds(layer, read->first, &first, &length);
        spans_layer_bounds(layer, read->end - 1, &last, &length);
        buffer_printf(out, "%s{\"layer\":\"%s\",\"offset\":%" PRIu64 ",\"length\":%" PRIu64 "}",
                      i ? "," : "", digest_format(&layer->digest, digest), first,
                      last + length - first);
    }
    buffer_append_string(out, "]}");
    return !out->failed;
}

struct spans_errand *spans_trace_end(struct spans_image *image) {
    struct spans_start *start = image->start;
    if (!start || start->is_over)
        return NULL;
    start->is_over = true;
    if (start->count == 0 ||
        (image->traced && (start->seen - start->foreseen) * 100 <= start->seen * NEWS_PERCENT))
        return NULL;
    struct spans_errand *errand = calloc(1, sizeof *errand);
    if (!errand)
        return NULL;
    *errand =
        (struct spans_errand){.name = image->name, .asked = image->asked, .digest = image->digest};
    if (write_trace(image, &errand->json))
        return errand;
    spans_errand_free(errand);
    return NULL;
}

void spans_errand_free(struct spans_errand *errand) {
    while (errand) {
        struct spans_errand *next = errand->next;
        buffer_finish(&errand->json);
        free(errand);
        errand = next;
    }
}

void spans_trace_leave(struct spans *spans, struct spans_errand *errand) {
    if (!errand)
        return;
    errand->next = spans->errands;
    spans->errands = errand;
    condition_broadcast(&spans->changed);
}

struct spans_errand *spans_trace_next(struct spans *spans, int64_t *wake_ms) {
    struct spans_errand *errand = spans->errands;
    if (errand) {
        spans->errands = errand->next;
        errand->next = NULL;
        return errand;
    }
    for (struct spans_image *image = spans->images; image && !errand; image = image->next) {
        const struct spans_start *start = image->start;
        if (!start || start->is_over || start->until_ms == 0)
            continue;
        if (clock_ms() >= start->until_ms)
            errand = spans_trace_end(image);
        else if (start->until_ms < *wake_ms)
            *wake_ms = start->until_ms;
    }
    return errand;
}

void spans_trace_post(struct spans *spans, struct spans_errand *errand) {
    struct error error = {0};
    bool ok = false;
    for (unsigned i = 0; !ok && i < errand->asked.count; i++) {
        struct spans_source *source = errand->asked.list[i];
        const struct spans_request request = {spans, source, &errand->name, &spans->cancel};
        if (spans_source_is_upstream(source))
            continue;
        const struct stream_asking asking = spans_asking(&request);
        ok = stream_source_post_trace(&asking, &errand->digest, &errand->json, &error);
    }
    if (!ok)
        log_at(LOG_DEBUG, "cannot post a trace", LOG_STRING("error", error.text));
    spans_errand_free(errand);
}

/* ---- fetching ahead ---- */

/* Wants all spans of one stretch of an archive. Returns the bytes that this takes. */
static uint64_t want(struct spans *spans, struct spans_image *image, size_t layer_at,
                     uint64_t offset, uint64_t length) REQUIRES(spans->lock) {
    struct spans_layer *layer = image->layers[layer_at];
    uint64_t bytes = 0;
    if (layer->is_whole || offset >= layer->tar_size || length == 0)
        return 0;
    uint64_t end = length < layer->tar_size - offset ? offset + length : layer->tar_size;
    for (size_t i = spans_layer_find(layer, offset); i < layer->count; i++) {
        uint64_t begin, size;
        spans_layer_bounds(layer, i, &begin, &size);
        if (begin >= end)
            break;
        if (image->start)
            image->start->marks[layer_at][i] |= MARK_FORESEEN;
        if (layer->slots[i].place == SPAN_ABSENT && !layer->slots[i].flight &&
            spans_flight_want(spans, layer, i, SPANS_TRACE))
            bytes += size;
    }
    return bytes;
}

static void use_read(struct spans *spans, struct spans_image *image, const json_t *read,
                     uint64_t *left) REQUIRES(spans->lock) {
    struct digest digest;
    json_int_t offset = json_integer_value(json_object_get(read, "offset"));
    json_int_t length = json_integer_value(json_object_get(read, "length"));
    if (!digest_parse(text_of(json_member_text(read, "layer")), &digest) || offset < 0 ||
        length <= 0)
        return;
    for (size_t i = 0; i < image->layer_count && *left; i++) {
        if (!digest_equal(&image->layers[i]->digest, &digest))
            continue;
        uint64_t bytes = want(spans, image, i, (uint64_t)offset, (uint64_t)length);
        *left -= bytes < *left ? bytes : *left;
    }
}

void spans_trace_use(struct spans_image *image, const struct buffer *json) {
    struct spans *spans = image->spans;
    cleanup_json json_t *root = bounded_json_load(json->bytes, json->length, NULL);
    const json_t *reads = json_object_get(root, "reads");
    uint64_t left = spans->settings.cache_size / 2; /* what would only push out the rest is left */
    size_t i;
    const json_t *read;
    if (json_integer_value(json_object_get(root, "version")) != TRACE_VERSION ||
        json_array_size(reads) == 0)
        return;
    lock_acquire(&spans->lock);
    image->traced = true;
    json_array_foreach (reads, i, read) {
        use_read(spans, image, read, &left);
    }
    lock_release(&spans->lock);
}
