/* Deletes blobs of the bucket, several at once. */
#include "cache/removals.h"

#include <stdlib.h>
#include "base/jobs.h"
#include "cache/share.h"

struct removals {
    struct bucket *bucket;
    const struct cancel *cancel;
    removals_told *told;
    void *context;
    pthread_t owner;       /* the thread that uses the removals */
    atomic_bool forbidden; /* there is no right to delete */
    bool may_delete;       /* a blob was deleted */
    size_t count;
    struct inventory_entry batch[REMOVALS_BATCH];
    bool is_gone[REMOVALS_BATCH]; /* each is written by the thread that deletes the entry */
};

struct removals *removals_new(struct bucket *bucket, const struct cancel *cancel,
                              removals_told *told, void *context) {
    struct removals *removals = calloc(1, sizeof *removals);
    if (!removals)
        return NULL;
    removals->bucket = bucket;
    removals->cancel = cancel;
    removals->told = told;
    removals->context = context;
    removals->owner = pthread_self();
    return removals;
}

void removals_free(struct removals *removals) {
    free(removals);
}

bool removals_are_forbidden(const struct removals *removals) {
    return atomic_load(&removals->forbidden);
}

/* ---- one ---- */

/* False: the bucket fails. Without the right to delete, `forbidden` is set. */
static bool delete_key(struct removals *removals, const char *key, const struct cancel *cancel,
                       struct error *error) {
    const struct bucket_limits limits = {.cancel = cancel};
    struct bucket_answer answer = {0};
    if (bucket_delete(removals->bucket, key, &limits, &answer, error))
        return true;
    if (answer.outcome != BUCKET_FORBIDDEN)
        return false;
    atomic_store(&removals->forbidden, true);
    return true;
}

/* The blob first: a mark without a blob is deleted later, and a blob without its mark would look
 * older than it is. */
static bool delete_entry(struct removals *removals, size_t number, struct error *error) {
    const struct inventory_entry *entry = &removals->batch[number];
    /* Whether somebody waits is asked on the owner's thread alone. */
    const struct cancel stop = {.stop = removals->cancel ? removals->cancel->stop : NULL};
    const struct cancel *cancel =
        pthread_equal(pthread_self(), removals->owner) ? removals->cancel : &stop;
    char key[SHARE_KEY_SIZE];
    if (!cancel_check(cancel, error))
        return false;
    if (entry->has_blob && !removals_are_forbidden(removals)) {
        if (!delete_key(removals, share_key_blob(key, &entry->digest), cancel, error))
            return false;
        removals->is_gone[number] = !removals_are_forbidden(removals);
    }
    return removals_are_forbidden(removals) || !entry->has_mark ||
           delete_key(removals, share_key_used(key, &entry->digest), cancel, error);
}

static bool delete_by_job(struct jobs *jobs, size_t number, struct error *error) {
    return delete_entry(jobs->context, number, error);
}

/* ---- all of a batch ---- */

/* Deletes the batch. What has gone is in `is_gone`. */
static bool delete_batch(struct removals *removals, struct error *error) {
    struct jobs jobs = {.name = "bucket-delete",
                        .count = removals->count,
                        .at_once = removals->may_delete ? REMOVALS_AT_ONCE : 1,
                        .work = delete_by_job,
                        .context = removals};
    return jobs_run(&jobs, error);
}

static bool tell_batch(struct removals *removals, struct error *error) {
    bool ok = true;
    for (size_t i = 0; ok && i < removals->count; i++)
        ok = removals->told(removals->context, &removals->batch[i], removals->is_gone[i], error);
    return ok;
}

bool removals_finish(struct removals *removals, struct error *error) {
    struct error untold = {0};
    for (size_t i = 0; i < removals->count; i++)
        removals->is_gone[i] = false;
    bool ok = removals->count == 0 || delete_batch(removals, error);
    /* Also after a failure, because what has gone has gone. */
    ok = tell_batch(removals, ok ? error : &untold) && ok;
    removals->may_delete |= ok && removals->count > 0 && !removals_are_forbidden(removals);
    removals->count = 0;
    return ok;
}

bool removals_add(struct removals *removals, const struct inventory_entry *entry,
                  struct error *error) {
    removals->batch[removals->count++] = *entry;
    /* The first one is deleted alone. */
    const size_t full = removals->may_delete ? REMOVALS_BATCH : 1;
    return removals->count < full || removals_finish(removals, error);
}
