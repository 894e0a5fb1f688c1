/* Warms an image: walks its manifests, then fetches its blobs on a few threads. */
#include "admin/warm.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/thread.h"
#include "upstream/name.h"

enum {
    BLOBS_AT_ONCE = 3,
    REPORT_MS = 200,
};

const char *warm_state_name(enum warm_state state) {
    static const char *const names[] = {"waiting", "fetching", "cached", "failed"};
    return names[state];
}

/* Shared by the threads that fetch an image's blobs and the thread that waits and reports. */
struct fetching {
    const struct warm_walk *walk;
    const struct warm_request *request;
    atomic_bool cancelled; /* nobody waits for the rest */

    struct lock parts_lock; /* guards all below, and the parts while the threads run */
    struct condition all_done;
    size_t next; /* the first part that no thread has taken */
    unsigned working;
    struct error failure; /* of the first blob that failed */
};

/* ---- one blob ---- */

static bool is_cancelled(const struct fetching *fetching) {
    return atomic_load(&fetching->cancelled) || atomic_load(fetching->walk->cancel.stop);
}

static bool still_waiting(void *context) {
    return !is_cancelled(context);
}

static void update_part(struct fetching *fetching, struct warm_part *part, enum warm_state state,
                        uint64_t size, uint64_t bytes) {
    lock_acquire(&fetching->parts_lock);
    part->state = state;
    part->size = size;
    part->bytes = bytes;
    part->moved = true;
    lock_release(&fetching->parts_lock);
}

/* Waits until the last byte of the blob is here. Only a reader learns that a transfer has failed,
 * so this function is a reader, although it ignores the bytes. */
static bool follow(struct fetching *fetching, struct warm_part *part, struct cache_blob *blob,
                   struct error *error) {
    const struct cancel cancel = {.is_wanted = still_waiting, .context = fetching};
    uint64_t at = 0, end = 0;
    cache_blob_want(blob, 0, blob->size_known ? blob->size : UINT64_MAX, true);
    do {
        uint64_t size = blob->size_known ? blob->size : part->size;
        update_part(fetching, part, WARM_FETCHING, size, at);
        if (is_cancelled(fetching))
            return error_set(error, ERROR_CLOSED, "nobody waits for the blob");
        if (!cache_blob_wait(blob, at, &end, &cancel, error))
            return false;
        bool at_end = end == at;
        at = end;
        if (at_end)
            break;
    } while (!blob->size_known || at < blob->size);
    if (!cache_blob_settle(blob, error))
        return false;
    update_part(fetching, part, WARM_CACHED, at, at);
    return true;
}

static bool fetch_part(struct fetching *fetching, struct warm_part *part, struct error *error) {
    const struct warm_walk *walk = fetching->walk;
    const struct blob_range whole = {.kind = BLOB_WHOLE};
    const struct cancel cancel = {.is_wanted = still_waiting, .context = fetching};
    const struct cache_caller caller = {&walk->repository, &cancel};
    struct cache_blob blob;
    if (!cache_blob_open(walk->cache, &caller, &part->digest, &whole, &blob, error))
        return false;
    bool ok = true;
    if (blob.reader) {
        ok = follow(fetching, part, &blob, error);
    } else {
        lock_acquire(&fetching->parts_lock);
        part->was_cached = true;
        lock_release(&fetching->parts_lock);
        update_part(fetching, part, WARM_CACHED, blob.size, blob.size);
    }
    cache_blob_close(&blob);
    return ok;
}

static void record_failure(struct fetching *fetching, struct warm_part *part,
                           const struct error *error) {
    char digest[DIGEST_STRING_SIZE];
    lock_acquire(&fetching->parts_lock);
    part->state = WARM_FAILED;
    part->error = strdup(error->text);
    part->moved = true;
    if (fetching->failure.kind == ERROR_NONE) {
        fetching->failure = *error;
        error_wrap(&fetching->failure, "%s %s", part->role, digest_format(&part->digest, digest));
    }
    lock_release(&fetching->parts_lock);
}

/* The next blob to fetch; NULL: there is none. */
static struct warm_part *take_part(struct fetching *fetching) {
    struct warm_parts *parts = fetching->walk->parts;
    struct warm_part *part = NULL;
    lock_acquire(&fetching->parts_lock);
    while (fetching->next < parts->count && !part) {
        part = &parts->parts[fetching->next++];
        if (part->state != WARM_WAITING) /* a manifest */
            part = NULL;
    }
    lock_release(&fetching->parts_lock);
    return part;
}

static void work(void *context) {
    struct fetching *fetching = context;
    struct warm_part *part;
    while (!is_cancelled(fetching) && (part = take_part(fetching))) {
        struct error error = {0};
        if (!fetch_part(fetching, part, &error) && !is_cancelled(fetching))
            record_failure(fetching, part, &error);
    }
    lock_acquire(&fetching->parts_lock);
    if (--fetching->working == 0)
        condition_signal(&fetching->all_done);
    lock_release(&fetching->parts_lock);
}

/* ---- all blobs ---- */

static void report(struct fetching *fetching) {
    const struct warm_request *request = fetching->request;
    struct warm_parts *parts = fetching->walk->parts;
    for (size_t i = 0; i < parts->count; i++) {
        lock_acquire(&fetching->parts_lock);
        struct warm_part part = parts->parts[i];
        parts->parts[i].moved = false;
        lock_release(&fetching->parts_lock);
        if (part.moved && request->on_part)
            request->on_part(request->context, &part);
    }
}

/* Waits until the next report is due. False: all threads are done. */
static bool wait_for_report(struct fetching *fetching) {
    int64_t deadline_ms = clock_ms() + REPORT_MS;
    bool in_time = true;
    lock_acquire(&fetching->parts_lock);
    while (fetching->working > 0 && in_time)
        in_time = condition_wait_until(&fetching->all_done, &fetching->parts_lock, deadline_ms);
    bool more = fetching->working > 0;
    lock_release(&fetching->parts_lock);
    return more;
}

static unsigned start_threads(struct fetching *fetching, pthread_t *threads, unsigned wanted) {
    unsigned started = 0;
    fetching->working = wanted; /* without the lock, because no thread runs yet */
    while (started < wanted &&
           thread_start("warm", THREAD_STACK, work, fetching, &threads[started], NULL))
        started++;
    lock_acquire(&fetching->parts_lock);
    fetching->working -= wanted - started;
    lock_release(&fetching->parts_lock);
    return started;
}

/* The error names the first part that failed, and says how many others did. */
static void count_failures(const struct warm_parts *parts, struct error *failure) {
    size_t failed = 0, length = strlen(failure->text);
    for (size_t i = 0; i < parts->count; i++)
        failed += parts->parts[i].state == WARM_FAILED;
    if (failed > 1)
        snprintf(failure->text + length, sizeof failure->text - length,
                 " (%zu more of its manifests and blobs failed)", failed - 1);
}

static bool fetch_blobs(const struct warm_walk *walk, const struct warm_request *request,
                        struct error *error) {
    struct fetching fetching = {.walk = walk, .request = request, .failure = walk->failure};
    pthread_t threads[BLOBS_AT_ONCE];
    struct error closed = {0};
    lock_init(&fetching.parts_lock);
    condition_init(&fetching.all_done);
    report(&fetching);
    unsigned started = start_threads(&fetching, threads, BLOBS_AT_ONCE);
    while (wait_for_report(&fetching)) {
        if (!cancel_check(&walk->cancel, &closed))
            atomic_store(&fetching.cancelled, true);
        else
            report(&fetching);
    }
    for (unsigned i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    if (started == 0)
        error_set(&fetching.failure, ERROR_MEMORY, "no thread could be started");
    else if (closed.kind != ERROR_NONE || !cancel_check(&walk->cancel, &closed))
        fetching.failure = closed;
    else
        count_failures(walk->parts, &fetching.failure);
    report(&fetching);
    lock_finish(&fetching.parts_lock);
    condition_finish(&fetching.all_done);
    if (fetching.failure.kind != ERROR_NONE && error)
        *error = fetching.failure;
    return fetching.failure.kind == ERROR_NONE;
}

/* ---- the image ---- */

static bool warm(struct warmer *warmer, const struct warm_request *request,
                 struct warm_parts *parts, struct error *error) {
    struct image_name image;
    char name[sizeof image.host + sizeof image.repository];
    struct warm_walk walk = {
        .cache = warmer->cache,
        .platforms = request->platforms,
        .cancel = {.stop = &warmer->stopping,
                   .is_wanted = request->is_wanted,
                   .context = request->context},
        .on_part = request->on_part,
        .context = request->context,
        .parts = parts,
    };
    if (!image_name_parse(text_of(request->image), &image, error))
        return false;
    snprintf(name, sizeof name, "%s%s%s", image.host, image.host[0] ? "/" : "", image.repository);
    const struct upstreams *upstreams = current_upstreams_hold(warmer->upstreams);
    bool ok = name_resolve(upstreams, "", text_of(name), &walk.repository, error) &&
              warm_walk(&walk, &image.reference, error) && fetch_blobs(&walk, request, error);
    upstreams_release(upstreams);
    return ok;
}

static void sum_up(const struct warm_parts *parts, int64_t began_ms, struct warm_result *result) {
    *result = (struct warm_result){.seconds = (double)(clock_ms() - began_ms) / 1000};
    for (size_t i = 0; i < parts->count; i++) {
        const struct warm_part *part = &parts->parts[i];
        if (part->was_cached)
            result->bytes_cached += part->bytes;
        else
            result->bytes_fetched += part->bytes;
    }
}

bool warm_image(struct warmer *warmer, const struct warm_request *request,
                struct warm_result *result, struct error *error) {
    struct warm_parts parts = {0};
    struct error why = {0};
    int64_t began_ms = clock_ms();
    bool ok = warm(warmer, request, &parts, &why);
    sum_up(&parts, began_ms, result);
    warm_parts_finish(&parts);
    if (ok)
        log_at(LOG_INFO, "image warmed", LOG_STRING("image", request->image),
               LOG_NUMBER("bytes_fetched", result->bytes_fetched),
               LOG_NUMBER("bytes_cached", result->bytes_cached),
               LOG_NUMBER("seconds", result->seconds));
    else
        log_at(LOG_WARN, "image not warmed", LOG_STRING("image", request->image),
               LOG_STRING("error", why.text), LOG_NUMBER("seconds", result->seconds));
    if (error)
        *error = why;
    return ok;
}
