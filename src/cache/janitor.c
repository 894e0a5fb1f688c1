/* Cleans the bucket once a day, and watches over one that is down. */
#include "cache/janitor.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/thread.h"
#include "cache/cleaning.h"
#include "cache/share.h"
#include "replica/replicas.h"

enum {
    FIRST_LOOK_MS = 10000,
    FIRST_JITTER_MS = 2000, /* so that tarns that start together do not all clean */
    LOOK_AGAIN_MS = 3600000,
    PROBE_MS = 5000,      /* that a bucket that was down has for an answer */
    WARN_LOOK_MS = 10000, /* how often is looked whether the next warning is due */
    DAY_S = 86400,
};

struct janitor {
    struct bucket *bucket;
    const struct replicas *replicas; /* NULL: none */
    atomic_bool stopping;
    bool runs;
    pthread_t thread;
};

static const char blobs_name[] = "tarn_bucket_stored_blobs";
static const char blobs_help[] = "Blobs in the bucket when this tarn's janitor last ran.";
static const char bytes_name[] = "tarn_bucket_stored_bytes";
static const char bytes_help[] = "Bytes of these blobs.";

void janitor_declare_metrics(void) {
    cleaning_declare_metrics();
    metric_declare(METRIC_GAUGE, blobs_name, blobs_help);
    metric_declare(METRIC_GAUGE, bytes_name, bytes_help);
}

/* ---- the day's work ---- */

/* Whether nobody has cleaned for a day. A bucket that does not say is asked again in an hour. Of a
 * bucket that is down, this is the probe. */
static bool is_due(struct janitor *janitor, const struct cancel *cancel) {
    const bool is_up = bucket_is_up(janitor->bucket);
    const struct bucket_limits limits = {.deadline_ms = is_up ? 0 : clock_ms() + PROBE_MS,
                                         .cancel = cancel};
    struct bucket_answer answer = {0};
    struct error error = {0};
    if (bucket_head(janitor->bucket, SHARE_JANITOR, &limits, &answer, &error)) {
        int64_t now_s = answer.date_s ? answer.date_s : clock_wall_s();
        return answer.modified_s && now_s - answer.modified_s > DAY_S;
    }
    return answer.outcome == BUCKET_ABSENT;
}

static bool write_report(struct janitor *janitor, const struct cleaning_result *result,
                         const struct cancel *cancel, struct error *error) {
    char finished[sizeof "2026-11-21T03:55:00Z"], text[256];
    time_t now_s = (time_t)(result->now_s ? result->now_s : clock_wall_s());
    struct tm parts;
    if (!gmtime_r(&now_s, &parts) ||
        !strftime(finished, sizeof finished, "%Y-%m-%dT%H:%M:%SZ", &parts))
        return error_set(error, ERROR_UNAVAILABLE, "the bucket's clock has an impossible time");
    int length = snprintf(text, sizeof text,
                          "{\"finished\":\"%s\",\"blobs\":%" PRIu64 ",\"bytes\":%" PRIu64
                          ",\"removed_blobs\":%" PRIu64 ",\"removed_bytes\":%" PRIu64 "}\n",
                          finished, result->blobs, result->bytes, result->removed_blobs,
                          result->removed_bytes);
    const struct bucket_put put = {.key = SHARE_JANITOR,
                                   .body = {.bytes = text, .length = (uint64_t)length},
                                   .content_type = "application/json"};
    const struct bucket_limits limits = {.cancel = cancel};
    return bucket_put(janitor->bucket, &put, &limits, NULL, error);
}

static void count(const struct cleaning_result *result) {
    metric_set(metric_get(METRIC_GAUGE, blobs_name, blobs_help, ""), (int64_t)result->blobs);
    metric_set(metric_get(METRIC_GAUGE, bytes_name, bytes_help, ""), (int64_t)result->bytes);
}

static void report(const struct janitor *janitor, const struct cleaning_result *result) {
    if (result->forbidden)
        log_at(LOG_WARN,
               "the bucket keeps what ought to go: tarn may not delete there (s3:DeleteObject is "
               "missing)",
               LOG_STRING("bucket", bucket_label(janitor->bucket)));
    log_at(LOG_INFO, "bucket cleaned", LOG_STRING("bucket", bucket_label(janitor->bucket)),
           LOG_NUMBER("blobs", (double)result->blobs), LOG_NUMBER("bytes", (double)result->bytes),
           LOG_NUMBER("removed_blobs", (double)result->removed_blobs),
           LOG_NUMBER("removed_bytes", (double)result->removed_bytes),
           LOG_NUMBER("aborted_uploads", (double)result->aborted));
}

static void clean(struct janitor *janitor, const struct cancel *cancel) {
    const struct bucket_settings *settings = bucket_settings(janitor->bucket);
    const struct cleaning_rule rule = {
        .older_than_s = settings->retention_ms ? settings->retention_ms / 1000 : -1,
        .to_size = settings->max_size && settings->max_size <= INT64_MAX
                       ? (int64_t)settings->max_size
                       : -1,
        .cancel = cancel,
    };
    struct cleaning_result result;
    struct error error = {0};
    bool done = cleaning_run(janitor->bucket, &rule, &result, &error);
    if (done)
        count(&result); /* first, so that who sees the file sees these numbers, too */
    if (done && write_report(janitor, &result, cancel, &error))
        report(janitor, &result);
    else if (error.kind != ERROR_CLOSED)
        log_at(LOG_WARN, "the bucket was not cleaned", LOG_STRING("error", error.text));
}

/* ---- its thread ---- */

/* When there is something to do: the next look at `next_ms`, or a probe or a warning. */
static int64_t next_work_ms(struct janitor *janitor, int64_t next_ms) {
    const int64_t look_ms = clock_ms() + WARN_LOOK_MS;
    if (bucket_is_up(janitor->bucket))
        return next_ms;
    const int64_t probe_ms = bucket_asks_from_ms(janitor->bucket);
    return probe_ms < look_ms ? probe_ms : look_ms;
}

/* Warns of a bucket that is down. True: it is not asked yet. */
static bool is_left_alone(struct janitor *janitor) {
    if (bucket_is_up(janitor->bucket))
        return false;
    bucket_warn_down(janitor->bucket);
    return bucket_asks_from_ms(janitor->bucket) > 0;
}

static void run(void *context) {
    struct janitor *janitor = context;
    const bool cleans = !bucket_settings(janitor->bucket)->read_only;
    const struct cancel cancel = {.stop = &janitor->stopping};
    int64_t next_ms =
        cleans ? clock_ms() + FIRST_LOOK_MS + clock_jitter(FIRST_JITTER_MS) : INT64_MAX;
    for (;;) {
        bucket_watch(janitor->bucket, next_work_ms(janitor, next_ms));
        if (atomic_load(&janitor->stopping))
            return;
        const bool is_time = clock_ms() >= next_ms;
        if (is_left_alone(janitor) || (!is_time && bucket_is_up(janitor->bucket)))
            continue;
        const bool cleans_now =
            is_due(janitor, &cancel) && is_time && replicas_own(janitor->replicas, "janitor");
        if (cleans_now)
            clean(janitor, &cancel);
        if (is_time && bucket_works(janitor->bucket))
            next_ms = clock_ms() + LOOK_AGAIN_MS;
    }
}

struct janitor *janitor_new(struct bucket *bucket, const struct replicas *replicas) {
    struct janitor *janitor = calloc(1, sizeof *janitor);
    if (!janitor)
        return NULL;
    janitor->bucket = bucket;
    janitor->replicas = replicas;
    return janitor;
}

bool janitor_start(struct janitor *janitor, struct error *error) {
    janitor->runs = thread_start("janitor", THREAD_STACK, run, janitor, &janitor->thread, error);
    return janitor->runs;
}

void janitor_free(struct janitor *janitor) {
    if (!janitor)
        return;
    atomic_store(&janitor->stopping, true);
    bucket_call_watcher(janitor->bucket);
    if (janitor->runs)
        pthread_join(janitor->thread, NULL);
    free(janitor);
}
