/*
 * Documents in memory, by key. Private to cache/.
 *
 * A slot is what is known under one key: a document with the time until which it is fresh, a real
 * 404 with the time until which it is believed, or the size of a blob that the store holds. The
 * slots are bounded by bytes; the least recently used slot goes first.
 *
 * slots_lock is held for pointers only: a slot's memory is freed after the lock is released. The
 * functions that look make no system call and do not allocate.
 *
 * Threads: any.
 */
#ifndef CACHE_SLOT_H
#define CACHE_SLOT_H

#include "cache/document.h"

enum { KEY_SIZE = HOST_LIMIT + NAME_LIMIT + DIGEST_STRING_SIZE + 16 };

enum slot_state {
    SLOT_EMPTY,      /* nothing known */
    SLOT_FRESH,      /* *document is set */
    SLOT_AGING,      /* as SLOT_FRESH, and it is time to ask again; told once */
    SLOT_STALE,      /* *document is set */
    SLOT_ABSENT,     /* *error is set: upstream's own 404 */
    SLOT_ABSENT_HEAD /* *error is set: upstream's 404 to a HEAD, whose code is not known */
};
enum slot_state slot_get(struct cache *cache, const char *key, struct document **document,
                         struct error *error);
/* How old the document or the 404 of the key is, and how old it may be to be believed; INT64_MAX:
 * as old as it likes. Both are 0 if nothing is known. */
void slot_read_life(struct cache *cache, const char *key, int64_t *age_ms, int64_t *max_age_ms);
/* Once, slot_get() says SLOT_AGING of the document of the key when its time ends in less than
 * `lead_ms`; never, if it ends so soon already. */
void slot_set_lead(struct cache *cache, const char *key, int64_t lead_ms);
/* `fresh_ms` from now; INT64_MAX: for ever. Takes a reference of its own. */
void slot_put(struct cache *cache, const char *key, struct document *document, int64_t fresh_ms);

/* ---- writes ---- */

/* How often a repository was written to, as far as the answers of upstream are concerned: other
 * repositories may share the number. It never goes back. */
unsigned slot_writes(struct cache *cache, const struct repository *repository);
/* Forgets what is known under the key, and raises the number of writes: no answer to a question
 * that was asked before is kept any more. */
void slot_outdate(struct cache *cache, const char *key);
/* The same for all keys of a repository. Looks at every slot. */
void slot_outdate_repository(struct cache *cache, const struct repository *repository);
/* The same for what is known to be missing. */
void slot_outdate_absences(struct cache *cache, const struct repository *repository);
/* slot_put() of an answer that was asked for when the repository had seen so many writes. */
void slot_put_answer(struct cache *cache, const char *key, struct document *document,
                     int64_t fresh_ms, unsigned writes);
/* `by_head`: the 404 answered a HEAD, so it had no code. A GET does not believe it. `writes`: as in
 * slot_put_answer(). */
void slot_put_absent(struct cache *cache, const char *key, const struct error *error, bool by_head,
                     int64_t ttl_ms, unsigned writes);

/* ---- what the store said ---- */

/* A moment before the store is asked. What the store says is kept only if it was not deleted since
 * that moment. */
struct slot_moment {
    unsigned forgets;  /* calls of cache_forget() */
    uint64_t removals; /* store_blob_removals_like() */
    bool is_answer;    /* nor if the repository was written to since: slot_put_answer() */
    unsigned writes;
};
/* `digest`: the blob that the store is asked for; NULL: it is asked for something else. */
struct slot_moment slot_moment_now(const struct cache *cache, const struct digest *digest);

/* slot_put() of a document that was read from the store and is `age_ms` old. After a
 * cache_forget() since `moment` nothing is kept. */
void slot_put_loaded(struct cache *cache, const char *key, struct document *document,
                     int64_t fresh_ms, int64_t age_ms, const struct slot_moment *moment);

/* The store holds the blob for the key's repository. That is believed for STORED_MS, but only until
 * the store deletes the blob or one of its group, or cache_forget() is called. */
enum { STORED_MS = 60 * 1000 };
void slot_put_stored(struct cache *cache, const char *key, uint64_t size,
                     const struct slot_moment *moment);
bool slot_get_stored(struct cache *cache, const char *key, const struct digest *digest,
                     uint64_t *size);

#endif
