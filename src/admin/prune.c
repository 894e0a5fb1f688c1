/* Makes the cache smaller, the least recently used blobs first. */
#include "admin/prune.h"

#include "base/clock.h"
#include "base/log.h"
#include "store/records.h"
#include "store/usage.h"

enum {
    SWEEP_AGE_S = 60,   /* while a cache runs, a younger link may be about to get its blob */
    FAILURES_LIMIT = 16 /* after so many failed deletions in a row, more would probably fail */
};

struct pruning {
    struct order_target *target;
    const struct line_sink *sink;
    const struct prune_options *options;
    int64_t before_s; /* delete blobs last used before then; INT64_MIN: age does not matter */
    uint64_t blobs, bytes;
    uint64_t remaining; /* bytes that are left; in a dry run, that would be left */
    struct error *error;
    bool failed;
};

static bool write_blob(struct pruning *pruning, const struct store_blob *blob) {
    pruning->blobs++;
    pruning->bytes += blob->size;
    return order_target_check(pruning->target, pruning->sink, pruning->error) &&
           line_write(pruning->sink,
                      json_pack("{s:o, s:o, s:o}", "digest", line_digest(&blob->digest), "size",
                                line_size(blob->size), "last_used", line_time(blob->last_used_s)),
                      pruning->error);
}

/* ---- the dry run ---- */

static bool choose(void *context, const struct store_blob *blob) {
    struct pruning *pruning = context;
    const struct prune_options *options = pruning->options;
    bool too_old = blob->last_used_s < pruning->before_s;
    bool too_much = options->to_size >= 0 && pruning->remaining > (uint64_t)options->to_size;
    if (!too_old && !too_much)
        return false;
    pruning->remaining -= blob->size < pruning->remaining ? blob->size : pruning->remaining;
    pruning->failed = !write_blob(pruning, blob);
    return !pruning->failed;
}

static bool choose_all(struct pruning *pruning) {
    store_evictable(pruning->target->store, INT64_MAX, choose, pruning);
    return !pruning->failed;
}

/* ---- the real run ---- */

static uint64_t bytes_there(const struct pruning *pruning) {
    struct store_usage usage;
    store_usage(pruning->target->store, &usage);
    return usage.bytes;
}

/* Whether so many failures in a row are reason enough to end. The store puts a blob that it cannot
 * delete at the end of its queue, so after as many failures as there are blobs the same blobs would
 * come again. */
static bool should_give_up(const struct pruning *pruning, uint64_t failures) {
    struct store_usage usage;
    store_usage(pruning->target->store, &usage);
    return failures >= FAILURES_LIMIT || failures >= usage.blobs;
}

/* Evicts blobs last used before `before_s`, until no more than `most` bytes are left (-1: all of
 * them). Goes on after a few failed deletions; *failure gets the reason of the last one. False:
 * nobody waits for the response, and the error is set. */
static bool evict(struct pruning *pruning, int64_t before_s, int64_t most, struct error *failure) {
    struct store_blob blob;
    struct error why;
    uint64_t failures = 0;
    while (most < 0 || bytes_there(pruning) > (uint64_t)most) {
        if (store_evict(pruning->target->store, before_s, &blob, &why)) {
            failures = 0;
            if (!write_blob(pruning, &blob))
                return false;
            continue;
        }
        if (why.kind == ERROR_NOT_FOUND)
            break;
        *failure = why;
        if (should_give_up(pruning, ++failures))
            break;
        if (!order_target_check(pruning->target, pruning->sink, pruning->error))
            return false;
    }
    return true;
}

static bool sweep(struct pruning *pruning, struct error *error) {
    const struct order_target *target = pruning->target;
    const struct cancel cancel = {.stop = target->stopping};
    uint64_t deleted;
    return store_sweep(target->store, target->cache ? SWEEP_AGE_S : 0, &cancel, &deleted, error);
}

static bool evict_all(struct pruning *pruning) {
    const struct prune_options *options = pruning->options;
    struct error failure = {0};
    bool ok = options->older_than_ms < 0 || evict(pruning, pruning->before_s, -1, &failure);
    if (ok && options->to_size >= 0)
        ok = evict(pruning, INT64_MAX, options->to_size, &failure);
    if (pruning->blobs)
        log_at(LOG_INFO, "pruned", LOG_NUMBER("blobs", pruning->blobs),
               LOG_NUMBER("bytes", pruning->bytes));
    struct error why = {0};
    bool swept = sweep(pruning, &why);
    if (!ok)
        return false; /* the error is set */
    if (failure.kind == ERROR_NONE && !swept)
        failure = why;
    if (failure.kind != ERROR_NONE && pruning->error)
        *pruning->error = failure;
    pruning->remaining = bytes_there(pruning);
    return failure.kind == ERROR_NONE;
}

bool order_prune(struct order_target *target, const struct prune_options *options,
                 const struct line_sink *sink, struct error *error) {
    if (!order_target_wait_for_scan(target, sink, error))
        return false;
    struct pruning pruning = {
        .target = target, .sink = sink, .options = options, .before_s = INT64_MIN, .error = error};
    if (options->older_than_ms >= 0)
        pruning.before_s = clock_wall_s() - options->older_than_ms / 1000;
    pruning.remaining = bytes_there(&pruning);
    return (options->dry_run ? choose_all(&pruning) : evict_all(&pruning)) &&
           line_write(sink,
                      json_pack("{s:b, s:o, s:o, s:b, s:o}", "done", true, "blobs",
                                line_size(pruning.blobs), "bytes", line_size(pruning.bytes),
                                "dry_run", options->dry_run, "remaining_bytes",
                                line_size(pruning.remaining)),
                      error);
}
