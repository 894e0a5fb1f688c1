/*
 * Another replica as a place: a member of the list, and what it is asked.
 *
 * Bytes come as one stream to the end of the blob, because the replica gets them in this order from
 * its own place. How silence and death are told apart is said in replica/asker.h.
 */
#include "cache/flight/place.h"

#include <inttypes.h>
#include <stdio.h>
#include "base/clock.h"

#define SPAN ((uint64_t)1 << 60) /* to the end of any blob */

struct replica_call {
    const struct place_request *request;
    const struct place *place;
    const struct place_sink *sink;
    bool has_bytes;
};

static bool is_wanted(void *context) {
    const struct replica_call *call = context;
    const struct place_request *request = call->request;
    return !atomic_load(request->stop) && !atomic_load(request->abandoned) &&
           !atomic_load(&call->place->replica.is_left);
}

static bool on_head(void *context, const struct replica_head *head, struct error *error) {
    struct replica_call *call = context;
    const struct place_head told = {
        .is_outside = head->status == 416,
        .has_range = head->has_range,
        .first = head->first,
        .last = head->last,
        .has_total = head->has_total,
        .total = head->total,
        .etag = "",
        .age_ms = head->age_s * 1000,
    };
    return call->sink->on_head(call->sink->context, &told, error);
}

static bool on_bytes(void *context, const void *bytes, size_t length, struct error *error) {
    struct replica_call *call = context;
    call->has_bytes = true;
    return call->sink->on_bytes(call->sink->context, bytes, length, error);
}

static bool on_idle(void *context, struct error *error) {
    struct replica_call *call = context;
    return !call->has_bytes || call->sink->on_idle(call->sink->context, error);
}

static bool fetch(struct place *place, const struct place_request *asked,
                  const struct place_sink *sink, struct error *error) {
    char path[HOST_LIMIT + NAME_LIMIT + DIGEST_STRING_SIZE + 16], digest[DIGEST_STRING_SIZE];
    struct replica_call call = {asked, place, sink, false};
    const struct cancel cancel = {.is_wanted = is_wanted, .context = &call};
    uint64_t start = asked->start, end = asked->end;
    *asked->outcome = REPLICA_STOPPED;
    if (!asked->plain && !asked->suffix && !sink->on_turn(sink->context, &start, &end, error))
        return false;
    snprintf(path, sizeof path, "/v2/%s/%s/blobs/%s", asked->name->host, asked->name->path,
             digest_format(asked->digest, digest));
    const struct replica_request request = {
        .member = &place->replica.member,
        .ask = place->replica.ask,
        .path = path,
        .has_range = !asked->plain,
        .first = start,
        .last = end - start >= SPAN / 2 ? UINT64_MAX : end - 1,
        .suffix = asked->suffix ? end : 0,
        .deadline_ms = asked->deadline_ms ? asked->deadline_ms : clock_ms() + place->first_byte_ms,
        .cancel = &cancel,
    };
    const struct replica_sink adapter = {&call, on_head, on_bytes, on_idle};
    *asked->outcome = replica_asker_ask(place->replica.asker, &request, &adapter, NULL, error);
    return *asked->outcome == REPLICA_GAVE;
}

static unsigned allowed(const struct place *place) {
    return place->replica.connections;
}

static const struct place_kind replica_kind = {
    .fetch = fetch,
    .judge = place_judge_leniently,
    .allowed = allowed,
    .lower = place_lower_never,
    .reset = place_keeps_nothing,
    .finish = place_keeps_nothing,
    .first_span = SPAN,
    .most_span = SPAN,
};

bool place_is_replica(const struct place *place) {
    return place->kind == &replica_kind;
}

void place_init_replica(struct place *place, struct replica_asker *asker,
                        const struct member *member, enum replica_ask ask,
                        const struct repository *repository) {
    const struct upstream_settings *settings = upstream_settings(repository->upstream);
    *place = (struct place){
        .kind = &replica_kind,
        .first_byte_ms = settings->first_byte_timeout_ms,
        .locations = 1,
        .replica = {.asker = asker,
                    .member = *member,
                    .ask = ask,
                    .connections = settings->connections},
    };
    snprintf(place->label, sizeof place->label, "replica %s", member->text);
}
