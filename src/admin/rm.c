/*
 * Removes images.
 *
 * The records of each repository go first, so that nobody finds the image any more. The blobs that
 * no repository links go afterwards, many at once.
 */
#include "admin/rm.h"

#include "admin/bucket_orders.h"
#include "admin/image_pattern.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "cache/image.h"
#include "cache/repository.h"
#include "store/blobs.h"
#include "store/records.h"

enum { UNLINKED_LIMIT = 50000 }; /* digests kept in memory until their blobs are deleted */

struct removal {
    struct order_target *target;
    const struct line_sink *sink;
    struct digest_set unlinked; /* a repository linked them before this order */
    uint64_t images, blobs, bytes;
    uint64_t elsewhere;           /* replicas that had images that a name means */
    uint64_t in_bucket;           /* images that went from the bucket */
    struct member_list unreached; /* replicas that have not forgotten a name */
    struct error bucket_failure;  /* kind NONE: the bucket has done what it was asked */
};

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "out of memory");
}

static bool write_image(struct removal *removal, const struct repository_name *name,
                        const char *tag, const struct digest *digest, struct error *error) {
    char text[DIGEST_STRING_SIZE];
    removal->images++;
    log_at(LOG_INFO, "image removed", LOG_STRING("upstream", name->host),
           LOG_STRING("repository", name->path), LOG_STRING("tag", tag),
           LOG_STRING("digest", digest_format(digest, text)));
    return line_write(removal->sink,
                      json_pack("{s:s, s:s, s:s?, s:o}", "upstream", name->host, "repository",
                                name->path, "tag", tag, "digest", line_digest(digest)),
                      error);
}

/* ---- blobs ---- */

struct links {
    const struct digest_set *wanted;
    struct digest_set found;
    bool failed;
};

static bool find_link(void *context, const struct digest *digest) {
    struct links *links = context;
    links->failed =
        digest_set_has(links->wanted, digest) && !digest_set_add(&links->found, digest, NULL);
    return !links->failed;
}

/* Finds the unlinked digests that another repository still links. */
static bool find_links(struct removal *removal, struct links *links, struct error *error) {
    struct store *store = removal->target->store;
    cleanup_repository_names struct repository_names names = {0};
    if (!repository_names_read(store, &names, error))
        return false;
    for (size_t i = 0; i < names.count; i++) {
        const struct repository_name *name = &names.names[i];
        if (!store_links(store, name, LINK_BLOB, find_link, links, error) ||
            !store_links(store, name, LINK_MANIFEST, find_link, links, error))
            return false;
        if (links->failed)
            return no_memory(error);
    }
    return true;
}

static bool remove_blob(struct removal *removal, const struct digest *digest, struct error *error) {
    struct store *store = removal->target->store;
    uint64_t freed;
    if (!store_blob_has(store, digest, NULL))
        return true;
    if (!store_blob_remove(store, digest, &freed, error))
        return false;
    removal->blobs++;
    removal->bytes += freed;
    return true;
}

static bool remove_unlinked(struct removal *removal, struct error *error) {
    struct links links = {.wanted = &removal->unlinked};
    const struct digest *digest;
    bool ok = removal->unlinked.count == 0 || find_links(removal, &links, error);
    for (size_t at = 0; ok && (digest = digest_set_next(&removal->unlinked, &at));)
        ok = digest_set_has(&links.found, digest) || remove_blob(removal, digest, error);
    digest_set_finish(&links.found);
    digest_set_finish(&removal->unlinked);
    return ok;
}

/* Deletes the links of a digest, as a manifest and as a blob. */
static bool unlink_digest(struct removal *removal, const struct repository_name *name,
                          const struct digest *digest, struct error *error) {
    struct store *store = removal->target->store;
    if (!store_link_delete(store, name, LINK_MANIFEST, digest, error) ||
        !store_link_delete(store, name, LINK_BLOB, digest, error))
        return false;
    return digest_set_add(&removal->unlinked, digest, NULL) || no_memory(error);
}

/* ---- a whole repository ---- */

struct digest_collection {
    struct digest_set *digests;
    bool failed;
};

static bool collect(void *context, const struct digest *digest) {
    struct digest_collection *collection = context;
    collection->failed = !digest_set_add(collection->digests, digest, NULL);
    return !collection->failed;
}

static bool remove_links(struct removal *removal, const struct repository_name *name,
                         enum link_kind kind, struct error *error) {
    cleanup_digest_set struct digest_set digests = {0};
    struct digest_collection collection = {.digests = &digests};
    const struct digest *digest;
    if (!store_links(removal->target->store, name, kind, collect, &collection, error))
        return false;
    bool ok = !collection.failed || no_memory(error);
    for (size_t at = 0; ok && (digest = digest_set_next(&digests, &at));) {
        ok = unlink_digest(removal, name, digest, error);
        if (ok && removal->unlinked.count >= UNLINKED_LIMIT)
            ok = remove_unlinked(removal, error);
    }
    return ok;
}

static bool remove_tag(struct removal *removal, const struct repository_records *records,
                       const struct repository_tag *tag, struct error *error) {
    const struct repository_name *name = records->name;
    return store_tag_delete(records->store, name, tag->tag, error) &&
           write_image(removal, name, tag->tag, &tag->digest, error);
}

static bool remove_repository(struct removal *removal, const struct repository_records *records,
                              struct error *error) {
    const struct digest *digest;
    bool ok = true;
    for (size_t i = 0; ok && i < records->tag_count; i++)
        ok = remove_tag(removal, records, &records->tags[i], error);
    for (size_t at = 0; ok && (digest = digest_set_next(&records->manifests, &at));) {
        if (!digest_set_has(&records->tagged, digest) &&
            !digest_set_has(&records->children, digest))
            ok = write_image(removal, records->name, NULL, digest, error);
    }
    return ok && remove_links(removal, records->name, LINK_MANIFEST, error) &&
           remove_links(removal, records->name, LINK_BLOB, error);
}

/* ---- some images of a repository ---- */

/* Removes the tags that match. Digests of tags that stay go to `tagged`; digests of removed tags go
 * to `gone`, unless a tag that stays has the same digest. */
static bool remove_tags(struct removal *removal, const struct repository_records *records,
                        const struct image_pattern *pattern, struct digest_set *gone,
                        struct digest_set *tagged, struct error *error) {
    for (size_t i = 0; i < records->tag_count; i++) {
        const struct repository_tag *tag = &records->tags[i];
        if (!image_pattern_matches_tag(pattern, tag->tag, &tag->digest) &&
            !digest_set_add(tagged, &tag->digest, NULL))
            return no_memory(error);
    }
    for (size_t i = 0; i < records->tag_count; i++) {
        const struct repository_tag *tag = &records->tags[i];
        if (!image_pattern_matches_tag(pattern, tag->tag, &tag->digest))
            continue;
        if (!remove_tag(removal, records, tag, error))
            return false;
        if (!digest_set_has(tagged, &tag->digest) && !digest_set_add(gone, &tag->digest, NULL))
            return no_memory(error);
    }
    return true;
}

/* Adds the parts of all images in `roots`. */
static bool add_parts(struct store *store, const struct digest_set *roots, struct digest_set *parts,
                      struct error *error) {
    const struct digest *root, *part;
    for (size_t at = 0; (root = digest_set_next(roots, &at));) {
        cleanup_image struct image image = {0};
        if (!image_read(store, root, &image, error))
            return false;
        for (size_t next = 0; (part = digest_set_next(&image.parts, &next));) {
            if (!digest_set_add(parts, part, NULL))
                return no_memory(error);
        }
    }
    return true;
}

/* Finds the manifests that stay: those that still have a tag, and those that are no part of an
 * image that goes. */
static bool find_staying(const struct repository_records *records, const struct digest_set *gone,
                         const struct digest_set *going, const struct digest_set *tagged,
                         struct digest_set *staying, struct error *error) {
    const struct digest *digest;
    for (size_t at = 0; (digest = digest_set_next(&records->manifests, &at));) {
        bool stays = !digest_set_has(gone, digest) &&
                     (digest_set_has(tagged, digest) || !digest_set_has(going, digest));
        if (stays && !digest_set_add(staying, digest, NULL))
            return no_memory(error);
    }
    return true;
}

/* Deletes the links of the images of `gone`, and of digests that no other image of the repository
 * uses. */
static bool remove_images(struct removal *removal, const struct repository_records *records,
                          const struct digest_set *gone, const struct digest_set *tagged,
                          bool by_digest, struct error *error) {
    struct store *store = records->store;
    cleanup_digest_set struct digest_set going = {0}, staying = {0}, needed = {0};
    const struct digest *digest;
    if (!add_parts(store, gone, &going, error) ||
        !find_staying(records, gone, &going, tagged, &staying, error) ||
        !add_parts(store, &staying, &needed, error))
        return false;
    for (size_t at = 0; (digest = digest_set_next(&going, &at));) {
        /* A digest that was given by name goes even if an index still names it. */
        bool named = by_digest && digest_set_has(gone, digest);
        if ((named || !digest_set_has(&needed, digest)) &&
            !unlink_digest(removal, records->name, digest, error))
            return false;
    }
    return removal->unlinked.count < UNLINKED_LIMIT || remove_unlinked(removal, error);
}

static bool remove_named(struct removal *removal, const struct repository_records *records,
                         const struct image_pattern *pattern, struct error *error) {
    cleanup_digest_set struct digest_set gone = {0}, tagged = {0};
    bool by_digest = pattern->digest.algorithm != 0;
    if (!remove_tags(removal, records, pattern, &gone, &tagged, error))
        return false;
    if (by_digest && digest_set_has(&records->manifests, &pattern->digest)) {
        if (!digest_set_has(&gone, &pattern->digest) &&
            !write_image(removal, records->name, NULL, &pattern->digest, error))
            return false;
        if (!digest_set_add(&gone, &pattern->digest, NULL))
            return no_memory(error);
    }
    return gone.count == 0 || remove_images(removal, records, &gone, &tagged, by_digest, error);
}

/* ---- all images that a pattern means ---- */

static bool remove_from(struct removal *removal, const struct repository_name *repository,
                        const struct image_pattern *pattern, struct error *error) {
    cleanup_repository_records struct repository_records records = {0};
    if (!order_target_check(removal->target, removal->sink, error) ||
        !repository_records_read(removal->target->store, repository, &records, error))
        return false;
    return image_pattern_is_whole(pattern) ? remove_repository(removal, &records, error)
                                           : remove_named(removal, &records, pattern, error);
}

/* A bucket that fails does not keep the order from removing what is here; it fails at its end. */
static bool remove_in_bucket(struct removal *removal, const struct image_pattern *pattern,
                             struct error *error) {
    struct error why = {0};
    if (bucket_orders_rm(removal->target, pattern, removal->sink, &removal->in_bucket, &why))
        return true;
    if (why.kind != ERROR_CLOSED) {
        removal->bucket_failure = why;
        return true;
    }
    if (error)
        *error = why;
    return false;
}

static bool forget_in(struct removal *removal, const struct member *member, const char *text,
                      struct error *error) {
    const struct line_sink *sink = removal->sink;
    const struct cancel cancel = {removal->target->stopping, sink->is_wanted, sink->context};
    struct error why = {0};
    bool had_any;
    if (replica_asker_forget(removal->target->replicas, member, text, &cancel, &had_any, &why)) {
        removal->elsewhere += had_any;
        return true;
    }
    if (why.kind == ERROR_CLOSED) {
        if (error)
            *error = why;
        return false;
    }
    member_list_add(&removal->unreached, member);
    log_at(LOG_WARN, "a replica was not reached to remove an image",
           LOG_STRING("replica", member->text), LOG_STRING("error", why.text));
    return line_write(sink, json_pack("{s:s, s:s}", "unreached", member->text, "why", why.text),
                      error);
}

/* A replica that is not reached is named once, and asked no more. */
static bool remove_in_replicas(struct removal *removal, const char *text, struct error *error) {
    struct replica_asker *replicas = removal->target->replicas;
    struct member_figures members[MEMBERS_LIMIT];
    const size_t count =
        replicas ? members_describe(replica_asker_members(replicas), clock_ms(), members) : 0;
    bool ok = true;
    for (size_t i = 0; i < count && ok; i++) {
        if (members[i].state != MEMBER_SELF &&
            member_list_find(&removal->unreached, &members[i].member) < 0)
            ok = forget_in(removal, &members[i].member, text, error);
    }
    return ok;
}

static bool remove_all(struct removal *removal, const struct image_pattern *pattern,
                       const char *text, struct error *error) {
    cleanup_repository_names struct repository_names names = {0};
    uint64_t before = removal->images, before_in_bucket = removal->in_bucket,
             before_elsewhere = removal->elsewhere;
    if (!repository_names_read(removal->target->store, &names, error))
        return false;
    for (size_t i = 0; i < names.count; i++) {
        const struct repository_name *repository = &names.names[i];
        if (image_pattern_matches_repository(pattern, repository) &&
            !remove_from(removal, repository, pattern, error))
            return false;
    }
    if (!remove_in_bucket(removal, pattern, error) || !remove_in_replicas(removal, text, error))
        return false;
    return removal->images > before || removal->in_bucket > before_in_bucket ||
           removal->elsewhere > before_elsewhere || removal->bucket_failure.kind != ERROR_NONE ||
           line_write(removal->sink, json_pack("{s:s}", "unmatched", text), error);
}

bool order_rm(struct order_target *target, const char *const *texts, const struct line_sink *sink,
              struct error *error) {
    struct removal removal = {.target = target, .sink = sink};
    size_t count;
    struct error why = {0};
    cleanup_free struct image_pattern *names = image_patterns_parse(texts, &count, error);
    /* image_read() finds the parts of an image only among blobs that the scan has found. */
    bool ok = names && order_target_wait_for_scan(target, sink, error);
    for (size_t i = 0; ok && i < count; i++)
        ok = remove_all(&removal, &names[i], texts[i], error);
    /* Blobs that were unlinked are deleted even after a failure, because no later order would find
     * them. */
    if (names && !remove_unlinked(&removal, &why) && ok) {
        ok = false;
        if (error)
            *error = why;
    }
    if (names && target->cache)
        cache_forget(target->cache);
    if (ok && removal.bucket_failure.kind != ERROR_NONE) {
        ok = false;
        if (error)
            *error = removal.bucket_failure;
    }
    return ok && line_write(sink,
                            json_pack("{s:b, s:o, s:o}", "done", true, "blobs",
                                      line_size(removal.blobs), "bytes", line_size(removal.bytes)),
                            error);
}
