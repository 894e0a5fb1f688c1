/* Remembers which blobs the manifests of each repository name. */
#include "cache/named.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "cache/ask.h"
#include "cache/cache_private.h"
#include "oci/manifest.h"
#include "oci/schema1.h"
#include "store/blobs.h"
#include "store/records.h"

enum {
    SETS = 4096, /* a power of two */
    WAYS = 8,    /* facts of a set, the newest first */

    SCAN_MANIFESTS = 1000,    /* of a repository on the disk; of a larger one upstream is asked */
    SCAN_MS = 500,            /* that reading them may take */
    SCAN_EVERY_MS = 60 * 1000 /* for one repository */
};

struct named_fact { /* zeroed: none */
    struct siphash_tag name;
    uint64_t size;
};

bool named_init(struct named *named) {
    lock_init(&named->facts_lock);
    named->facts = calloc((size_t)SETS * WAYS, sizeof *named->facts);
    return named->facts &&
           getrandom(&named->secret, sizeof named->secret, 0) == sizeof named->secret;
}

void named_finish(struct named *named) {
    free(named->facts);
    lock_finish(&named->facts_lock);
}

void named_forget(struct named *named) {
    lock_acquire(&named->facts_lock);
    memset(named->facts, 0, sizeof *named->facts * SETS * WAYS);
    lock_release(&named->facts_lock);
}

/* ---- facts ---- */

/* `digest` NULL: the fact that the repository's manifests on the disk were read, and its `size` is
 * when. */
static struct siphash_tag name_of(const struct cache *cache, const struct repository *repository,
                                  const struct digest *digest) {
    char key[KEY_SIZE];
    struct reference reference = digest ? ask_reference(digest) : (struct reference){0};
    ask_key(key, repository, digest ? "names" : "read", digest ? &reference : NULL);
    return siphash_tag_of(&cache->named.secret, key, strlen(key));
}

static struct named_fact *set_of(struct named *named, const struct siphash_tag *name) {
    return named->facts + name->parts[0] % SETS * WAYS;
}

/* The fact's place in its set, or WAYS. */
static size_t find(const struct named_fact *set, const struct siphash_tag *name) {
    size_t i = 0;
    while (i < WAYS &&
           (set[i].name.parts[0] != name->parts[0] || set[i].name.parts[1] != name->parts[1]))
        i++;
    return i;
}

static bool get(struct cache *cache, const struct siphash_tag *name, uint64_t *size) {
    struct named *named = &cache->named;
    lock_acquire(&named->facts_lock);
    const struct named_fact *set = set_of(named, name);
    size_t at = find(set, name);
    if (at < WAYS)
        *size = set[at].size;
    lock_release(&named->facts_lock);
    return at < WAYS;
}

/* Puts a fact in front of its set, and drops the oldest one of the set for a new one. */
static void put(struct cache *cache, const struct siphash_tag *name, uint64_t size,
                unsigned forgets) {
    struct named *named = &cache->named;
    lock_acquire(&named->facts_lock);
    if (forgets == atomic_load(&cache->forgets)) {
        struct named_fact *set = set_of(named, name);
        size_t at = find(set, name);
        memmove(set + 1, set, sizeof *set * (at < WAYS ? at : WAYS - 1));
        set[0] = (struct named_fact){*name, size};
    }
    lock_release(&named->facts_lock);
}

/* ---- manifests ---- */

struct noting {
    struct cache *cache;
    const struct repository *repository;
    unsigned forgets;
};

static void note(const struct noting *noting, const struct digest *digest, uint64_t size) {
    struct siphash_tag name = name_of(noting->cache, noting->repository, digest);
    put(noting->cache, &name, size, noting->forgets);
}

static void note_layer(void *context, const struct digest *digest) {
    note(context, digest, UINT64_MAX);
}

static void note_manifest(const struct noting *noting, const void *bytes, size_t length) {
    struct manifest manifest;
    if (!manifest_parse(bytes, length, &manifest, NULL))
        return;
    for (size_t i = 0; i < manifest.count; i++) {
        const struct descriptor *one = &manifest.descriptors[i];
        if (one->role == DESCRIPTOR_CONFIG || one->role == DESCRIPTOR_LAYER)
            note(noting, &one->digest, one->size);
    }
    manifest_finish(&manifest);
}

void named_note(struct cache *cache, const struct repository *repository,
                const struct document *document, unsigned forgets) {
    struct noting noting = {cache, repository, forgets};
    if (document->is_schema1)
        schema1_layers(document->bytes, document->length, note_layer, &noting);
    else
        note_manifest(&noting, document->bytes, document->length);
}

/* ---- the disk ---- */

struct manifests {
    struct digest *digests;
    size_t count;
};

static bool add_manifest(void *context, const struct digest *digest) {
    struct manifests *manifests = context;
    manifests->digests[manifests->count++] = *digest;
    return manifests->count < SCAN_MANIFESTS;
}

/* Notes what the repository's manifests in the store name. */
static void read_manifests(const struct noting *noting) {
    struct store *store = noting->cache->store;
    const int64_t until = clock_ms() + SCAN_MS;
    cleanup_free struct digest *digests = calloc(SCAN_MANIFESTS, sizeof *digests);
    struct manifests manifests = {.digests = digests};
    if (!digests || !store_links(store, &noting->repository->name, LINK_MANIFEST, add_manifest,
                                 &manifests, NULL))
        return;
    for (size_t i = 0; i < manifests.count && clock_ms() < until; i++) {
        cleanup_buffer struct buffer body = {0};
        if (store_blob_peek(store, &digests[i], MANIFEST_SIZE_LIMIT, &body, NULL))
            note_manifest(noting, body.bytes, body.length);
    }
}

bool named_find(struct cache *cache, const struct repository *repository,
                const struct digest *digest, uint64_t *size) {
    const struct noting noting = {cache, repository, atomic_load(&cache->forgets)};
    const struct siphash_tag name = name_of(cache, repository, digest);
    const struct siphash_tag read = name_of(cache, repository, NULL);
    uint64_t when;
    if (get(cache, &name, size))
        return true;
    if (get(cache, &read, &when) && clock_ms() - (int64_t)when < SCAN_EVERY_MS)
        return false;
    read_manifests(&noting);
    put(cache, &read, (uint64_t)clock_ms(), noting.forgets);
    return get(cache, &name, size);
}
