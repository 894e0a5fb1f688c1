/* The bucket as flights know it: what is wrong in it, and uploads that follow. */
#include "base/log.h"
#include "bucket/bucket.h"
#include "cache/flight/flight_private.h"

/* ---- objects that are wrong ---- */

/* The entry of the digest; NULL: none. */
static struct digest *find_wrong(struct flights *flights, const struct digest *digest)
    REQUIRES(flights->table_lock) {
    for (size_t i = 0; i < FLIGHTS_WRONG; i++) {
        if (digest_equal(&flights->wrong[i], digest))
            return &flights->wrong[i];
    }
    return NULL;
}

void flights_record_wrong(struct flights *flights, const struct digest *digest,
                          const struct error *why) {
    char text[DIGEST_STRING_SIZE];
    metric_add(flights->wrong_objects, 1);
    log_at(LOG_ERROR, "the bucket has wrong bytes; upstream is asked for the right ones",
           LOG_STRING("digest", digest_format(digest, text)),
           LOG_STRING("bucket", bucket_label(flights->tier->bucket)),
           LOG_STRING("error", why->text));
    lock_acquire(&flights->table_lock);
    if (!find_wrong(flights, digest)) /* the oldest entry goes */
        flights->wrong[flights->wrong_next++ % FLIGHTS_WRONG] = *digest;
    lock_release(&flights->table_lock);
}

void flights_distrust_bucket(struct flights *flights, const struct digest *digest,
                             const struct error *why) {
    flights_record_wrong(flights, digest, why);
}

void flights_trust_bucket(struct flights *flights, const struct digest *digest) {
    lock_acquire(&flights->table_lock);
    struct digest *entry = find_wrong(flights, digest);
    if (entry)
        *entry = (struct digest){0};
    lock_release(&flights->table_lock);
}

bool flights_distrusts_bucket(struct flights *flights, const struct digest *digest) {
    lock_acquire(&flights->table_lock);
    bool is_wrong = find_wrong(flights, digest) != NULL;
    lock_release(&flights->table_lock);
    return is_wrong;
}

void flights_choose_tier(struct flights *flights, struct flight *flight) {
    if (!flights->tier || !find_wrong(flights, &flight->digest))
        return;
    flight->sources.bucket_wrong = flight->sources.wrong_known = true;
    flight->sources.course.has_bucket = false;
}

/* ---- what a flight found out ---- */

bool flight_is_from_bucket(struct flight *flight) {
    lock_acquire(&flight->state_lock);
    bool is = flight->sources.in_bucket && sources_ask_bucket(&flight->sources);
    lock_release(&flight->state_lock);
    return is;
}

bool flight_is_in_bucket(struct flight *flight) {
    lock_acquire(&flight->state_lock);
    bool is = flight->sources.in_bucket;
    lock_release(&flight->state_lock);
    return is;
}

bool flight_is_at_last_stop(struct flight *flight) {
    lock_acquire(&flight->state_lock);
    bool is = flight->sources.is_last_stop;
    lock_release(&flight->state_lock);
    return is;
}

void flight_find(struct flight *flight, struct flight_findings *out) {
    const struct sources *sources = &flight->sources;
    *out = (struct flight_findings){.digest = &flight->digest};
    lock_acquire(&flight->state_lock);
    /* What came from a replica goes to the bucket from there. */
    out->is_absent = !sources->in_bucket && sources_are_asked(sources);
    out->was_wrong = sources->bucket_wrong;
    if (sources->in_bucket)
        out->found_s = atomic_load(&sources->bucket.bucket.found_s);
    for (unsigned i = 0; i < sources->count; i++) {
        if (sources->at[i].state == SOURCE_ANSWERED)
            out->repositories[out->count++] = sources->at[i].repository.name;
    }
    lock_release(&flight->state_lock);
}

/* ---- uploads that follow ---- */

void flight_follow(struct flight *flight) {
    flight_keep(flight);
    lock_acquire(&flight->state_lock);
    flight->followed = true;
    flight->follow_lost = flight->body.passing.dropped;
    flight->follow_at = 0;
    lock_release(&flight->state_lock);
}

void flight_unfollow(struct flight *flight) {
    lock_acquire(&flight->state_lock);
    flight->followed = false;
    flight_wake(flight); /* its bytes may be dropped, or nobody wants the rest any more */
    lock_release(&flight->state_lock);
    flight_release(flight);
}

bool flight_is_passing(struct flight *flight) {
    lock_acquire(&flight->state_lock);
    bool passes = flight->body.passing.on;
    lock_release(&flight->state_lock);
    return passes;
}

enum flight_part flight_look_at_part(struct flight *flight, uint64_t start, uint64_t end, int *fd) {
    const struct body *body = &flight->body;
    enum flight_part part = FLIGHT_PART_COMING;
    uint64_t readable_end;
    lock_acquire(&flight->state_lock);
    if (flight->follow_lost) {
        part = FLIGHT_PART_LOST;
    } else if (extents_run_end(&body->present, start) >= end) {
        *fd = body_readable_at(body, start, &readable_end);
        part = *fd >= 0 && readable_end >= end ? FLIGHT_PART_HERE : FLIGHT_PART_LOST;
    }
    lock_release(&flight->state_lock);
    return part;
}

bool flight_follow_to(struct flight *flight, uint64_t at) {
    lock_acquire(&flight->state_lock);
    if (at > flight->follow_at)
        flight->follow_at = at;
    bool has_all = !flight->follow_lost;
    if (flight->body.passing.on)
        condition_broadcast(&flight->changed); /* a fetcher may go on */
    lock_release(&flight->state_lock);
    return has_all;
}

enum flight_fate flight_fate(struct flight *flight) {
    lock_acquire(&flight->state_lock);
    const enum flight_state state = flight->state;
    lock_release(&flight->state_lock);
    return state == FLIGHT_VERIFIED ? FLIGHT_FATE_VERIFIED
           : state == FLIGHT_FAILED ? FLIGHT_FATE_FAILED
                                    : FLIGHT_FATE_OPEN;
}
