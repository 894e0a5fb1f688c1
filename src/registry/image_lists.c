/* Keeps lists of images, and asks upstream for each by one question at a time. */
#include "registry/image_lists.h"

#include <stdio.h>
#include <stdlib.h>
#include "base/clock.h"
#include "base/once.h"
#include "base/pot.h"
#include "base/thread.h"
#include "cache/waiting.h"
#include "catalog/select.h"
#include "registry/call.h"

enum {
    LISTS_KEPT = 256,
    BYTES_KEPT = 64 << 20,
    LIST_BYTES = 64 << 20, /* of one list: more than 100,000 images */
    QUESTIONS = 8,         /* under way at once, each with up to CATALOG_JOBS threads */
    QUESTIONS_SHARE = 25,  /* percent that one upstream may have while they are scarce */
    QUESTION_MS = 120000,  /* after which nothing is tried again */
    LOOK_MS = 500,         /* how often a caller that waits looks whether its client has gone */
    STALE_MS = 5000,       /* of upstream's silence, after which the last list is served */
    STOP_MS = 5000,
    KEY_LIMIT = HOST_LIMIT + NAME_LIMIT + 40,
};

/* What is known of a repository's images, by one source. Guarded by the table's lock. */
struct image_entry {
    struct once_entry once_entry; /* the first member */
    struct image_list *list;      /* NULL: none is kept */
    int64_t fresh_until_ms;
    struct upstream *upstream; /* of the question under way */
    unsigned waiting;          /* callers */
    bool is_for_all; /* a caller has taken the last list instead: the answer is for later ones */
    atomic_bool is_wanted; /* somebody waits, or the answer is for all */
};

struct image_lists {
    struct registry *registry;
    struct once_table table; /* of struct image_entry */
    struct pot questions;
    atomic_bool stopping;
    struct metric *counted[CATALOG_DOCKER + 1][CATALOG_COMPLETE + 1];
};

/* A question under way, on its thread. */
struct image_question {
    struct image_lists *lists;
    struct image_entry *entry; /* entered for the question */
    const struct registry_view *view;
    struct catalog_question catalog;
    struct cancel cancel;
};

/* ---- a list ---- */

void image_list_release(struct image_list *list) {
    if (!list || atomic_fetch_sub(&list->references, 1) > 1)
        return;
    catalog_list_finish(&list->images);
    free(list);
}

static struct image_list *keep(struct image_list *list) {
    atomic_fetch_add(&list->references, 1);
    return list;
}

static struct image_list *list_new(void) {
    struct image_list *list = calloc(1, sizeof *list);
    if (list) {
        atomic_init(&list->references, 1);
        list->images.limit = LIST_BYTES;
    }
    return list;
}

static void wipe(struct once_entry *entry) {
    image_list_release(((struct image_entry *)entry)->list);
}

/* ---- the life of all lists ---- */

static void declare_counters(struct image_lists *lists) {
    static const char *const outcomes[] = {[CATALOG_FAILED] = "failed",
                                           [CATALOG_PARTIAL] = "partial",
                                           [CATALOG_COMPLETE] = "complete"};
    for (int source = CATALOG_ARTIFACT_REGISTRY; source <= CATALOG_DOCKER; source++) {
        for (int outcome = CATALOG_FAILED; outcome <= CATALOG_COMPLETE; outcome++) {
            char labels[80];
            snprintf(labels, sizeof labels, "source=\"%s\",outcome=\"%s\"",
                     catalog_source_name((enum catalog_source)source), outcomes[outcome]);
            lists->counted[source][outcome] =
                metric_get(METRIC_COUNTER, "tarn_images_lists_total",
                           "Lists of a repository's images that upstreams were asked for.", labels);
        }
    }
}

struct image_lists *image_lists_new(struct registry *registry) {
    static const struct once_bounds bounds = {.entries = LISTS_KEPT, .bytes = BYTES_KEPT};
    struct image_lists *lists = calloc(1, sizeof *lists);
    if (!lists)
        return NULL;
    lists->registry = registry;
    pot_init(&lists->questions, QUESTIONS);
    once_table_init(&lists->table, sizeof(struct image_entry), &bounds, wipe);
    declare_counters(lists);
    return lists;
}

void image_lists_stop(struct image_lists *lists) {
    atomic_store(&lists->stopping, true);
    lock_acquire(&lists->table.entries_lock);
    condition_broadcast(&lists->table.ended);
    lock_release(&lists->table.entries_lock);
}

bool image_lists_wait(struct image_lists *lists) {
    struct once_table *table = &lists->table;
    int64_t until_ms = clock_ms() + STOP_MS;
    lock_acquire(&table->entries_lock);
    bool in_time = true;
    while (atomic_load(&lists->questions.taken) > 0 && in_time)
        in_time = condition_wait_until(&table->ended, &table->entries_lock, until_ms);
    lock_release(&table->entries_lock);
    return atomic_load(&lists->questions.taken) == 0;
}

void image_lists_free(struct image_lists *lists) {
    if (!lists)
        return;
    once_table_finish(&lists->table);
    free(lists);
}

/* ---- a question ---- */

static bool is_wanted(void *context) {
    struct image_question *question = context;
    return atomic_load(&question->entry->is_wanted);
}

/* The digest of a tag, by the cache, which may know it. What the cache serves because upstream
 * fails is no part of a new list. */
static bool find_digest(void *context, const struct repository *repository, const char *tag,
                        struct digest *out, struct error *error) {
    struct image_question *question = context;
    const struct cache_caller caller = {repository, &question->cancel};
    struct reference reference = {0};
    struct cache_result found;
    *out = (struct digest){0};
    if (!text_copy(text_of(tag), reference.tag, sizeof reference.tag))
        return error_set(error, ERROR_INVALID, "the tag is too long");
    if (!cache_manifest(question->lists->registry->settings.cache, &caller, &reference, true,
                        &found, error))
        return false;
    bool is_stale = found.outcome == CACHE_STALE;
    *out = found.document->digest;
    document_release(found.document);
    return !is_stale || error_set(error, ERROR_UNAVAILABLE,
                                  "upstream %s: it does not tell which digest the tag %s of %s has",
                                  repository->name.host, tag, repository->name.path);
}

/* Asks upstream. NULL: the error is set. */
static struct image_list *ask(struct image_question *question, struct error *error) {
    struct image_lists *lists = question->lists;
    const struct repository_name *name = &question->catalog.repository.name;
    const struct catalog_selection all = {.all = true, .order = CATALOG_BY_UPLOAD};
    struct catalog_answer answer = {0};
    struct image_list *list = list_new();
    if (!list) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    enum catalog_outcome outcome = catalog_list_images(
        lists->registry->settings.catalog, &question->catalog, &list->images, &answer, error);
    if (answer.source != CATALOG_AUTO)
        metric_add(lists->counted[answer.source][outcome], 1);
    if (answer.fallback.kind != ERROR_NONE)
        log_at(LOG_INFO, "the Docker API is asked for images, because Artifact Registry refuses",
               LOG_STRING("upstream", name->host), LOG_STRING("repository", name->path),
               LOG_STRING("error", answer.fallback.text));
    if (outcome == CATALOG_FAILED) {
        image_list_release(list);
        return NULL;
    }
    catalog_list_select(&list->images, &all);
    list->source = answer.source;
    list->is_whole = outcome == CATALOG_COMPLETE;
    catalog_time_format(clock_wall_s() * 1000000, list->listed_at);
    return list;
}

/* Whether the failure ends the last list. That the repository does not exist does, if it is the
 * registry that says so. */
static bool ends_list(const struct error *error) {
    return error->kind == ERROR_NOT_FOUND && !error->doubtful;
}

/* Keeps the answer. A list that broke off does not replace a whole one. */
static void settle(struct image_lists *lists, const struct image_question *question,
                   struct image_list *list, struct error *error)
    REQUIRES(lists->table.entries_lock);
static void settle(struct image_lists *lists, const struct image_question *question,
                   struct image_list *list, struct error *error) {
    struct image_entry *entry = question->entry;
    bool is_kept = list && (list->is_whole || !entry->list || !entry->list->is_whole);
    if (is_kept || (!list && ends_list(error))) {
        image_list_release(entry->list);
        entry->list = is_kept ? keep(list) : NULL;
        once_table_weigh(&lists->table, &entry->once_entry,
                         is_kept ? sizeof *list + list->images.bytes : 0);
    }
    if (is_kept) {
        entry->fresh_until_ms = clock_ms() + question->view->settings.images_ttl_ms;
        error_clear(error); /* a rate limit that has left a list */
    }
    image_list_release(list);
}

static void run(void *context) {
    struct image_question *question = context;
    struct image_lists *lists = question->lists;
    struct image_entry *entry = question->entry;
    struct error error = {0};
    struct image_list *list = ask(question, &error);
    lock_acquire(&lists->table.entries_lock);
    settle(lists, question, list, &error);
    upstream_release(entry->upstream);
    entry->upstream = NULL;
    once_publish(&entry->once_entry.once, &lists->table.ended, &error);
    once_table_leave(&lists->table, &entry->once_entry);
    view_release(question->view);
    free(question);
    pot_give_back(&lists->questions); /* after this the lists may be freed */
    lock_release(&lists->table.entries_lock);
}

/* How many questions to the upstream are under way. */
static unsigned count_questions(const struct image_lists *lists, const struct upstream *upstream)
    REQUIRES(lists->table.entries_lock);
static unsigned count_questions(const struct image_lists *lists, const struct upstream *upstream) {
    struct once_entry *entry, *next;
    unsigned count = 0;
    HASH_ITER (hh, lists->table.entries, entry, next)
        count += ((const struct image_entry *)entry)->upstream == upstream;
    return count;
}

static bool refuse(struct error *error, const struct repository *repository, const char *why) {
    error_set(error, ERROR_BUSY, "upstream %s: %s", repository->name.host, why);
    if (error)
        error->retry_after_s = 5;
    return false;
}

static struct image_question *question_new(struct image_lists *lists, struct image_entry *entry,
                                           const struct image_lists_request *request) {
    struct image_question *question = calloc(1, sizeof *question);
    if (!question)
        return NULL;
    question->lists = lists;
    question->entry = entry;
    question->view = view_keep(request->view);
    question->cancel = (struct cancel){&lists->stopping, is_wanted, question};
    question->catalog = (struct catalog_question){
        .repository = *request->repository,
        .upstreams = question->view->upstreams,
        .whole = request->whole,
        .source = request->source,
        .digest_of = find_digest,
        .digest_context = question,
        .cancel = &question->cancel,
        .deadline_ms = clock_ms() + QUESTION_MS,
    };
    return question;
}

/* Starts the question for the entry. False: the error is set. */
static bool start(struct image_lists *lists, struct image_entry *entry,
                  const struct image_lists_request *request, struct error *error)
    REQUIRES(lists->table.entries_lock);
static bool start(struct image_lists *lists, struct image_entry *entry,
                  const struct image_lists_request *request, struct error *error) {
    struct upstream *upstream = request->repository->upstream;
    unsigned share = pot_share(&lists->questions, QUESTIONS_SHARE);
    if (!pot_may_take(&lists->questions, count_questions(lists, upstream), share) ||
        !pot_take_if_left(&lists->questions))
        return refuse(error, request->repository, "too many lists of images are asked for");
    struct image_question *question = question_new(lists, entry, request);
    struct once_entry *entered =
        question ? once_table_enter(&lists->table, entry->once_entry.key) : NULL;
    atomic_store(&entry->is_wanted, true);
    entry->is_for_all = false;
    entry->upstream = upstream_keep(upstream);
    if (entered && thread_start("images", THREAD_STACK, run, question, NULL, NULL)) {
        (void)once_take_turn(&entry->once_entry.once, &lists->table.ended,
                             &lists->table.entries_lock, false, INT64_MAX); /* nobody asks yet */
        return true;
    }
    upstream_release(entry->upstream);
    entry->upstream = NULL;
    if (entered)
        once_table_leave(&lists->table, entered);
    if (question)
        view_release(question->view);
    free(question);
    pot_give_back(&lists->questions);
    return refuse(error, request->repository, "no memory or thread to ask for a list of images");
}

/* ---- a caller ---- */

/* Waits until the question that is under way has ended. False: the caller is cancelled, tarn stops,
 * or the last list is to be served in its place. */
static bool wait_for(struct image_lists *lists, struct image_entry *entry,
                     const struct cancel *cancel, struct error *error)
    REQUIRES(lists->table.entries_lock);
static bool wait_for(struct image_lists *lists, struct image_entry *entry,
                     const struct cancel *cancel, struct error *error) {
    const struct once *once = &entry->once_entry.once;
    const uint64_t before = once->outcomes;
    int64_t stale_ms = entry->list ? once->began_ms + STALE_MS : INT64_MAX;
    while (once->outcomes == before) {
        int64_t look_ms = clock_ms() + LOOK_MS;
        if (atomic_load(&lists->stopping))
            return error_set(error, ERROR_UNAVAILABLE, "tarn is stopping");
        if (clock_ms() >= stale_ms)
            return error_set(error, ERROR_TIMEOUT, "upstream has not answered for %d s",
                             STALE_MS / 1000);
        if (condition_wait_until(&lists->table.ended, &lists->table.entries_lock,
                                 look_ms < stale_ms ? look_ms : stale_ms))
            continue;
        lock_release(&lists->table.entries_lock);
        bool wanted = cancel_check(cancel, error);
        lock_acquire(&lists->table.entries_lock);
        if (!wanted)
            return false;
    }
    return true;
}

/* Waits as one of the question's callers. */
static bool wait_in(struct image_lists *lists, struct image_entry *entry,
                    const struct cancel *cancel, struct error *error)
    REQUIRES(lists->table.entries_lock);
static bool wait_in(struct image_lists *lists, struct image_entry *entry,
                    const struct cancel *cancel, struct error *error) {
    struct error reason = {0};
    entry->waiting++;
    atomic_store(&entry->is_wanted, true);
    bool ended = wait_for(lists, entry, cancel, &reason);
    entry->waiting--;
    entry->is_for_all = entry->is_for_all || reason.kind == ERROR_TIMEOUT;
    if (entry->waiting == 0 && !entry->is_for_all)
        atomic_store(&entry->is_wanted, false);
    if (error)
        *error = reason;
    return ended;
}

/* Asks upstream, or waits for the answer to another caller's question. */
static bool renew(struct image_lists *lists, struct image_entry *entry,
                  const struct image_lists_request *request, enum cache_outcome *outcome,
                  struct error *error) REQUIRES(lists->table.entries_lock);
static bool renew(struct image_lists *lists, struct image_entry *entry,
                  const struct image_lists_request *request, enum cache_outcome *outcome,
                  struct error *error) {
    for (;;) {
        bool joins = entry->once_entry.once.asking;
        *outcome = joins ? CACHE_JOINED : CACHE_MISS;
        if (atomic_load(&lists->stopping))
            return error_set(error, ERROR_UNAVAILABLE, "tarn is stopping");
        if (!joins && !start(lists, entry, request, error))
            return false;
        if (!wait_in(lists, entry, request->cancel, error))
            return false;
        if (!once_failed(&entry->once_entry.once, error))
            return true;
        if (error->kind != ERROR_CLOSED) /* else others' question, which they gave up */
            return false;
    }
}

static void log_stale(const struct repository *repository, const struct error *error) {
    unsigned more;
    if (log_is_due(&upstream_held(repository->upstream)->stale, &more))
        log_at(LOG_WARN, "serving a stale list of images",
               LOG_STRING("upstream", repository->name.host),
               LOG_STRING("repository", repository->name.path), LOG_STRING("error", error->text),
               LOG_NUMBER("more_since_last", more));
}

/* Whether upstream's failure may be hidden behind the last list. */
static bool may_serve_stale(const struct image_entry *entry, const struct error *error) {
    return entry->list && error->kind != ERROR_CLOSED && !ends_list(error);
}

static bool get(struct image_lists *lists, struct image_entry *entry,
                const struct image_lists_request *request, struct image_lists_result *result,
                struct error *error) REQUIRES(lists->table.entries_lock);
static bool get(struct image_lists *lists, struct image_entry *entry,
                const struct image_lists_request *request, struct image_lists_result *result,
                struct error *error) {
    struct cache *cache = lists->registry->settings.cache;
    struct upstream *upstream = request->repository->upstream;
    bool ok = entry->list && clock_ms() < entry->fresh_until_ms;
    result->outcome = CACHE_HIT;
    if (!ok && waiting_begin(cache, upstream, error)) {
        ok = renew(lists, entry, request, &result->outcome, error);
        waiting_end(cache, upstream);
    }
    if (!ok && may_serve_stale(entry, error)) {
        log_stale(request->repository, error);
        result->outcome = CACHE_STALE;
        ok = true;
    }
    if (ok && entry->list)
        result->list = keep(entry->list);
    return ok &&
           (result->list || error_set(error, ERROR_UNAVAILABLE, "upstream %s: the list was dropped",
                                      request->repository->name.host));
}

static void write_key(const struct image_lists_request *request, char key[static KEY_LIMIT]) {
    snprintf(key, KEY_LIMIT, "%s/%s %s%s", request->repository->name.host,
             request->repository->name.path, catalog_source_name(request->source),
             request->whole ? " whole" : "");
}

bool image_lists_get(struct image_lists *lists, const struct image_lists_request *request,
                     struct image_lists_result *result, struct error *error) {
    char key[KEY_LIMIT];
    struct error reason = {0};
    bool ok = false;
    write_key(request, key);
    *result = (struct image_lists_result){0};
    lock_acquire(&lists->table.entries_lock);
    struct image_entry *entry = (struct image_entry *)once_table_enter(&lists->table, key);
    if (entry) {
        ok = get(lists, entry, request, result, &reason);
        once_table_leave(&lists->table, &entry->once_entry);
    } else {
        error_set(&reason, ERROR_MEMORY, "out of memory");
    }
    lock_release(&lists->table.entries_lock);
    if (!ok && error)
        *error = reason;
    return ok;
}
