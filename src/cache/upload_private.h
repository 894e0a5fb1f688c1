/*
 * What the files of the uploads share: upload.c (the tasks and their records), upload_work.c (the
 * threads: which task when) and errand.c (what a task does).
 */
#ifndef CACHE_UPLOAD_PRIVATE_H
#define CACHE_UPLOAD_PRIVATE_H

#include <uthash.h>
#include "base/buffer.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/metric.h"
#include "cache/parts.h"
#include "cache/upload.h"

/* What is known of a digest when a thread begins to work for it. */
struct errand {
    const struct uploads_settings *settings;
    const struct cancel *cancel;
    struct digest digest;
    struct text record;  /* as pending.h has it */
    struct text bytes;   /* of the blob, if the store has not got it; borrowed */
    bool has_data;       /* the bytes are in the bucket: they were sent in parts */
    bool was_run;        /* links may be there, too */
    bool is_missing;     /* set: there is no record */
    bool healed;         /* set: right bytes have taken the place of wrong ones */
    struct parts *parts; /* set with ERRAND_PARTS: what has to be sent first; the caller's */
    struct metric *stored, *present, *failed;
};

enum errand_result {
    ERRAND_DONE,
    ERRAND_DROPPED, /* the blob is not there any more */
    ERRAND_PARTS,   /* the bytes are large: they go in parts, and then the errand goes on */
    ERRAND_DOWN,    /* the bucket is not asked just now */
    ERRAND_FAILED,
};

/* Writes what the record says. Blocks. The error is that of ERRAND_FAILED and ERRAND_DOWN. */
enum errand_result errand_run(struct errand *errand, struct error *error);

/* Marks a use of the blob, if it is time. */
enum errand_result errand_mark(struct errand *errand, bool known, struct error *error);

/* ---- upload.c ---- */

struct task {
    UT_hash_handle hh;
    struct digest digest;
    int64_t due_ms;    /* clock_ms() */
    unsigned failures; /* in a row */
    unsigned changes;  /* of the record */
    bool has_record;   /* in ROOT/pending, or in `kept` */
    bool recording;    /* a thread reads or writes the record */
    bool running;      /* a thread works for it */
    bool waits;        /* uploads_go_on() is to come */
    bool has_data;     /* the bytes are in the bucket */
    bool was_run;      /* all that the record said a moment ago is in the bucket */
    bool looks;        /* it is to be seen whether the blob is still there */
    bool marks, knows_use;
    struct buffer kept;  /* a record that the disk did not take */
    struct buffer bytes; /* a manifest that the disk did not take; set once */
    struct parts *parts; /* the bytes are on their way; owned */
};

struct uploads {
    struct uploads_settings settings;
    struct lock uploads_lock; /* guards all below but the metrics */
    struct condition changed;
    struct task *tasks;
    struct parts *parts; /* of all tasks that have one */
    unsigned task_count, followed;
    size_t held_bytes; /* of all tasks' `bytes` */
    unsigned threads, idle, busy;
    bool started;
    bool left_on_disk; /* ROOT/pending has names without a task */
    uint64_t removals; /* of the store, when it was last looked whether pending blobs have gone */
    int64_t looked_ms;
    atomic_bool stopping;
    struct cancel cancel;
    _Atomic int64_t pending; /* names in ROOT/pending */
    struct log_pause complaint;
    struct metric *stored, *present, *aborted, *failed, *pending_metric;
};

/* NULL: there is none. */
struct task *uploads_find_task(struct uploads *uploads, const struct digest *digest)
    REQUIRES(uploads->uploads_lock);
/* Whether a thread may begin to work for the task. */
bool upload_task_is_free(const struct task *task);
/* Frees a task that is over, and one for which there is no room, whose record waits on disk. */
void upload_task_settle(struct uploads *uploads, struct task *task) REQUIRES(uploads->uploads_lock);
/* The bytes of the task's blob go in parts from now on. */
void upload_task_take_parts(struct uploads *uploads, struct task *task, struct parts *parts)
    REQUIRES(uploads->uploads_lock);
/* The parts are not the task's any more: the caller frees them without the lock. */
struct parts *upload_task_release_parts(struct uploads *uploads, struct task *task)
    REQUIRES(uploads->uploads_lock);
/* Reads the record, if the task has one; empty: it cannot be read. *missing: it is not on the disk.
 * The result is task->changes as of the record. Releases the lock meanwhile. */
unsigned upload_task_load_record(struct uploads *uploads, struct task *task, struct buffer *out,
                                 bool *missing) REQUIRES(uploads->uploads_lock);
/* Deletes the record, unless it has changed since. Releases the lock meanwhile. */
void upload_task_delete_record(struct uploads *uploads, struct task *task, unsigned changes)
    REQUIRES(uploads->uploads_lock);
/* Something may be due: wakes or starts a worker. */
void uploads_call_worker(struct uploads *uploads) REQUIRES(uploads->uploads_lock);
/* Makes tasks of the names on disk. The result is how many names there are. */
int64_t uploads_take_names(struct uploads *uploads) EXCLUDES(uploads->uploads_lock);

/* ---- upload_work.c ---- */

/* The body of a worker's thread. */
void uploads_work(void *uploads);

#endif
