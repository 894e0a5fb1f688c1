/* The index of blobs: its table, its order of last use, and who holds an entry. */
#include "store/index.h"

#include <stdlib.h>
#include <sys/random.h>
#include "base/clock.h"

enum {
    CHUNK_BITS = 12,
    CHUNK = 1 << CHUNK_BITS,
    NARROW = 32,           /* bytes of a digest in the entry itself */
    BATCH = 256,           /* entries a long walk visits for each time it takes the lock */
    WRITTEN_UNIT_S = 64,   /* what `written` counts; it wraps after 48 days */
    WRITTEN_FOR_UNITS = 57 /* an hour */
};

struct index_entry {
    uint8_t digest[NARROW];
    uint8_t *wide; /* the further 32 bytes of SHA-512; NULL: SHA-256 */
    uint64_t size; /* INDEX_ABSENT: no blob; the entry lasts as long as its holds */
    uint32_t last_used_s;
    uint32_t newer, older; /* its neighbours in the list, while listed */
    uint32_t next;         /* the next entry of its bucket, or the next free slot */
    uint32_t holds : 24;
    uint32_t is_blob : 1;   /* neither a free slot nor a mark */
    uint32_t is_mark : 1;   /* only a place in the list */
    uint32_t alone : 1;     /* one of its holds is alone */
    uint32_t listed : 1;    /* in the list: present, not held, not pinned, and ordered */
    uint32_t unordered : 1; /* found by a scan that has not ordered its blobs yet */
    uint16_t pin;           /* the generation of its pin; 0: not pinned */
    uint16_t written;       /* when the last use was last written to the disk */
};

struct index_chunk {
    struct index_entry entries[CHUNK];
    uint32_t buckets[CHUNK];
    uint32_t marked_s[CHUNK]; /* of each entry; 0: not known */
};

_Static_assert(sizeof(struct index_entry) == 72, "what index.h says");
_Static_assert(sizeof(struct index_chunk) == 80 * CHUNK, "what index.h says");

bool index_init(struct index *index, uint64_t unit) {
    *index = (struct index){.free_slots = INDEX_NONE,
                            .newest = INDEX_NONE,
                            .oldest = INDEX_NONE,
                            .unit = unit,
                            .pin_generation = 1};
    lock_init(&index->entries_lock);
    condition_init(&index->settled);
    return getrandom(&index->key, sizeof index->key, 0) == sizeof index->key;
}

static struct index_entry *at(const struct index *index, uint32_t slot) {
    return &index->chunks[slot >> CHUNK_BITS]->entries[slot & (CHUNK - 1)];
}

static uint32_t *mark_at(const struct index *index, uint32_t slot) {
    return &index->chunks[slot >> CHUNK_BITS]->marked_s[slot & (CHUNK - 1)];
}

void index_finish(struct index *index) {
    for (uint32_t slot = 0; slot < index->slots; slot++)
        free(at(index, slot)->wide);
    for (size_t i = 0; i < index->chunk_count; i++)
        free(index->chunks[i]);
    free(index->chunks);
    condition_finish(&index->settled);
    lock_finish(&index->entries_lock);
}

size_t index_bytes(struct index *index) {
    lock_acquire(&index->entries_lock);
    size_t bytes = index->chunk_count * sizeof(struct index_chunk) +
                   index->chunk_capacity * sizeof(struct index_chunk *) +
                   index->wide_blobs * NARROW;
    lock_release(&index->entries_lock);
    return bytes;
}

/* ---- the hash table ---- */

static uint32_t *bucket_at(const struct index *index, uint32_t number)
    REQUIRES(index->entries_lock) {
    return &index->chunks[number >> CHUNK_BITS]->buckets[number & (CHUNK - 1)];
}

/* The number of the bucket for digests that begin with `bytes`. */
static uint32_t bucket_of(const struct index *index, const uint8_t *bytes)
    REQUIRES(index->entries_lock) {
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    word = (word ^ index->key) * 0x9e3779b97f4a7c15ULL;
    uint32_t number = (uint32_t)(word >> 32) & index->mask;
    return number < index->slots ? number : number & index->mask >> 1;
}

static bool is_of(const struct index_entry *entry, const struct digest *digest) {
    if (memcmp(entry->digest, digest->bytes, NARROW) != 0)
        return false;
    if (digest->algorithm == DIGEST_SHA256)
        return !entry->wide;
    return entry->wide && memcmp(entry->wide, digest->bytes + NARROW, NARROW) == 0;
}

static uint32_t find(const struct index *index, const struct digest *digest)
    REQUIRES(index->entries_lock) {
    if (!index->slots)
        return INDEX_NONE;
    uint32_t slot = *bucket_at(index, bucket_of(index, digest->bytes));
    while (slot != INDEX_NONE && !is_of(at(index, slot), digest))
        slot = at(index, slot)->next;
    return slot;
}

/* The entry of a blob that is present; NULL: it is absent. */
static struct index_entry *find_present(const struct index *index, const struct digest *digest,
                                        uint32_t *slot) REQUIRES(index->entries_lock) {
    *slot = find(index, digest);
    if (*slot == INDEX_NONE || at(index, *slot)->size == INDEX_ABSENT)
        return NULL;
    return at(index, *slot);
}

static bool add_chunk(struct index *index) REQUIRES(index->entries_lock) {
    if (index->chunk_count == (size_t)1 << (32 - CHUNK_BITS))
        return false;
    if (index->chunk_count == index->chunk_capacity) {
        size_t capacity = index->chunk_capacity ? index->chunk_capacity * 2 : 16;
        struct index_chunk **chunks =
            realloc(index->chunks, capacity * sizeof(struct index_chunk *));
        if (!chunks)
            return false;
        index->chunks = chunks;
        index->chunk_capacity = capacity;
    }
    struct index_chunk *chunk = calloc(1, sizeof *chunk);
    if (!chunk)
        return false;
    index->chunks[index->chunk_count++] = chunk;
    return true;
}

/* Makes the bucket of the newest slot, and moves its entries there from the bucket that stood for
 * both. */
static void split_bucket(struct index *index) REQUIRES(index->entries_lock) {
    uint32_t number = index->slots - 1;
    *bucket_at(index, number) = INDEX_NONE;
    if (number > index->mask)
        index->mask = index->mask * 2 + 1;
    if (number == 0)
        return;
    uint32_t *link = bucket_at(index, number & index->mask >> 1);
    while (*link != INDEX_NONE) {
        uint32_t slot = *link;
        struct index_entry *entry = at(index, slot);
        if (bucket_of(index, entry->digest) != number) {
            link = &entry->next;
            continue;
        }
        *link = entry->next;
        entry->next = *bucket_at(index, number);
        *bucket_at(index, number) = slot;
    }
}

/* A zeroed entry, in no bucket and no list. */
static uint32_t take_slot(struct index *index) REQUIRES(index->entries_lock) {
    uint32_t slot = index->free_slots;
    if (slot != INDEX_NONE) {
        index->free_slots = at(index, slot)->next;
    } else {
        if (index->slots == index->chunk_count * CHUNK && !add_chunk(index))
            return INDEX_NONE;
        slot = index->slots++;
        split_bucket(index);
    }
    *at(index, slot) = (struct index_entry){.size = INDEX_ABSENT};
    *mark_at(index, slot) = 0;
    return slot;
}

static void give_slot(struct index *index, uint32_t slot) REQUIRES(index->entries_lock) {
    *at(index, slot) = (struct index_entry){.next = index->free_slots};
    index->free_slots = slot;
}

static uint32_t make(struct index *index, const struct digest *digest)
    REQUIRES(index->entries_lock) {
    uint8_t *wide = NULL;
    if (digest->algorithm == DIGEST_SHA512) {
        wide = malloc(NARROW);
        if (!wide)
            return INDEX_NONE;
        memcpy(wide, digest->bytes + NARROW, NARROW);
    }
    uint32_t slot = take_slot(index);
    if (slot == INDEX_NONE) {
        free(wide);
        return INDEX_NONE;
    }
    struct index_entry *entry = at(index, slot);
    memcpy(entry->digest, digest->bytes, NARROW);
    entry->wide = wide;
    entry->is_blob = true;
    index->wide_blobs += wide != NULL;
    uint32_t *bucket = bucket_at(index, bucket_of(index, entry->digest));
    entry->next = *bucket;
    *bucket = slot;
    return slot;
}

static void forget(struct index *index, uint32_t slot) REQUIRES(index->entries_lock) {
    struct index_entry *entry = at(index, slot);
    uint32_t *link = bucket_at(index, bucket_of(index, entry->digest));
    while (*link != slot)
        link = &at(index, *link)->next;
    *link = entry->next;
    index->wide_blobs -= entry->wide != NULL;
    free(entry->wide);
    give_slot(index, slot);
}

/* ---- the order of last use ---- */

static void unlist(struct index *index, uint32_t slot) REQUIRES(index->entries_lock) {
    struct index_entry *entry = at(index, slot);
    *(entry->newer == INDEX_NONE ? &index->newest : &at(index, entry->newer)->older) = entry->older;
    *(entry->older == INDEX_NONE ? &index->oldest : &at(index, entry->older)->newer) = entry->newer;
    entry->listed = false;
}

/* Lists an entry behind `newer`; INDEX_NONE: at the front. */
static void list_behind(struct index *index, uint32_t slot, uint32_t newer)
    REQUIRES(index->entries_lock) {
    struct index_entry *entry = at(index, slot);
    entry->newer = newer;
    entry->older = newer == INDEX_NONE ? index->newest : at(index, newer)->older;
    *(entry->newer == INDEX_NONE ? &index->newest : &at(index, entry->newer)->older) = slot;
    *(entry->older == INDEX_NONE ? &index->oldest : &at(index, entry->older)->newer) = slot;
    entry->listed = true;
}

/* Lists an entry that may be evicted, at the front if it was not listed, and takes an entry that
 * may not be evicted off the list. */
static void relist(struct index *index, uint32_t slot) REQUIRES(index->entries_lock) {
    const struct index_entry *entry = at(index, slot);
    bool evictable =
        entry->size != INDEX_ABSENT && !entry->holds && !entry->pin && !entry->unordered;
    if (entry->listed && !evictable)
        unlist(index, slot);
    else if (!entry->listed && evictable)
        list_behind(index, slot, INDEX_NONE);
}

static uint32_t clamp_s(int64_t wall_s) {
    return wall_s < 0 ? 0 : wall_s > UINT32_MAX ? UINT32_MAX : (uint32_t)wall_s;
}

static void use(struct index *index, uint32_t slot) REQUIRES(index->entries_lock) {
    struct index_entry *entry = at(index, slot);
    entry->last_used_s = clamp_s(clock_wall_s());
    entry->unordered = false;
    if (entry->listed)
        unlist(index, slot);
    relist(index, slot);
}

static void count(struct index *index, const struct index_entry *entry, bool more)
    REQUIRES(index->entries_lock) {
    if (entry->size == INDEX_ABSENT)
        return;
    uint64_t sign = more ? 1 : UINT64_MAX; /* unsigned arithmetic wraps: minus one */
    index->blobs += sign;
    uint64_t units = (entry->size + index->unit - 1) / index->unit;
    index->bytes += sign * entry->size;
    index->disk_bytes += sign * units * index->unit;
    if (entry->pin) {
        index->pinned_bytes += sign * entry->size;
        index->pinned_disk_bytes += sign * units * index->unit;
    }
}

/* ---- holding ---- */

static void take_hold(struct index *index, uint32_t slot, bool alone, struct index_hold *hold)
    REQUIRES(index->entries_lock) {
    struct index_entry *entry = at(index, slot);
    entry->holds++;
    entry->alone = alone || entry->size == INDEX_ABSENT;
    *hold = (struct index_hold){slot, entry->alone, entry->size};
}

bool index_hold(struct index *index, const struct digest *digest, bool alone,
                struct index_hold *hold) {
    lock_acquire(&index->entries_lock);
    uint32_t slot;
    while ((slot = find(index, digest)) != INDEX_NONE && at(index, slot)->alone)
        condition_wait(&index->settled, &index->entries_lock);
    if (slot == INDEX_NONE)
        slot = make(index, digest);
    if (slot != INDEX_NONE) {
        take_hold(index, slot, alone, hold);
        if (!alone)
            use(index, slot);
        relist(index, slot);
    }
    lock_release(&index->entries_lock);
    return slot != INDEX_NONE;
}

void index_hold_alone(struct index *index, struct index_hold *hold) {
    lock_acquire(&index->entries_lock);
    struct index_entry *entry = at(index, hold->slot);
    while (entry->alone)
        condition_wait(&index->settled, &index->entries_lock);
    entry->alone = hold->alone = true;
    hold->size = entry->size;
    lock_release(&index->entries_lock);
}

static void describe(const struct index_entry *entry, struct store_blob *out) {
    *out = (struct store_blob){.digest.algorithm = entry->wide ? DIGEST_SHA512 : DIGEST_SHA256,
                               .size = entry->size,
                               .last_used_s = entry->last_used_s,
                               .in_use = entry->holds > 0,
                               .pinned = entry->pin != 0};
    memcpy(out->digest.bytes, entry->digest, NARROW);
    if (entry->wide)
        memcpy(out->digest.bytes + NARROW, entry->wide, NARROW);
}

/* The blob to evict next; INDEX_NONE: there is none. */
static uint32_t find_oldest(const struct index *index) REQUIRES(index->entries_lock);
static uint32_t find_oldest(const struct index *index) {
    uint32_t slot = index->oldest;
    while (slot != INDEX_NONE && at(index, slot)->is_mark)
        slot = at(index, slot)->newer;
    return slot;
}

bool index_hold_oldest(struct index *index, int64_t before_s, struct index_hold *hold,
                       struct store_blob *out) {
    lock_acquire(&index->entries_lock);
    uint32_t slot = find_oldest(index);
    bool found = slot != INDEX_NONE && at(index, slot)->last_used_s < before_s;
    if (found) {
        describe(at(index, slot), out);
        take_hold(index, slot, true, hold);
        relist(index, slot);
    }
    lock_release(&index->entries_lock);
    return found;
}

void index_settle(struct index *index, struct index_hold *hold, uint64_t size) {
    lock_acquire(&index->entries_lock);
    struct index_entry *entry = at(index, hold->slot);
    if (size != entry->size) {
        count(index, entry, false);
        if (size == INDEX_ABSENT) {
            index->departures++;
            entry->pin = 0; /* a blob that comes later under this name is pinned anew */
        }
        entry->size = size;
        count(index, entry, true);
        entry->written = (uint16_t)(clamp_s(clock_wall_s()) / WRITTEN_UNIT_S);
    }
    index->reserved_bytes -= hold->reserved;
    hold->reserved = 0;
    entry->alone = hold->alone = false;
    hold->size = size;
    condition_broadcast(&index->settled);
    lock_release(&index->entries_lock);
}

static void release(struct index *index, uint32_t slot, bool used) REQUIRES(index->entries_lock) {
    struct index_entry *entry = at(index, slot);
    if (entry->holds)
        entry->holds--;
    entry->unordered = false;
    if (used)
        use(index, slot);
    else
        relist(index, slot);
    if (!entry->holds && entry->size == INDEX_ABSENT)
        forget(index, slot);
}

void index_release(struct index *index, const struct index_hold *hold, bool used) {
    lock_acquire(&index->entries_lock);
    release(index, hold->slot, used);
    lock_release(&index->entries_lock);
}

void index_release_digest(struct index *index, const struct digest *digest) {
    lock_acquire(&index->entries_lock);
    uint32_t slot = find(index, digest);
    if (slot != INDEX_NONE && at(index, slot)->holds)
        release(index, slot, true);
    lock_release(&index->entries_lock);
}

bool index_touch(struct index *index, const struct digest *digest) {
    lock_acquire(&index->entries_lock);
    uint32_t slot;
    struct index_entry *entry = find_present(index, digest, &slot);
    bool due = false;
    if (entry) {
        use(index, slot);
        uint16_t now = (uint16_t)(entry->last_used_s / WRITTEN_UNIT_S);
        due = (uint16_t)(now - entry->written) >= WRITTEN_FOR_UNITS;
        if (due)
            entry->written = now;
    }
    lock_release(&index->entries_lock);
    return due;
}

bool index_mark_due(struct index *index, const struct digest *digest, int64_t now_s,
                    int64_t period_s, bool *known) {
    lock_acquire(&index->entries_lock);
    uint32_t slot;
    bool due = false;
    if (find_present(index, digest, &slot)) {
        uint32_t *marked_s = mark_at(index, slot);
        *known = *marked_s != 0;
        due = !*known || now_s - (int64_t)*marked_s > period_s;
        if (due)
            *marked_s = (uint32_t)now_s;
    }
    lock_release(&index->entries_lock);
    return due;
}

void index_set_marked(struct index *index, const struct digest *digest, int64_t at_s) {
    lock_acquire(&index->entries_lock);
    uint32_t slot;
    if (find_present(index, digest, &slot))
        *mark_at(index, slot) = at_s > 0 ? (uint32_t)at_s : 0;
    lock_release(&index->entries_lock);
}

/* ---- looking ---- */

bool index_find(struct index *index, const struct digest *digest, struct store_blob *out) {
    lock_acquire(&index->entries_lock);
    uint32_t slot;
    const struct index_entry *entry = find_present(index, digest, &slot);
    if (entry)
        describe(entry, out);
    lock_release(&index->entries_lock);
    return entry != NULL;
}

bool index_knows(struct index *index, const struct digest *digest) {
    lock_acquire(&index->entries_lock);
    bool known = find(index, digest) != INDEX_NONE;
    lock_release(&index->entries_lock);
    return known;
}

bool index_next(struct index *index, uint32_t *cursor, struct store_blob *out) {
    bool found = false, more = true;
    while (!found && more) {
        lock_acquire(&index->entries_lock);
        for (unsigned i = 0; i < BATCH && !found && (more = *cursor < index->slots); i++) {
            const struct index_entry *entry = at(index, (*cursor)++);
            found = entry->is_blob && entry->size != INDEX_ABSENT;
            if (found)
                describe(entry, out);
        }
        lock_release(&index->entries_lock);
    }
    return found;
}

/* Puts a mark into the list: entries behind the mark stay behind it, whatever comes and goes. */
static uint32_t set_mark(struct index *index, uint32_t newer) REQUIRES(index->entries_lock) {
    uint32_t slot = take_slot(index);
    if (slot == INDEX_NONE)
        return INDEX_NONE;
    at(index, slot)->is_mark = true;
    list_behind(index, slot, newer);
    return slot;
}

static void clear_mark(struct index *index, uint32_t mark) REQUIRES(index->entries_lock) {
    unlist(index, mark);
    give_slot(index, mark);
}

/* Describes the next entries from the mark towards the front, and moves the mark to before them. */
static unsigned take_batch(struct index *index, uint32_t mark, int64_t before_s,
                           struct store_blob batch[static BATCH]) REQUIRES(index->entries_lock) {
    unsigned taken = 0;
    uint32_t slot = at(index, mark)->newer, last = INDEX_NONE;
    for (; taken < BATCH && slot != INDEX_NONE; last = slot, slot = at(index, slot)->newer) {
        const struct index_entry *entry = at(index, slot);
        if (entry->is_mark)
            continue;
        if (entry->last_used_s >= before_s)
            break;
        describe(entry, &batch[taken++]);
    }
    if (last != INDEX_NONE) {
        unlist(index, mark);
        list_behind(index, mark, at(index, last)->newer);
    }
    return taken;
}

bool index_evictable(struct index *index, int64_t before_s,
                     bool (*each)(void *context, const struct store_blob *blob), void *context) {
    struct store_blob *batch = malloc(BATCH * sizeof *batch);
    if (!batch)
        return false;
    lock_acquire(&index->entries_lock);
    uint32_t mark = set_mark(index, index->oldest);
    bool ok = mark != INDEX_NONE, wanted = ok;
    while (wanted) {
        unsigned taken = take_batch(index, mark, before_s, batch);
        lock_release(&index->entries_lock);
        wanted = taken > 0;
        for (unsigned i = 0; i < taken && wanted; i++)
            wanted = each(context, &batch[i]);
        lock_acquire(&index->entries_lock);
    }
    if (ok)
        clear_mark(index, mark);
    lock_release(&index->entries_lock);
    free(batch);
    return ok;
}

void index_reserve(struct index *index, uint64_t before, uint64_t now) {
    lock_acquire(&index->entries_lock);
    index->reserved_bytes += now - before;
    lock_release(&index->entries_lock);
}

void index_usage(struct index *index, struct store_usage *out) {
    lock_acquire(&index->entries_lock);
    out->bytes = index->bytes;
    out->blobs = index->blobs;
    out->pinned_bytes = index->pinned_bytes;
    out->disk_bytes = index->disk_bytes;
    out->pinned_disk_bytes = index->pinned_disk_bytes;
    out->reserved_bytes = index->reserved_bytes;
    uint32_t oldest = find_oldest(index);
    out->oldest_used_s = oldest == INDEX_NONE ? 0 : at(index, oldest)->last_used_s;
    lock_release(&index->entries_lock);
}

uint64_t index_departures(struct index *index) {
    lock_acquire(&index->entries_lock);
    uint64_t departures = index->departures;
    lock_release(&index->entries_lock);
    return departures;
}

/* ---- pins ---- */

static void set_pin(struct index *index, uint32_t slot, uint16_t pin)
    REQUIRES(index->entries_lock) {
    struct index_entry *entry = at(index, slot);
    count(index, entry, false);
    entry->pin = pin;
    count(index, entry, true);
    relist(index, slot);
}

void index_pins_begin(struct index *index) {
    lock_acquire(&index->entries_lock);
    if (++index->pin_generation == 0)
        index->pin_generation = 1;
    lock_release(&index->entries_lock);
}

void index_pin(struct index *index, const struct digest *digest) {
    lock_acquire(&index->entries_lock);
    uint32_t slot;
    if (find_present(index, digest, &slot))
        set_pin(index, slot, index->pin_generation);
    lock_release(&index->entries_lock);
}

void index_pins_end(struct index *index) {
    bool more = true;
    for (uint32_t cursor = 0; more;) {
        lock_acquire(&index->entries_lock);
        for (unsigned i = 0; i < BATCH && (more = cursor < index->slots); i++, cursor++) {
            const struct index_entry *entry = at(index, cursor);
            if (entry->pin && entry->pin != index->pin_generation)
                set_pin(index, cursor, 0);
        }
        lock_release(&index->entries_lock);
    }
}

/* ---- the scan ---- */

enum index_added index_add(struct index *index, const struct digest *digest, uint64_t size,
                           int64_t used_s, uint64_t departures, uint32_t *slot) {
    enum index_added added = INDEX_KNOWN;
    lock_acquire(&index->entries_lock);
    *slot = find(index, digest);
    if (*slot == INDEX_NONE && index->departures != departures) {
        added = INDEX_CHANGED;
    } else if (*slot == INDEX_NONE) {
        *slot = make(index, digest);
        added = *slot == INDEX_NONE ? INDEX_MEMORY : INDEX_ADDED;
    }
    if (added == INDEX_ADDED) {
        struct index_entry *entry = at(index, *slot);
        entry->size = size;
        entry->last_used_s = clamp_s(used_s);
        entry->written = (uint16_t)(entry->last_used_s / WRITTEN_UNIT_S);
        entry->unordered = true;
        count(index, entry, true);
    }
    lock_release(&index->entries_lock);
    return added;
}

/* Lists one right behind the mark. In front of the mark is all that was used since the scan began.
 */
static void order_one(struct index *index, uint32_t mark, uint64_t found)
    REQUIRES(index->entries_lock) {
    uint32_t slot = (uint32_t)found;
    struct index_entry *entry = at(index, slot);
    if (!entry->unordered || entry->last_used_s != found >> 32)
        return; /* used or gone since, or the slot is another blob's by now */
    entry->unordered = false;
    if (!entry->pin && !entry->holds)
        list_behind(index, slot, mark);
}

bool index_order(struct index *index, const uint64_t *found, size_t count) {
    lock_acquire(&index->entries_lock);
    uint32_t mark = set_mark(index, index->oldest);
    for (size_t i = 0; i < count && mark != INDEX_NONE; i++) {
        order_one(index, mark, found[i]);
        if (i % BATCH == BATCH - 1) {
            lock_release(&index->entries_lock);
            lock_acquire(&index->entries_lock);
        }
    }
    if (mark != INDEX_NONE)
        clear_mark(index, mark);
    lock_release(&index->entries_lock);
    return mark != INDEX_NONE;
}
