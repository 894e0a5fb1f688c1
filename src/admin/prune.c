/* Making the cache smaller, least recently used first. */
#include "admin/line.h"
#include "base/clock.h"
#include "base/log.h"

enum {
    SWEEP_AGE_S = 60,   /* a link may be younger than its blob's arrival while a cache runs */
    FAILURES_LIMIT = 16 /* deletions that fail in a row: so will the next ones */
};

struct pruning {
    struct contents *contents;
    const struct contents_sink *sink;
    const struct contents_prune *what;
    int64_t before_s; /* what was last used before goes; INT64_MIN: age does not matter */
    uint64_t blobs, bytes;
    uint64_t remaining; /* bytes, if what was chosen were gone: of a dry run */
    struct error *error;
    bool failed;
};

static bool tell(struct pruning *pruning, const struct store_blob *blob) {
    pruning->blobs++;
    pruning->bytes += blob->size;
    return contents_go_on(pruning->contents, pruning->sink, pruning->error) &&
           contents_write(pruning->sink,
                          json_pack("{s:o, s:o, s:o}", "digest", contents_digest(&blob->digest),
                                    "size", contents_size(blob->size), "last_used",
                                    contents_time(blob->last_used_s)),
                          pruning->error);
}

/* ---- without doing it ---- */

static bool choose(void *context, const struct store_blob *blob) {
    struct pruning *pruning = context;
    const struct contents_prune *what = pruning->what;
    bool too_old = blob->last_used_s < pruning->before_s;
    bool too_much = what->to_size >= 0 && pruning->remaining > (uint64_t)what->to_size;
    if (!too_old && !too_much)
        return false;
    pruning->remaining -= blob->size < pruning->remaining ? blob->size : pruning->remaining;
    pruning->failed = !tell(pruning, blob);
    return !pruning->failed;
}

static bool choose_all(struct pruning *pruning) {
    store_evictable(pruning->contents->store, INT64_MAX, choose, pruning);
    return !pruning->failed;
}

/* ---- doing it ---- */

static uint64_t bytes_there(const struct pruning *pruning) {
    struct store_usage usage;
    store_usage(pruning->contents->store, &usage);
    return usage.bytes;
}

/* Whether so many failures in a row are reason enough to end. The store puts what cannot be deleted
 * at the end of its queue: after as many as there are blobs it would come round again. */
static bool is_hopeless(const struct pruning *pruning, uint64_t failures) {
    struct store_usage usage;
    store_usage(pruning->contents->store, &usage);
    return failures >= FAILURES_LIMIT || failures >= usage.blobs;
}

/* Evicts what was last used before then, until no more than `most` bytes are left (-1: all of it).
 * A few that cannot be deleted do not keep the rest; the last one's reason is left in *failure. */
static bool evict(struct pruning *pruning, int64_t before_s, int64_t most, struct error *failure) {
    struct store_blob blob;
    struct error why;
    uint64_t failures = 0;
    while (most < 0 || bytes_there(pruning) > (uint64_t)most) {
        if (store_evict(pruning->contents->store, before_s, &blob, &why)) {
            failures = 0;
            if (!tell(pruning, &blob))
                return false;
            continue;
        }
        if (why.kind == ERROR_NOT_FOUND)
            break;
        *failure = why;
        if (is_hopeless(pruning, ++failures))
            break;
        if (!contents_go_on(pruning->contents, pruning->sink, pruning->error))
            return false;
    }
    return true;
}

static bool sweep(struct pruning *pruning, struct error *error) {
    static const atomic_bool never;
    const struct contents *contents = pruning->contents;
    uint64_t deleted;
    return store_sweep(contents->store, contents->cache ? SWEEP_AGE_S : 0,
                       contents->stopping ? contents->stopping : &never, &deleted, error);
}

static bool evict_all(struct pruning *pruning) {
    const struct contents_prune *what = pruning->what;
    struct error failure = {0};
    bool ok = what->older_than_ms < 0 || evict(pruning, pruning->before_s, -1, &failure);
    if (ok && what->to_size >= 0)
        ok = evict(pruning, INT64_MAX, what->to_size, &failure);
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

bool contents_prune(struct contents *contents, const struct contents_prune *what,
                    const struct contents_sink *sink, struct error *error) {
    if (!contents_wait_for_scan(contents, sink, error))
        return false;
    struct pruning pruning = {
        .contents = contents, .sink = sink, .what = what, .before_s = INT64_MIN, .error = error};
    if (what->older_than_ms >= 0)
        pruning.before_s = clock_wall_s() - what->older_than_ms / 1000;
    pruning.remaining = bytes_there(&pruning);
    return (what->dry_run ? choose_all(&pruning) : evict_all(&pruning)) &&
           contents_write(sink,
                          json_pack("{s:b, s:o, s:o, s:b, s:o}", "done", true, "blobs",
                                    contents_size(pruning.blobs), "bytes",
                                    contents_size(pruning.bytes), "dry_run", what->dry_run,
                                    "remaining_bytes", contents_size(pruning.remaining)),
                          error);
}
