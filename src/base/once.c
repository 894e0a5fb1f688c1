/* Many ask for the same thing, and one of them fetches it for all. */
#include "base/once.h"

#include <stdlib.h>
#include <string.h>
#include "base/clock.h"

/* ---- one thing ---- */

/* Whether a caller that waited shares the outcome that has just come. */
static bool is_shared(const struct once *once, bool joined, int64_t deadline_ms) {
    bool askers_time_ran_out = once->failure.kind == ERROR_TIMEOUT && deadline_ms != INT64_MAX;
    bool was_cancelled = once->failure.kind == ERROR_CLOSED;
    return joined && !askers_time_ran_out && !was_cancelled;
}

enum once_turn once_take_turn(struct once *once, struct condition *ended, struct lock *lock,
                              bool renew, int64_t deadline_ms) {
    if (!once->asking) {
        once->asking = true;
        once->renewing = renew;
        once->began_ms = clock_ms();
        return ONCE_ASK;
    }
    /* This thread joins the request that is under way now. The next request may have begun, or even
     * ended, before this thread runs again, so `asking` does not tell whether the joined request
     * has ended. */
    const uint64_t before = once->outcomes;
    const bool joined = once->renewing || !renew;
    bool in_time = true;
    once->waiting++;
    while (once->outcomes == before && in_time)
        in_time = condition_wait_until(ended, lock, deadline_ms);
    once->waiting--;
    if (once->outcomes == before)
        return ONCE_LATE;
    return is_shared(once, joined, deadline_ms) ? ONCE_SHARED : ONCE_LOOK;
}

void once_publish(struct once *once, struct condition *ended, const struct error *failure) {
    once->failure = failure ? *failure : (struct error){0};
    once->ended_ms = clock_ms();
    once->outcomes++;
    once->asking = false;
    condition_broadcast(ended);
}

bool once_failed(const struct once *once, struct error *error) {
    if (once->failure.kind == ERROR_NONE)
        return false;
    if (error)
        *error = once->failure;
    return true;
}

/* ---- one asker for each key ---- */

void once_table_init(struct once_table *table, size_t entry_size, const struct once_bounds *bounds,
                     void (*wipe)(struct once_entry *entry)) {
    *table = (struct once_table){.entry_size = entry_size, .bounds = *bounds, .wipe = wipe};
    lock_init(&table->entries_lock);
    condition_init(&table->ended);
}

/* Counts the entry as so many bytes from now on. */
static void set_bytes(struct once_table *table, struct once_entry *entry, size_t bytes) {
    if (table->bounds.pot)
        atomic_fetch_add(&table->bounds.pot->bytes, bytes - entry->bytes);
    table->bytes += bytes - entry->bytes;
    entry->bytes = bytes;
}

static void entry_free(struct once_table *table, struct once_entry *entry) {
    set_bytes(table, entry, 0);
    table->wipe(entry);
    free(entry->key);
    free(entry);
}

void once_table_finish(struct once_table *table) {
    struct once_entry *entry, *next;
    HASH_ITER (hh, table->entries, entry, next) {
        HASH_DEL(table->entries, entry);
        entry_free(table, entry);
    }
    condition_finish(&table->ended);
    lock_finish(&table->entries_lock);
}

/* Frees the entry that was entered longest ago, of those that no thread uses. False: all are in
 * use. */
static bool forget_one(struct once_table *table) {
    struct once_entry *entry, *next, *oldest = NULL;
    HASH_ITER (hh, table->entries, entry, next) {
        if (entry->users == 0 && (!oldest || entry->entered_ms < oldest->entered_ms))
            oldest = entry;
    }
    if (oldest) {
        HASH_DEL(table->entries, oldest);
        entry_free(table, oldest);
    }
    return oldest != NULL;
}

static bool holds_too_much(const struct once_table *table) {
    const struct once_bounds *bounds = &table->bounds;
    return (bounds->bytes && table->bytes > bounds->bytes) ||
           (bounds->pot && table->bytes > bounds->share &&
            atomic_load(&bounds->pot->bytes) > bounds->pot->limit);
}

void once_table_weigh(struct once_table *table, struct once_entry *entry, size_t held) {
    set_bytes(table, entry, table->entry_size + strlen(entry->key) + 1 + held);
    while (holds_too_much(table) && forget_one(table))
        ;
}

static struct once_entry *add(struct once_table *table, const char *key) {
    if (HASH_COUNT(table->entries) >= table->bounds.entries)
        forget_one(table);
    struct once_entry *entry = calloc(1, table->entry_size);
    if (!entry || !(entry->key = strdup(key))) {
        free(entry);
        return NULL;
    }
    HASH_ADD_KEYPTR(hh, table->entries, entry->key, strlen(entry->key), entry);
    if (entry->hh.tbl)
        return entry;
    entry_free(table, entry); /* no memory for the hash table */
    return NULL;
}

struct once_entry *once_table_enter(struct once_table *table, const char *key) {
    struct once_entry *entry = NULL;
    HASH_FIND_STR(table->entries, key, entry);
    if (!entry)
        entry = add(table, key);
    if (entry) {
        entry->users++; /* before the entry is weighed, which frees unused ones */
        if (!entry->bytes)
            once_table_weigh(table, entry, 0);
        entry->entered_ms = clock_ms();
    }
    return entry;
}

void once_table_leave(struct once_table *table, struct once_entry *entry) {
    (void)table; /* named for REQUIRES() only */
    entry->users--;
}
