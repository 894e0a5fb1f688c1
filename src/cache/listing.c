/* Tag lists and referrers: documents put together from upstream's pages. */
#include "cache/listing.h"
#include <jansson.h>
#include <stdlib.h>
#include "base/cleanup.h"
#include "base/json.h"
#include "base/log.h"
#include "cache/ask.h"
#include "cache/cache_private.h"
#include "oci/manifest.h"

enum {
    PAGE_LIMIT = 1000,          /* pages of one list; with more, upstream probably repeats itself */
    PAGE_SIZE_LIMIT = 16 << 20, /* bytes of one page */
    ENTRY_LIMIT = 1 << 20,      /* tags or referrers in all */
};

/* A list under way. On the heap, because a head is large. */
struct list {
    struct asking asking;
    struct question *question;
    const char *member; /* an array in each page, whose entries are gathered */
    json_t *all, *page; /* owned */
    char next[sizeof((struct upstream_head *)0)->next]; /* "": no further page */
};

static void list_free(struct list *list) {
    if (!list)
        return;
    json_decref(list->all);
    json_decref(list->page);
    ask_finish(&list->asking);
    free(list);
}

/* Reads a page. */
static bool accept_page(struct asking *asking, struct error *error) {
    struct list *list = asking->context;
    json_decref(list->page);
    list->page = bounded_json_load_by(0, asking->body.bytes, asking->body.length, error);
    if (!list->page && error->kind == ERROR_MEMORY)
        return false;
    const json_t *entries = json_object_get(list->page, list->member);
    if (json_is_object(list->page) && (!entries || json_is_array(entries) || json_is_null(entries)))
        return true;
    return error_set(error, ERROR_UNAVAILABLE, "upstream %s: the list of %s of %s is malformed",
                     list->question->repository.name.host, list->member,
                     list->question->repository.name.path);
}

/* Gets the next page and adds its entries. */
static bool add_page(struct list *list, struct error *error) {
    struct question *question = list->question;
    list->asking.request.page = list->next[0] ? list->next : NULL;
    if (!ask_get(question->cache, &question->repository, &list->asking, error))
        return false;
    memcpy(list->next, list->asking.head.next, sizeof list->next);
    json_t *entries = json_object_get(list->page, list->member);
    return !json_is_array(entries) || json_array_extend(list->all, entries) == 0 ||
           error_set(error, ERROR_MEMORY, "out of memory");
}

/* Gets a list page by page. */
static json_t *gather(struct question *question, enum upstream_what what, const char *reference,
                      const char *member, struct error *error) {
    struct list *list = calloc(1, sizeof *list);
    json_t *all = NULL;
    if (!list || !(list->all = json_array())) {
        error_set(error, ERROR_MEMORY, "out of memory");
        list_free(list);
        return NULL;
    }
    list->question = question;
    list->member = member;
    list->asking = (struct asking){.request = {.what = what, .reference = reference},
                                   .limit = PAGE_SIZE_LIMIT,
                                   .accept = accept_page,
                                   .context = list};
    bool ok = true;
    unsigned pages = 0;
    do
        ok = add_page(list, error);
    while (ok && list->next[0] && ++pages < PAGE_LIMIT &&
           json_array_size(list->all) <= ENTRY_LIMIT);
    if (ok)
        all = take(list->all);
    list_free(list);
    return all;
}

/* Makes `json` (released here) the question's document. */
static bool finish(struct question *question, const char *media_type, json_t *json,
                   struct error *error) {
    cleanup_json json_t *owned = json;
    cleanup_buffer struct buffer text = {0};
    struct digest digest;
    if (!bounded_json_dump(owned, JSON_COMPACT, &text) ||
        !digest_of(DIGEST_SHA256, text.bytes, text.length, &digest) ||
        !(question->document = document_new(&digest, media_type, text.length, true)))
        return error_set(error, ERROR_MEMORY, "out of memory");
    memcpy(question->document->bytes, text.bytes, text.length);
    slot_put(question->cache, question->key, question->document,
             ask_tag_ttl(&question->repository));
    return true;
}

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

bool listing_answer_tags(struct question *question, struct error *error) {
    cleanup_json json_t *tags = gather(question, UPSTREAM_TAGS, NULL, "tags", error);
    if (!tags) {
        if (error->kind == ERROR_NOT_FOUND)
            slot_put_absent(question->cache, question->key, error,
                            question->cache->negative_ttl_ms);
        return false;
    }
    json_t *sorted = sorted_tags(tags);
    return finish(
        question, "application/json",
        sorted ? json_pack("{s:s,s:o}", "name", question->repository.name.path, "tags", sorted)
               : NULL,
        error);
}

/* For an upstream without a referrers endpoint: reads the tag that clients write instead
 * (distribution-spec, "Referrers Tag Schema"). The result is an array of descriptors, empty if
 * there is no such tag. */
static json_t *fallback_referrers(struct question *question, struct error *error) {
    struct reference tag = {0};
    struct cache_result found;
    char digest[DIGEST_STRING_SIZE];
    digest_format(&question->reference.digest, digest);
    char *colon = strchr(digest, ':');
    *colon = '-';
    text_copy((struct text){digest, strnlen(digest, TAG_LIMIT)}, tag.tag, sizeof tag.tag);
    if (!cache_manifest(question->cache, &question->repository, &tag, false, &found, error))
        return error->kind == ERROR_NOT_FOUND ? json_array() : NULL;
    cleanup_json json_t *json =
        bounded_json_load_by(0, found.document->bytes, found.document->length, error);
    document_release(found.document);
    if (!json) /* it was valid JSON when it arrived, so the reason is missing memory */
        return NULL;
    json_t *manifests = json_object_get(json, "manifests");
    return json_is_array(manifests) ? json_incref(manifests) : json_array();
}

bool listing_answer_referrers(struct question *question, struct error *error) {
    char digest[DIGEST_STRING_SIZE];
    json_t *manifests =
        gather(question, UPSTREAM_REFERRERS, digest_format(&question->reference.digest, digest),
               "manifests", error);
    if (!manifests && (error->kind == ERROR_NOT_FOUND || error->kind == ERROR_UNSUPPORTED))
        manifests = fallback_referrers(question, error);
    if (!manifests)
        return false;
    return finish(question, MEDIA_OCI_INDEX,
                  json_pack("{s:i,s:s,s:o}", "schemaVersion", 2, "mediaType", MEDIA_OCI_INDEX,
                            "manifests", manifests),
                  error);
}

/* Finds a list in memory if it is fresh, else at upstream, else a stale one in memory. `inquiry`
 * lacks only its key and `held`. */
static bool get(struct cache *cache, const struct inquiry *inquiry, const char *what,
                struct cache_result *result, struct error *error) {
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
    struct question_result answer;
    if (question_ask(cache, &whole, &answer, error)) {
        document_release(held);
        result->document = answer.document;
        result->outcome = answer.joined ? CACHE_JOINED : CACHE_MISS;
        return true;
    }
    if (held && error->kind != ERROR_NOT_FOUND) {
        const struct repository_name *name = &inquiry->repository->name;
        log_at(LOG_WARN, "serving a stale list", LOG_STRING("upstream", name->host),
               LOG_STRING("repository", name->path), LOG_STRING("error", error->text));
        result->outcome = CACHE_STALE;
        return true;
    }
    document_release(held);
    result->document = NULL;
    return false;
}

bool cache_tags(struct cache *cache, const struct repository *repository,
                struct cache_result *result, struct error *error) {
    struct inquiry inquiry = {.repository = repository, .answer = listing_answer_tags};
    return get(cache, &inquiry, "tags", result, error);
}

bool cache_referrers(struct cache *cache, const struct repository *repository,
                     const struct digest *subject, struct cache_result *result,
                     struct error *error) {
    struct reference reference = ask_reference(subject);
    struct inquiry inquiry = {
        .repository = repository, .reference = &reference, .answer = listing_answer_referrers};
    return get(cache, &inquiry, "referrers", result, error);
}
