/* The threads that upload: which task when, and what follows when a try has failed. */
#include <utlist.h>
#include "base/clock.h"
#include "base/log.h"
#include "cache/upload_private.h"
#include "store/blobs.h"

enum {
    PAUSE_FIRST_MS = 1000, /* after a failure; doubles */
    PAUSE_MOST_MS = 60000,
    DOUBLINGS_MOST = 6,
    LOOK_MS = 100,       /* how often a flight is looked at that an upload follows */
    IDLE_LOOK_MS = 1000, /* how often is looked whether pending blobs have gone */
};

/* ---- after a try ---- */

static void complain(struct uploads *uploads, const struct digest *digest,
                     const struct error *error) {
    char text[DIGEST_STRING_SIZE];
    unsigned more;
    if (atomic_load(&uploads->stopping) || !log_is_due(&uploads->complaint, &more))
        return;
    log_at(LOG_WARN, "not in the bucket yet; trying again later",
           LOG_STRING("digest", digest_format(digest, text)), LOG_STRING("error", error->text),
           LOG_NUMBER("more_since_last", more));
}

/* The bucket takes what it is given: nothing has to wait any more because of earlier failures. */
static void record_success(struct uploads *uploads) REQUIRES(uploads->uploads_lock) {
    const int64_t now = clock_ms();
    for (struct task *task = uploads->tasks; task; task = task->hh.next) {
        if (task->due_ms > now)
            task->due_ms = now;
    }
}

/* `asks_ms`: bucket_works_from_ms(). */
static void postpone(struct task *task, int64_t asks_ms, bool is_down) {
    const int64_t now = clock_ms();
    if (!is_down)
        task->failures++;
    const unsigned doublings = task->failures < DOUBLINGS_MOST ? task->failures : DOUBLINGS_MOST;
    int64_t pause_ms = (int64_t)PAUSE_FIRST_MS << (doublings ? doublings - 1 : 0);
    if (pause_ms > PAUSE_MOST_MS)
        pause_ms = PAUSE_MOST_MS;
    task->due_ms = now + pause_ms / 2 + clock_jitter((uint32_t)pause_ms);
    if (asks_ms > task->due_ms)
        task->due_ms = asks_ms;
}

/* ---- the workers ---- */

/* What a worker has chosen. */
struct job {
    struct task *task;
    struct parts_job part; /* of task->parts, unless it is PARTS_WAIT */
    bool is_look;
    unsigned changes;
};

static bool choose_part(struct uploads *uploads, struct job *job) REQUIRES(uploads->uploads_lock) {
    struct parts *parts;
    DL_FOREACH2(uploads->parts, parts, next_) {
        job->part = parts_next(parts);
        if (job->part.step != PARTS_WAIT) {
            job->task = uploads_find_task(uploads, &parts->source.digest);
            return true;
        }
    }
    return false;
}

/* The task that has been due for longest. */
static bool choose_task(struct uploads *uploads, struct job *job) REQUIRES(uploads->uploads_lock) {
    const int64_t now = clock_ms();
    struct task *best = NULL;
    for (struct task *task = uploads->tasks; task; task = task->hh.next) {
        if (!upload_task_is_free(task) || !(task->has_record || task->marks))
            continue;
        if (task->looks) {
            *job = (struct job){.task = task, .is_look = true};
            return true;
        }
        if (task->due_ms <= now && (!best || task->due_ms < best->due_ms))
            best = task;
    }
    *job = (struct job){.task = best};
    return best != NULL;
}

/* When a worker has to look again, if nothing happens. */
static int64_t next_look(struct uploads *uploads) REQUIRES(uploads->uploads_lock) {
    const int64_t now = clock_ms();
    int64_t at_ms = uploads->followed ? now + LOOK_MS : INT64_MAX;
    if (uploads->task_count && at_ms > now + IDLE_LOOK_MS)
        at_ms = now + IDLE_LOOK_MS;
    for (const struct task *task = uploads->tasks; task; task = task->hh.next) {
        if (upload_task_is_free(task) && task->due_ms < at_ms)
            at_ms = task->due_ms;
    }
    return at_ms;
}

/* Blobs have gone from the store: it is looked whether those that wait for a later try have. */
static void note_removals(struct uploads *uploads) REQUIRES(uploads->uploads_lock) {
    const uint64_t removals = store_blob_removals(uploads->settings.store);
    const int64_t now = clock_ms();
    if (removals == uploads->removals || now - uploads->looked_ms < IDLE_LOOK_MS)
        return;
    uploads->removals = removals;
    uploads->looked_ms = now;
    for (struct task *task = uploads->tasks; task; task = task->hh.next)
        task->looks = task->has_record && !task->has_data;
}

static struct metric *count_end(struct uploads *uploads, enum parts_end end) {
    return end == PARTS_STORED    ? uploads->stored
           : end == PARTS_PRESENT ? uploads->present
                                  : uploads->aborted;
}

/* An upload in parts has ended. The task is held by `running`. */
static void end_parts(struct uploads *uploads, struct task *task, enum parts_end end)
    REQUIRES(uploads->uploads_lock) {
    struct parts *parts = upload_task_release_parts(uploads, task);
    const bool is_there = end != PARTS_FAILED;
    task->running = true;
    lock_release(&uploads->uploads_lock);
    metric_add(count_end(uploads, end), 1);
    if (end == PARTS_STORED)
        store_blob_set_marked(uploads->settings.store, &task->digest, clock_wall_s());
    if (end == PARTS_STORED && parts->source.overwrite)
        uploads->settings.on_healed(uploads->settings.context, &task->digest);
    parts_free(parts);
    const int64_t asks_ms = bucket_works_from_ms(uploads->settings.bucket);
    lock_acquire(&uploads->uploads_lock);
    task->running = false;
    task->has_data = is_there;
    task->due_ms = clock_ms();
    if (is_there)
        record_success(uploads);
    else
        postpone(task, asks_ms, false);
    upload_task_settle(uploads, task);
}

/* Sends a part, or begins or ends an upload in parts. */
static void run_part(struct uploads *uploads, const struct job *job)
    REQUIRES(uploads->uploads_lock) {
    struct task *task = job->task;
    struct parts *parts = task->parts;
    struct bucket_answer answer;
    struct error error = {0};
    lock_release(&uploads->uploads_lock);
    bool ok = parts_do(parts, &job->part, &uploads->cancel, &answer, &error);
    if (!ok && error.kind != ERROR_CLOSED)
        complain(uploads, &task->digest, &error);
    lock_acquire(&uploads->uploads_lock);
    const enum parts_end end = parts_done(parts, &job->part, ok, &answer);
    if (end != PARTS_GOES_ON)
        end_parts(uploads, task, end);
}

/* Whether a blob that is pending is not in the store any more. */
static void run_look(struct uploads *uploads, const struct job *job)
    REQUIRES(uploads->uploads_lock) {
    struct task *task = job->task;
    task->looks = false;
    lock_release(&uploads->uploads_lock);
    bool is_there =
        task->bytes.length > 0 || store_blob_has(uploads->settings.store, &task->digest, NULL);
    lock_acquire(&uploads->uploads_lock);
    if (!is_there)
        upload_task_delete_record(uploads, task, job->changes);
}

/* Works off what is owed, and the mark. */
static enum errand_result run_errands(struct errand *errand, bool owes, bool marks, bool knows_use,
                                      struct error *error) {
    enum errand_result result = ERRAND_DONE;
    if (owes)
        result = errand->record.length ? errand_run(errand, error) : ERRAND_DROPPED;
    if (marks && (result == ERRAND_DONE || result == ERRAND_DROPPED)) {
        const enum errand_result mark = errand_mark(errand, knows_use, error);
        if (!owes) /* a mark that fails is tried again at the next use */
            result = mark;
    }
    return result;
}

/* Records what came of a task. */
static void end_task(struct uploads *uploads, const struct job *job, enum errand_result result,
                     const struct errand *errand, int64_t asks_ms) REQUIRES(uploads->uploads_lock) {
    struct task *task = job->task;
    switch (result) {
    case ERRAND_DONE:
    case ERRAND_DROPPED:
        task->failures = 0;
        if (errand->record.length && result == ERRAND_DONE)
            task->has_data = task->was_run = true; /* for what has come meanwhile */
        if (errand->is_missing && task->changes == job->changes)
            task->has_record = false; /* it was deleted before the task was made from its name */
        else
            upload_task_delete_record(uploads, task, job->changes);
        if (result == ERRAND_DONE)
            record_success(uploads);
        break;
    case ERRAND_PARTS:
        upload_task_take_parts(uploads, task, errand->parts);
        break;
    case ERRAND_DOWN:
    case ERRAND_FAILED:
        postpone(task, asks_ms, result == ERRAND_DOWN);
        break;
    }
}

static void run_task(struct uploads *uploads, struct job *job) REQUIRES(uploads->uploads_lock) {
    struct task *task = job->task;
    cleanup_buffer struct buffer record = {.limit = PENDING_LIMIT};
    struct error error = {0};
    struct errand errand = {.settings = &uploads->settings,
                            .cancel = &uploads->cancel,
                            .digest = task->digest,
                            .stored = uploads->stored,
                            .present = uploads->present,
                            .failed = uploads->failed};
    const bool marks = task->marks, knows_use = task->knows_use;
    task->marks = false;
    job->changes = upload_task_load_record(uploads, task, &record, &errand.is_missing);
    const bool owes = task->has_record;
    errand.record = (struct text){record.bytes, record.length};
    errand.bytes = (struct text){task->bytes.bytes, task->bytes.length};
    errand.has_data = task->has_data;
    errand.was_run = task->was_run;
    lock_release(&uploads->uploads_lock);
    enum errand_result result = run_errands(&errand, owes, marks, knows_use, &error);
    if (errand.healed)
        uploads->settings.on_healed(uploads->settings.context, &errand.digest);
    if (result == ERRAND_FAILED)
        complain(uploads, &errand.digest, &error);
    const int64_t asks_ms = bucket_works_from_ms(uploads->settings.bucket);
    lock_acquire(&uploads->uploads_lock);
    end_task(uploads, job, result, &errand, asks_ms);
}

/* Runs a job; the task is nobody else's meanwhile, unless it is about parts. */
static void run_job(struct uploads *uploads, struct job *job) REQUIRES(uploads->uploads_lock) {
    struct task *task = job->task;
    if (job->part.step != PARTS_WAIT) {
        run_part(uploads, job);
        return;
    }
    task->running = true;
    job->changes = task->changes;
    if (job->is_look)
        run_look(uploads, job);
    else
        run_task(uploads, job);
    task->running = false;
    upload_task_settle(uploads, task);
}

void uploads_work(void *argument) {
    struct uploads *uploads = argument;
    lock_acquire(&uploads->uploads_lock);
    while (!atomic_load(&uploads->stopping)) {
        struct job job = {0};
        note_removals(uploads);
        if (choose_part(uploads, &job) || choose_task(uploads, &job)) {
            uploads->busy++;
            uploads_call_worker(uploads); /* there may be work for one more */
            run_job(uploads, &job);
            uploads->busy--;
            condition_broadcast(&uploads->changed);
        } else if (uploads->left_on_disk && uploads->task_count < UPLOADS_TASKS / 2) {
            uploads->left_on_disk = false;
            lock_release(&uploads->uploads_lock);
            uploads_take_names(uploads);
            lock_acquire(&uploads->uploads_lock);
        } else {
            uploads->idle++;
            condition_wait_until(&uploads->changed, &uploads->uploads_lock, next_look(uploads));
            uploads->idle--;
        }
    }
    uploads->threads--;
    condition_broadcast(&uploads->changed);
    lock_release(&uploads->uploads_lock);
}
