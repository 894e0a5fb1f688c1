/* Copies several blobs at once. */
#include "copy/blobs.h"

#include "base/jobs.h"

/* The work under way. */
struct run {
    const struct copy_blobs *wanted;
    unsigned readers;
    size_t window;
};

struct blob_progress {
    const struct run *run;
    const struct copy_planned_blob *planned;
};

static void tell_progress(void *context, uint64_t bytes) {
    const struct blob_progress *progress = context;
    const struct copy_event event = {.kind = COPY_EVENT_PROGRESS,
                                     .digest = progress->planned->digest,
                                     .size = progress->planned->size,
                                     .is_config = progress->planned->is_config,
                                     .bytes = bytes};
    copy_events_tell(progress->run->wanted->events, &event);
}

static bool copy_one(struct jobs *jobs, size_t number, struct error *error) {
    const struct run *run = jobs->context;
    const struct copy_blobs *wanted = run->wanted;
    const struct copy_planned_blob *planned = &wanted->blobs[number];
    struct blob_progress progress = {run, planned};
    const struct copy_blob blob = {
        .source = wanted->source,
        .destination = wanted->destination,
        .digest = planned->digest,
        .size = planned->size,
        .readers = run->readers,
        .window = run->window,
        .dry_run = wanted->dry_run,
        .stop = wanted->stop,
        .on_progress = tell_progress,
        .context = &progress,
    };
    struct copy_event event = {.kind = COPY_EVENT_BLOB,
                               .digest = planned->digest,
                               .size = planned->size,
                               .bytes = planned->size,
                               .is_config = planned->is_config};
    if (!copy_blob(&blob, &event.state, error)) {
        atomic_store(wanted->stop, true); /* the others end their uploads */
        return false;
    }
    copy_events_tell(wanted->events, &event);
    return true;
}

bool copy_blobs(const struct copy_blobs *blobs, struct error *error) {
    const struct cancel cancel = {.stop = blobs->stop};
    unsigned at_once = blobs->jobs ? blobs->jobs : COPY_JOBS;
    struct run run = {.wanted = blobs};
    if (at_once > blobs->count)
        at_once = (unsigned)blobs->count;
    if (blobs->destination->is_sequential || at_once < 1)
        at_once = 1;
    copy_blob_share(blobs->source, at_once, &run.readers, &run.window);
    struct jobs jobs = {.name = "copy",
                        .count = blobs->count,
                        .at_once = at_once,
                        .cancel = &cancel,
                        .work = copy_one,
                        .context = &run};
    return jobs_run(&jobs, error);
}
