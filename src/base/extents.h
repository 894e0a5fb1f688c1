/*
 * Which bytes of something are present: a sorted list of disjoint, non-touching runs. A flight has
 * a handful of them (one a connection and what an earlier process left), so a plain array with
 * linear insertion is both the smallest and the fastest shape. Pure; the owner locks.
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

void extents_free(struct extents *extents);

/* Adds [start, end), merging what touches; false when out of memory (nothing changed). */
bool extents_add(struct extents *extents, uint64_t start, uint64_t end);

/* Takes [start, end) out; false when out of memory (nothing changed). */
bool extents_remove(struct extents *extents, uint64_t start, uint64_t end);

/* The end of the run that holds byte `offset`, or `offset` itself when that byte is absent. */
uint64_t extents_run_end(const struct extents *extents, uint64_t offset);

/* The first absent stretch at or behind `from`, before `limit`; false when there is none. */
bool extents_gap(const struct extents *extents, uint64_t from, uint64_t limit, struct extent *gap);

uint64_t extents_total(const struct extents *extents); /* how many bytes are present */

#endif
