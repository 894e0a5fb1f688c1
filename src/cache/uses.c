/* Notes which manifests were served from memory, and tells the store. */
#include "cache/uses.h"

#include "base/lock.h"
#include "cache/cache_private.h"
#include "store/blobs.h"

enum { BATCH = 16 }; /* digests on the stack at once */

bool uses_note(struct cache *cache, struct document *document) {
    unsigned round = atomic_load_explicit(&cache->uses_round, memory_order_relaxed);
    if (atomic_load_explicit(&document->use_round, memory_order_relaxed) == round)
        return true;
    lock_acquire(&cache->uses_lock);
    bool fits = cache->uses_count < USES_LIMIT;
    if (fits) {
        cache->uses[cache->uses_count++] = document->digest;
        atomic_store_explicit(&document->use_round, atomic_load(&cache->uses_round),
                              memory_order_relaxed);
    }
    lock_release(&cache->uses_lock);
    return fits;
}

/* Takes at most BATCH digests out. The result is how many. */
static size_t take_batch(struct cache *cache, struct digest batch[static BATCH]) {
    lock_acquire(&cache->uses_lock);
    size_t count = cache->uses_count < BATCH ? cache->uses_count : BATCH;
    cache->uses_count -= count;
    memcpy(batch, cache->uses + cache->uses_count, count * sizeof *batch);
    if (count && cache->uses_count == 0)
        atomic_fetch_add(&cache->uses_round, 1);
    lock_release(&cache->uses_lock);
    return count;
}

void uses_record(struct cache *cache, const struct digest *digest) {
    store_blob_touch(cache->store, digest);
    tier_note_use(cache->tier, digest);
}

void cache_record_uses(struct cache *cache) {
    struct digest batch[BATCH];
    size_t count = BATCH;
    for (unsigned batches = 0; count == BATCH && batches < USES_LIMIT / BATCH; batches++) {
        count = take_batch(cache, batch);
        for (size_t i = 0; i < count; i++)
            uses_record(cache, &batch[i]);
    }
}
