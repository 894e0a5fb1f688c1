/* Hashing all that is there. One thread hashes, the caller's tells how far it is. */
#include <pthread.h>
#include "admin/line.h"
#include "base/clock.h"
#include "base/log.h"

enum { REPORT_MS = 200, STACK_SIZE = 256 << 10 };

/* A blob that is not as it should be. */
struct finding {
    struct digest digest;
    bool unreadable, set_aside; /* not both; neither: bad, and still there */
    struct error why;
};

struct verifying {
    struct contents *contents;
    const struct contents_verify *what;
    uint64_t rate;    /* bytes a second; 0: as fast as it comes */
    atomic_bool stop; /* nobody wants the rest */
    int64_t began_ms;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    uint64_t blobs, bytes; /* hashed, or found not to be readable */
    bool has_finding;      /* `finding` waits to be told */
    struct finding finding;
    bool left_bad; /* one that could not be set aside, or was not to be */
    bool ended;
    struct error failure;
};

/* ---- the thread that hashes ---- */

/* store_blob_verify() keeps to the rate within a blob, this over many small ones. */
static void keep_rate(struct verifying *verifying, uint64_t bytes) {
    while (verifying->rate && !atomic_load(&verifying->stop)) {
        double due_ms = (double)bytes / (double)verifying->rate * 1000;
        int64_t ahead_ms = (int64_t)due_ms - (clock_ms() - verifying->began_ms);
        if (ahead_ms <= 0)
            break;
        clock_sleep_ms(ahead_ms < REPORT_MS ? ahead_ms : REPORT_MS);
    }
}

/* Hands a finding to the thread that tells, and waits until it is told. */
static void hand_over(struct verifying *verifying, const struct finding *finding) {
    pthread_mutex_lock(&verifying->lock);
    verifying->finding = *finding;
    verifying->has_finding = true;
    pthread_cond_broadcast(&verifying->changed);
    while (verifying->has_finding && !atomic_load(&verifying->stop))
        pthread_cond_wait(&verifying->changed, &verifying->lock);
    pthread_mutex_unlock(&verifying->lock);
}

static void verify_blob(struct verifying *verifying, const struct store_blob *blob) {
    struct finding finding = {.digest = blob->digest};
    struct error *why = &finding.why;
    bool *set_aside = verifying->what->repair ? &finding.set_aside : NULL;
    bool sound = store_blob_verify(verifying->contents->store, &blob->digest, verifying->rate,
                                   &verifying->stop, set_aside, why);
    if (!sound && (why->kind == ERROR_CLOSED || why->kind == ERROR_NOT_FOUND))
        return; /* it went meanwhile, which is no fault of its */
    if (!sound && why->kind == ERROR_MEMORY) {
        pthread_mutex_lock(&verifying->lock);
        verifying->failure = *why;
        pthread_mutex_unlock(&verifying->lock);
        atomic_store(&verifying->stop, true);
        return;
    }
    /* What cannot be read may be sound, and readable again once its disk or its mode is. */
    finding.unreadable = !sound && why->kind != ERROR_CORRUPT;
    pthread_mutex_lock(&verifying->lock);
    verifying->blobs++;
    verifying->bytes += blob->size;
    verifying->left_bad =
        verifying->left_bad || (!sound && !finding.unreadable && !finding.set_aside);
    uint64_t bytes = verifying->bytes;
    pthread_mutex_unlock(&verifying->lock);
    if (!sound)
        hand_over(verifying, &finding);
    keep_rate(verifying, bytes);
}

static void *verify_all(void *context) {
    struct verifying *verifying = context;
    struct store_blob blob;
    for (uint32_t cursor = 0; !atomic_load(&verifying->stop) &&
                              store_blob_next(verifying->contents->store, &cursor, &blob);)
        verify_blob(verifying, &blob);
    pthread_mutex_lock(&verifying->lock);
    verifying->ended = true;
    pthread_cond_broadcast(&verifying->changed);
    pthread_mutex_unlock(&verifying->lock);
    return NULL;
}

/* ---- the thread that tells ---- */

static bool tell_finding(const struct contents_sink *sink, const struct finding *finding,
                         struct error *error) {
    char digest_text[DIGEST_STRING_SIZE];
    log_at(LOG_WARN, finding->unreadable ? "unreadable blob found" : "bad blob found",
           LOG_STRING("digest", digest_format(&finding->digest, digest_text)),
           LOG_STRING("error", finding->why.text));
    json_t *digest = contents_digest(&finding->digest), *reason = json_string(finding->why.text);
    reason = reason ? reason : json_null();
    return contents_write(sink,
                          finding->unreadable
                              ? json_pack("{s:o, s:o}", "unreadable", digest, "error", reason)
                              : json_pack("{s:o, s:o, s:b}", "bad", digest, "error", reason,
                                          "set_aside", finding->set_aside),
                          error);
}

static bool tell_progress(struct verifying *verifying, const struct contents_sink *sink,
                          uint64_t blobs, uint64_t bytes, struct error *error) {
    struct store_usage usage;
    store_usage(verifying->contents->store, &usage);
    return contents_write(sink,
                          json_pack("{s:o, s:o, s:o, s:o}", "blobs", contents_size(blobs), "bytes",
                                    contents_size(bytes), "of_blobs", contents_size(usage.blobs),
                                    "of_bytes", contents_size(usage.bytes)),
                          error);
}

/* Waits for something to tell; false when the other thread has ended and nothing is left. */
static bool wait_for_news(struct verifying *verifying, bool *has_finding, struct finding *finding,
                          uint64_t *blobs, uint64_t *bytes) {
    struct timespec deadline = clock_deadline(REPORT_MS);
    int waited = 0;
    pthread_mutex_lock(&verifying->lock);
    while (!verifying->ended && !verifying->has_finding && waited == 0)
        waited = pthread_cond_clockwait(&verifying->changed, &verifying->lock, CLOCK_MONOTONIC,
                                        &deadline);
    *has_finding = verifying->has_finding;
    *finding = verifying->finding;
    *blobs = verifying->blobs;
    *bytes = verifying->bytes;
    verifying->has_finding = false;
    bool more = *has_finding || !verifying->ended;
    pthread_cond_broadcast(&verifying->changed);
    pthread_mutex_unlock(&verifying->lock);
    return more;
}

static bool follow(struct verifying *verifying, const struct contents_sink *sink,
                   struct error *error) {
    struct finding finding;
    uint64_t blobs, bytes;
    bool has_finding;
    while (wait_for_news(verifying, &has_finding, &finding, &blobs, &bytes)) {
        bool ok = contents_go_on(verifying->contents, sink, error) &&
                  (has_finding ? tell_finding(sink, &finding, error)
                               : tell_progress(verifying, sink, blobs, bytes, error));
        if (!ok)
            return false;
    }
    return true;
}

static void dismiss(struct verifying *verifying) {
    pthread_mutex_lock(&verifying->lock);
    atomic_store(&verifying->stop, true);
    pthread_cond_broadcast(&verifying->changed);
    pthread_mutex_unlock(&verifying->lock);
}

static bool start_thread(struct verifying *verifying, pthread_t *thread, struct error *error) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_SIZE);
    int failed = pthread_create(thread, &attributes, verify_all, verifying);
    pthread_attr_destroy(&attributes);
    return !failed || error_set_errno(error, failed, "starting a thread");
}

static bool run(struct verifying *verifying, const struct contents_sink *sink,
                struct error *error) {
    pthread_t thread;
    if (!start_thread(verifying, &thread, error))
        return false;
    bool ok = follow(verifying, sink, error);
    dismiss(verifying);
    pthread_join(thread, NULL);
    if (ok && verifying->failure.kind != ERROR_NONE) {
        ok = false;
        if (error)
            *error = verifying->failure;
    }
    return ok;
}

bool contents_verify(struct contents *contents, const struct contents_verify *what,
                     const struct contents_sink *sink, struct error *error) {
    if (!contents_wait_for_scan(contents, sink, error))
        return false;
    struct verifying verifying = {.contents = contents, .what = what, .began_ms = clock_ms()};
    verifying.rate = what->rate >= 0   ? (uint64_t)what->rate
                     : contents->cache ? CONTENTS_VERIFY_RATE
                                       : 0;
    pthread_mutex_init(&verifying.lock, NULL);
    pthread_cond_init(&verifying.changed, NULL);
    bool ok = run(&verifying, sink, error);
    pthread_cond_destroy(&verifying.changed);
    pthread_mutex_destroy(&verifying.lock);
    return ok && contents_write(sink,
                                json_pack("{s:b, s:o, s:o, s:b}", "done", true, "blobs",
                                          contents_size(verifying.blobs), "bytes",
                                          contents_size(verifying.bytes), "repaired",
                                          what->repair && !verifying.left_bad),
                                error);
}
