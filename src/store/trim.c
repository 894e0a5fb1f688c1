/*
 * Deletes the least recently used records when there are too many of them, although their blobs are
 * there: any number of tags may name one manifest.
 *
 * A record's modification time is its last use, to the hour (store_link_touch()), or the time of
 * its last confirmation (store_link_confirm()). The records are visited twice, and only a histogram
 * of their ages is held in memory, so that memory does not grow with their number.
 */
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "store/record_names.h"
#include "store/root.h"
#include "store/store_private.h"

enum { AGES = 512 }; /* classes of age */

struct trim {
    struct store *store;
    const struct record_limits *limits;
    const struct cancel *cancel;
    struct error *error;
    int64_t now_s;
    uint64_t deleted;
    const struct repository_name *repository; /* being visited */
    enum link_kind kind;                      /* of the links being visited */
    uint64_t all[AGES], tags[AGES];           /* records of each age: all, of one repository */
    uint64_t tag_count;
    /* What is deleted now: records of the class `oldest` and older, while there are too many. */
    bool deletes;
    unsigned oldest;
    uint64_t excess;
    bool ok;
};

/* Classes are seconds up to 8, then eight for each power of two. */
static unsigned age_class(const struct trim *trim, const struct stat *record) {
    int64_t age_s = trim->now_s - (int64_t)record->st_mtim.tv_sec;
    unsigned power = 3;
    if (age_s < 8)
        return age_s < 0 ? 0 : (unsigned)age_s;
    while (age_s >> (power + 1))
        power++;
    return (power - 2) * 8 + (unsigned)(age_s >> (power - 3) & 7);
}

/* The youngest class that must go so that at least `excess` records go. */
static unsigned find_oldest(const uint64_t ages[static AGES], uint64_t excess) {
    uint64_t older = 0;
    unsigned at = AGES;
    while (at > 0 && older < excess)
        older += ages[--at];
    return at;
}

static bool goes_on(const struct trim *trim) {
    return cancel_check(trim->cancel, NULL) && !(trim->deletes && trim->excess == 0);
}

static void delete_record(struct trim *trim, const char *path) {
    if (!root_delete_record(trim->store, path, NULL))
        return;
    trim->deleted++;
    trim->excess--;
}

static bool visit_link(void *context, const struct digest *digest) {
    struct trim *trim = context;
    char path[PATH_SIZE];
    struct stat record;
    const char *kind = record_names_folder(trim->kind);
    if (!store_path_link(path, trim->repository, kind, digest) ||
        !root_stat(trim->store, path, &record))
        return goes_on(trim);
    unsigned class = age_class(trim, &record);
    if (!trim->deletes)
        trim->all[class]++;
    else if (class >= trim->oldest)
        delete_record(trim, path);
    return goes_on(trim);
}

static bool visit_tag(void *context, const char *tag) {
    struct trim *trim = context;
    char path[PATH_SIZE];
    struct stat record;
    if (!store_path_tag(path, trim->repository, tag, trim->store->ignores_case) ||
        !root_stat(trim->store, path, &record))
        return goes_on(trim);
    unsigned class = age_class(trim, &record);
    if (!trim->deletes) {
        trim->all[class]++;
        trim->tags[class]++;
        trim->tag_count++;
    } else if (class >= trim->oldest) {
        delete_record(trim, path);
    }
    return goes_on(trim);
}

static bool visit_tags(struct trim *trim) {
    return record_names_of_tags(trim->store, trim->repository, visit_tag, trim, trim->error);
}

/* Deletes the tags of the repository that are too many. */
static bool trim_tags(struct trim *trim) {
    const uint64_t most = trim->limits->tags;
    if (trim->tag_count <= most)
        return true;
    trim->deletes = true;
    trim->excess = trim->tag_count - most;
    trim->oldest = find_oldest(trim->tags, trim->excess);
    bool ok = visit_tags(trim);
    trim->deletes = false;
    return ok;
}

/* Visits all records of a repository. */
static bool visit_repository(void *context, const struct repository_name *repository) {
    struct trim *trim = context;
    trim->repository = repository;
    memset(trim->tags, 0, sizeof trim->tags);
    trim->tag_count = 0;
    const struct record_limits *limits = trim->limits;
    bool keeps = limits->keeps && limits->keeps(limits->context, repository);
    if (trim->deletes && keeps)
        return goes_on(trim);
    trim->ok = visit_tags(trim) && (trim->deletes || trim_tags(trim));
    for (int kind = 0; kind < 2 && trim->ok; kind++) {
        trim->kind = kind ? LINK_MANIFEST : LINK_BLOB;
        trim->ok = record_names_of_links(trim->store, repository, trim->kind, visit_link, trim,
                                         trim->error);
    }
    return trim->ok && goes_on(trim);
}

static bool visit_all(struct trim *trim) {
    return store_repositories_all(trim->store, NULL, visit_repository, trim, trim->error) &&
           trim->ok;
}

/* How many records must go. */
static uint64_t records_over(struct store *store, const struct record_limits *limits) {
    struct store_usage usage;
    store_usage(store, &usage);
    uint64_t over = usage.records > limits->records ? usage.records - limits->records : 0;
    uint64_t bytes = usage.record_bytes > limits->bytes ? usage.record_bytes - limits->bytes : 0;
    uint64_t each = usage.records ? usage.record_bytes / usage.records : 0;
    uint64_t for_bytes = bytes && each ? bytes / each + 1 : 0;
    return over > for_bytes ? over : for_bytes;
}

bool store_records_trim(struct store *store, const struct record_limits *limits,
                        const struct cancel *cancel, uint64_t *deleted, struct error *error) {
    struct trim *trim = calloc(1, sizeof *trim);
    *deleted = 0;
    if (!trim)
        return error_set(error, ERROR_MEMORY, "trim the records of %s: out of memory", store->path);
    *trim = (struct trim){.store = store,
                          .limits = limits,
                          .cancel = cancel,
                          .error = error,
                          .now_s = clock_wall_s(),
                          .ok = true};
    bool ok = visit_all(trim);
    trim->excess = ok ? records_over(store, limits) : 0;
    if (trim->excess) {
        trim->oldest = find_oldest(trim->all, trim->excess);
        trim->deletes = true;
        ok = visit_all(trim);
    }
    *deleted = trim->deleted;
    free(trim);
    return ok && cancel_check(cancel, error);
}
