/* The cache's limits: makes space by evicting, and records what was not kept. */
#include "retention/space.h"

#include <inttypes.h>
#include "base/clock.h"
#include "base/log.h"
#include "store/blobs.h"
#include "store/usage.h"

enum {
    LOG_EVERY_MS = 60000,
    CALM_MS = 300000,     /* after so long without an unkept blob the next one kept ends degraded */
    SOON_MS = 10000,      /* after so long it ends by itself, if the disk was only full */
    FILES_A_BLOB = 4,     /* files that storing something takes: itself, link, tag, temporary */
    UNCOUNTED_PART = 128, /* the part of max_size that records and directories may take beside it */
    SWEEP_EACH = 8,       /* a sweep is due when so many blobs were evicted for 64 records */
    UNREADABLE_MS = 10000, /* a disk that could not read bytes back is tried again after this */
};

/* ---- life ---- */

void space_init(struct space *space, struct store *store, uint64_t max_size, uint64_t min_free,
                int64_t max_age_s) {
    static const char *const reasons[UNKEPT_REASONS] = {"reason=\"too_large\"", "reason=\"full\"",
                                                        "reason=\"failing\"", "reason=\"unfit\""};
    *space = (struct space){.store = store};
    lock_init(&space->evicting_lock);
    condition_init(&space->evicting_ended);
    lock_init(&space->unkept_lock);
    space->evicted_blobs = metric_get(METRIC_COUNTER, "tarn_evicted_blobs_total",
                                      "Blobs deleted to stay under a limit.", "");
    space->evicted_bytes = metric_get(METRIC_COUNTER, "tarn_evicted_bytes_total",
                                      "Bytes deleted to stay under a limit.", "");
    for (int reason = 0; reason < UNKEPT_REASONS; reason++)
        space->unkept[reason] = metric_get(
            METRIC_COUNTER, "tarn_passed_through_blobs_total",
            "Blobs and manifests that passed through without being kept.", reasons[reason]);
    space->degraded =
        metric_get(METRIC_GAUGE, "tarn_store_degraded",
                   "1 while the disk is full or failing and nothing new is kept.", "");
    space->bytes =
        metric_get(METRIC_GAUGE, "tarn_store_bytes",
                   "Bytes that the cache takes on disk: blobs, records and transfers.", "");
    space->record_bytes = metric_get(METRIC_GAUGE, "tarn_store_record_bytes",
                                     "Bytes on disk of tags, links and directories.", "");
    space->records =
        metric_get(METRIC_GAUGE, "tarn_store_records", "Tags, links and directories on disk.", "");
    space->partial_bytes = metric_get(METRIC_GAUGE, "tarn_store_partial_bytes",
                                      "Bytes on disk of transfers that were interrupted.", "");
    space->bad_bytes = metric_get(METRIC_GAUGE, "tarn_store_bad_bytes",
                                  "Bytes on disk of blobs in quarantine.", "");
    space->blobs = metric_get(METRIC_GAUGE, "tarn_store_blobs", "Cached blobs.", "");
    space->pinned =
        metric_get(METRIC_GAUGE, "tarn_store_pinned_bytes", "Bytes of pinned blobs.", "");
    space->limit = metric_get(METRIC_GAUGE, "tarn_store_limit_bytes",
                              "Bytes that the cache stays under; 0: no limit.", "");
    space->oldest =
        metric_get(METRIC_GAUGE, "tarn_store_oldest_blob_seconds",
                   "Time since the last use of the blob that would be evicted next.", "");
    space_set_limits(space, max_size, min_free, max_age_s);
}

void space_set_limits(struct space *space, uint64_t max_size, uint64_t min_free,
                      int64_t max_age_s) {
    atomic_store(&space->max_size, max_size);
    atomic_store(&space->min_free, min_free);
    atomic_store(&space->max_age_s, max_age_s);
    metric_set(space->limit, (int64_t)max_size);
}

void space_finish(struct space *space) {
    lock_finish(&space->evicting_lock);
    condition_finish(&space->evicting_ended);
    lock_finish(&space->unkept_lock);
}

void space_update_metrics(struct space *space) {
    struct store_usage usage;
    store_usage(space->store, &usage);
    metric_set(space->bytes, (int64_t)store_usage_on_disk(&usage));
    metric_set(space->record_bytes, (int64_t)usage.record_bytes);
    metric_set(space->records, (int64_t)usage.records);
    metric_set(space->partial_bytes, (int64_t)usage.partial_bytes);
    metric_set(space->bad_bytes, (int64_t)usage.bad_bytes);
    metric_set(space->blobs, (int64_t)usage.blobs);
    metric_set(space->pinned, (int64_t)usage.pinned_bytes);
    const int64_t unused_s = clock_wall_s() - usage.oldest_used_s;
    metric_set(space->oldest, usage.oldest_used_s && unused_s > 0 ? unused_s : 0);
}

/* ---- making space ---- */

bool space_can_hold(const struct space *space, uint64_t size, struct error *error) {
    const uint64_t max_size = space->max_size;
    return max_size == 0 || size <= max_size ||
           error_set(error, ERROR_NO_SPACE,
                     "%" PRIu64 " bytes are more than the whole cache may hold (max_size %" PRIu64
                     ")",
                     size, max_size);
}

void space_allow_eviction(struct space *space, bool allowed) {
    atomic_store(&space->may_evict, allowed);
}

/* Waits for its turn: one thread evicts at a time. */
static void begin_evicting(struct space *space) {
    lock_acquire(&space->evicting_lock);
    while (space->evicting)
        condition_wait(&space->evicting_ended, &space->evicting_lock);
    space->evicting = true;
    lock_release(&space->evicting_lock);
}

static void end_evicting(struct space *space) {
    lock_acquire(&space->evicting_lock);
    space->evicting = false;
    condition_signal(&space->evicting_ended);
    lock_release(&space->evicting_lock);
}

/* Bytes about to be written. */
struct need {
    uint64_t more; /* beyond what is reserved: they count against max_size */
    uint64_t free; /* in total: they must fit on the file system */
};

/* What must be evicted. */
struct over {
    uint64_t bytes, files;
};

static bool is_any(struct over over) {
    return over.bytes > 0 || over.files > 0;
}

uint64_t space_record_bytes_most(const struct space *space) {
    const uint64_t max_size = space->max_size;
    return max_size ? max_size / 2 : UINT64_MAX;
}

static uint64_t whole_units(const struct store_usage *usage, uint64_t bytes) {
    return (bytes + usage->unit - 1) / usage->unit * usage->unit;
}

/* The bytes that count against max_size: what is on disk and what is reserved. Records and
 * directories count as far as they are more than a small part, so that a limit holds as many bytes
 * of blobs as it says; and they count for no more than the keeper lets them be, so that too many of
 * them do not push all blobs out. */
static uint64_t counted(const struct space *space, const struct store_usage *usage) {
    uint64_t part = space->max_size / UNCOUNTED_PART, most = space_record_bytes_most(space);
    uint64_t records = usage->record_bytes < most ? usage->record_bytes : most;
    return store_usage_on_disk(usage) - usage->record_bytes + (records > part ? records - part : 0);
}

/* The files that stay free: the same share as min_free is of the file system's bytes. */
static uint64_t files_kept(const struct space *space, const struct store_free *free) {
    const uint64_t min_free = space->min_free;
    if (min_free == 0 || free->all_bytes == 0)
        return 0;
    double share = (double)min_free / (double)free->all_bytes;
    return (uint64_t)((double)free->all_files * (share < 0.5 ? share : 0.5));
}

static struct over excess(struct space *space, struct need need) {
    struct store_usage usage;
    struct store_free free;
    struct over over = {0};
    const uint64_t max_size = space->max_size;
    store_usage(space->store, &usage);
    uint64_t wanted = counted(space, &usage) + whole_units(&usage, need.more);
    if (max_size && wanted > max_size)
        over.bytes = wanted - max_size;
    /* If the file system does not tell what it has left, a write will fail when it is full. */
    uint64_t least = space->min_free + need.free;
    if (!least || !store_free(space->store, &free, NULL))
        return over;
    if (free.bytes < least && least - free.bytes > over.bytes)
        over.bytes = least - free.bytes;
    uint64_t files = files_kept(space, &free) + (need.free ? FILES_A_BLOB : 0);
    if (free.counts_files && free.files < files)
        over.files = files - free.files;
    return over;
}

/* Asks the keeper to sweep the records of blobs that are gone: when evicting has made many of them,
 * and `now` when no blob is left to evict. */
static void want_sweep(struct space *space, const struct store_usage *usage, bool now) {
    uint64_t gone = store_blob_removals(space->store) - atomic_load(&space->swept_removals);
    if (!now && gone * 64 / SWEEP_EACH < usage->records)
        return;
    atomic_store(&space->sweep_wanted, true);
    if (space->wake)
        space->wake(space->wake_context);
}

bool space_take_sweep(struct space *space) {
    uint64_t removals = store_blob_removals(space->store);
    bool wanted = atomic_exchange(&space->sweep_wanted, false);
    /* While the disk is full, the files of a few records count as well. */
    if (!wanted && (metric_value(space->degraded) == 0 || removals == space->swept_removals))
        return false;
    atomic_store(&space->swept_removals, removals);
    return true;
}

/* One run of evicting. */
struct evicting {
    uint64_t bytes, files; /* deleted so far */
    bool cleaned;       /* no left-over partial and no blob in quarantine can be deleted any more */
    struct error error; /* why no more can be evicted */
};

/* Deletes the least recently used blob, but left-over partials before any blob. False: nothing can
 * be deleted. Between begin_evicting() and end_evicting(). */
static bool evict_one(struct space *space, int64_t before_s, struct evicting *evicting) {
    struct store_blob blob;
    if (before_s == INT64_MAX && !evicting->cleaned) {
        uint64_t bytes;
        bool partial = store_partials_evict(space->store, &bytes) && bytes > 0;
        evicting->cleaned = !partial && !store_quarantine_evict(space->store, &bytes);
        evicting->bytes += bytes;
        evicting->files += partial ? 2 : evicting->cleaned ? 0 : 1;
        if (!evicting->cleaned)
            return true;
    }
    if (!store_evict(space->store, before_s, &blob, &evicting->error))
        return false;
    char digest[DIGEST_STRING_SIZE];
    struct store_usage usage;
    store_usage(space->store, &usage);
    evicting->bytes += whole_units(&usage, blob.size);
    evicting->files++;
    want_sweep(space, &usage, false);
    metric_add(space->evicted_blobs, 1);
    metric_add(space->evicted_bytes, (int64_t)blob.size);
    log_at(LOG_DEBUG, "blob evicted", LOG_STRING("digest", digest_format(&blob.digest, digest)),
           LOG_NUMBER("bytes", blob.size),
           LOG_NUMBER("unused_seconds", clock_wall_s() - blob.last_used_s));
    return true;
}

/* Whether evicting could delete so much. */
static bool is_evictable(struct space *space, struct over over) {
    struct store_usage usage;
    store_usage(space->store, &usage);
    return over.bytes <= usage.disk_bytes - usage.pinned_disk_bytes + usage.partial_bytes +
                             usage.bad_bytes + usage.aside_bytes &&
           over.files <= usage.blobs + 2 * usage.partials;
}

static bool no_space(struct error *error) {
    return error_set(error, ERROR_NO_SPACE,
                     "no space: the cached blobs are pinned, in use or too small in total, or "
                     "other files fill the disk");
}

/* Evicts until there is space for `need`. Evicts nothing if all evictable bytes would not suffice,
 * but the keeper (`keeps_on`) evicts what it can. Never evicts more bytes than were too many in the
 * beginning, because on a file system with snapshots deleting may free nothing. Between
 * begin_evicting() and end_evicting(). */
static bool make_space(struct space *space, struct need need, bool keeps_on,
                       const struct cancel *cancel, struct error *error) {
    struct evicting evicting = {0};
    const struct over over = excess(space, need);
    bool more = keeps_on || is_evictable(space, over);
    while (more && (evicting.bytes < over.bytes || evicting.files < over.files) &&
           is_any(excess(space, need)) && cancel_check(cancel, NULL))
        more = evict_one(space, INT64_MAX, &evicting);
    if ((evicting.bytes >= over.bytes && evicting.files >= over.files) ||
        !is_any(excess(space, need)))
        return true;
    struct store_usage usage;
    store_usage(space->store, &usage);
    want_sweep(space, &usage, true);
    return evicting.error.kind == ERROR_IO
               ? error_set(error, ERROR_IO, "no space can be made: %s", evicting.error.text)
               : no_space(error);
}

/* Whether the rest of a blob could be kept if all that may be evicted were. */
static bool has_place_for(struct space *space, const struct space_wish *wish, struct error *error) {
    uint64_t rest = wish->whole > wish->bytes ? wish->whole - wish->bytes : 0;
    const struct need need = {.more = rest, .free = wish->missing + rest};
    return is_evictable(space, excess(space, need)) || no_space(error);
}

bool space_reserve(struct space *space, struct partial *partial, const struct space_wish *wish,
                   struct error *error) {
    const struct need need = {.free = wish->missing};
    if (!space_can_hold(space, wish->whole, error)) {
        partial_reserve(partial, 0);
        return false;
    }
    partial_reserve(partial, wish->bytes);
    /* While eviction is not allowed go on without it: the blobs known so far were used just now, so
     * that the least recently used one is not among them. If the disk is full, a write will fail.
     */
    if (!atomic_load(&space->may_evict))
        return true;
    if (!is_any(excess(space, need)) && has_place_for(space, wish, NULL))
        return true;
    /* Give the reservation back while waiting, so that of two flights competing for the last bytes
     * one succeeds. */
    partial_reserve(partial, 0);
    begin_evicting(space);
    partial_reserve(partial, wish->bytes);
    bool made = has_place_for(space, wish, error) && make_space(space, need, false, NULL, error);
    if (!made)
        partial_reserve(partial, 0);
    end_evicting(space);
    return made;
}

bool space_ensure(struct space *space, uint64_t bytes, struct error *error) {
    const struct need need = {.more = bytes, .free = bytes};
    if (!space_can_hold(space, bytes, error))
        return false;
    if (!atomic_load(&space->may_evict) || !is_any(excess(space, need)))
        return true;
    begin_evicting(space);
    bool made = make_space(space, need, false, NULL, error);
    end_evicting(space);
    return made;
}

bool space_free_after_full(struct space *space, uint64_t bytes, uint64_t whole) {
    struct evicting evicting = {0};
    struct store_free left = {0};
    if (!atomic_load(&space->may_evict))
        return false;
    begin_evicting(space);
    /* Another thread that met the same full disk may have made space meanwhile. */
    bool knows = store_free(space->store, &left, NULL);
    uint64_t files = knows && left.counts_files && left.files < FILES_A_BLOB ? FILES_A_BLOB : 0;
    const struct over over = {left.bytes < whole ? whole - left.bytes : 0, files};
    bool enough = is_evictable(space, over), made = knows && left.bytes >= bytes && !files;
    while (!made && enough && (evicting.bytes < bytes || evicting.files < files) &&
           evict_one(space, INT64_MAX, &evicting))
        ;
    end_evicting(space);
    if (!made && evicting.files == 0) {
        struct store_usage usage;
        store_usage(space->store, &usage);
        want_sweep(space, &usage, true);
    }
    return enough && (made || evicting.files > 0);
}

static void be_well(struct space *space) {
    lock_acquire(&space->unkept_lock);
    space->largest_unkept = 0;
    lock_release(&space->unkept_lock);
    metric_set(space->degraded, 0);
    if (log_enabled(LOG_INFO))
        log_event(LOG_INFO, "new blobs are kept again", NULL, 0);
}

/* Ends the degraded state without a new blob, if for some time everything would have found space.
 */
static void end_degraded(struct space *space) {
    if (metric_value(space->degraded) == 0)
        return;
    lock_acquire(&space->unkept_lock);
    const struct need largest = {.more = space->largest_unkept, .free = space->largest_unkept + 1};
    bool is_full = !space->failed, is_calm = clock_ms() - space->unkept_ms > SOON_MS;
    lock_release(&space->unkept_lock);
    if (is_full && is_calm && is_evictable(space, excess(space, largest)))
        be_well(space);
}

void space_enforce(struct space *space, const struct cancel *cancel) {
    bool may_evict = atomic_load(&space->may_evict);
    if (may_evict && space->max_age_s) {
        int64_t before_s = clock_wall_s() - space->max_age_s;
        struct evicting evicting = {0};
        begin_evicting(space);
        while (cancel_check(cancel, NULL) && evict_one(space, before_s, &evicting))
            ;
        end_evicting(space);
    }
    if (may_evict && is_any(excess(space, (struct need){0}))) {
        begin_evicting(space);
        make_space(space, (struct need){0}, true, cancel, NULL);
        end_evicting(space);
    }
    end_degraded(space);
    space_update_metrics(space);
}

/* ---- what was kept and what was not ---- */

enum unkept space_unkept_reason(const struct error *error) {
    return error->kind == ERROR_NO_SPACE ? UNKEPT_FULL
           : error->kind == ERROR_IO     ? UNKEPT_FAILING
                                         : UNKEPT_UNFIT;
}

void space_record_unkept(struct space *space, enum unkept reason, uint64_t bytes,
                         const struct error *why) {
    metric_add(space->unkept[reason], 1);
    if (reason == UNKEPT_TOO_LARGE) { /* as configured: the disk is fine */
        log_at(LOG_DEBUG, "blob passed through", LOG_STRING("reason", why->text));
        return;
    }
    if (reason == UNKEPT_UNFIT) {
        log_at(LOG_WARN, "not kept, though the disk is fine", LOG_STRING("error", why->text));
        return;
    }
    metric_set(space->degraded, 1);
    int64_t now = clock_ms();
    uint64_t more = 0;
    lock_acquire(&space->unkept_lock);
    space->largest_unkept = bytes > space->largest_unkept ? bytes : space->largest_unkept;
    space->unkept_ms = now;
    space->failed = reason == UNKEPT_FAILING;
    bool due = space->logged_ms == 0 || now - space->logged_ms >= LOG_EVERY_MS;
    if (due) {
        more = space->unlogged;
        space->unlogged = 0;
        space->logged_ms = now;
    } else {
        space->unlogged++;
    }
    lock_release(&space->unkept_lock);
    if (due)
        log_at(LOG_ERROR,
               reason == UNKEPT_FULL
                   ? "no space: blobs pass through without being kept"
                   : "the disk is failing or read-only: blobs pass through without being kept",
               LOG_STRING("error", why->text), LOG_NUMBER("more_since_last", more));
}

void space_record_kept(struct space *space, uint64_t bytes) {
    if (metric_value(space->degraded) == 0)
        return;
    lock_acquire(&space->unkept_lock);
    const struct need largest = {.more = space->largest_unkept, .free = space->largest_unkept};
    bool is_over = bytes >= space->largest_unkept || clock_ms() - space->unkept_ms > CALM_MS;
    lock_release(&space->unkept_lock);
    /* A small blob that fits does not prove that the large one that failed would fit now. Evictable
     * bytes count as free. */
    if (!is_over && !is_evictable(space, excess(space, largest)))
        return;
    be_well(space);
}

void space_record_unreadable(struct space *space) {
    atomic_store(&space->unreadable_until_ms, clock_ms() + UNREADABLE_MS);
}

bool space_is_unreadable(const struct space *space) {
    return clock_ms() < atomic_load(&space->unreadable_until_ms);
}
