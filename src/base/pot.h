/*
 * A pot that many neighbours take from, and the shares (bulkheads) that keep one of them from
 * emptying it.
 *
 * A pot is what all share: the workers, the connections, the flights. A neighbour is whoever takes
 * from it: a client's address, an upstream. Each neighbour has a share of the pot. The share binds
 * only while the pot is more than half taken. So one busy neighbour gets all that nobody else
 * wants, and a neighbour that comes later still finds its part.
 *
 * A pot does not know who holds what. The caller counts what each neighbour holds, under a lock of
 * its own or in an atomic.
 *
 * Threads: any. Two neighbours that ask at the same moment may both be allowed, so a share may be
 * exceeded by as many as ask at once.
 */
#ifndef BASE_POT_H
#define BASE_POT_H

#include <stdatomic.h>
#include <stdbool.h>

struct pot {
    atomic_uint capacity; /* how much there is to take */
    atomic_uint taken;
};

void pot_init(struct pot *pot, unsigned capacity);
/* From now on there is so much to take. What is taken already stays taken, also beyond that. */
void pot_resize(struct pot *pot, unsigned capacity);
unsigned pot_capacity(const struct pot *pot);
void pot_take(struct pot *pot); /* takes one; does not ask whether one is left */
bool pot_take_if_left(struct pot *pot);
void pot_give_back(struct pot *pot); /* one that was taken */

/* Whether all of the pot is taken. */
bool pot_is_empty(const struct pot *pot);

/* Whether more than half of the pot is taken. */
bool pot_is_scarce(const struct pot *pot);

/* Whether a neighbour that holds `held` of the pot may take one more. */
bool pot_may_take(const struct pot *pot, unsigned held, unsigned share);

/* The same for one that is counted in the pot already, and not in `held`. */
bool pot_may_keep(const struct pot *pot, unsigned held, unsigned share);

/* A share of `percent` of the pot, which is at least 1. */
unsigned pot_share(const struct pot *pot, unsigned percent);

#endif
