/* Reads objects. */
#include <inttypes.h>
#include <stdio.h>
#include "base/buffer.h"
#include "bucket/bucket_private.h"

enum { CUT_TRIES = 2 }; /* of a small object whose body breaks off */

static void write_range(const struct bucket_range *range, char *out, size_t size) {
    if (range->last == UINT64_MAX)
        snprintf(out, size, "bytes=%" PRIu64 "-", range->first);
    else
        snprintf(out, size, "bytes=%" PRIu64 "-%" PRIu64, range->first, range->last);
}

bool bucket_get(struct bucket *bucket, const char *key, const struct bucket_range *range,
                const struct bucket_sink *sink, const struct bucket_limits *limits,
                struct bucket_answer *answer, struct error *error) {
    struct bucket_ask ask;
    char full[BUCKET_KEY_LIMIT + 1], field[BUCKET_RANGE_SIZE];
    if (!bucket_ask_init(&ask, bucket, OPERATION_GET, key, full, limits, error))
        return bucket_ask_give_up(&ask, answer);
    ask.sink = sink;
    ask.range = range;
    if (range && range->given) {
        write_range(range, field, sizeof field);
        bucket_ask_field(&ask, "Range", field);
    }
    bool ok = bucket_ask_run(&ask, answer);
    bucket_ask_finish(&ask);
    return ok;
}

/* A small object that is gathered. */
struct gathering {
    struct buffer *out;
    size_t start, most; /* bytes that were there before, and bytes that may come */
    bool too_long;
};

static bool gather(void *context, const void *bytes, size_t length, struct error *error) {
    struct gathering *gathering = context;
    gathering->too_long = gathering->out->length - gathering->start + length > gathering->most;
    if (gathering->too_long)
        return error_set(error, ERROR_INVALID, "the object is longer than %zu bytes",
                         gathering->most);
    return buffer_append(gathering->out, bytes, length) ||
           error_set(error, ERROR_MEMORY, "out of memory");
}

bool bucket_read(struct bucket *bucket, const char *key, size_t most, struct buffer *out,
                 const struct bucket_limits *limits, struct bucket_answer *answer,
                 struct error *error) {
    struct bucket_answer own;
    struct gathering gathering = {.out = out, .start = out->length, .most = most};
    const struct bucket_sink sink = {.context = &gathering, .on_bytes = gather};
    answer = answer ? answer : &own;
    for (unsigned i = 0; i < CUT_TRIES; i++) {
        if (bucket_get(bucket, key, NULL, &sink, limits, answer, error))
            return true;
        if (out->bytes) { /* what came of a body that broke off */
            out->length = gathering.start;
            out->bytes[out->length] = '\0';
        }
        if (answer->outcome != BUCKET_CUT)
            break;
    }
    if (gathering.too_long)
        answer->outcome = BUCKET_REFUSED;
    return false;
}

bool bucket_head(struct bucket *bucket, const char *key, const struct bucket_limits *limits,
                 struct bucket_answer *answer, struct error *error) {
    struct bucket_ask ask;
    char full[BUCKET_KEY_LIMIT + 1];
    if (!bucket_ask_init(&ask, bucket, OPERATION_HEAD, key, full, limits, error))
        return bucket_ask_give_up(&ask, answer);
    bool ok = bucket_ask_run(&ask, answer);
    bucket_ask_finish(&ask);
    return ok;
}
