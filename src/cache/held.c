/* Answers from memory alone, for threads that must not wait. cache_blob_known() is in blob.c. */
#include "cache/ask.h"
#include "cache/cache_private.h"
#include "cache/link.h"
#include "cache/small.h"

/* What is held under the key, and may be served now. *is_aging: it is time to ask for it again. */
static enum cache_held held(struct cache *cache, const char *key, bool needs_bytes, bool *is_aging,
                            struct cache_result *result, struct error *error) {
    struct document *document;
    enum slot_state state = slot_get(cache, key, &document, error);
    *is_aging = state == SLOT_AGING;
    *result = (struct cache_result){.outcome = CACHE_HIT};
    if (state == SLOT_ABSENT || (state == SLOT_ABSENT_HEAD && !needs_bytes))
        return CACHE_HELD_ABSENT;
    if ((state == SLOT_FRESH || state == SLOT_AGING) && (document->has_bytes || !needs_bytes)) {
        result->document = document;
        return CACHE_HELD;
    }
    document_release(document);
    return CACHE_NOT_HELD;
}

enum cache_held cache_manifest_held(struct cache *cache, const struct repository *repository,
                                    const struct reference *reference, bool head_only,
                                    struct cache_result *result, struct error *error) {
    char key[KEY_SIZE];
    bool is_aging;
    ask_key(key, repository, "manifest", reference);
    enum cache_held found = held(cache, key, !head_only, &is_aging, result, error);
    if (found == CACHE_HELD && is_aging)
        refresh_note(cache, repository, reference, result->document);
    if (found != CACHE_HELD ||
        (link_is_good(cache, repository, LINK_MANIFEST, &result->document->digest) &&
         uses_note(cache, result->document)))
        return found;
    document_release(result->document);
    result->document = NULL;
    return CACHE_NOT_HELD;
}

enum cache_held cache_tags_held(struct cache *cache, const struct repository *repository,
                                struct cache_result *result, struct error *error) {
    char key[KEY_SIZE];
    bool is_aging;
    ask_key(key, repository, "tags", NULL);
    return held(cache, key, true, &is_aging, result, error);
}

enum cache_held cache_referrers_held(struct cache *cache, const struct repository *repository,
                                     const struct digest *subject, struct cache_result *result,
                                     struct error *error) {
    char key[KEY_SIZE];
    bool is_aging;
    struct reference reference = ask_reference(subject);
    ask_key(key, repository, "referrers", &reference);
    return held(cache, key, true, &is_aging, result, error);
}

enum cache_held cache_blob_held(struct cache *cache, const struct repository *repository,
                                const struct digest *digest, struct cache_result *result) {
    uint64_t size;
    *result = (struct cache_result){.outcome = CACHE_HIT};
    if (!cache_blob_known(cache, repository, digest, &size) || size > SMALL_MOST ||
        !(result->document = small_find(cache, digest)))
        return CACHE_NOT_HELD;
    if (result->document->length == size && uses_note(cache, result->document))
        return CACHE_HELD;
    document_release(result->document);
    result->document = NULL;
    return CACHE_NOT_HELD;
}
