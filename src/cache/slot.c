/* Keeps documents in memory by key, the least recently used ones going first. */
#include "cache/slot.h"

#include <stdlib.h>
#include <uthash.h>
#include <utlist.h>
#include "base/clock.h"
#include "base/lock.h"
#include "cache/cache_private.h"

enum { SLOT_COST = 512 }; /* memory of a slot without its document's bytes, roughly */

struct slot {
    UT_hash_handle hh;
    char *key;
    struct document *document; /* NULL: absent */
    struct error *absence;
    int64_t until_ms; /* fresh, or believed absent, until then */
    size_t cost;
    struct slot *prev, *next;
};

static void slot_remove(struct cache *cache, struct slot *slot) REQUIRES(cache->slots_lock);
static void slot_remove(struct cache *cache, struct slot *slot) {
    HASH_DEL(cache->slots, slot);
    DL_DELETE(cache->recent, slot);
    cache->used -= slot->cost;
    document_release(slot->document);
    free(slot->absence);
    free(slot->key);
    free(slot);
}

void cache_forget(struct cache *cache) {
    lock_acquire(&cache->slots_lock);
    while (cache->recent)
        slot_remove(cache, cache->recent);
    lock_release(&cache->slots_lock);
}

enum slot_state slot_get(struct cache *cache, const char *key, struct document **document,
                         struct error *error) {
    int64_t now = clock_ms();
    enum slot_state state = SLOT_EMPTY;
    *document = NULL;
    lock_acquire(&cache->slots_lock);
    struct slot *slot;
    HASH_FIND_STR(cache->slots, key, slot);
    if (slot && slot->document) {
        *document = document_keep(slot->document);
        state = now < slot->until_ms ? SLOT_FRESH : SLOT_STALE;
    } else if (slot && now < slot->until_ms) {
        if (error)
            *error = *slot->absence;
        state = SLOT_ABSENT;
    }
    if (state != SLOT_EMPTY && cache->recent != slot) {
        DL_DELETE(cache->recent, slot);
        DL_PREPEND(cache->recent, slot);
    }
    lock_release(&cache->slots_lock);
    return state;
}

/* Replaces what is known under `key`. Takes over the references to document and absence. */
static void put(struct cache *cache, const char *key, struct document *document,
                struct error *absence, int64_t until_ms) {
    struct slot *fresh = calloc(1, sizeof *fresh), *old;
    char *name = strdup(key);
    size_t cost = SLOT_COST + (absence ? sizeof *absence : 0) +
                  (document && document->has_bytes ? document->length : 0);
    lock_acquire(&cache->slots_lock);
    HASH_FIND_STR(cache->slots, key, old);
    if (old)
        slot_remove(cache, old);
    bool fits = fresh && name && (document || absence) && cost <= cache->document_memory;
    if (fits) {
        *fresh = (struct slot){.key = name,
                               .document = document,
                               .absence = absence,
                               .until_ms = until_ms,
                               .cost = cost};
        HASH_ADD_KEYPTR(hh, cache->slots, fresh->key, strlen(fresh->key), fresh);
        fits = fresh->hh.tbl != NULL; /* else no memory for the table */
    }
    if (fits) {
        DL_PREPEND(cache->recent, fresh);
        cache->used += cost;
        while (cache->used > cache->document_memory) /* recent->prev is the least recent */
            slot_remove(cache, cache->recent->prev);
    }
    lock_release(&cache->slots_lock);
    if (!fits) {
        document_release(document);
        free(absence);
        free(name);
        free(fresh);
    }
}

void slot_put(struct cache *cache, const char *key, struct document *document, int64_t fresh_ms) {
    int64_t until = fresh_ms == INT64_MAX ? INT64_MAX : clock_ms() + fresh_ms;
    put(cache, key, document_keep(document), NULL, until);
}

void slot_put_absent(struct cache *cache, const char *key, const struct error *error,
                     int64_t ttl_ms) {
    struct error *absence = malloc(sizeof *absence);
    if (absence)
        *absence = *error;
    /* If there is no memory to record the absence, at least the old document is dropped. */
    put(cache, key, NULL, absence, clock_ms() + ttl_ms);
}
