/* Reads objects. */
#include <inttypes.h>
#include <stdio.h>
#include "base/buffer.h"
#include "bucket/bucket_private.h"

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

bool bucket_read(struct bucket *bucket, const char *key, size_t most, struct buffer *out,
                 const struct bucket_limits *limits, struct bucket_answer *answer,
                 struct error *error) {
    struct bucket_ask ask;
    char full[BUCKET_KEY_LIMIT + 1];
    if (!bucket_ask_init(&ask, bucket, OPERATION_GET, key, full, limits, error))
        return bucket_ask_give_up(&ask, answer);
    ask.body_limit = most;
    bool ok = bucket_ask_run(&ask, answer);
    if (ok && ask.response.status != 200)
        ok = error_set(ask.error, ERROR_UNAVAILABLE, "bucket %s: a part came in place of an object",
                       bucket->label);
    if (ok && !buffer_append(out, ask.response.body.bytes, ask.response.body.length))
        ok = error_set(ask.error, ERROR_MEMORY, "out of memory");
    if (answer && !ok && answer->outcome == BUCKET_DONE)
        answer->outcome = BUCKET_STOPPED;
    bucket_ask_finish(&ask);
    return ok;
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
