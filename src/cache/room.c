#include "cache/room.h"

#include <inttypes.h>
#include "base/clock.h"
#include "base/log.h"

enum {
    LOG_EVERY_MS = 60000,
    CALM_MS = 300000,    /* without trouble: it is over, whatever was missed */
    DISTRUST_MS = 10000, /* a disk that could not give bytes back is tried again after this */
};

/* ---- life ---- */

void room_init(struct room *room, struct store *store, uint64_t max_size, uint64_t min_free,
               int64_t max_age_s) {
    static const char *const reasons[UNKEPT_REASONS] = {"reason=\"too_large\"", "reason=\"full\"",
                                                        "reason=\"failing\""};
    *room = (struct room){
        .store = store, .max_size = max_size, .min_free = min_free, .max_age_s = max_age_s};
    pthread_mutex_init(&room->lock, NULL);
    pthread_cond_init(&room->made, NULL);
    room->evicted_blobs = metric_get(METRIC_COUNTER, "tarn_evicted_blobs_total",
                                     "Blobs deleted to stay under a limit.", "");
    room->evicted_bytes = metric_get(METRIC_COUNTER, "tarn_evicted_bytes_total",
                                     "Bytes deleted to stay under a limit.", "");
    for (int reason = 0; reason < UNKEPT_REASONS; reason++)
        room->unkept[reason] =
            metric_get(METRIC_COUNTER, "tarn_passed_through_blobs_total",
                       "Blobs and manifests passed on without being kept.", reasons[reason]);
    room->degraded = metric_get(METRIC_GAUGE, "tarn_store_degraded",
                                "1 while the disk is full or failing and nothing new is kept.", "");
    room->bytes = metric_get(METRIC_GAUGE, "tarn_store_bytes", "Bytes of all cached blobs.", "");
    room->blobs = metric_get(METRIC_GAUGE, "tarn_store_blobs", "Cached blobs.", "");
    room->pinned =
        metric_get(METRIC_GAUGE, "tarn_store_pinned_bytes", "Bytes of pinned blobs.", "");
    room->limit = metric_get(METRIC_GAUGE, "tarn_store_limit_bytes",
                             "Bytes that the cache stays under; 0: no limit.", "");
    metric_set(room->limit, (int64_t)max_size);
}

void room_destroy(struct room *room) {
    pthread_mutex_destroy(&room->lock);
    pthread_cond_destroy(&room->made);
}

void room_show(struct room *room) {
    struct store_usage usage;
    store_usage(room->store, &usage);
    metric_set(room->bytes, (int64_t)usage.bytes);
    metric_set(room->blobs, (int64_t)usage.blobs);
    metric_set(room->pinned, (int64_t)usage.pinned_bytes);
}

/* ---- making room ---- */

bool room_is_enough(const struct room *room, uint64_t size, struct error *error) {
    return room->max_size == 0 || size <= room->max_size ||
           error_set(error, ERROR_NO_SPACE,
                     "%" PRIu64 " bytes are more than the whole cache may hold (max_size %" PRIu64
                     ")",
                     size, room->max_size);
}

void room_open(struct room *room) {
    atomic_store(&room->open, true);
}

void room_close(struct room *room) {
    atomic_store(&room->open, false);
}

static void begin_evicting(struct room *room) {
    pthread_mutex_lock(&room->lock);
    while (room->evicting)
        pthread_cond_wait(&room->made, &room->lock);
    room->evicting = true;
    pthread_mutex_unlock(&room->lock);
}

static void end_evicting(struct room *room) {
    pthread_mutex_lock(&room->lock);
    room->evicting = false;
    pthread_cond_signal(&room->made);
    pthread_mutex_unlock(&room->lock);
}

/* What is about to be written: beside what is reserved, and of both that. */
struct need {
    uint64_t more, free;
};

/* How many bytes must go; 0: none. */
static uint64_t excess(struct room *room, struct need need) {
    struct store_usage usage;
    uint64_t left, over = 0;
    store_usage(room->store, &usage);
    uint64_t there = usage.bytes + usage.reserved_bytes + usage.partial_bytes + need.more;
    if (room->max_size && there > room->max_size)
        over = there - room->max_size;
    /* A file system that does not say what it has left will say so when it is full. */
    uint64_t free = room->min_free + need.free;
    if (free && store_free_bytes(room->store, &left, NULL) && left < free && free - left > over)
        over = free - left;
    return over;
}

/* One who evicts: how much went, and whether left-over partials were cleaned away already. */
struct evicting {
    uint64_t bytes;
    bool cleaned;
    struct error error; /* why nothing more can go */
};

/* What was left by transfers that nobody continues. */
static uint64_t clean_partials(struct room *room) {
    struct store_usage before, after;
    store_usage(room->store, &before);
    if (before.partial_bytes == 0)
        return 0;
    store_partials_clean(room->store, 0);
    store_usage(room->store, &after);
    return before.partial_bytes > after.partial_bytes ? before.partial_bytes - after.partial_bytes
                                                      : 0;
}

/* Deletes the least recently used blob; left-over partials go before any of them. False: nothing
 * can go. begin_evicting() is done. */
static bool evict_one(struct room *room, int64_t before_s, struct evicting *evicting) {
    struct store_blob blob;
    if (before_s == INT64_MAX && !evicting->cleaned) {
        uint64_t bytes = clean_partials(room);
        evicting->cleaned = true;
        evicting->bytes += bytes;
        if (bytes)
            return true;
    }
    if (!store_evict(room->store, before_s, &blob, &evicting->error))
        return false;
    char digest[DIGEST_STRING_SIZE];
    evicting->bytes += blob.size;
    metric_add(room->evicted_blobs, 1);
    metric_add(room->evicted_bytes, (int64_t)blob.size);
    log_at(LOG_DEBUG, "blob evicted", LOG_STRING("digest", digest_format(&blob.digest, digest)),
           LOG_NUMBER("bytes", blob.size),
           LOG_NUMBER("unused_seconds", clock_wall_s() - blob.last_used_s));
    return true;
}

/* What could go at most. */
static uint64_t evictable(struct room *room) {
    struct store_usage usage;
    store_usage(room->store, &usage);
    return usage.bytes - usage.pinned_bytes + usage.partial_bytes;
}

/* Evicts until there is what is needed; nothing, when all that may go would not suffice. Never more
 * than was over in the beginning: on a file system with snapshots what is deleted may free nothing.
 * begin_evicting() is done. */
static bool make(struct room *room, struct need need, const atomic_bool *stop,
                 struct error *error) {
    struct evicting evicting = {0};
    const uint64_t over = excess(room, need);
    bool more = stop || over <= evictable(room); /* the keeper does what it can */
    while (more && evicting.bytes < over && excess(room, need) > 0 && !(stop && atomic_load(stop)))
        more = evict_one(room, INT64_MAX, &evicting);
    if (evicting.bytes >= over || excess(room, need) == 0)
        return true;
    return evicting.error.kind == ERROR_IO
               ? error_set(error, ERROR_IO, "no room can be made: %s", evicting.error.text)
               : error_set(error, ERROR_NO_SPACE,
                           "no room: what else is cached is pinned or in use, or too little, or "
                           "others fill the disk");
}

bool room_reserve(struct room *room, struct partial *partial, uint64_t bytes, uint64_t missing,
                  struct error *error) {
    const struct need need = {.free = missing};
    if (!room_is_enough(room, bytes, error)) {
        partial_reserve(partial, 0);
        return false;
    }
    partial_reserve(partial, bytes);
    /* Before all blobs are known, those that are were just used: the least recently used are not
     * among them. A disk that is full says so itself. */
    if (!atomic_load(&room->open) || excess(room, need) == 0)
        return true;
    /* Two that want the last room at once: one gets it, not neither. */
    partial_reserve(partial, 0);
    begin_evicting(room);
    partial_reserve(partial, bytes);
    bool made = make(room, need, NULL, error);
    if (!made)
        partial_reserve(partial, 0);
    end_evicting(room);
    return made;
}

bool room_find(struct room *room, uint64_t bytes, struct error *error) {
    const struct need need = {.more = bytes, .free = bytes};
    if (!room_is_enough(room, bytes, error))
        return false;
    if (!atomic_load(&room->open) || excess(room, need) == 0)
        return true;
    begin_evicting(room);
    bool made = make(room, need, NULL, error);
    end_evicting(room);
    return made;
}

bool room_make(struct room *room, uint64_t bytes) {
    struct evicting evicting = {0};
    uint64_t left = 0;
    if (!atomic_load(&room->open))
        return false;
    begin_evicting(room);
    /* Somebody who met the same full disk may have made it meanwhile. */
    bool made = store_free_bytes(room->store, &left, NULL) && left >= bytes;
    bool enough = left + evictable(room) >= bytes;
    while (!made && enough && evicting.bytes < bytes && evict_one(room, INT64_MAX, &evicting))
        ;
    end_evicting(room);
    return made || evicting.bytes > 0;
}

void room_keep(struct room *room, const atomic_bool *stop) {
    bool open = atomic_load(&room->open);
    if (open && room->max_age_s) {
        int64_t before_s = clock_wall_s() - room->max_age_s;
        struct evicting evicting = {0};
        begin_evicting(room);
        while (!atomic_load(stop) && evict_one(room, before_s, &evicting))
            ;
        end_evicting(room);
    }
    if (open && excess(room, (struct need){0})) {
        begin_evicting(room);
        make(room, (struct need){0}, stop, NULL);
        end_evicting(room);
    }
    room_show(room);
}

/* ---- trouble ---- */

enum unkept room_unkept_by(const struct error *error) {
    return error->kind == ERROR_NO_SPACE ? UNKEPT_FULL : UNKEPT_FAILING;
}

void room_note_unkept(struct room *room, enum unkept reason, uint64_t bytes,
                      const struct error *why) {
    metric_add(room->unkept[reason], 1);
    if (reason == UNKEPT_TOO_LARGE) { /* as configured, and no trouble with the disk */
        log_at(LOG_DEBUG, "blob passed through", LOG_STRING("reason", why->text));
        return;
    }
    metric_set(room->degraded, 1);
    int64_t now = clock_ms();
    uint64_t more = 0;
    pthread_mutex_lock(&room->lock);
    room->missed = bytes > room->missed ? bytes : room->missed;
    room->missed_ms = now;
    bool due = room->logged_ms == 0 || now - room->logged_ms >= LOG_EVERY_MS;
    if (due) {
        more = room->unlogged;
        room->unlogged = 0;
        room->logged_ms = now;
    } else {
        room->unlogged++;
    }
    pthread_mutex_unlock(&room->lock);
    if (due)
        log_at(LOG_ERROR,
               reason == UNKEPT_FULL
                   ? "no room: passing through what cannot be kept"
                   : "the disk is failing or read-only: passing through what cannot be kept",
               LOG_STRING("error", why->text), LOG_NUMBER("more_since_last", more));
}

/* That something small fits says nothing of what did not. */
void room_note_kept(struct room *room, uint64_t bytes) {
    if (metric_value(room->degraded) == 0)
        return;
    pthread_mutex_lock(&room->lock);
    const struct need missed = {.more = room->missed, .free = room->missed};
    bool as_large = bytes >= room->missed || clock_ms() - room->missed_ms > CALM_MS;
    pthread_mutex_unlock(&room->lock);
    /* A cache that is full of what may go has room. */
    if (!as_large && excess(room, missed) > evictable(room))
        return;
    pthread_mutex_lock(&room->lock);
    room->missed = 0;
    pthread_mutex_unlock(&room->lock);
    metric_set(room->degraded, 0);
    if (log_enabled(LOG_INFO))
        log_event(LOG_INFO, "the disk takes new blobs again", NULL, 0);
}

void room_note_unreadable(struct room *room) {
    atomic_store(&room->failing_ms, clock_ms() + DISTRUST_MS);
}

bool room_is_unreadable(const struct room *room) {
    return clock_ms() < atomic_load(&room->failing_ms);
}
