/*
 * A repository at an upstream as a place. Its locations are the upstream's URL and its fallbacks.
 * The target of a blob's redirect is kept, so that requests for further ranges go there at once.
 */
#include "cache/flight/place.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the redirect's target ---- */

static bool copy_target(const struct upstream_target *from, struct upstream_target *to) {
    *to = (struct upstream_target){from->url ? strdup(from->url) : NULL, from->location};
    return to->url != NULL;
}

/* A head is here: the other fetchers' first requests go to the same target. */
static void share_target(struct place_upstream *upstream, const struct upstream_target *target) {
    lock_acquire(&upstream->target_lock);
    if (!upstream->target.url && target->url)
        copy_target(target, &upstream->target);
    lock_release(&upstream->target_lock);
}

/* Keeps the target that a request has found, in place of an earlier one, unless the place asks
 * another location now. Takes over `target`. */
static void keep_target(struct place *place, unsigned location, struct upstream_target *target) {
    struct place_upstream *upstream = &place->upstream;
    lock_acquire(&upstream->target_lock);
    if (location == atomic_load(&place->location)) {
        upstream_target_finish(&upstream->target);
        upstream->target = *target;
        *target = (struct upstream_target){0};
    }
    lock_release(&upstream->target_lock);
    upstream_target_finish(target);
}

static void reset(struct place *place) {
    struct place_upstream *upstream = &place->upstream;
    lock_acquire(&upstream->target_lock);
    upstream_target_finish(&upstream->target);
    lock_release(&upstream->target_lock);
}

/* ---- one request ---- */

struct place_call {
    struct place *place;
    struct upstream_target target; /* of this request alone */
    const struct place_sink *sink;
};

static bool on_turn(void *context, uint64_t *first, uint64_t *last, struct error *error) {
    struct place_call *call = context;
    uint64_t end = *last + 1;
    bool ok = call->sink->on_turn(call->sink->context, first, &end, error);
    *last = end - 1;
    return ok;
}

static bool on_head(void *context, const struct upstream_head *head, struct error *error) {
    struct place_call *call = context;
    const struct place_head told = {
        .is_outside = head->status == 416,
        .has_range = head->has_range,
        .first = head->range_first,
        .last = head->range_last,
        .has_total = head->has_total,
        .total = head->total,
        .etag = head->etag,
    };
    share_target(&call->place->upstream, &call->target);
    return call->sink->on_head(call->sink->context, &told, error);
}

static bool on_bytes(void *context, const void *bytes, size_t length, struct error *error) {
    struct place_call *call = context;
    return call->sink->on_bytes(call->sink->context, bytes, length, error);
}

static bool on_idle(void *context, struct error *error) {
    struct place_call *call = context;
    return call->sink->on_idle(call->sink->context, error);
}

static bool fetch(struct place *place, const struct place_request *asked,
                  const struct place_sink *sink, struct error *error) {
    struct place_upstream *upstream = &place->upstream;
    struct place_call call = {.place = place, .sink = sink};
    char digest[DIGEST_STRING_SIZE];
    lock_acquire(&upstream->target_lock);
    copy_target(&upstream->target, &call.target);
    lock_release(&upstream->target_lock);
    const struct upstream_request request = {
        .what = UPSTREAM_BLOB,
        .host = upstream->repository->name.host,
        .repository = upstream->repository->name.path,
        .reference = digest_format(asked->digest, digest),
        .has_range = !asked->plain,
        .range_first = asked->suffix ? 0 : asked->start,
        .range_last = asked->end - 1,
        .range_suffix = asked->suffix ? asked->end : 0,
        .location = asked->location,
        .target = &call.target,
        .attempts = asked->is_first ? 0 : 1,
        .insists = !asked->is_first,
        .deadline_ms = asked->deadline_ms,
        .stop = asked->stop,
        .background = asked->background,
        .abandoned = asked->abandoned,
    };
    const struct upstream_sink adapter = {
        &call, on_head, on_bytes, on_idle,
        asked->plain || asked->suffix || !sink->on_turn ? NULL : on_turn};
    bool ok = upstream_perform(upstream->repository->upstream, &request, &adapter, error);
    keep_target(place, asked->location, &call.target);
    return ok;
}

static unsigned allowed(const struct place *place) {
    return upstream_connections(place->upstream.repository->upstream);
}

static void lower(struct place *place, unsigned others) {
    upstream_lower_connections(place->upstream.repository->upstream, others);
}

static void finish(struct place *place) {
    reset(place);
    lock_finish(&place->upstream.target_lock);
}

/* ---- the place ---- */

static const struct place_kind upstream_kind = {
    .fetch = fetch,
    .judge = retry_classify,
    .allowed = allowed,
    .lower = lower,
    .reset = reset,
    .finish = finish,
};

void place_init_upstream(struct place *place, const struct repository *repository) {
    const struct upstream_settings *settings = upstream_settings(repository->upstream);
    *place = (struct place){
        .kind = &upstream_kind,
        .first_byte_ms = settings->first_byte_timeout_ms,
        .fills = settings->range_fill,
        .locations = upstream_places(repository->upstream),
        .upstream = {.repository = repository},
    };
    snprintf(place->label, sizeof place->label, "upstream %s", repository->name.host);
    lock_init(&place->upstream.target_lock);
}
