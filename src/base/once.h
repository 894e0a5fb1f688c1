/*
 * Many ask for the same thing, and one of them fetches it for all.
 *
 * A thread that finds nothing usable takes a turn. If no thread is asking for this thing, the
 * thread itself asks: it releases the lock, asks, takes the lock again, stores the result, and
 * publishes the outcome. A thread that comes meanwhile does not ask. It waits for that outcome,
 * good or bad:
 *
 *     while (!is_usable(token)) {
 *         switch (once_take_turn(&token->once, &ended, &lock, false, deadline_ms)) {
 *         case ONCE_ASK:
 *             fetch(token); // releases the lock, takes it again, calls once_publish()
 *             return !once_failed(&token->once, error);
 *         case ONCE_SHARED:
 *             return !once_failed(&token->once, error);
 *         case ONCE_LATE:
 *             return error_set(error, ERROR_TIMEOUT, "no token in time");
 *         case ONCE_LOOK:
 *             break;
 *         }
 *     }
 *
 * The owner keeps what was fetched, and decides how long it is usable. Which callers share an
 * outcome:
 *
 * - A caller that wants a renewal, because a token was refused, shares only a request that
 *   renews. A request of another kind may bring the refused token again. Every caller shares a
 *   request that renews.
 * - A request that failed with ERROR_TIMEOUT ran until the deadline of the thread that asked. A
 *   waiting caller with a deadline of its own does not share that outcome, because its deadline may
 *   be later.
 * - A request that was cancelled (ERROR_CLOSED) says nothing, and is not shared. The caller asks
 *   itself.
 * - A request that ended before the caller came is not shared. The owner may look at `ended_ms` and
 *   decide otherwise.
 *
 * A `struct once` belongs to one thing, is zero at first, and is guarded by a lock of the owner,
 * which every function here needs held. Two threads never ask for one thing at the same time.
 */
#ifndef BASE_ONCE_H
#define BASE_ONCE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uthash.h>
#include "base/error.h"
#include "base/lock.h"

struct once {
    bool asking;          /* a thread asks, without the lock */
    bool renewing;        /* the request under way renews; without one, the last request did */
    unsigned waiting;     /* threads that wait for the request under way */
    uint64_t outcomes;    /* requests that have ended */
    int64_t began_ms;     /* clock_ms() when the last request began; 0: there was none */
    int64_t ended_ms;     /* clock_ms() when the last request ended; 0: none has ended */
    struct error failure; /* of the last request that ended; ERROR_NONE: it succeeded */
};

enum once_turn {
    ONCE_ASK,    /* nobody is asking: the caller asks now, and must call once_publish() */
    ONCE_SHARED, /* a request ended, and the caller shares its outcome */
    ONCE_LOOK,   /* a request ended, but the caller does not share its outcome: look, take a turn
                    again */
    ONCE_LATE,   /* `deadline_ms` came first */
};

/* Called with the lock held. Waits while another thread asks, until clock_ms() reaches
 * `deadline_ms` at the latest (INT64_MAX: no deadline). `renew` is what the caller wants, and what
 * its request does when it is told to ask. `ended` is signalled by once_publish(). */
enum once_turn once_take_turn(struct once *once, struct condition *ended, struct lock *lock,
                              bool renew, int64_t deadline_ms) REQUIRES(*lock);

/* Ends a request. The thread that was told to ask calls this with the lock held, after it has
 * stored the result. `failure` is copied; NULL or of kind ERROR_NONE: the request succeeded. */
void once_publish(struct once *once, struct condition *ended, const struct error *failure);

/* Whether the last request failed; copies its error then. */
bool once_failed(const struct once *once, struct error *error);

/* ---- one asker for each key ---- */

/* What is remembered for a key: the first member of the owner's own struct. */
struct once_entry {
    struct once once;
    char *key;
    unsigned users;     /* threads that use it: the entry stays in the table while there are any */
    int64_t entered_ms; /* clock_ms() of the last once_table_enter() */
    size_t bytes;       /* of the entry with all that it holds, as once_table_weigh() was told */
    UT_hash_handle hh;
};

/* The bytes of all tables that share it. Zeroed, but for the limit. */
struct once_pot {
    size_t limit;
    _Atomic size_t bytes;
};

/* How much a table may hold. */
struct once_bounds {
    size_t entries;
    size_t bytes;         /* 0: any number */
    struct once_pot *pot; /* NULL: none */
    size_t share;         /* bytes that the table may hold however full the pot is */
};

/*
 * Entries by key, within bounds: when they are exceeded, the table frees the entry that was entered
 * longest ago among those that no thread uses, and so on. While all are in use, the table grows
 * beyond its bounds.
 */
struct once_table {
    struct lock entries_lock; /* guards the table and all entries; not held while asking */
    struct condition ended;   /* a request for any key has ended */
    struct once_entry *entries;
    size_t entry_size, bytes;
    struct once_bounds bounds;
    void (*wipe)(struct once_entry *entry); /* frees what the owner's struct holds, not the entry */
};

/* `entry_size` is the size of the owner's struct, whose bytes are zero when it is new. `wipe` is
 * called without other threads using the entry. */
void once_table_init(struct once_table *table, size_t entry_size, const struct once_bounds *bounds,
                     void (*wipe)(struct once_entry *entry));

/* No thread may use the table any more. */
void once_table_finish(struct once_table *table);

/* The entry of `key`, which is added when there is none; NULL: out of memory. The caller may then
 * release the lock and still use the entry, until it calls once_table_leave(). */
struct once_entry *once_table_enter(struct once_table *table, const char *key)
    REQUIRES(table->entries_lock);
void once_table_leave(struct once_table *table, struct once_entry *entry)
    REQUIRES(table->entries_lock);

/* The owner's struct holds `held` bytes beside itself now. May free entries that no thread uses. */
void once_table_weigh(struct once_table *table, struct once_entry *entry, size_t held)
    REQUIRES(table->entries_lock);

#endif
