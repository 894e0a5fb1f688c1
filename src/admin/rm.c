/*
 * Removing images: first the records of each repository, so that nobody finds the image any more,
 * then, once for many of them, the blobs that no repository links now.
 */
#include "admin/image.h"
#include "admin/image_pattern.h"
#include "admin/line.h"
#include "base/cleanup.h"
#include "base/log.h"

enum { UNLINKED_LIMIT = 50000 }; /* digests held until their blobs go */

struct removal {
    struct contents *contents;
    const struct contents_sink *sink;
    struct digest_set unlinked; /* from some repository */
    uint64_t images, blobs, bytes;
};

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "out of memory");
}

static bool tell(struct removal *removal, const struct repository_name *name, const char *tag,
                 const struct digest *digest, struct error *error) {
    char text[DIGEST_STRING_SIZE];
    removal->images++;
    log_at(LOG_INFO, "image removed", LOG_STRING("upstream", name->host),
           LOG_STRING("repository", name->path), LOG_STRING("tag", tag),
           LOG_STRING("digest", digest_format(digest, text)));
    return contents_write(removal->sink,
                          json_pack("{s:s, s:s, s:s?, s:o}", "upstream", name->host, "repository",
                                    name->path, "tag", tag, "digest", contents_digest(digest)),
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

/* Which of the unlinked digests a repository links all the same. */
static bool find_links(struct removal *removal, struct links *links, struct error *error) {
    struct store *store = removal->contents->store;
    cleanup_repository_names struct repository_names names = {0};
    if (!repository_names_read(store, &names, error))
        return false;
    for (size_t i = 0; i < names.count; i++) {
        const struct repository_name *name = &names.names[i];
        if (!store_links(store, name->host, name->path, LINK_BLOB, find_link, links, error) ||
            !store_links(store, name->host, name->path, LINK_MANIFEST, find_link, links, error))
            return false;
        if (links->failed)
            return no_memory(error);
    }
    return true;
}

static bool remove_blob(struct removal *removal, const struct digest *digest, struct error *error) {
    struct store *store = removal->contents->store;
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
    digest_set_free(&links.found);
    digest_set_free(&removal->unlinked);
    return ok;
}

/* Deletes both links of a digest, whichever there are. */
static bool unlink_digest(struct removal *removal, const struct repository_name *name,
                          const struct digest *digest, struct error *error) {
    struct store *store = removal->contents->store;
    if (!store_link_delete(store, name->host, name->path, LINK_MANIFEST, digest, error) ||
        !store_link_delete(store, name->host, name->path, LINK_BLOB, digest, error))
        return false;
    return digest_set_add(&removal->unlinked, digest, NULL) || no_memory(error);
}

/* ---- a whole repository ---- */

struct collecting {
    struct digest_set *digests;
    bool failed;
};

static bool collect(void *context, const struct digest *digest) {
    struct collecting *collecting = context;
    collecting->failed = !digest_set_add(collecting->digests, digest, NULL);
    return !collecting->failed;
}

static bool remove_links(struct removal *removal, const struct repository_name *name,
                         enum link_kind kind, struct error *error) {
    cleanup_digest_set struct digest_set digests = {0};
    struct collecting collecting = {.digests = &digests};
    const struct digest *digest;
    if (!store_links(removal->contents->store, name->host, name->path, kind, collect, &collecting,
                     error))
        return false;
    bool ok = !collecting.failed || no_memory(error);
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
    return store_tag_delete(records->store, name->host, name->path, tag->tag, error) &&
           tell(removal, name, tag->tag, &tag->digest, error);
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
            ok = tell(removal, records->name, NULL, digest, error);
    }
    return ok && remove_links(removal, records->name, LINK_MANIFEST, error) &&
           remove_links(removal, records->name, LINK_BLOB, error);
}

/* ---- some images of one ---- */

/* Removes the tags that are meant. Their digests go to `gone`, unless a tag that stays has it too;
 * the digests of those go to `tagged`. */
static bool remove_tags(struct removal *removal, const struct repository_records *records,
                        const struct content_name *name, struct digest_set *gone,
                        struct digest_set *tagged, struct error *error) {
    for (size_t i = 0; i < records->tag_count; i++) {
        const struct repository_tag *tag = &records->tags[i];
        if (!content_name_takes_tag(name, tag->tag, &tag->digest) &&
            !digest_set_add(tagged, &tag->digest, NULL))
            return no_memory(error);
    }
    for (size_t i = 0; i < records->tag_count; i++) {
        const struct repository_tag *tag = &records->tags[i];
        if (!content_name_takes_tag(name, tag->tag, &tag->digest))
            continue;
        if (!remove_tag(removal, records, tag, error))
            return false;
        if (!digest_set_has(tagged, &tag->digest) && !digest_set_add(gone, &tag->digest, NULL))
            return no_memory(error);
    }
    return true;
}

/* Adds all that the images of `roots` are made of. */
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

/* The manifests that stay: those that are tagged still, or not a part of what goes. */
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

/* Unlinks the images of `gone` and what only they use in the repository. */
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
        bool named = by_digest && digest_set_has(gone, digest); /* an index may name it still */
        if ((named || !digest_set_has(&needed, digest)) &&
            !unlink_digest(removal, records->name, digest, error))
            return false;
    }
    return removal->unlinked.count < UNLINKED_LIMIT || remove_unlinked(removal, error);
}

static bool remove_named(struct removal *removal, const struct repository_records *records,
                         const struct content_name *name, struct error *error) {
    cleanup_digest_set struct digest_set gone = {0}, tagged = {0};
    bool by_digest = name->digest.algorithm != 0;
    if (!remove_tags(removal, records, name, &gone, &tagged, error))
        return false;
    if (by_digest && digest_set_has(&records->manifests, &name->digest)) {
        if (!digest_set_has(&gone, &name->digest) &&
            !tell(removal, records->name, NULL, &name->digest, error))
            return false;
        if (!digest_set_add(&gone, &name->digest, NULL))
            return no_memory(error);
    }
    return gone.count == 0 || remove_images(removal, records, &gone, &tagged, by_digest, error);
}

/* ---- all that a name means ---- */

static bool remove_from(struct removal *removal, const struct repository_name *repository,
                        const struct content_name *name, struct error *error) {
    cleanup_repository_records struct repository_records records = {0};
    if (!contents_go_on(removal->contents, removal->sink, error) ||
        !repository_records_read(removal->contents->store, repository, &records, error))
        return false;
    return content_name_is_whole(name) ? remove_repository(removal, &records, error)
                                       : remove_named(removal, &records, name, error);
}

static bool remove_all(struct removal *removal, const struct content_name *name, const char *text,
                       struct error *error) {
    cleanup_repository_names struct repository_names names = {0};
    uint64_t before = removal->images;
    if (!repository_names_read(removal->contents->store, &names, error))
        return false;
    for (size_t i = 0; i < names.count; i++) {
        const struct repository_name *repository = &names.names[i];
        if (content_name_takes_repository(name, repository->host, repository->path) &&
            !remove_from(removal, repository, name, error))
            return false;
    }
    return removal->images > before ||
           contents_write(removal->sink, json_pack("{s:s}", "unmatched", text), error);
}

bool contents_rm(struct contents *contents, const char *const *texts,
                 const struct contents_sink *sink, struct error *error) {
    struct removal removal = {.contents = contents, .sink = sink};
    size_t count;
    struct error why = {0};
    cleanup_free struct content_name *names = content_names_parse(texts, &count, error);
    /* Of what an image is made is read from blobs that are known. */
    bool ok = names && contents_wait_for_scan(contents, sink, error);
    for (size_t i = 0; ok && i < count; i++)
        ok = remove_all(&removal, &names[i], texts[i], error);
    /* What is unlinked goes, whatever else has failed: nobody would find it again. */
    if (names && !remove_unlinked(&removal, &why) && ok) {
        ok = false;
        if (error)
            *error = why;
    }
    if (names && contents->cache)
        cache_forget(contents->cache);
    return ok && contents_write(sink,
                                json_pack("{s:b, s:o, s:o}", "done", true, "blobs",
                                          contents_size(removal.blobs), "bytes",
                                          contents_size(removal.bytes)),
                                error);
}
