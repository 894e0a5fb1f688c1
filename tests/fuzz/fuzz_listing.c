/* Tag lists, referrers and the index of the fallback tag, as pages that upstream sends: the first
 * byte chooses which, and a NUL byte ends a page. The result is one list that can be parsed. */
#include <stdio.h>
#include <string.h>
#include "base/cleanup.h"
#include "base/json.h"
#include "cache/cache_private.h"
#include "cache/listing.h"
#include "fuzz.h"
#include "oci/manifest.h"
#include "oci/referrers.h"

struct upstream {
    struct upstream_settings settings;
    struct text rest; /* pages to come */
    bool no_referrers;
    unsigned pages; /* that were asked for */
};

const char *upstream_name(const struct upstream *upstream) {
    (void)upstream;
    return "fuzz.test";
}

const struct upstream_settings *upstream_settings(const struct upstream *upstream) {
    return &upstream->settings;
}

struct upstream_held *upstream_held(struct upstream *upstream) {
    (void)upstream;
    static struct upstream_held held;
    return &held;
}

struct upstream *upstream_keep(struct upstream *upstream) {
    return upstream;
}

void upstream_release(struct upstream *upstream) {
    (void)upstream;
}

unsigned upstream_places(const struct upstream *upstream) {
    (void)upstream;
    return 1;
}

void upstream_target_finish(struct upstream_target *target) {
    (void)target;
}

/* There is no bucket. */
bool __wrap_tier_list_tags(struct tier *tier, const struct repository_name *name,
                           bool (*each)(void *context, const char *tag, struct error *error),
                           void *context, struct tier_visit *visit, struct error *error);
bool __wrap_tier_list_tags(struct tier *tier, const struct repository_name *name,
                           bool (*each)(void *context, const char *tag, struct error *error),
                           void *context, struct tier_visit *visit, struct error *error) {
    (void)tier, (void)name, (void)each, (void)context, (void)visit;
    return error_set(error, ERROR_UNAVAILABLE, "no bucket");
}

bool upstream_perform(struct upstream *upstream, const struct upstream_request *request,
                      const struct upstream_sink *sink, struct error *error) {
    struct upstream_head head = {.status = 200};
    if (upstream->no_referrers)
        return error_set(error, ERROR_NOT_FOUND, "no such endpoint");
    struct text page = text_cut(upstream->rest, '\0', &upstream->rest);
    MUST(request->what == UPSTREAM_TAGS || request->what == UPSTREAM_REFERRERS);
    if (upstream->rest.at)
        snprintf(head.next, sizeof head.next, "/v2/app/tags/list?last=%u", ++upstream->pages);
    return sink->on_head(sink->context, &head, error) &&
           sink->on_bytes(sink->context, page.at, page.length, error);
}

/* The fallback tag's manifest. It is JSON, because the cache checks that when it arrives. */
bool __wrap_cache_manifest(struct cache *cache, const struct cache_caller *caller,
                           const struct reference *reference, bool head_only,
                           struct cache_result *result, struct error *error);
bool __wrap_cache_manifest(struct cache *cache, const struct cache_caller *caller,
                           const struct reference *reference, bool head_only,
                           struct cache_result *result, struct error *error) {
    (void)cache, (void)head_only;
    struct text body = caller->repository->upstream->rest;
    struct digest digest = {0};
    MUST(reference_is_tag(text_of(reference->tag)));
    *result = (struct cache_result){.document =
                                        document_new(&digest, MEDIA_OCI_INDEX, body.length, true)};
    if (!result->document)
        return error_set(error, ERROR_MEMORY, "out of memory");
    if (body.length > 0)
        memcpy(result->document->bytes, body.at, body.length);
    return true;
}

static void check_tags(const struct document *document) {
    cleanup_json json_t *json = bounded_json_load(document->bytes, document->length, NULL);
    const json_t *tags = json_object_get(json, "tags");
    const char *before = "";
    MUST(json_is_array(tags));
    for (size_t i = 0; i < json_array_size(tags); i++) {
        const char *tag = json_string_value(json_array_get(tags, i));
        MUST(tag && reference_is_tag(text_of(tag)) && strcmp(before, tag) < 0);
        before = tag;
    }
}

static void check_referrers(const struct document *document) {
    cleanup_buffer struct buffer out = {0};
    bool filtered;
    struct error error;
    if (document->length <= MANIFEST_SIZE_LIMIT)
        MUST(referrers_filter(document->bytes, document->length, "a/b", &out, &filtered, &error));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    if (length == 0)
        return 0;
    struct upstream upstream = {.rest = {(const char *)bytes + 1, length - 1}};
    struct cache cache = {.document_memory = 1 << 20};
    struct error error = {0};
    lock_init(&cache.slots_lock);
    MUST(named_init(&cache.named));
    struct question question = {.cache = &cache, .key = "key"};
    question.repository.upstream = &upstream;
    MUST(repository_name_parse(text_of("fuzz.test"), text_of("app"), &question.repository.name));
    MUST(digest_of(DIGEST_SHA256, "", 0, &question.reference.digest));
    question.reference.is_digest = true;
    bool tags = *bytes % 3 == 0;
    upstream.no_referrers = *bytes % 3 == 2;
    bool ok =
        tags ? listing_answer_tags(&question, &error) : listing_answer_referrers(&question, &error);
    MUST(ok || error.kind != ERROR_NONE);
    if (ok)
        (tags ? check_tags : check_referrers)(question.document);
    document_release(question.document);
    cache_forget(&cache);
    named_finish(&cache.named);
    lock_finish(&cache.slots_lock);
    return 0;
}
