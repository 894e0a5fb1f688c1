/* Hashes every blob. One thread hashes; the caller's thread writes progress and findings. */
#include "admin/verify.h"

#include <pthread.h>
#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/thread.h"
#include "store/blobs.h"
#include "store/usage.h"

enum { REPORT_MS = 200 };

/* A blob that is wrong or cannot be read. */
struct finding {
    struct digest digest;
    bool unreadable; /* it could not be hashed; else its bytes are wrong */
    bool set_aside;  /* wrong bytes, and the store has moved the blob away */
    struct error why;
};

struct verifying {
    struct order_target *target;
    const struct verify_options *options;
    uint64_t rate;    /* bytes a second; 0: no limit */
    atomic_bool stop; /* nobody waits for the rest */
    int64_t began_ms;

    struct lock progress_lock; /* guards what follows */
    struct condition changed;
    uint64_t blobs, bytes; /* hashed, or found to be unreadable */
    bool has_finding;      /* `finding` waits to be written */
    struct finding finding;
    bool left_bad; /* a bad blob was not set aside */
    bool ended;
    struct error failure;
};

/* ---- the thread that hashes ---- */

/* store_blob_verify() limits the rate within one blob; this function limits it over many blobs. */
static void throttle(struct verifying *verifying, uint64_t bytes) {
    while (verifying->rate && !atomic_load(&verifying->stop)) {
        double due_ms = (double)bytes / (double)verifying->rate * 1000;
        int64_t ahead_ms = (int64_t)due_ms - (clock_ms() - verifying->began_ms);
        if (ahead_ms <= 0)
            break;
        clock_sleep_ms(ahead_ms < REPORT_MS ? ahead_ms : REPORT_MS);
    }
}

/* Hands a finding to the thread that writes, and waits until that thread has taken it. */
static void hand_over(struct verifying *verifying, const struct finding *finding) {
    lock_acquire(&verifying->progress_lock);
    verifying->finding = *finding;
    verifying->has_finding = true;
    condition_broadcast(&verifying->changed);
    while (verifying->has_finding && !atomic_load(&verifying->stop))
        condition_wait(&verifying->changed, &verifying->progress_lock);
    lock_release(&verifying->progress_lock);
}

static void verify_blob(struct verifying *verifying, const struct store_blob *blob) {
    struct finding finding = {.digest = blob->digest};
    struct error *why = &finding.why;
    bool *set_aside = verifying->options->repair ? &finding.set_aside : NULL;
    const struct cancel cancel = {.stop = &verifying->stop};
    bool sound = store_blob_verify(verifying->target->store, &blob->digest, verifying->rate,
                                   &cancel, set_aside, why);
    if (!sound && (why->kind == ERROR_CLOSED || why->kind == ERROR_NOT_FOUND))
        return; /* the order ends, or the blob was removed meanwhile */
    if (!sound && why->kind == ERROR_MEMORY) {
        lock_acquire(&verifying->progress_lock);
        verifying->failure = *why;
        lock_release(&verifying->progress_lock);
        atomic_store(&verifying->stop, true);
        return;
    }
    /* An unreadable blob may be intact, and readable again once its disk or its mode is repaired.
     */
    finding.unreadable = !sound && why->kind != ERROR_CORRUPT;
    lock_acquire(&verifying->progress_lock);
    verifying->blobs++;
    verifying->bytes += blob->size;
    verifying->left_bad =
        verifying->left_bad || (!sound && !finding.unreadable && !finding.set_aside);
    uint64_t bytes = verifying->bytes;
    lock_release(&verifying->progress_lock);
    if (!sound)
        hand_over(verifying, &finding);
    throttle(verifying, bytes);
}

static void verify_all(void *context) {
    struct verifying *verifying = context;
    struct store_blob blob;
    for (uint32_t cursor = 0; !atomic_load(&verifying->stop) &&
                              store_blob_next(verifying->target->store, &cursor, &blob);)
        verify_blob(verifying, &blob);
    lock_acquire(&verifying->progress_lock);
    verifying->ended = true;
    condition_broadcast(&verifying->changed);
    lock_release(&verifying->progress_lock);
}

/* ---- the thread that writes ---- */

/* What the thread that hashes has done since the last line. */
struct news {
    bool has_finding;
    struct finding finding;
    uint64_t blobs, bytes;
};

static bool write_finding(const struct line_sink *sink, const struct finding *finding,
                          struct error *error) {
    char digest_text[DIGEST_STRING_SIZE];
    log_at(LOG_WARN, finding->unreadable ? "unreadable blob found" : "bad blob found",
           LOG_STRING("digest", digest_format(&finding->digest, digest_text)),
           LOG_STRING("error", finding->why.text));
    json_t *digest = line_digest(&finding->digest), *reason = json_string(finding->why.text);
    reason = reason ? reason : json_null();
    return line_write(sink,
                      finding->unreadable
                          ? json_pack("{s:o, s:o}", "unreadable", digest, "error", reason)
                          : json_pack("{s:o, s:o, s:b}", "bad", digest, "error", reason,
                                      "set_aside", finding->set_aside),
                      error);
}

static bool write_progress(struct verifying *verifying, const struct line_sink *sink,
                           const struct news *news, struct error *error) {
    struct store_usage usage;
    store_usage(verifying->target->store, &usage);
    return line_write(sink,
                      json_pack("{s:o, s:o, s:o, s:o}", "blobs", line_size(news->blobs), "bytes",
                                line_size(news->bytes), "of_blobs", line_size(usage.blobs),
                                "of_bytes", line_size(usage.bytes)),
                      error);
}

/* Waits for something to write; false when the other thread has ended and nothing is left. */
static bool wait_for_news(struct verifying *verifying, struct news *news) {
    int64_t deadline_ms = clock_ms() + REPORT_MS;
    bool in_time = true;
    lock_acquire(&verifying->progress_lock);
    while (!verifying->ended && !verifying->has_finding && in_time)
        in_time = condition_wait_until(&verifying->changed, &verifying->progress_lock, deadline_ms);
    *news = (struct news){.has_finding = verifying->has_finding,
                          .finding = verifying->finding,
                          .blobs = verifying->blobs,
                          .bytes = verifying->bytes};
    verifying->has_finding = false;
    bool more = news->has_finding || !verifying->ended;
    condition_broadcast(&verifying->changed);
    lock_release(&verifying->progress_lock);
    return more;
}

static bool follow(struct verifying *verifying, const struct line_sink *sink, struct error *error) {
    struct news news;
    while (wait_for_news(verifying, &news)) {
        bool ok = order_target_check(verifying->target, sink, error) &&
                  (news.has_finding ? write_finding(sink, &news.finding, error)
                                    : write_progress(verifying, sink, &news, error));
        if (!ok)
            return false;
    }
    return true;
}

static void stop_hashing(struct verifying *verifying) {
    lock_acquire(&verifying->progress_lock);
    atomic_store(&verifying->stop, true);
    condition_broadcast(&verifying->changed);
    lock_release(&verifying->progress_lock);
}

static bool run(struct verifying *verifying, const struct line_sink *sink, struct error *error) {
    pthread_t thread;
    if (!thread_start("verify", THREAD_STACK, verify_all, verifying, &thread, error))
        return false;
    bool ok = follow(verifying, sink, error);
    stop_hashing(verifying);
    pthread_join(thread, NULL);
    if (ok && verifying->failure.kind != ERROR_NONE) {
        ok = false;
        if (error)
            *error = verifying->failure;
    }
    return ok;
}

bool order_verify(struct order_target *target, const struct verify_options *options,
                  const struct line_sink *sink, struct error *error) {
    if (!order_target_wait_for_scan(target, sink, error))
        return false;
    struct verifying verifying = {.target = target, .options = options, .began_ms = clock_ms()};
    verifying.rate = options->rate >= 0 ? (uint64_t)options->rate
                     : target->cache    ? ORDER_VERIFY_RATE
                                        : 0;
    lock_init(&verifying.progress_lock);
    condition_init(&verifying.changed);
    bool ok = run(&verifying, sink, error);
    condition_finish(&verifying.changed);
    lock_finish(&verifying.progress_lock);
    return ok &&
           line_write(sink,
                      json_pack("{s:b, s:o, s:o, s:b}", "done", true, "blobs",
                                line_size(verifying.blobs), "bytes", line_size(verifying.bytes),
                                "repaired", options->repair && !verifying.left_bad),
                      error);
}
