/*
 * The bucket as a place. One object holds the blob, under a key that depends on the digest alone.
 *
 * A place further on may be quicker than a bucket that hesitates. So the first byte is waited for
 * no longer than the bucket's patience, and in mid-body no longer than STALL_MS. When there is no
 * place further on, it is waited for as any other server. The object's ETag is no identity (two
 * uploads of the same bytes have two ETags), so that it is not told.
 */
#include "cache/flight/place.h"

#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "bucket/bucket.h"

enum {
    /* Bytes of the first range: a blob of less than 16 MiB costs one request. While it comes, its
     * head lets the other connections begin. */
    FIRST_SPAN = (16 << 20) - (4 << 10),
    SPAN = 8 << 20, /* bytes of each further range: services advise 8 to 16 MiB */
    STALL_MS = 2000,
    LAST_MS = 20000, /* in place of both times, when no other place is left */
};

struct bucket_call {
    const struct place_request *request;
    const struct place_sink *sink;
    struct place *place;
    struct cancel cancel;
    int64_t until_ms; /* clock_ms() by which the next byte must be here */
    bool has_bytes;
};

static const struct flights_tier *tier_of(const struct place *place) {
    return place->bucket.tier;
}

/* Whether the request ends early: tarn stops, or the clients have gone. */
static bool is_wanted(void *context) {
    const struct place_request *request = context;
    return !atomic_load(request->stop) && !atomic_load(request->abandoned);
}

/* An empty object answers 416 to every range. */
static bool is_empty_blob(const struct digest *digest) {
    struct digest empty;
    return digest_of(digest->algorithm, "", 0, &empty) && digest_equal(&empty, digest);
}

static bool is_wrong(const struct place *place, struct error *error, const char *what) {
    return error_set(error, ERROR_CORRUPT, "%s: %s", place->label, what);
}

/* The range that was asked for lies outside of the object. */
static bool take_outside(const struct bucket_call *call, const struct bucket_head *head,
                         struct error *error) {
    const struct place_request *request = call->request;
    if (request->suffix || request->start == 0)
        return is_wrong(call->place, error, "the object is empty");
    if (!head->has_total)
        return error_set(error, ERROR_RANGE, "%s: the range is refused", call->place->label);
    if (request->start < head->total)
        return is_wrong(call->place, error, "a range of the object is said to lie outside of it");
    const struct place_head told = {.is_outside = true, .has_total = true, .total = head->total};
    return call->sink->on_head(call->sink->context, &told, error);
}

static bool on_head(void *context, const struct bucket_head *head, struct error *error) {
    struct bucket_call *call = context;
    if (head->status == 416)
        return take_outside(call, head, error);
    if (head->has_range && head->has_length && head->length != head->last - head->first + 1)
        return is_wrong(call->place, error, "a body is not as long as its range");
    const struct place_head told = {
        .has_range = head->has_range,
        .first = head->first,
        .last = head->last,
        .has_total = head->has_total || (!head->has_range && head->has_length),
        .total = head->has_total ? head->total : head->length,
        .etag = "",
    };
    atomic_store(&call->place->bucket.found_s, bucket_written_s(head->date_s, head->modified_s));
    return call->sink->on_head(call->sink->context, &told, error);
}

static bool on_bytes(void *context, const void *bytes, size_t length, struct error *error) {
    struct bucket_call *call = context;
    call->has_bytes = true;
    bool ok = call->sink->on_bytes(call->sink->context, bytes, length, error);
    /* The time in our own callback is not silence. */
    call->until_ms = clock_ms() + (call->request->is_last ? LAST_MS : STALL_MS);
    return ok;
}

static bool on_idle(void *context, struct error *error) {
    struct bucket_call *call = context;
    if (!is_wanted((void *)call->request))
        return error_set(error, ERROR_CLOSED, "nobody waits for the blob");
    if (call->has_bytes && !call->sink->on_idle(call->sink->context, error))
        return false;
    return clock_ms() < call->until_ms ||
           error_set(error, ERROR_TIMEOUT, "%s: no byte has come in time", call->place->label);
}

static bool fetch(struct place *place, const struct place_request *request,
                  const struct place_sink *sink, struct error *error) {
    const struct flights_tier *tier = tier_of(place);
    char key[FLIGHT_KEY_SIZE];
    uint64_t start = request->start, end = request->end;
    const bool whole = request->plain || is_empty_blob(request->digest);
    const int64_t patience_ms = request->is_last ? LAST_MS : tier->patience_ms;
    struct bucket_call call = {request, sink, place, .until_ms = clock_ms() + patience_ms};
    call.cancel = (struct cancel){.is_wanted = is_wanted, .context = (void *)request};
    if (request->suffix) { /* the head of any range tells the size */
        start = 0;
        end = FIRST_SPAN;
    } else if (!request->plain && sink->on_turn &&
               !sink->on_turn(sink->context, &start, &end, error)) {
        return false;
    }
    const struct bucket_range range = {
        .given = !whole, .first = start, .last = end == UINT64_MAX ? end : end - 1};
    const struct bucket_sink adapter = {&call, on_head, on_bytes, on_idle};
    const struct bucket_limits limits = {
        .deadline_ms = call.until_ms, .insists = request->is_last, .cancel = &call.cancel};
    return bucket_get(tier->bucket, tier->key(key, request->digest), &range, &adapter, &limits,
                      NULL, error);
}

static unsigned allowed(const struct place *place) {
    return tier_of(place)->connections;
}

static const struct place_kind bucket_kind = {
    .fetch = fetch,
    .judge = place_judge_leniently,
    .allowed = allowed,
    .lower = place_lower_never,
    .reset = place_keeps_nothing,
    .finish = place_keeps_nothing,
    .first_span = FIRST_SPAN,
    .most_span = SPAN,
};

void place_init_bucket(struct place *place, const struct flights_tier *tier) {
    *place = (struct place){
        .kind = &bucket_kind,
        .first_byte_ms = tier->patience_ms,
        .locations = 1,
        .bucket = {.tier = tier},
    };
    snprintf(place->label, sizeof place->label, "bucket %s", bucket_label(tier->bucket));
}
