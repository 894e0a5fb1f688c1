/* Makes the bucket smaller. */
#include "cache/cleaning.h"

#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/jobs.h"
#include "base/metric.h"
#include "cache/removals.h"

enum {
    BINS = 1 << 16,       /* of the histogram: 512 KiB */
    UPLOAD_AGE_S = 86400, /* an upload that is older will not be completed */
    UPLOADS_PAGE = 100,   /* because each may take more than 2 KiB */
};

/* ---- bytes by their age ---- */

/* A bin is one second wide at first. When an age does not fit, two bins become one. So ages of a
 * month are known to the minute. */
struct histogram {
    uint64_t *bins; /* bytes; BINS of them, owned */
    int64_t width_s;
};

static size_t bin_of(const struct histogram *histogram, int64_t age_s) {
    int64_t bin = age_s <= 0 ? 0 : age_s / histogram->width_s;
    return bin < BINS ? (size_t)bin : BINS - 1;
}

static void histogram_add(struct histogram *histogram, int64_t age_s, uint64_t bytes) {
    while (age_s / histogram->width_s >= BINS && histogram->width_s < INT64_MAX / BINS / 2) {
        for (size_t i = 0; i < BINS / 2; i++)
            histogram->bins[i] = histogram->bins[2 * i] + histogram->bins[2 * i + 1];
        memset(histogram->bins + BINS / 2, 0, BINS / 2 * sizeof *histogram->bins);
        histogram->width_s *= 2;
    }
    histogram->bins[bin_of(histogram, age_s)] += bytes;
}

struct cleaning {
    struct bucket *bucket;
    const struct cleaning_rule *rule;
    struct cleaning_result *result;
    struct removals *removals; /* owned; NULL: nothing is deleted */
    struct histogram histogram;
    uint64_t sum;    /* bytes that are not too old */
    int64_t now_s;   /* the clock of the first walk; 0: not known yet */
    bool by_size;    /* some of what is not too old has to go: */
    size_t bin;      /* all that is older than this bin, */
    uint64_t of_bin; /* and this many bytes of it */
};

static void cleaning_finish(struct cleaning *cleaning) {
    removals_free(cleaning->removals);
    free(cleaning->histogram.bins);
}

#define cleanup_cleaning __attribute__((cleanup(cleaning_finish)))

static int64_t age_of(struct cleaning *cleaning, const struct inventory_entry *entry) {
    if (!cleaning->now_s)
        cleaning->now_s = entry->now_s ? entry->now_s : clock_wall_s();
    /* What has no time counts as used now: a bucket that does not say is no reason to delete. */
    return entry->used_s > 0 && entry->used_s < cleaning->now_s ? cleaning->now_s - entry->used_s
                                                                : 0;
}

static bool is_too_old(const struct cleaning *cleaning, int64_t age_s) {
    return cleaning->rule->older_than_s >= 0 && age_s > cleaning->rule->older_than_s;
}

static bool measure(void *context, const struct inventory_entry *entry, struct error *error) {
    struct cleaning *cleaning = context;
    int64_t age_s = age_of(cleaning, entry);
    (void)error;
    if (!entry->has_blob || is_too_old(cleaning, age_s))
        return true;
    histogram_add(&cleaning->histogram, age_s, entry->size);
    cleaning->sum += entry->size;
    return true;
}

/* Chooses the bin from which on what is used longest ago has to go. */
static void choose_bin(struct cleaning *cleaning) {
    uint64_t most = (uint64_t)cleaning->rule->to_size;
    if (cleaning->sum <= most)
        return;
    uint64_t excess = cleaning->sum - most;
    cleaning->by_size = true;
    for (cleaning->bin = BINS - 1; cleaning->bin > 0; cleaning->bin--) {
        uint64_t bytes = cleaning->histogram.bins[cleaning->bin];
        if (bytes >= excess)
            break;
        excess -= bytes;
    }
    cleaning->of_bin = excess;
}

static bool look(struct cleaning *cleaning, struct error *error) {
    if (cleaning->rule->to_size < 0)
        return true;
    cleaning->histogram = (struct histogram){calloc(BINS, sizeof(uint64_t)), 1};
    if (!cleaning->histogram.bins)
        return error_set(error, ERROR_MEMORY, "out of memory");
    if (!inventory_walk(cleaning->bucket, cleaning->rule->cancel, measure, cleaning, error))
        return false;
    choose_bin(cleaning);
    return true;
}

/* ---- deleting ---- */

static const char removed_name[] = "tarn_bucket_removed_total";
static const char removed_help[] = "Blobs that this tarn has deleted from the bucket.";

void cleaning_declare_metrics(void) {
    metric_declare(METRIC_COUNTER, removed_name, removed_help);
}

static bool has_to_go(struct cleaning *cleaning, const struct inventory_entry *entry) {
    int64_t age_s = age_of(cleaning, entry);
    if (is_too_old(cleaning, age_s))
        return true;
    if (!cleaning->by_size || !entry->has_blob)
        return false;
    size_t bin = bin_of(&cleaning->histogram, age_s);
    if (bin != cleaning->bin)
        return bin > cleaning->bin;
    bool goes = cleaning->of_bin > 0;
    cleaning->of_bin -= entry->size < cleaning->of_bin ? entry->size : cleaning->of_bin;
    return goes;
}

/* A blob or a mark has gone, or (with `is_gone` false) is left. */
static bool count(void *context, const struct inventory_entry *entry, bool is_gone,
                  struct error *error) {
    struct cleaning *cleaning = context;
    struct cleaning_result *result = cleaning->result;
    if (!entry->has_blob)
        return true;
    result->blobs += !is_gone;
    result->bytes += is_gone ? 0 : entry->size;
    result->removed_blobs += is_gone;
    result->removed_bytes += is_gone ? entry->size : 0;
    if (is_gone && !cleaning->rule->dry_run)
        metric_add(metric_get(METRIC_COUNTER, removed_name, removed_help, ""), 1);
    return !is_gone || !cleaning->rule->on_blob ||
           cleaning->rule->on_blob(cleaning->rule->context, entry, error);
}

static bool clean(void *context, const struct inventory_entry *entry, struct error *error) {
    struct cleaning *cleaning = context;
    const bool goes = has_to_go(cleaning, entry);
    if (!goes || !cleaning->removals || removals_are_forbidden(cleaning->removals))
        return count(cleaning, entry, goes && cleaning->rule->dry_run, error);
    return removals_add(cleaning->removals, entry, error);
}

static bool delete_all(struct cleaning *cleaning, struct error *error) {
    const struct cleaning_rule *rule = cleaning->rule;
    if (!rule->dry_run) {
        cleaning->removals = removals_new(cleaning->bucket, rule->cancel, count, cleaning);
        if (!cleaning->removals)
            return error_set(error, ERROR_MEMORY, "out of memory");
    }
    bool ok = inventory_walk(cleaning->bucket, rule->cancel, clean, cleaning, error) &&
              (!cleaning->removals || removals_finish(cleaning->removals, error));
    cleaning->result->forbidden = cleaning->removals && removals_are_forbidden(cleaning->removals);
    return ok;
}

/* ---- uploads that were never completed ---- */

struct stale_upload {
    char *key, *id; /* owned */
};

struct uploads_page {
    struct stale_upload at[UPLOADS_PAGE];
    size_t count;
    const struct bucket_list *list;
    const struct cleaning *cleaning;
};

static void page_clear(struct uploads_page *page) {
    for (size_t i = 0; i < page->count; i++) {
        free(page->at[i].key);
        free(page->at[i].id);
    }
    page->count = 0;
}

static bool take_upload(void *context, const struct bucket_entry *entry, struct error *error) {
    struct uploads_page *page = context;
    int64_t now_s = page->cleaning->now_s ? page->cleaning->now_s : page->list->date_s;
    if (!entry->upload_id || entry->modified_s <= 0 || page->count == UPLOADS_PAGE ||
        (now_s ? now_s : clock_wall_s()) - entry->modified_s <= UPLOAD_AGE_S)
        return true;
    struct stale_upload *upload = &page->at[page->count++];
    *upload = (struct stale_upload){strdup(entry->key), strdup(entry->upload_id)};
    return (upload->key && upload->id) || error_set(error, ERROR_MEMORY, "out of memory");
}

static bool abort_upload(struct jobs *jobs, size_t number, struct error *error) {
    const struct uploads_page *page = jobs->context;
    const struct cleaning *cleaning = page->cleaning;
    const struct cancel stop = {.stop =
                                    cleaning->rule->cancel ? cleaning->rule->cancel->stop : NULL};
    const struct bucket_limits limits = {.cancel = &stop};
    const struct stale_upload *upload = &page->at[number];
    if (!bucket_upload_abort(cleaning->bucket, upload->key, upload->id, &limits, NULL, error))
        return false;
    lock_acquire(&jobs->state_lock);
    cleaning->result->aborted++;
    lock_release(&jobs->state_lock);
    return true;
}

static bool abort_page(struct uploads_page *page, struct error *error) {
    struct jobs jobs = {.name = "bucket-delete",
                        .count = page->count,
                        .at_once = REMOVALS_AT_ONCE,
                        .work = abort_upload,
                        .context = page};
    return jobs_run(&jobs, error) && cancel_check(page->cleaning->rule->cancel, error);
}

/* A bucket that does not list its uploads, or does not let us abort them, is left with them. */
static bool abort_uploads(struct cleaning *cleaning, struct error *error) {
    const struct bucket_limits limits = {.cancel = cleaning->rule->cancel};
    struct bucket_list list = {.uploads = true, .page = UPLOADS_PAGE};
    struct uploads_page *page = calloc(1, sizeof *page);
    bool ok = page || error_set(error, ERROR_MEMORY, "out of memory");
    struct error failure = {0};
    for (bool goes_on = ok; goes_on && !list.done;) {
        page->list = &list;
        page->cleaning = cleaning;
        goes_on =
            bucket_list_page(cleaning->bucket, &list, take_upload, page, &limits, NULL, &failure) &&
            abort_page(page, &failure);
        page_clear(page);
    }
    bucket_list_finish(&list);
    free(page);
    return ok && cancel_check(cleaning->rule->cancel, error);
}

/* ---- all of it ---- */

bool cleaning_run(struct bucket *bucket, const struct cleaning_rule *rule,
                  struct cleaning_result *result, struct error *error) {
    cleanup_cleaning struct cleaning cleaning = {.bucket = bucket, .rule = rule, .result = result};
    *result = (struct cleaning_result){0};
    bool ok = look(&cleaning, error) && delete_all(&cleaning, error);
    result->now_s = cleaning.now_s;
    return ok && (rule->dry_run || abort_uploads(&cleaning, error));
}
