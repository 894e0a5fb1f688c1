/*
 * Which bytes of something are present: a sorted list of runs that neither overlap nor touch.
 *
 * A flight has a handful of runs, one for each connection and those that an earlier process left.
 * For so few, an array with linear insertion is the smallest and the fastest shape. Zeroed is
 * empty. Pure; the owner locks.
 */
#ifndef BASE_EXTENTS_H
#define BASE_EXTENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct extent {
    uint64_t start, end; /* bytes [start, end) */
};

struct extents {
    struct extent *at; /* owned */
    size_t count, capacity;
};

void extents_finish(struct extents *extents);

/* Adds [start, end) and joins it with the runs that it touches. False: out of memory, and nothing
 * is changed. */
bool extents_add(struct extents *extents, uint64_t start, uint64_t end);

/* Removes [start, end). False: out of memory, and nothing is changed. */
bool extents_remove(struct extents *extents, uint64_t start, uint64_t end);

/* The end of the run that holds byte `offset`; `offset` itself when that byte is absent. */
uint64_t extents_run_end(const struct extents *extents, uint64_t offset);

/* The first absent run of bytes in [from, limit); false: all of them are present. */
bool extents_gap(const struct extents *extents, uint64_t from, uint64_t limit, struct extent *gap);

uint64_t extents_total(const struct extents *extents); /* how many bytes are present */

#endif
