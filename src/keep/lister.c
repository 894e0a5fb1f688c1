/* Lists the repositories of the keeps, each again and again. */
#include <stdlib.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "keep/keeper_private.h"

enum {
    RETRY_FIRST_MS = 5000,       /* after a failure; doubling, to `refresh` at most */
    DIGESTS_MS = 60 * 60 * 1000, /* how long the digest of a tag that is not kept is reused */
};

void keeper_drop_retired(struct keeper_retired *first) {
    while (first) {
        struct keeper_retired *retired = first;
        first = retired->next;
        keep_machine_free(retired->machine);
        keep_list_free(retired->list);
        if (retired->release)
            retired->release(retired->before);
        free(retired);
    }
}

void keeper_free_retired(struct keeper *keeper) {
    struct keeper_retired *retired = keeper->retired;
    if (!retired)
        return;
    keeper->retired = NULL;
    lock_release(&keeper->state_lock); /* settings may take a moment to end */
    keeper_drop_retired(retired);
    lock_acquire(&keeper->state_lock);
}

/* The keep that is to be listed next; NULL: there is none. */
static struct kept *find_due(struct keeper *keeper) REQUIRES(keeper->state_lock) {
    struct kept *due = NULL;
    for (size_t i = 0; i < keeper->kept_count; i++) {
        struct kept *kept = &keeper->kepts[i];
        if (!kept->is_hidden && (!due || kept->list_ms < due->list_ms))
            due = kept;
    }
    return due;
}

static void log_sources(const struct keep_spec *spec, const struct keep_list *list) {
    for (size_t i = 0; i < list->source_count; i++) {
        const struct keep_list_source *source = &list->sources[i];
        bool failed = *source->error;
        char labels[80];
        if (spec->entries[i].kind == KEEP_ENTRY_IMAGE && !failed)
            continue;
        snprintf(labels, sizeof labels, "source=\"%s\",outcome=\"%s\"",
                 catalog_source_name(source->source), failed ? "failed" : "listed");
        metric_add(metric_get(METRIC_COUNTER, "tarn_images_lists_total",
                              "Lists of a repository's images, by source and outcome.", labels),
                   1);
        if (failed)
            log_at(LOG_WARN, "a repository was not listed", LOG_STRING("keep", spec->name),
                   LOG_STRING("error", source->error));
    }
}

/* The keep with this spec takes the list, unless there is no such keep any more. */
static void take_list(struct keeper *keeper, const struct keep_spec *spec, struct keep_list *list)
    REQUIRES(keeper->state_lock) {
    for (size_t i = 0; i < keeper->kept_count; i++) {
        struct kept *kept = &keeper->kepts[i];
        if (kept->spec != spec)
            continue;
        int64_t pause_ms = keeper->settings.keep->refresh_ms;
        if (list->failed && kept->failures < 10 && RETRY_FIRST_MS << kept->failures < pause_ms)
            pause_ms = RETRY_FIRST_MS << kept->failures++;
        if (!list->failed)
            kept->failures = 0;
        kept->list_ms = clock_ms() + pause_ms;
        keep_list_free(kept->list);
        kept->list = list;
        if (!kept->is_hidden && !keep_list_plan(list, spec->name, keeper->plan, keeper_now()))
            log_at(LOG_ERROR, "images are not planned", LOG_STRING("error", "out of memory"));
        keeper_touch(keeper);
        return;
    }
    keep_list_free(list);
}

/* Lists one keep, without the lock. What it reads meanwhile is only freed by this thread. */
static void list_one(struct keeper *keeper, struct kept *kept) REQUIRES(keeper->state_lock) {
    const struct keep_spec *spec = kept->spec;
    const struct keep_list *before = kept->list;
    const bool reuses = clock_ms() < kept->digests_ms;
    kept->list_ms = INT64_MAX;
    if (!reuses)
        kept->digests_ms = clock_ms() + DIGESTS_MS;
    lock_release(&keeper->state_lock);
    const struct cancel cancel = {.stop = &keeper->stop};
    const struct upstreams *upstreams = current_upstreams_hold(keeper->settings.upstreams);
    const struct keep_list_asker asker = {.catalog = keeper->settings.catalog,
                                          .upstreams = upstreams,
                                          .cancel = &cancel,
                                          .digest_of = docker_digest_by_head,
                                          .reuses_digests = reuses};
    struct keep_list *list = keep_list_make(&asker, spec, before, clock_wall_s());
    upstreams_release(upstreams);
    if (list)
        log_sources(spec, list);
    lock_acquire(&keeper->state_lock);
    if (list) {
        take_list(keeper, spec, list);
        return;
    }
    log_at(LOG_ERROR, "repositories are not listed", LOG_STRING("error", "out of memory"));
    struct kept *still = keeper_find(keeper, spec->name);
    if (still && still->spec == spec)
        still->list_ms = clock_ms() + RETRY_FIRST_MS;
}

void keeper_list(void *context) {
    struct keeper *keeper = context;
    lock_acquire(&keeper->state_lock);
    while (!atomic_load(&keeper->stop)) {
        keeper_free_retired(keeper);
        struct kept *due = find_due(keeper);
        int64_t due_ms = due ? due->list_ms : INT64_MAX;
        if (due_ms > clock_ms())
            condition_wait_until(&keeper->lists_changed, &keeper->state_lock, due_ms);
        else
            list_one(keeper, due);
    }
    lock_release(&keeper->state_lock);
}
