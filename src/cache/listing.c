/* Tag lists and referrers: documents put together from upstream's pages. */
#include "cache/listing.h"
#include <jansson.h>
#include <stdlib.h>
#include "base/cleanup.h"
#include "base/json.h"
#include "base/log.h"
#include "cache/ask.h"
#include "cache/cache_private.h"
#include "cache/link.h"
#include "cache/owner.h"
#include "oci/manifest.h"
#include "oci/referrers.h"
#include "upstream/pages.h"

enum {
    TAGS_LIMIT = 16 << 20,                 /* bytes of all tags of a list, each with TAG_COST */
    TAG_COST = 48,                         /* memory of a string beside its characters, roughly */
    REFERRERS_LIMIT = MANIFEST_SIZE_LIMIT, /* bytes of all pages; an index is no larger */
};

/* ---- the pages of a list ---- */

/* A list under way. */
struct list {
    struct pages *pages; /* owned */
    struct question *question;
    json_t *all;        /* owned: the entries of the pages so far */
    json_t *more;       /* owned: what Google's registries add to a list of tags; may be empty */
    size_t cost, limit; /* of `all`, in bytes */
};

static void list_finish(struct list *list) {
    pages_free(list->pages);
    json_decref(list->all);
    json_decref(list->more);
}

static bool adds_more(const json_t *page) {
    return json_is_object(json_object_get(page, "manifest")) ||
           json_is_array(json_object_get(page, "child"));
}

/* gcr.io and Artifact Registry add the manifests of all tags (`manifest`) and the repositories
 * below (`child`) to a list of tags. Their own clients show those. */
static bool add_more(json_t *more, const json_t *page) {
    json_t *manifest = json_object_get(page, "manifest"), *child = json_object_get(page, "child");
    json_t *manifests = json_object_get(more, "manifest"),
           *children = json_object_get(more, "child");
    bool ok = true;
    if (json_is_object(manifest))
        ok = manifests ? json_object_update(manifests, manifest) == 0
                       : json_object_set(more, "manifest", manifest) == 0;
    if (ok && json_is_array(child))
        ok = children ? json_array_extend(children, child) == 0
                      : json_object_set(more, "child", child) == 0;
    return ok;
}

static size_t cost_of(const struct list *list, const json_t *entries) {
    const struct asking *asking = &list->pages->asking;
    size_t cost = 0, index;
    const json_t *entry;
    if (asking->request.what == UPSTREAM_REFERRERS || adds_more(list->pages->page))
        return asking->body.length;
    json_array_foreach (entries, index, entry)
        cost += TAG_COST + json_string_length(entry);
    return cost;
}

/* Adds the page's entries. */
static bool add_entries(struct list *list, struct error *error) {
    const struct pages *pages = list->pages;
    json_t *entries = json_object_get(pages->page, pages->member);
    list->cost += cost_of(list, entries);
    if (list->cost > list->limit)
        return pages_fail(pages, error, "is longer than tarn's limit of bytes");
    if (json_is_array(entries) && json_array_extend(list->all, entries) != 0)
        return error_set(error, ERROR_MEMORY, "out of memory");
    bool is_tags = pages->asking.request.what == UPSTREAM_TAGS;
    if (is_tags && !add_more(list->more, pages->page))
        return error_set(error, ERROR_MEMORY, "out of memory");
    return true;
}

static bool add_page(struct list *list, struct error *error) {
    const struct cancel cancel = question_cancel(list->question);
    return cancel_check(&cancel, error) && /* a list may have many pages */
           pages_get(list->pages, error) && add_entries(list, error);
}

static bool list_begin(struct list *list, struct question *question, enum upstream_what what,
                       const char *reference) {
    *list = (struct list){
        .pages = pages_new(&question->repository, what, reference),
        .question = question,
        .all = json_array(),
        .more = json_object(),
        .limit = what == UPSTREAM_TAGS ? TAGS_LIMIT : REFERRERS_LIMIT,
    };
    if (!list->pages || !list->all || !list->more)
        return false;
    list->pages->asking.request.stop = &question->cache->stopping;
    list->pages->asking.request.abandoned = &question->abandoned;
    return true;
}

/* Gets a list page by page, wholly or not at all. The result is an array. `more` (may be NULL) gets
 * an object, the caller's. */
static json_t *gather(struct question *question, enum upstream_what what, const char *reference,
                      json_t **more, struct error *error) {
    struct list list;
    json_t *all = NULL;
    bool ok = list_begin(&list, question, what, reference), goes_on = ok;
    if (!ok)
        error_set(error, ERROR_MEMORY, "out of memory");
    while (goes_on && ok)
        ok = add_page(&list, error) && pages_find_next(list.pages, &goes_on, error);
    if (ok)
        all = take(list.all);
    if (ok && more)
        *more = take(list.more);
    list_finish(&list);
    return all;
}

/* Makes `json` (released here) the question's document. */
static bool finish(struct question *question, const char *media_type, json_t *json,
                   int64_t fresh_ms, struct error *error) {
    cleanup_json json_t *owned = json;
    cleanup_buffer struct buffer text = {0};
    struct digest digest;
    if (!bounded_json_dump(owned, JSON_COMPACT, &text) ||
        !digest_of(DIGEST_SHA256, text.bytes, text.length, &digest) ||
        !(question->document = document_new(&digest, media_type, text.length, true)))
        return error_set(error, ERROR_MEMORY, "out of memory");
    memcpy(question->document->bytes, text.bytes, text.length);
    slot_put_answer(question->cache, question->key, question->document, fresh_ms, question->writes);
    return true;
}

/* ---- tags ---- */

static int compare_names(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Sorts by bytes, drops duplicates and strings that are no tag. */
static json_t *sorted_tags(json_t *tags) {
    size_t count = json_array_size(tags), used = 0;
    cleanup_free const char **names = calloc(count ? count : 1, sizeof *names);
    cleanup_json json_t *sorted = json_array();
    if (!names || !sorted)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        const char *name = json_string_value(json_array_get(tags, i));
        if (name && reference_is_tag(text_of(name)))
            names[used++] = name;
    }
    qsort(names, used, sizeof *names, compare_names);
    for (size_t i = 0; i < used; i++) {
        if ((i == 0 || strcmp(names[i - 1], names[i]) != 0) &&
            json_array_append_new(sorted, json_string(names[i])) != 0)
            return NULL; /* no memory: an incomplete list would be wrong */
    }
    return take(sorted);
}

/* The document of a list of tags. NULL: no memory. `names` is the callee's. */
static json_t *tags_document(const struct question *question, json_t *names) {
    return names ? json_pack("{s:s,s:o}", "name", question->repository.name.path, "tags", names)
                 : NULL;
}

bool listing_answer_tags(struct question *question, struct error *error) {
    cleanup_json json_t *more = NULL;
    cleanup_json json_t *tags = gather(question, UPSTREAM_TAGS, NULL, &more, error);
    if (!tags) {
        question_weigh_absence(question, error);
        if (error->kind == ERROR_NOT_FOUND)
            slot_put_absent(question->cache, question->key, error, false,
                            question->cache->negative_ttl_ms, question->writes);
        return false;
    }
    json_t *sorted = sorted_tags(tags);
    json_t *list = tags_document(question, sorted);
    if (list && json_object_update(list, more) != 0) {
        json_decref(list);
        list = NULL;
    }
    return finish(question, "application/json", list, ask_tag_ttl(&question->repository), error);
}

/* ---- tags of the bucket ---- */

/* The tags as far as they have come. */
struct bucket_tags {
    json_t *names; /* owned */
    size_t cost;
};

static bool take_bucket_tag(void *context, const char *tag, struct error *error) {
    struct bucket_tags *tags = context;
    tags->cost += TAG_COST + strlen(tag);
    if (tags->cost > TAGS_LIMIT)
        return error_set(error, ERROR_UNAVAILABLE, "the bucket's list of tags is too long");
    return json_array_append_new(tags->names, json_string(tag)) == 0 ||
           error_set(error, ERROR_MEMORY, "out of memory");
}

/* Upstream has failed: the tags that tarns have brought to the bucket. */
static bool answer_bucket_tags(struct question *question, struct error *error) {
    struct tier_visit visit = {.cancel = question_cancel(question), .is_last = true};
    struct bucket_tags tags = {.names = json_array()};
    bool ok = tags.names || error_set(error, ERROR_MEMORY, "out of memory");
    ok = ok && tier_list_tags(question->cache->tier, &question->repository.name, take_bucket_tag,
                              &tags, &visit, error);
    if (ok && json_array_size(tags.names) == 0)
        ok = error_set(error, ERROR_UNAVAILABLE, "the bucket has no tag of the repository");
    ok = ok && finish(question, "application/json",
                      tags_document(question, sorted_tags(tags.names)), 0, error);
    json_decref(tags.names);
    question->from_bucket = ok;
    return ok;
}

/* ---- referrers ---- */

/*
 * Whether the failure says that upstream has no referrers API. Registries say so by many statuses:
 * 404, 400 (Harbor before 2.9), 405, 406, 422, 501, or a page of another kind. 401 and 403 are
 * among them, because some registries have no rule for that path: the fallback tag then tells
 * whether the repository is readable. A registry that is busy or failing says nothing.
 */
static bool has_no_api(const struct error *error) {
    return error->kind == ERROR_UNSUPPORTED || error->status == 401 || error->status == 403 ||
           error->status == 501 || pages_is_about_request(error->status);
}

static bool is_empty_list(const struct document *list) {
    static const char empty[] = "\"manifests\":[]";
    return memmem(list->bytes, list->length, empty, strlen(empty)) != NULL;
}

/* Whether there is no fallback tag. A load balancer's 404 does not end a list that is held. */
static bool is_absence(const struct question *question, const struct error *error) {
    return error->kind == ERROR_NOT_FOUND &&
           !(error->doubtful && question->held && !is_empty_list(question->held));
}

/* The entries of the index under the fallback tag; an empty array, if the document is no index, or
 * is the subject itself, which some registries find under that tag. */
static json_t *fallback_entries(const struct question *question, const struct document *document,
                                struct error *error) {
    cleanup_json json_t *json = bounded_json_load_by(0, document->bytes, document->length, error);
    if (!json && error->kind == ERROR_MEMORY)
        return NULL;
    json_t *manifests = json_object_get(json, "manifests");
    if (!json_is_array(manifests) || !referrers_is_index(json) ||
        strcmp(document->media_type, MEDIA_DOCKER_LIST) == 0 ||
        digest_equal(&document->digest, &question->reference.digest))
        return json_array();
    return json_incref(manifests);
}

/* For an upstream without a referrers API: reads the tag that clients write instead
 * (distribution-spec, "Referrers Tag Schema"). The result is an array of descriptors, empty if
 * there is no such tag. *stale: upstream failed, and the tag was held. */
static json_t *fallback_referrers(struct question *question, bool *stale, struct error *error) {
    struct reference tag = {0};
    struct cache_result found;
    const struct cancel cancel = question_cancel(question);
    /* The question may be a replica's, which must not wait for what another replica sends. */
    const struct cache_caller caller = {&question->repository, &cancel, REPLICA_ASK_FETCH};
    char digest[DIGEST_STRING_SIZE];
    digest_format(&question->reference.digest, digest);
    char *colon = strchr(digest, ':');
    *colon = '-';
    text_copy((struct text){digest, strnlen(digest, TAG_LIMIT)}, tag.tag, sizeof tag.tag);
    if (!cache_manifest(question->cache, &caller, &tag, false, &found, error))
        return is_absence(question, error) ? json_array() : NULL;
    *stale = found.outcome == CACHE_STALE;
    json_t *entries = fallback_entries(question, found.document, error);
    document_release(found.document);
    return entries;
}

bool listing_answer_referrers(struct question *question, struct error *error) {
    char digest[DIGEST_STRING_SIZE];
    bool stale = false;
    json_t *manifests = gather(question, UPSTREAM_REFERRERS,
                               digest_format(&question->reference.digest, digest), NULL, error);
    if (!manifests && has_no_api(error))
        manifests = fallback_referrers(question, &stale, error);
    if (!manifests)
        return false;
    /* An empty list is an absence: clients look again right after they have signed an image. */
    int64_t fresh_ms = ask_tag_ttl(&question->repository);
    if (json_array_size(manifests) == 0 && fresh_ms > question->cache->negative_ttl_ms)
        fresh_ms = question->cache->negative_ttl_ms;
    return finish(question, MEDIA_OCI_INDEX,
                  json_pack("{s:i,s:s,s:o}", "schemaVersion", 2, "mediaType", MEDIA_OCI_INDEX,
                            "manifests", manifests),
                  stale ? 0 : fresh_ms, error);
}

/* ---- another replica's ---- */

static const char *what_of(const struct owner_topic *topic) {
    return topic->what == UPSTREAM_TAGS ? "tags" : "referrers";
}

/* Whether the bytes are a list of the kind. */
static bool is_list(const struct owner_topic *topic, const json_t *json) {
    return topic->what == UPSTREAM_TAGS ? json_is_array(json_object_get(json, "tags"))
                                        : referrers_is_index(json);
}

static bool accept_list(struct question *question, struct owner_answer *answer,
                        struct error *error) {
    const bool is_tags = question->answer == listing_answer_tags_by_owner;
    const struct owner_topic topic = {is_tags ? UPSTREAM_TAGS : UPSTREAM_REFERRERS,
                                      &question->repository.name,
                                      is_tags ? NULL : &question->reference};
    struct slot_moment moment = slot_moment_now(question->cache, NULL);
    moment.is_answer = true;
    moment.writes = question->writes;
    const struct buffer *body = &answer->body;
    char key[KEY_SIZE];
    struct digest digest;
    cleanup_json json_t *json = bounded_json_load_by(0, body->bytes, body->length, error);
    if (!json || !is_list(&topic, json))
        return error_set(error, ERROR_UNAVAILABLE, "a replica's list is none");
    if (!digest_of(DIGEST_SHA256, body->bytes, body->length, &digest) ||
        !(question->document = document_new(&digest, is_tags ? "application/json" : MEDIA_OCI_INDEX,
                                            body->length, true)))
        return error_set(error, ERROR_MEMORY, "out of memory");
    memcpy(question->document->bytes, body->bytes, body->length);
    const int64_t ttl_ms = ask_tag_ttl(&question->repository);
    ask_key(key, &question->repository, what_of(&topic), topic.reference);
    slot_put_loaded(question->cache, key, question->document,
                    answer->fresh_ms < ttl_ms ? answer->fresh_ms : ttl_ms, answer->age_ms, &moment);
    return true;
}

static bool answer_by_owner(struct question *question, const struct owner_topic *topic,
                            struct error *error) {
    const size_t limit = topic->what == UPSTREAM_TAGS ? TAGS_LIMIT : REFERRERS_LIMIT;
    cleanup_owner_answer struct owner_answer answer = {.body = {.limit = limit}};
    char key[KEY_SIZE];
    bool ok = owner_ask(question, topic, false, accept_list, &answer, error);
    question->fresh_ms = answer.fresh_ms;
    if (!ok && !question->undecided)
        question_weigh_absence(question, error);
    if (!ok && !question->undecided && error->kind == ERROR_NOT_FOUND) {
        ask_key(key, &question->repository, what_of(topic), topic->reference);
        slot_put_absent(question->cache, key, error, false, question_absence_ms(question),
                        question->writes);
    }
    return ok;
}

bool listing_answer_tags_by_owner(struct question *question, struct error *error) {
    const struct owner_topic topic = {UPSTREAM_TAGS, &question->repository.name, NULL};
    return answer_by_owner(question, &topic, error);
}

bool listing_answer_referrers_by_owner(struct question *question, struct error *error) {
    const struct owner_topic topic = {UPSTREAM_REFERRERS, &question->repository.name,
                                      &question->reference};
    return answer_by_owner(question, &topic, error);
}

/* ---- responses to clients ---- */

/* Whether upstream's failure may be hidden behind the held list. That nothing refers to an image is
 * only true as long as upstream says so. */
static bool may_serve_stale(const struct repository *repository, const struct document *held,
                            const struct error *error) {
    if (link_ttl(repository) != INT64_MAX && link_is_refusal(error))
        return false;
    if (error->kind == ERROR_CLOSED) /* nobody is there to be served */
        return false;
    return held && (error->kind != ERROR_NOT_FOUND || error->doubtful) && !is_empty_list(held);
}

static enum cache_outcome outcome_of(const struct question_result *answer) {
    if (answer->is_stale)
        return CACHE_STALE;
    if (answer->from_replica)
        return answer->joined ? CACHE_REPLICA_JOINED : CACHE_REPLICA;
    return answer->joined ? CACHE_JOINED : CACHE_MISS;
}

/* Finds a list in memory if it is fresh, else at its owner or at upstream, else a stale one in
 * memory. `inquiry` lacks only its key and `held`. */
static bool get(struct cache *cache, const struct cache_caller *caller,
                const struct inquiry *inquiry, const char *what, struct cache_result *result,
                struct error *error) {
    const bool is_tags = !inquiry->reference;
    const struct owner_topic topic = {is_tags ? UPSTREAM_TAGS : UPSTREAM_REFERRERS,
                                      &inquiry->repository->name, inquiry->reference};
    char key[KEY_SIZE];
    struct document *held;
    ask_key(key, inquiry->repository, what, inquiry->reference);
    enum slot_state state = slot_get(cache, key, &held, error);
    *result = (struct cache_result){.document = held, .outcome = CACHE_HIT};
    if (state == SLOT_FRESH)
        return true;
    if (state == SLOT_ABSENT)
        return false;
    struct inquiry whole = *inquiry;
    whole.key = key;
    whole.held = held;
    struct inquiry to_owner = whole;
    to_owner.to_replica = true;
    to_owner.answer = is_tags ? listing_answer_tags_by_owner : listing_answer_referrers_by_owner;
    struct question_result answer;
    if (question_ask_owner(cache, owner_is_another(cache, caller, &topic) ? &to_owner : NULL,
                           &whole, &answer, error)) {
        document_release(held);
        result->document = answer.document;
        result->outcome = outcome_of(&answer);
        return true;
    }
    if (may_serve_stale(inquiry->repository, held, error)) {
        ask_log_stale(inquiry->repository, "serving a stale list", NULL, error);
        result->outcome = CACHE_STALE;
        return true;
    }
    document_release(held);
    result->document = NULL;
    return false;
}

/* get() for the caller, who may be a replica. */
static bool get_for(struct cache *cache, const struct cache_caller *caller,
                    const struct inquiry *inquiry, const char *what, struct cache_result *result,
                    struct error *error) {
    char key[KEY_SIZE];
    bool ok = get(cache, caller, inquiry, what, result, error);
    ask_key(key, inquiry->repository, what, inquiry->reference);
    if (caller->ask != REPLICA_ASK_NONE)
        slot_read_life(cache, key, &result->age_ms, &result->max_age_ms);
    return ok;
}

/* Upstream failed with `why`, and no list is held: takes what the bucket knows of the tags. */
static bool take_bucket_tags(struct cache *cache, const struct cache_caller *caller,
                             const struct error *why, struct cache_result *result) {
    char key[KEY_SIZE];
    struct question_result answer;
    struct error ignored;
    if (!cache->tier || why->kind == ERROR_NOT_FOUND || why->kind == ERROR_DENIED ||
        why->kind == ERROR_CLOSED)
        return false;
    ask_key(key, caller->repository, "bucket-tags", NULL);
    const struct inquiry inquiry = {.key = key,
                                    .repository = caller->repository,
                                    .answer = answer_bucket_tags,
                                    .cancel = caller->cancel};
    if (!question_ask(cache, &inquiry, &answer, &ignored))
        return false;
    ask_log_stale(caller->repository, "serving the bucket's list of tags", NULL, why);
    *result = (struct cache_result){.document = answer.document, .outcome = CACHE_BUCKET};
    return true;
}

bool cache_tags(struct cache *cache, const struct cache_caller *caller, struct cache_result *result,
                struct error *error) {
    struct inquiry inquiry = {
        .repository = caller->repository, .answer = listing_answer_tags, .cancel = caller->cancel};
    return get_for(cache, caller, &inquiry, "tags", result, error) ||
           take_bucket_tags(cache, caller, error, result);
}

bool cache_referrers(struct cache *cache, const struct cache_caller *caller,
                     const struct digest *subject, struct cache_result *result,
                     struct error *error) {
    struct reference reference = ask_reference(subject);
    struct inquiry inquiry = {.repository = caller->repository,
                              .reference = &reference,
                              .answer = listing_answer_referrers,
                              .cancel = caller->cancel};
    return get_for(cache, caller, &inquiry, "referrers", result, error);
}
