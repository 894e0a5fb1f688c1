/* Renews what is known of a repository that was written to. */
#include "cache/written.h"

#include <stdio.h>
#include <string.h>
#include "cache/ask.h"
#include "cache/cache_private.h"
#include "cache/link.h"
#include "cache/manifest.h"
#include "oci/manifest.h"
#include "store/records.h"

static void outdate(struct cache *cache, const struct repository *repository, const char *what,
                    const struct reference *reference) {
    char key[KEY_SIZE];
    ask_key(key, repository, what, reference);
    slot_outdate(cache, key);
}

/* ---- blobs ---- */

bool cache_make_space(struct cache *cache, uint64_t bytes, struct error *error) {
    return space_can_hold(&cache->upkeep->space, bytes, error) &&
           space_ensure(&cache->upkeep->space, bytes, error);
}

void cache_blob_written(struct cache *cache, const struct repository *repository,
                        const struct digest *digest, uint64_t size, bool is_stored) {
    const struct reference reference = ask_reference(digest);
    struct error ignored;
    outdate(cache, repository, "blob", &reference);
    if (is_stored)
        store_link_blob_size(cache->store, &repository->name, digest, size, &ignored);
    else
        store_link_blob(cache->store, &repository->name, digest, &ignored);
    link_confirm(cache, repository, LINK_BLOB, digest, 0);
    if (is_stored)
        tier_note_link(cache->tier, &repository->name, digest);
}

void cache_blob_renewed(struct cache *cache, const struct repository *repository,
                        const struct digest *digest) {
    const struct reference reference = ask_reference(digest);
    outdate(cache, repository, "blob", &reference);
}

void cache_blob_deleted(struct cache *cache, const struct repository *repository,
                        const struct digest *digest) {
    cache_settle(cache);
    store_link_delete(cache->store, &repository->name, LINK_BLOB, digest, NULL);
    slot_outdate_repository(cache, repository);
    named_forget(&cache->named);
}

/* ---- manifests ---- */

/* The tag under which the referrers of a digest stand where there is no referrers API
 * (distribution-spec, "Referrers Tag Schema"). */
static struct reference fallback_tag(const struct digest *subject) {
    struct reference tag = {.is_digest = false};
    char text[DIGEST_STRING_SIZE];
    digest_format(subject, text);
    text[strcspn(text, ":")] = '-';
    text_copy((struct text){text, strnlen(text, TAG_LIMIT)}, tag.tag, sizeof tag.tag);
    return tag;
}

/* The digest whose referrers a tag lists; false: it is no such tag. */
static bool subject_of_tag(const char *tag, struct digest *subject) {
    char text[TAG_LIMIT + 1];
    snprintf(text, sizeof text, "%s", tag);
    char *dash = strchr(text, '-');
    if (dash)
        *dash = ':';
    return dash && digest_parse(text_of(text), subject);
}

static void outdate_referrers(struct cache *cache, const struct repository *repository,
                              const struct digest *subject) {
    const struct reference by_digest = ask_reference(subject), tag = fallback_tag(subject);
    outdate(cache, repository, "referrers", &by_digest);
    outdate(cache, repository, "manifest", &tag);
}

/* Outdates what memory has of a manifest that was put, of the lists in which it now stands, and of
 * what was missing. *subject: the digest whose referrers are another list now; its algorithm is 0:
 * none. */
static void outdate_written(struct cache *cache, const struct repository *repository,
                            const struct reference *reference, struct digest *subject) {
    if (!reference->is_digest && !subject->algorithm && !subject_of_tag(reference->tag, subject))
        *subject = (struct digest){0};
    outdate(cache, repository, "tags", NULL);
    outdate(cache, repository, "manifest", reference);
    if (subject->algorithm)
        outdate_referrers(cache, repository, subject);
    slot_outdate_absences(cache, repository);
}

/* What the store has of the tag that lists the referrers may be out of date, too. */
static void forget_fallback_tag(struct cache *cache, const struct repository *repository,
                                const struct digest *subject) {
    if (!subject->algorithm)
        return;
    const struct reference tag = fallback_tag(subject);
    store_tag_delete(cache->store, &repository->name, tag.tag, NULL);
    outdate(cache, repository, "manifest", &tag);
}

struct digest cache_subject(const void *bytes, size_t length) {
    struct manifest manifest = {0};
    struct digest subject = {0};
    if (!manifest_parse(bytes, length, &manifest, NULL))
        return subject;
    for (size_t i = 0; i < manifest.count; i++) {
        if (manifest.descriptors[i].role == DESCRIPTOR_SUBJECT)
            subject = manifest.descriptors[i].digest;
    }
    manifest_finish(&manifest);
    return subject;
}

void cache_manifest_written(struct cache *cache, const struct repository *repository,
                            const struct cache_pushed *pushed) {
    const struct reference by_digest = ask_reference(pushed->digest);
    struct digest subject = cache_subject(pushed->bytes, pushed->length);
    outdate_written(cache, repository, pushed->reference, &subject);
    outdate(cache, repository, "manifest", &by_digest);
    cache_settle(cache); /* what is stored after this is not about an earlier tag */
    forget_fallback_tag(cache, repository, &subject);
    manifest_keep_pushed(cache, repository, pushed);
}

void cache_manifest_renewed(struct cache *cache, const struct repository *repository,
                            const struct reference *reference, const struct digest *subject) {
    struct digest of = *subject;
    outdate_written(cache, repository, reference, &of);
    cache_settle(cache);
    forget_fallback_tag(cache, repository, &of);
    if (!reference->is_digest) {
        store_tag_delete(cache->store, &repository->name, reference->tag, NULL);
        outdate(cache, repository, "manifest", reference);
    }
}

/* Tags that name a digest, of one repository. */
struct tags_of {
    struct cache *cache;
    const struct repository *repository;
    const struct digest *digest;
};

static bool delete_tag_of(void *context, const char *tag, const struct tag_record *record) {
    const struct tags_of *tags = context;
    if (digest_equal(&record->digest, tags->digest))
        store_tag_delete(tags->cache->store, &tags->repository->name, tag, NULL);
    return true;
}

void cache_manifest_deleted(struct cache *cache, const struct repository *repository,
                            const struct reference *reference) {
    struct tags_of tags = {cache, repository, &reference->digest};
    slot_outdate_repository(cache, repository);
    cache_settle(cache);
    if (reference->is_digest) {
        store_tags(cache->store, &repository->name, delete_tag_of, &tags, NULL);
        store_link_delete(cache->store, &repository->name, LINK_MANIFEST, &reference->digest, NULL);
        named_forget(&cache->named);
    } else {
        store_tag_delete(cache->store, &repository->name, reference->tag, NULL);
    }
    slot_outdate_repository(cache, repository);
}
