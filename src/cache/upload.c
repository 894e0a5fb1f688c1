/* What has to be uploaded: the tasks, and their records on disk. */
#include "cache/upload.h"

#include <stdlib.h>
#include <uthash.h>
#include <utlist.h>
#include "base/clock.h"
#include "base/thread.h"
#include "cache/upload_private.h"
#include "store/blobs.h"
#include "store/pending.h"

enum {
    FOLLOWED_MOST = 32,   /* flights at once that uploads follow */
    HELD_MOST = 16 << 20, /* bytes of manifests that the disk did not take */
    DRAIN_LOOK_MS = 100,
    IDLE_LOOK_MS = 1000,
    FAILED_MOST = 16, /* tasks that have failed before, with which the uploads are not idle */
};

/* ---- life ---- */

static struct metric *outcome_metric(const char *labels) {
    return metric_get(METRIC_COUNTER, METRIC_UPLOADS, METRIC_UPLOADS_HELP, labels);
}

struct uploads *uploads_new(const struct uploads_settings *settings) {
    struct uploads *uploads = calloc(1, sizeof *uploads);
    if (!uploads)
        return NULL;
    uploads->settings = *settings;
    uploads->cancel = (struct cancel){.stop = &uploads->stopping};
    lock_init(&uploads->uploads_lock);
    condition_init(&uploads->changed);
    uploads->stored = outcome_metric("outcome=\"stored\"");
    uploads->present = outcome_metric("outcome=\"present\"");
    uploads->aborted = outcome_metric("outcome=\"aborted\"");
    uploads->failed = outcome_metric("outcome=\"failed\"");
    uploads->pending_metric = metric_get(METRIC_GAUGE, METRIC_PENDING, METRIC_PENDING_HELP, "");
    return uploads;
}

static void free_task(struct uploads *uploads, struct task *task) REQUIRES(uploads->uploads_lock) {
    HASH_DEL(uploads->tasks, task);
    uploads->task_count--;
    uploads->held_bytes -= task->bytes.length;
    buffer_finish(&task->bytes);
    buffer_finish(&task->kept);
    free(task);
}

struct parts *upload_task_release_parts(struct uploads *uploads, struct task *task) {
    struct parts *parts = task->parts;
    if (!parts)
        return NULL;
    DL_DELETE2(uploads->parts, parts, previous_, next_);
    uploads->followed -= parts->source.flight != NULL;
    task->parts = NULL;
    return parts;
}

void uploads_stop(struct uploads *uploads) {
    atomic_store(&uploads->stopping, true);
    lock_acquire(&uploads->uploads_lock);
    condition_broadcast(&uploads->changed);
    lock_release(&uploads->uploads_lock);
}

bool uploads_end(struct uploads *uploads, int64_t until_ms) {
    struct task *task;
    uploads_stop(uploads);
    lock_acquire(&uploads->uploads_lock);
    while (uploads->threads && clock_ms() < until_ms)
        condition_wait_until(&uploads->changed, &uploads->uploads_lock, until_ms);
    bool ended = uploads->threads == 0;
    for (task = uploads->tasks; ended && task; task = task->hh.next)
        parts_free(upload_task_release_parts(uploads, task)); /* no other thread works for it */
    lock_release(&uploads->uploads_lock);
    return ended;
}

void uploads_free(struct uploads *uploads) {
    struct task *task, *next;
    if (!uploads)
        return;
    lock_acquire(&uploads->uploads_lock);
    HASH_ITER (hh, uploads->tasks, task, next)
        free_task(uploads, task);
    lock_release(&uploads->uploads_lock);
    lock_finish(&uploads->uploads_lock);
    condition_finish(&uploads->changed);
    free(uploads);
}

void uploads_update_metrics(struct uploads *uploads) {
    metric_set(uploads->pending_metric, atomic_load(&uploads->pending));
}

/* ---- tasks ---- */

struct task *uploads_find_task(struct uploads *uploads, const struct digest *digest) {
    struct task *task;
    HASH_FIND(hh, uploads->tasks, digest, sizeof *digest, task);
    return task;
}

/* The task of the digest, perhaps a new one. NULL: no memory. */
static struct task *take_task(struct uploads *uploads, const struct digest *digest)
    REQUIRES(uploads->uploads_lock) {
    struct task *task = uploads_find_task(uploads, digest);
    if (task)
        return task;
    task = calloc(1, sizeof *task);
    if (!task)
        return NULL;
    task->digest = *digest;
    task->kept.limit = PENDING_LIMIT;
    HASH_ADD(hh, uploads->tasks, digest, sizeof task->digest, task);
    if (!task->hh.tbl) {
        free(task);
        return NULL;
    }
    uploads->task_count++;
    return task;
}

/* Whether nobody is at the task and nothing has to be remembered of it. */
static bool is_over(const struct task *task) {
    return !task->running && !task->recording && !task->parts && !task->marks &&
           !task->has_record && !task->waits;
}

bool upload_task_is_free(const struct task *task) {
    return !task->running && !task->recording && !task->parts && !task->waits;
}

void upload_task_settle(struct uploads *uploads, struct task *task) {
    const bool is_safe = !task->running && !task->recording && !task->parts && !task->waits &&
                         !task->has_data && task->kept.length == 0 && task->bytes.length == 0;
    if (is_over(task)) {
        free_task(uploads, task);
    } else if (uploads->task_count > UPLOADS_TASKS && is_safe) {
        uploads->left_on_disk = true;
        free_task(uploads, task);
    }
}

void uploads_call_worker(struct uploads *uploads) {
    condition_broadcast(&uploads->changed);
    if (!uploads->started || uploads->idle || uploads->threads >= uploads->settings.threads ||
        atomic_load(&uploads->stopping))
        return;
    uploads->threads++;
    if (!thread_start_detached("bucket-upload", uploads_work, uploads, NULL))
        uploads->threads--; /* those that run go on; otherwise the next event tries again */
}

/* ---- records ---- */

/* Nobody else reads or writes the record until end_recording(). */
static void begin_recording(struct uploads *uploads, struct task *task)
    REQUIRES(uploads->uploads_lock) {
    while (task->recording)
        condition_wait(&uploads->changed, &uploads->uploads_lock);
    task->recording = true;
}

static void end_recording(struct uploads *uploads, struct task *task)
    REQUIRES(uploads->uploads_lock) {
    task->recording = false;
    condition_broadcast(&uploads->changed);
}

/* The caller records. False: there is no record on disk. */
static bool read_record(struct uploads *uploads, const struct task *task, struct buffer *out) {
    struct error error;
    if (task->kept.length)
        return buffer_append(out, task->kept.bytes, task->kept.length);
    return store_pending_read(uploads->settings.store, &task->digest, PENDING_LIMIT, out, &error) ||
           error.kind != ERROR_NOT_FOUND;
}

unsigned upload_task_load_record(struct uploads *uploads, struct task *task, struct buffer *out,
                                 bool *missing) {
    *missing = false;
    begin_recording(uploads, task);
    const unsigned changes = task->changes;
    if (task->has_record) {
        lock_release(&uploads->uploads_lock);
        *missing = !read_record(uploads, task, out);
        lock_acquire(&uploads->uploads_lock);
    }
    end_recording(uploads, task);
    return changes;
}

/* Adds the items to the record. What the disk does not take is kept in memory. */
static void add_items(struct uploads *uploads, struct task *task, const struct pending_item *items,
                      size_t count) {
    cleanup_buffer struct buffer record = {.limit = PENDING_LIMIT};
    struct error error;
    if (task->has_record)
        read_record(uploads, task, &record);
    for (size_t i = 0; i < count; i++)
        pending_add(&record, &items[i]);
    const bool was_kept = task->kept.length > 0;
    buffer_clear(&task->kept);
    if (store_pending_write(uploads->settings.store, &task->digest, record.bytes, record.length,
                            &error)) {
        if (!task->has_record || was_kept)
            atomic_fetch_add(&uploads->pending, 1);
    } else {
        buffer_append(&task->kept, record.bytes, record.length);
    }
}

/* Keeps the bytes with the task, if there is room. */
static void hold_bytes(struct uploads *uploads, struct task *task, struct text bytes)
    REQUIRES(uploads->uploads_lock) {
    if (task->bytes.length || uploads->held_bytes + bytes.length > HELD_MOST ||
        !buffer_append(&task->bytes, bytes.at, bytes.length))
        return;
    uploads->held_bytes += bytes.length;
}

static void owe(struct uploads *uploads, const struct digest *digest,
                const struct pending_item *items, size_t count, struct text bytes, bool waits) {
    lock_acquire(&uploads->uploads_lock);
    struct task *task = take_task(uploads, digest);
    if (task) {
        if (bytes.length)
            hold_bytes(uploads, task, bytes);
        begin_recording(uploads, task);
        lock_release(&uploads->uploads_lock);
        add_items(uploads, task, items, count);
        lock_acquire(&uploads->uploads_lock);
        task->has_record = true;
        task->changes++;
        task->waits |= waits;
        if (task->failures == 0)
            task->due_ms = clock_ms();
        if (task->parts)
            task->parts->is_recorded = true;
        end_recording(uploads, task);
        upload_task_settle(uploads, task);
        uploads_call_worker(uploads);
    }
    lock_release(&uploads->uploads_lock);
}

bool uploads_owes(struct uploads *uploads, const struct digest *digest) {
    lock_acquire(&uploads->uploads_lock);
    const struct task *task = uploads_find_task(uploads, digest);
    bool owes = uploads->left_on_disk || (task && (task->has_record || task->parts));
    lock_release(&uploads->uploads_lock);
    return owes;
}

void uploads_owe(struct uploads *uploads, const struct digest *digest,
                 const struct pending_item *items, size_t count, bool waits) {
    owe(uploads, digest, items, count, (struct text){0}, waits);
}

void uploads_owe_bytes(struct uploads *uploads, const struct digest *digest,
                       const struct pending_item *items, size_t count, struct text bytes) {
    owe(uploads, digest, items, count, bytes, false);
}

void uploads_go_on(struct uploads *uploads, const struct digest *digest) {
    lock_acquire(&uploads->uploads_lock);
    struct task *task = uploads_find_task(uploads, digest);
    if (task) {
        task->waits = false;
        upload_task_settle(uploads, task);
        uploads_call_worker(uploads);
    }
    lock_release(&uploads->uploads_lock);
}

void upload_task_delete_record(struct uploads *uploads, struct task *task, unsigned changes) {
    begin_recording(uploads, task);
    if (task->changes == changes && task->has_record) {
        const bool on_disk = task->kept.length == 0;
        lock_release(&uploads->uploads_lock);
        bool gone = !on_disk || store_pending_delete(uploads->settings.store, &task->digest);
        lock_acquire(&uploads->uploads_lock);
        if (on_disk && gone)
            atomic_fetch_sub(&uploads->pending, 1);
        buffer_clear(&task->kept);
        task->has_record = false; /* a file that cannot be deleted is looked at after a restart */
        task->has_data = task->was_run = false;
    }
    end_recording(uploads, task);
}

/* ---- what is found on the disk ---- */

struct listing {
    struct uploads *uploads;
    int64_t found;
};

static bool take_name(void *context, const struct digest *digest) {
    struct listing *listing = context;
    struct uploads *uploads = listing->uploads;
    listing->found++;
    lock_acquire(&uploads->uploads_lock);
    if (uploads->task_count >= UPLOADS_TASKS) {
        uploads->left_on_disk = true;
    } else {
        struct task *task = take_task(uploads, digest);
        if (task && !task->recording)
            task->has_record = true;
    }
    lock_release(&uploads->uploads_lock);
    return !atomic_load(&uploads->stopping);
}

int64_t uploads_take_names(struct uploads *uploads) {
    struct listing listing = {uploads, 0};
    store_pending_list(uploads->settings.store, take_name, &listing);
    return listing.found;
}

void uploads_start(struct uploads *uploads) {
    atomic_fetch_add(&uploads->pending, uploads_take_names(uploads));
    lock_acquire(&uploads->uploads_lock);
    uploads->started = true;
    uploads_call_worker(uploads);
    lock_release(&uploads->uploads_lock);
}

/* ---- uploads in parts ---- */

void upload_task_take_parts(struct uploads *uploads, struct task *task, struct parts *parts) {
    task->parts = parts;
    uploads->followed += parts->source.flight != NULL;
    DL_APPEND2(uploads->parts, parts, previous_, next_);
}

void uploads_follow(struct uploads *uploads, struct flight *flight, const struct digest *digest,
                    uint64_t size, bool overwrite) {
    const struct parts_source source = {.bucket = uploads->settings.bucket,
                                        .digest = *digest,
                                        .size = size,
                                        .flight = flight,
                                        .fd = -1,
                                        .overwrite = overwrite};
    lock_acquire(&uploads->uploads_lock);
    const bool has_room = uploads->followed < FOLLOWED_MOST && !atomic_load(&uploads->stopping);
    struct task *task = has_room ? take_task(uploads, digest) : NULL;
    if (task && !task->parts && !task->running) {
        struct parts *parts = parts_new(&source, uploads->settings.part_size);
        if (parts) {
            flight_follow(flight);
            upload_task_take_parts(uploads, task, parts);
        }
    }
    if (task)
        upload_task_settle(uploads, task);
    uploads_call_worker(uploads);
    lock_release(&uploads->uploads_lock);
}

/* ---- marks ---- */

void uploads_mark(struct uploads *uploads, const struct digest *digest, bool known) {
    const bool works = bucket_works(uploads->settings.bucket);
    lock_acquire(&uploads->uploads_lock);
    struct task *task =
        works && uploads->task_count < UPLOADS_TASKS ? take_task(uploads, digest) : NULL;
    if (task) {
        task->marks = true;
        task->knows_use = known;
        uploads_call_worker(uploads);
    }
    lock_release(&uploads->uploads_lock);
    if (!task)
        store_blob_set_marked(uploads->settings.store, digest, 0); /* the next use tries again */
}

/* ---- the end ---- */

/* Whether something is being done, or can be done at once. */
static bool is_at_work(struct uploads *uploads) REQUIRES(uploads->uploads_lock) {
    const int64_t now = clock_ms();
    if (uploads->busy)
        return true;
    for (const struct task *task = uploads->tasks; task; task = task->hh.next) {
        if (task->parts || task->waits ||
            (upload_task_is_free(task) && task->failures == 0 && task->due_ms <= now))
            return true;
    }
    return false;
}

void uploads_drain(struct uploads *uploads, int64_t until_ms) {
    bool is_busy = true;
    while (is_busy && bucket_works(uploads->settings.bucket)) {
        lock_acquire(&uploads->uploads_lock);
        const int64_t look_ms = clock_ms() + DRAIN_LOOK_MS;
        is_busy = is_at_work(uploads) && look_ms < until_ms && !atomic_load(&uploads->stopping);
        if (is_busy)
            condition_wait_until(&uploads->changed, &uploads->uploads_lock, look_ms);
        lock_release(&uploads->uploads_lock);
    }
}

/* Whether something may be added that nobody waits for. */
static bool is_idle(struct uploads *uploads) REQUIRES(uploads->uploads_lock) {
    unsigned failed = 0;
    for (const struct task *task = uploads->tasks; task; task = task->hh.next)
        failed += task->failures > 0;
    return !is_at_work(uploads) && failed < FAILED_MOST && bucket_works(uploads->settings.bucket);
}

bool uploads_wait_idle(struct uploads *uploads) {
    lock_acquire(&uploads->uploads_lock);
    while (!atomic_load(&uploads->stopping) && !is_idle(uploads))
        condition_wait_until(&uploads->changed, &uploads->uploads_lock, clock_ms() + IDLE_LOOK_MS);
    lock_release(&uploads->uploads_lock);
    return !atomic_load(&uploads->stopping);
}
