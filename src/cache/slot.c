/* Keeps documents in memory by key, the least recently used ones going first. */
#include "cache/slot.h"

#include <stdio.h>
#include <stdlib.h>
#include <uthash.h>
#include <utlist.h>
#include "base/clock.h"
#include "base/lock.h"
#include "base/siphash.h"
#include "cache/cache_private.h"
#include "store/blobs.h"

/* Memory without a document's bytes, roughly: of a slot with its document, and of what a caller
 * derives from the document. */
enum { SLOT_COST = 512, DERIVED_COST = 512 };

/* What is known under a key: one of a document, an absence and a stored blob. */
struct content {
    struct document *document;
    struct error *absence;
    bool by_head; /* the absence is known from a HEAD alone */
    bool stored;
    uint64_t stored_size, removals; /* removals: those like it when the store was asked */
    int64_t since_ms;               /* when upstream said it */
    int64_t until_ms;               /* fresh, or believed, until then */
    int64_t aging_ms;               /* it is time to ask again from then on; 0: never */
};

struct slot {
    UT_hash_handle hh;
    struct content content;
    size_t cost;
    struct slot *prev, *next;
    char key[];
};

static void content_finish(struct content *content) {
    document_release(content->document);
    free(content->absence);
}

static void free_slots(struct slot *slots) {
    for (struct slot *next; slots; slots = next) {
        next = slots->next;
        content_finish(&slots->content);
        free(slots);
    }
}

/* ---- looking ---- */

/* Keyed, because clients choose what slots are made for. */
static unsigned hash_of(const struct cache *cache, const char *key, size_t length) {
    uint64_t hash = siphash_of(&cache->slots_secret, key, length);
    return (unsigned)(hash ^ hash >> 32);
}

static struct slot *find(struct cache *cache, const char *key, size_t length, unsigned hash)
    REQUIRES(cache->slots_lock);
static struct slot *find(struct cache *cache, const char *key, size_t length, unsigned hash) {
    struct slot *slot;
    HASH_FIND_BYHASHVALUE(hh, cache->slots, key, length, hash, slot);
    return slot;
}

static void move_to_front(struct cache *cache, struct slot *slot) REQUIRES(cache->slots_lock);
static void move_to_front(struct cache *cache, struct slot *slot) {
    if (cache->recent == slot)
        return;
    DL_DELETE(cache->recent, slot);
    DL_PREPEND(cache->recent, slot);
}

/* Whether the document is fresh. Says once that it is aging. */
static enum slot_state judge(struct content *content, int64_t now_ms) {
    if (now_ms >= content->until_ms)
        return SLOT_STALE;
    if (!content->aging_ms || now_ms < content->aging_ms)
        return SLOT_FRESH;
    content->aging_ms = 0;
    return SLOT_AGING;
}

enum slot_state slot_get(struct cache *cache, const char *key, struct document **document,
                         struct error *error) {
    int64_t now = clock_ms();
    size_t length = strlen(key);
    unsigned hash = hash_of(cache, key, length);
    enum slot_state state = SLOT_EMPTY;
    *document = NULL;
    lock_acquire(&cache->slots_lock);
    struct slot *slot = find(cache, key, length, hash);
    struct content *content = slot ? &slot->content : NULL;
    if (slot && content->document) {
        *document = document_keep(content->document);
        state = judge(content, now);
    } else if (slot && content->absence && now < content->until_ms) {
        if (error)
            *error = *content->absence;
        state = content->by_head ? SLOT_ABSENT_HEAD : SLOT_ABSENT;
    }
    if (state != SLOT_EMPTY)
        move_to_front(cache, slot);
    lock_release(&cache->slots_lock);
    return state;
}

void slot_read_life(struct cache *cache, const char *key, int64_t *age_ms, int64_t *max_age_ms) {
    const int64_t now = clock_ms();
    const size_t length = strlen(key);
    const unsigned hash = hash_of(cache, key, length);
    *age_ms = *max_age_ms = 0;
    lock_acquire(&cache->slots_lock);
    const struct slot *slot = find(cache, key, length, hash);
    if (slot && (slot->content.document || slot->content.absence)) {
        const struct content *content = &slot->content;
        *age_ms = now - content->since_ms;
        *max_age_ms =
            content->until_ms == INT64_MAX ? INT64_MAX : content->until_ms - content->since_ms;
    }
    lock_release(&cache->slots_lock);
}

bool slot_get_stored(struct cache *cache, const char *key, const struct digest *digest,
                     uint64_t *size) {
    int64_t now = clock_ms();
    uint64_t removals = store_blob_removals_like(cache->store, digest);
    size_t length = strlen(key);
    unsigned hash = hash_of(cache, key, length);
    lock_acquire(&cache->slots_lock);
    struct slot *slot = find(cache, key, length, hash);
    bool stored = slot && slot->content.stored && slot->content.removals == removals &&
                  now < slot->content.until_ms;
    if (stored) {
        *size = slot->content.stored_size;
        move_to_front(cache, slot);
    }
    lock_release(&cache->slots_lock);
    return stored;
}

void slot_set_lead(struct cache *cache, const char *key, int64_t lead_ms) {
    const size_t length = strlen(key);
    const unsigned hash = hash_of(cache, key, length);
    lock_acquire(&cache->slots_lock);
    struct slot *slot = find(cache, key, length, hash);
    if (slot && slot->content.until_ms != INT64_MAX &&
        slot->content.until_ms - lead_ms > clock_ms())
        slot->content.aging_ms = slot->content.until_ms - lead_ms;
    lock_release(&cache->slots_lock);
}

/* ---- changing ---- */

/* Takes the slot out, and puts it in front of `gone`, to be freed without the lock. */
static void take_out(struct cache *cache, struct slot *slot, struct slot **gone)
    REQUIRES(cache->slots_lock);
static void take_out(struct cache *cache, struct slot *slot, struct slot **gone) {
    HASH_DEL(cache->slots, slot);
    DL_DELETE(cache->recent, slot);
    cache->used -= slot->cost;
    LL_PREPEND(*gone, slot);
}

void cache_forget(struct cache *cache) {
    lock_acquire(&cache->slots_lock);
    struct slot *gone = cache->recent;
    HASH_CLEAR(hh, cache->slots);
    cache->recent = NULL;
    cache->used = 0;
    atomic_fetch_add(&cache->forgets, 1);
    lock_release(&cache->slots_lock);
    free_slots(gone);
    named_forget(&cache->named);
}

static struct slot *slot_new(const char *key, size_t length, const struct content *content) {
    struct slot *slot = calloc(1, sizeof *slot + length + 1);
    if (!slot)
        return NULL;
    memcpy(slot->key, key, length + 1);
    slot->content = *content;
    slot->cost = SLOT_COST + (content->absence ? sizeof *content->absence : 0);
    if (content->document)
        slot->cost += DERIVED_COST + (content->document->has_bytes ? content->document->length : 0);
    return slot;
}

/* ---- writes ---- */

/* The place of the number of writes of the key's repository, which ends at the first blank. */
static atomic_uint *writes_of(struct cache *cache, const char *key) {
    return &cache->writes[hash_of(cache, key, strcspn(key, " ")) % SLOT_WRITES];
}

unsigned slot_writes(struct cache *cache, const struct repository *repository) {
    char key[KEY_SIZE];
    snprintf(key, sizeof key, "%s/%s", repository->name.host, repository->name.path);
    return atomic_load(writes_of(cache, key));
}

void slot_outdate(struct cache *cache, const char *key) {
    size_t length = strlen(key);
    unsigned hash = hash_of(cache, key, length);
    struct slot *gone = NULL;
    lock_acquire(&cache->slots_lock);
    atomic_fetch_add(writes_of(cache, key), 1);
    struct slot *slot = find(cache, key, length, hash);
    if (slot)
        take_out(cache, slot, &gone);
    lock_release(&cache->slots_lock);
    free_slots(gone);
}

/* Takes out what is known of the repository, or only what is missing there. */
static void outdate_all(struct cache *cache, const struct repository *repository,
                        bool only_absences) {
    char start[KEY_SIZE];
    struct slot *slot, *next, *gone = NULL;
    snprintf(start, sizeof start, "%s/%s ", repository->name.host, repository->name.path);
    size_t length = strlen(start);
    lock_acquire(&cache->slots_lock);
    atomic_fetch_add(writes_of(cache, start), 1);
    DL_FOREACH_SAFE (cache->recent, slot, next) {
        if ((slot->content.absence || !only_absences) && strncmp(slot->key, start, length) == 0)
            take_out(cache, slot, &gone);
    }
    lock_release(&cache->slots_lock);
    free_slots(gone);
}

void slot_outdate_repository(struct cache *cache, const struct repository *repository) {
    outdate_all(cache, repository, false);
}

void slot_outdate_absences(struct cache *cache, const struct repository *repository) {
    outdate_all(cache, repository, true);
}

/* What must not have changed since the content was asked for. */
struct since {
    unsigned forgets;
    bool is_answer; /* then `writes` counts */
    unsigned writes;
};

/* ---- putting ---- */

/* Replaces what is known under `key`, unless there was a cache_forget() since, or a write since the
 * answer was asked for. Takes over the references of `content`. */
static void put(struct cache *cache, const char *key, struct content content,
                const struct since *since) {
    size_t length = strlen(key);
    unsigned hash = hash_of(cache, key, length);
    struct slot *fresh = slot_new(key, length, &content), *gone = NULL;
    const size_t most = cache->document_memory; /* which may change meanwhile */
    lock_acquire(&cache->slots_lock);
    bool is_late = since->is_answer && since->writes != atomic_load(writes_of(cache, key));
    struct slot *old = is_late ? NULL : find(cache, key, length, hash);
    if (old)
        take_out(cache, old, &gone);
    bool known = content.document || content.absence || content.stored;
    bool fits = fresh && known && !is_late && fresh->cost <= most &&
                since->forgets == atomic_load(&cache->forgets);
    if (fits) {
        HASH_ADD_KEYPTR_BYHASHVALUE(hh, cache->slots, fresh->key, length, hash, fresh);
        fits = fresh->hh.tbl != NULL; /* else no memory for the table */
    }
    if (fits) {
        DL_PREPEND(cache->recent, fresh);
        cache->used += fresh->cost;
        while (cache->used > most) /* recent->prev is the least recent */
            take_out(cache, cache->recent->prev, &gone);
    }
    lock_release(&cache->slots_lock);
    free_slots(gone);
    if (!fits) {
        content_finish(&content);
        free(fresh);
    }
}

static int64_t from_now(int64_t ms) {
    return ms == INT64_MAX ? INT64_MAX : clock_ms() + ms;
}

struct slot_moment slot_moment_now(const struct cache *cache, const struct digest *digest) {
    return (struct slot_moment){.forgets = atomic_load(&cache->forgets),
                                .removals =
                                    digest ? store_blob_removals_like(cache->store, digest) : 0};
}

void slot_put(struct cache *cache, const char *key, struct document *document, int64_t fresh_ms) {
    const struct content content = {.document = document_keep(document),
                                    .since_ms = clock_ms(),
                                    .until_ms = from_now(fresh_ms)};
    put(cache, key, content, &(struct since){.forgets = atomic_load(&cache->forgets)});
}

void slot_put_answer(struct cache *cache, const char *key, struct document *document,
                     int64_t fresh_ms, unsigned writes) {
    const struct content content = {.document = document_keep(document),
                                    .since_ms = clock_ms(),
                                    .until_ms = from_now(fresh_ms)};
    put(cache, key, content,
        &(struct since){
            .forgets = atomic_load(&cache->forgets), .is_answer = true, .writes = writes});
}

void slot_put_loaded(struct cache *cache, const char *key, struct document *document,
                     int64_t fresh_ms, int64_t age_ms, const struct slot_moment *moment) {
    const struct content content = {.document = document_keep(document),
                                    .since_ms = clock_ms() - age_ms,
                                    .until_ms = from_now(fresh_ms)};
    put(cache, key, content,
        &(struct since){
            .forgets = moment->forgets, .is_answer = moment->is_answer, .writes = moment->writes});
}

void slot_put_absent(struct cache *cache, const char *key, const struct error *error, bool by_head,
                     int64_t ttl_ms, unsigned writes) {
    struct error *absence = malloc(sizeof *absence);
    if (absence)
        *absence = *error;
    /* If there is no memory to record the absence, at least the old document is dropped. */
    const struct content content = {.absence = absence,
                                    .by_head = by_head,
                                    .since_ms = clock_ms(),
                                    .until_ms = from_now(ttl_ms)};
    put(cache, key, content,
        &(struct since){
            .forgets = atomic_load(&cache->forgets), .is_answer = true, .writes = writes});
}

void slot_put_stored(struct cache *cache, const char *key, uint64_t size,
                     const struct slot_moment *moment) {
    const struct content content = {.stored = true,
                                    .stored_size = size,
                                    .removals = moment->removals,
                                    .until_ms = from_now(STORED_MS)};
    put(cache, key, content,
        &(struct since){
            .forgets = moment->forgets, .is_answer = moment->is_answer, .writes = moment->writes});
}
