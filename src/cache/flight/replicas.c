/* Other replicas as flights know them: who sent wrong bytes, and who is served. */
#include "base/clock.h"
#include "base/log.h"
#include "cache/flight/flight_private.h"
#include "store/records.h"

/* ---- members that sent wrong bytes ---- */

void flights_distrust_replica(struct flights *flights, const struct digest *digest,
                              const struct member *member, const struct error *why) {
    char text[DIGEST_STRING_SIZE];
    bool is_known = false;
    lock_acquire(&flights->table_lock);
    for (size_t i = 0; i < FLIGHTS_WRONG; i++) {
        const struct wrong_replica *entry = &flights->wrong_replicas[i];
        is_known = is_known ||
                   (digest_equal(&entry->digest, digest) && member_equal(&entry->member, member));
    }
    if (!is_known) { /* the oldest entry goes */
        struct wrong_replica *entry =
            &flights->wrong_replicas[flights->wrong_replicas_next++ % FLIGHTS_WRONG];
        *entry = (struct wrong_replica){*digest, *member};
    }
    lock_release(&flights->table_lock);
    if (!is_known)
        log_at(LOG_ERROR, "a replica has sent wrong bytes; it is not asked for the blob any more",
               LOG_STRING("digest", digest_format(digest, text)),
               LOG_STRING("replica", member->text), LOG_STRING("error", why->text));
}

void flights_choose_replicas(struct flights *flights, struct flight *flight) {
    for (size_t i = 0; flights->replicas && i < FLIGHTS_WRONG; i++) {
        const struct wrong_replica *entry = &flights->wrong_replicas[i];
        if (digest_equal(&entry->digest, &flight->digest))
            course_distrust(&flight->sources.course, &entry->member);
    }
}

void flights_log_refusal(struct flights *flights, const struct place_replica *replica,
                         const struct error *why) {
    unsigned more;
    if (log_is_due(&flights->refused_asks, &more))
        log_at(LOG_WARN, "a replica refuses what it is asked; it may be configured differently",
               LOG_STRING("replica", replica->member.text), LOG_STRING("error", why->text),
               LOG_NUMBER("more_since_last", more));
}

/* ---- serving replicas ---- */

void flight_serve_replica(struct flight *flight, enum replica_ask ask) {
    if (!sources_change_over(&flight->sources, ask))
        return;
    /* What is under way is from the replica, and ends soon. */
    spans_give_up(&flight->spans);
    flight->silent_ms = clock_ms();
    flight_start_fetchers(flight);
}

bool flight_is_from_replica(struct flight *flight) {
    lock_acquire(&flight->state_lock);
    bool is = course_asks_replica(&flight->sources.course) &&
              flight->sources.course.place->replica.has_head;
    lock_release(&flight->state_lock);
    return is;
}

bool flight_has_heard(struct flight *flight) {
    lock_acquire(&flight->state_lock);
    bool has = flight->sources.is_final;
    lock_release(&flight->state_lock);
    return has;
}

void flight_date_link(struct flight *flight, const struct flight_source *source) {
    lock_acquire(&flight->state_lock);
    const int64_t age_s = source->link_age_ms / 1000;
    lock_release(&flight->state_lock);
    if (age_s > 0 && upstream_settings(source->repository.upstream)->link_ttl_ms)
        store_link_confirm(flight->flights->store, &source->repository.name, LINK_BLOB,
                           &flight->digest, age_s);
}
