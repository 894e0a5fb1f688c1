/* The table of pulls. */
#include "registry/page/pulls.h"

#include "registry/page/saved.h"

void pulls_init(struct pulls *pulls) {
    *pulls = (struct pulls){0};
    lock_init(&pulls->change_lock);
    siphash_key_fill(&pulls->key);
}

void pulls_finish(struct pulls *pulls) {
    lock_finish(&pulls->change_lock);
}

/* Never 0. */
static uint64_t hash_of(const struct pulls *pulls, const struct repository_name *repository,
                        const struct digest *digest) {
    const size_t host = strlen(repository->host), path = strlen(repository->path);
    char bytes[HOST_LIMIT + NAME_LIMIT + sizeof digest->bytes];
    memcpy(bytes, repository->host, host);
    memcpy(bytes + host, repository->path, path);
    memcpy(bytes + host + path, digest->bytes, sizeof digest->bytes);
    const uint64_t hash = siphash_of(&pulls->key, bytes, host + path + sizeof digest->bytes);
    return hash ? hash : 1;
}

static const struct pulls_entry *find(const struct pulls *pulls, uint64_t image) {
    const struct pulls_entry *set = pulls->table[image % PULLS_SETS];
    for (size_t way = 0; way < PULLS_WAYS; way++) {
        if (atomic_load_explicit(&set[way].image, memory_order_acquire) == image)
            return &set[way];
    }
    return NULL;
}

static struct pulls_entry *fewest_of(struct pulls_entry *set) {
    struct pulls_entry *fewest = &set[0];
    for (size_t way = 1; way < PULLS_WAYS; way++) {
        if (atomic_load(&set[way].count) < atomic_load(&fewest->count))
            fewest = &set[way];
    }
    return fewest;
}

static struct pulls_entry *find_or_take(struct pulls *pulls, uint64_t image) {
    struct pulls_entry *entry = (struct pulls_entry *)find(pulls, image);
    if (entry)
        return entry;
    lock_acquire(&pulls->change_lock);
    entry = (struct pulls_entry *)find(pulls, image);
    if (!entry) {
        entry = fewest_of(pulls->table[image % PULLS_SETS]);
        atomic_store_explicit(&entry->image, image, memory_order_release);
    }
    lock_release(&pulls->change_lock);
    return entry;
}

void pulls_note(struct pulls *pulls, const struct repository_name *repository,
                const struct digest *digest, int64_t now_s) {
    struct pulls_entry *entry = find_or_take(pulls, hash_of(pulls, repository, digest));
    if (atomic_load_explicit(&entry->count, memory_order_relaxed) < UINT32_MAX)
        atomic_fetch_add_explicit(&entry->count, 1, memory_order_relaxed);
    if (atomic_load_explicit(&entry->last_s, memory_order_relaxed) != (uint32_t)now_s)
        atomic_store_explicit(&entry->last_s, (uint32_t)now_s, memory_order_relaxed);
}

uint32_t pulls_of(const struct pulls *pulls, const struct repository_name *repository,
                  const struct digest *digest, int64_t *last_s) {
    const struct pulls_entry *entry = find(pulls, hash_of(pulls, repository, digest));
    *last_s = entry ? atomic_load_explicit(&entry->last_s, memory_order_relaxed) : 0;
    return entry ? atomic_load_explicit(&entry->count, memory_order_relaxed) : 0;
}

/* ---- the file ---- */

size_t pulls_length(void) {
    return 2 * 8 + (size_t)PULLS_SETS * PULLS_WAYS * (8 + 4 + 4);
}

void pulls_write(const struct pulls *pulls, struct buffer *out) {
    saved_put_u64(out, pulls->key.parts[0]);
    saved_put_u64(out, pulls->key.parts[1]);
    for (size_t i = 0; i < (size_t)PULLS_SETS * PULLS_WAYS; i++) {
        const struct pulls_entry *entry = &pulls->table[i / PULLS_WAYS][i % PULLS_WAYS];
        saved_put_u64(out, atomic_load(&entry->image));
        saved_put_u32(out, atomic_load(&entry->count));
        saved_put_u32(out, atomic_load(&entry->last_s));
    }
}

void pulls_read(struct pulls *pulls, struct text *rest) {
    pulls->key.parts[0] = saved_take_u64(rest);
    pulls->key.parts[1] = saved_take_u64(rest);
    for (size_t i = 0; i < (size_t)PULLS_SETS * PULLS_WAYS; i++) {
        struct pulls_entry *entry = &pulls->table[i / PULLS_WAYS][i % PULLS_WAYS];
        atomic_store(&entry->image, saved_take_u64(rest));
        atomic_store(&entry->count, saved_take_u32(rest));
        atomic_store(&entry->last_s, saved_take_u32(rest));
    }
}
