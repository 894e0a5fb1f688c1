/*
 * The turns of passwords to be hashed: as many at once as there are processors, and a bounded
 * number that waits.
 *
 * Requests with the same user and password share one turn, because a client opens many connections
 * at once. The next turn goes to the address with the fewest passwords being hashed, and to the one
 * that came first among those; and one address may have at most half of the turns that wait while
 * more than half are taken. So a client that tries many passwords hardly delays another one.
 *
 * Threads: any.
 */
#ifndef LOGIN_TURNS_H
#define LOGIN_TURNS_H

#include <stdbool.h>
#include "base/cancel.h"
#include "base/lock.h"
#include "base/pot.h"
#include "base/siphash.h"
#include "http/http.h"

struct turn;

struct turns {
    unsigned at_once;
    struct lock turns_lock;
    struct turn *line GUARDED_BY(turns_lock); /* in the order of their coming */
    unsigned running GUARDED_BY(turns_lock);
    struct pot waiting; /* changed under turns_lock */
};

void turns_init(struct turns *turns, unsigned at_once, unsigned waiting);
void turns_finish(struct turns *turns); /* no turn is left */
/* From now on so many may wait. Those that wait already stay. */
void turns_change(struct turns *turns, unsigned waiting);

enum turns_answer {
    TURNS_BEGINS, /* compute the hash, and call turns_end() */
    TURNS_SHARED, /* another request with the same login has had its turn: look what is known */
    TURNS_FULL,   /* too many wait */
    TURNS_GONE,   /* cancelled */
    TURNS_NO_MEMORY,
};

/* Waits for a turn to hash the password that `login` stands for. `cancel` is checked before the
 * turn begins, and while the caller waits. */
enum turns_answer turns_begin(struct turns *turns, const struct siphash_tag *login,
                              const struct http_address *address, const struct cancel *cancel,
                              struct turn **turn);
void turns_end(struct turns *turns, struct turn *turn);

/* Whether turns_begin() would answer TURNS_FULL. */
bool turns_are_full(struct turns *turns, const struct siphash_tag *login,
                    const struct http_address *address);

#endif
