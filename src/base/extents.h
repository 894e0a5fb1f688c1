/*
 * Which bytes of something are present: a sorted list of runs that neither overlap nor touch.
 *
 * A flight has a handful of runs, one for each connection and those that an earlier process left.
 * For so few, an array with linear insertion is the smallest and the fastest shape. A run is found
 * in O(log n), so that a file with many runs costs little. Zeroed is empty. Pure; the owner holds a
 * lock.
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
 * is changed. O(n) in the middle, O(log n) at the end. */
bool extents_add(struct extents *extents, uint64_t start, uint64_t end);

/* For many runs in any order, for example from a file: call extents_append() for each, then
 * extents_sort() once, which sorts and merges them in O(n log n). In between the list is not
 * sorted, and of the other functions only extents_finish() may be called. False: out of memory, and
 * nothing is changed. */
bool extents_append(struct extents *extents, uint64_t start, uint64_t end);
void extents_sort(struct extents *extents);

/* Removes [start, end). False: out of memory, and nothing is changed; this never happens with `end`
 * UINT64_MAX, because no run is then split. O(n). */
bool extents_remove(struct extents *extents, uint64_t start, uint64_t end);

/* The end of the run that holds byte `offset`; `offset` itself when that byte is absent. */
uint64_t extents_run_end(const struct extents *extents, uint64_t offset);

/* The first absent run of bytes in [from, limit); false: all of them are present. */
bool extents_gap(const struct extents *extents, uint64_t from, uint64_t limit, struct extent *gap);

uint64_t extents_total(const struct extents *extents); /* how many bytes are present */

#endif
