/* What is to be indexed: a list of images, and the threads that work it off. */
#include "cache/streams.h"

#include <stdlib.h>
#include <uthash.h>
#include <utlist.h>
#include "base/cleanup.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/thread.h"
#include "cache/repository.h"
#include "cache/stream_chains.h"
#include "cache/stream_make.h"
#include "store/aside.h"
#include "store/blobs.h"
#include "store/records.h"
#include "store/usage.h"

enum {
    JOBS_LIMIT = 8192, /* images; the oldest that waits for a part is forgotten for a new one */
    STACK = 1 << 20,   /* of a thread; unpacking has buffers of its own on the heap */
};

/* An image that is to be looked at. */
struct job {
    struct repository_name repository;
    struct digest manifest;
    struct digest missing; /* the part that it waits for */
    bool waits;
    bool runs; /* a thread looks at it */
    struct job *next, *prev;
};

struct streams {
    struct upkeep *upkeep;
    atomic_bool enabled;
    _Atomic uint64_t min_layer;
    atomic_uint threads;
    atomic_bool stopping;
    struct cancel cancel;

    struct lock jobs_lock; /* guards all below; held for pointers alone */
    struct condition changed;
    bool started;
    struct job *jobs;
    size_t job_count;
    bool must_walk; /* the store is to be looked through */
    pthread_t workers[STREAMS_THREADS_LIMIT];
    unsigned worker_count;
    struct digest making[STREAMS_THREADS_LIMIT]; /* layers whose indexes are being made */

    struct stream_chains chains;
};

/* ---- life ---- */

struct streams *streams_new(const struct streams_settings *settings, struct upkeep *upkeep) {
    struct streams *streams = calloc(1, sizeof *streams);
    if (!streams)
        return NULL;
    streams->upkeep = upkeep;
    streams->cancel = (struct cancel){.stop = &streams->stopping};
    lock_init(&streams->jobs_lock);
    condition_init(&streams->changed);
    stream_chains_init(&streams->chains);
    streams->enabled = settings->enabled;
    streams->min_layer = settings->min_layer;
    streams->threads = settings->threads;
    return streams;
}

struct streams_settings streams_settings_now(struct streams *streams) {
    return (struct streams_settings){
        .enabled = streams->enabled, .min_layer = streams->min_layer, .threads = streams->threads};
}

void streams_stop(struct streams *streams) {
    lock_acquire(&streams->jobs_lock);
    atomic_store(&streams->stopping, true);
    condition_broadcast(&streams->changed);
    lock_release(&streams->jobs_lock);
}

void streams_free(struct streams *streams) {
    struct job *job, *next;
    if (!streams)
        return;
    streams_stop(streams);
    for (unsigned i = 0; i < streams->worker_count; i++)
        pthread_join(streams->workers[i], NULL);
    DL_FOREACH_SAFE (streams->jobs, job, next)
        free(job);
    stream_chains_finish(&streams->chains);
    lock_finish(&streams->jobs_lock);
    condition_finish(&streams->changed);
    free(streams);
}

/* ---- the list ---- */

static void drop_job(struct streams *streams, struct job *job) REQUIRES(streams->jobs_lock) {
    DL_DELETE(streams->jobs, job);
    streams->job_count--;
    free(job);
}

/* Makes room for one more job. False: all are being worked on, or wait for a thread. */
static bool make_room(struct streams *streams) REQUIRES(streams->jobs_lock) {
    struct job *job;
    if (streams->job_count < JOBS_LIMIT)
        return true;
    DL_FOREACH (streams->jobs, job)
        if (job->waits && !job->runs) {
            drop_job(streams, job);
            return true;
        }
    return false;
}

static bool add_job(struct streams *streams, const struct repository_name *repository,
                    const struct digest *manifest) REQUIRES(streams->jobs_lock) {
    struct job *job;
    DL_FOREACH (streams->jobs, job)
        if (digest_equal(&job->manifest, manifest) &&
            repository_name_equal(&job->repository, repository)) {
            job->waits = false;
            return true;
        }
    job = make_room(streams) ? calloc(1, sizeof *job) : NULL;
    if (!job)
        return false;
    job->repository = *repository;
    job->manifest = *manifest;
    DL_APPEND(streams->jobs, job);
    streams->job_count++;
    return true;
}

void streams_note_manifest(struct streams *streams, const struct repository_name *repository,
                           const struct digest *manifest) {
    if (!streams->enabled)
        return;
    lock_acquire(&streams->jobs_lock);
    add_job(streams, repository, manifest);
    condition_signal(&streams->changed);
    lock_release(&streams->jobs_lock);
}

void streams_note_blob(struct streams *streams, const struct digest *digest) {
    struct job *job;
    bool found = false;
    if (!streams->enabled)
        return;
    lock_acquire(&streams->jobs_lock);
    DL_FOREACH (streams->jobs, job)
        if (job->waits && digest_equal(&job->missing, digest)) {
            job->waits = false;
            found = true;
        }
    if (found)
        condition_broadcast(&streams->changed);
    lock_release(&streams->jobs_lock);
}

/* ---- one image ---- */

static bool is_made(const struct streams *streams, const struct digest *layer) {
    for (unsigned i = 0; i < STREAMS_THREADS_LIMIT; i++)
        if (digest_equal(&streams->making[i], layer))
            return true;
    return false;
}

/* Takes the layer for this thread, when no other makes its index. False: tarn stops. */
static bool take_layer(struct streams *streams, const struct digest *layer, unsigned *slot) {
    lock_acquire(&streams->jobs_lock);
    while (is_made(streams, layer) && !streams->stopping)
        condition_wait(&streams->changed, &streams->jobs_lock);
    for (*slot = 0; streams->making[*slot].algorithm;)
        ++*slot; /* there are as many as threads */
    bool taken = !streams->stopping;
    if (taken)
        streams->making[*slot] = *layer;
    lock_release(&streams->jobs_lock);
    return taken;
}

static void leave_layer(struct streams *streams, unsigned slot) {
    lock_acquire(&streams->jobs_lock);
    streams->making[slot] = (struct digest){0};
    condition_broadcast(&streams->changed);
    lock_release(&streams->jobs_lock);
}

/* Makes the layer's index, unless it is there or was refused. False: the image is not to be gone on
 * with. */
static bool index_layer(struct streams *streams, const struct stream_layer *layer) {
    const struct stream_maker maker = {streams->upkeep, &streams->cancel};
    struct store *store = streams->upkeep->store;
    enum layer_refusal why = LAYER_FINE;
    struct error error = {0};
    unsigned slot;
    if (!take_layer(streams, &layer->digest, &slot))
        return false;
    bool ok = stream_has_index(store, &layer->digest, &layer->diff_id);
    if (!ok && stream_refusal(store, &layer->digest, &layer->diff_id) == LAYER_FINE) {
        ok = stream_make_layer(&maker, layer, &why, &error) && why == LAYER_FINE;
    }
    leave_layer(streams, slot);
    return ok;
}

static void index_image(struct streams *streams, const struct job *job,
                        const struct stream_parts *parts) {
    static const struct digest none = {0};
    const struct stream_maker maker = {streams->upkeep, &streams->cancel};
    struct store *store = streams->upkeep->store;
    enum layer_refusal why = LAYER_FINE;
    struct error error = {0};
    for (size_t i = 0; i < parts->count; i++)
        if (!index_layer(streams, &parts->layers[i]))
            return;
    if (!store_aside_has(store, &job->manifest, ASIDE_IMAGE) &&
        (stream_refusal(store, &job->manifest, &none) != LAYER_FINE ||
         !stream_make_image(&maker, &job->manifest, parts, &why, &error) || why != LAYER_FINE))
        return;
    stream_chains_add(&streams->chains, &job->repository, &job->manifest, parts);
}

/* Looks at the image. True: it waits for a part. */
static bool look_at(struct streams *streams, const struct job *job, struct digest *missing) {
    const struct streams_settings settings = streams_settings_now(streams);
    cleanup_stream_parts struct stream_parts parts = {0};
    if (!store_has_link_manifest(streams->upkeep->store, &job->repository, &job->manifest, NULL,
                                 0) ||
        !stream_parts_read(streams->upkeep->store, &settings, &job->manifest, &parts, NULL))
        return false;
    if (parts.verdict.state == STREAM_PENDING)
        index_image(streams, job, &parts);
    *missing = parts.missing;
    return parts.verdict.state == STREAM_ABSENT && missing->algorithm != 0;
}

/* ---- what the store has ---- */

struct walk {
    struct streams *streams;
    const struct repository_name *repository;
};

static bool note_link(void *context, const struct digest *digest) {
    const struct walk *walk = context;
    struct streams *streams = walk->streams;
    stream_forget_errors(streams->upkeep->store, digest);
    lock_acquire(&streams->jobs_lock);
    /* A long list is worked off before more is added to it. */
    while (streams->job_count >= JOBS_LIMIT / 2 && streams->worker_count > 1 && !streams->stopping)
        condition_wait(&streams->changed, &streams->jobs_lock);
    add_job(streams, walk->repository, digest);
    condition_signal(&streams->changed);
    lock_release(&streams->jobs_lock);
    return !streams->stopping;
}

/* What failed in an earlier process through no fault of the layer is tried again. */
static bool forget_error(void *context, const struct digest *digest) {
    struct streams *streams = context;
    stream_forget_errors(streams->upkeep->store, digest);
    return !streams->stopping;
}

static void look_through(struct streams *streams) {
    cleanup_repository_names struct repository_names names = {0};
    struct store *store = streams->upkeep->store;
    if (!repository_names_read(store, &names, NULL))
        return;
    for (size_t i = 0; i < names.count && !streams->stopping; i++) {
        struct walk walk = {streams, &names.names[i]};
        store_links(store, &names.names[i], LINK_BLOB, forget_error, streams, NULL);
        store_links(store, &names.names[i], LINK_MANIFEST, note_link, &walk, NULL);
    }
}

/* ---- threads ---- */

static struct job *next_job(struct streams *streams) REQUIRES(streams->jobs_lock) {
    struct job *job;
    DL_FOREACH (streams->jobs, job)
        if (!job->waits && !job->runs)
            return job;
    return NULL;
}

/* Works on one job. Between, the list is free for others. */
static void run_job(struct streams *streams, struct job *job) REQUIRES(streams->jobs_lock) {
    struct digest missing = {0};
    job->runs = true;
    const struct job copy = *job;
    lock_release(&streams->jobs_lock);
    bool waits = look_at(streams, &copy, &missing);
    lock_acquire(&streams->jobs_lock);
    job->runs = false;
    if (!waits) {
        drop_job(streams, job);
    } else {
        job->missing = missing;
        job->waits = true;
        lock_release(&streams->jobs_lock);
        /* It may have come before anybody knew that it is waited for. */
        if (store_blob_has(streams->upkeep->store, &missing, NULL))
            streams_note_blob(streams, &missing);
        lock_acquire(&streams->jobs_lock);
    }
    condition_broadcast(&streams->changed);
}

static void work(void *argument) {
    struct streams *streams = argument;
    lock_acquire(&streams->jobs_lock);
    while (!streams->stopping) {
        struct job *job = NULL;
        if (streams->must_walk) {
            streams->must_walk = false;
            lock_release(&streams->jobs_lock);
            look_through(streams);
            lock_acquire(&streams->jobs_lock);
        } else if (streams->enabled && (job = next_job(streams))) {
            run_job(streams, job);
        } else {
            condition_wait(&streams->changed, &streams->jobs_lock);
        }
    }
    lock_release(&streams->jobs_lock);
}

/* Starts the threads that are missing. */
static void start_workers(struct streams *streams) REQUIRES(streams->jobs_lock) {
    struct error error;
    unsigned wanted = streams->enabled && streams->started ? (unsigned)streams->threads : 0;
    while (streams->worker_count < wanted && streams->worker_count < STREAMS_THREADS_LIMIT &&
           !streams->stopping) {
        if (!thread_start("layer-index", STACK, work, streams,
                          &streams->workers[streams->worker_count], &error)) {
            log_at(LOG_ERROR, "no thread to make indexes", LOG_STRING("error", error.text));
            return;
        }
        streams->worker_count++;
    }
}

void streams_start(struct streams *streams) {
    lock_acquire(&streams->jobs_lock);
    streams->started = true;
    streams->must_walk = true;
    start_workers(streams);
    lock_release(&streams->jobs_lock);
}

void streams_change(struct streams *streams, const struct streams_settings *settings) {
    lock_acquire(&streams->jobs_lock);
    bool same = streams->enabled == settings->enabled && streams->min_layer == settings->min_layer;
    streams->enabled = settings->enabled;
    streams->min_layer = settings->min_layer;
    streams->threads = settings->threads;
    streams->must_walk = streams->must_walk || !same;
    start_workers(streams);
    condition_broadcast(&streams->changed);
    lock_release(&streams->jobs_lock);
}

/* ---- metrics and chains ---- */

static struct metric *layers_metric(const char *labels) {
    return metric_get(METRIC_GAUGE, "tarn_streaming_layers",
                      "Layers that have an index, or were refused one; and images whose indexes "
                      "are still to be made.",
                      labels);
}

static struct metric *bytes_metric(void) {
    return metric_get(METRIC_GAUGE, "tarn_streaming_bytes",
                      "Bytes on disk of indexes and of copies in frames.", "");
}

void streams_declare_metrics(void) {
    layers_metric("state=\"ready\"");
    layers_metric("state=\"pending\"");
    layers_metric("state=\"refused\"");
    bytes_metric();
    stream_make_declare_metrics();
}

void streams_update_metrics(struct streams *streams) {
    struct store_usage usage;
    struct job *job;
    int64_t pending = 0;
    lock_acquire(&streams->jobs_lock);
    DL_FOREACH (streams->jobs, job)
        pending += !job->waits;
    lock_release(&streams->jobs_lock);
    store_usage(streams->upkeep->store, &usage);
    metric_set(layers_metric("state=\"ready\""),
               (int64_t)store_aside_files(streams->upkeep->store, ASIDE_INDEX));
    metric_set(layers_metric("state=\"refused\""),
               (int64_t)store_aside_files(streams->upkeep->store, ASIDE_REFUSED));
    metric_set(layers_metric("state=\"pending\""), pending);
    metric_set(bytes_metric(), (int64_t)usage.aside_bytes);
}

void streams_of_chain(struct streams *streams, const struct digest *chain,
                      void (*each)(void *context, const struct repository_name *repository,
                                   const struct digest *manifest, size_t layers),
                      void *context) {
    stream_chains_find(&streams->chains, chain, each, context);
}
