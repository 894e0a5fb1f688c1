/* Which bytes of something are present: adds, removes and finds runs in a sorted array. */
#include "base/extents.h"

#include <stdlib.h>
#include <string.h>

void extents_finish(struct extents *extents) {
    free(extents->at);
    *extents = (struct extents){0};
}

/* The index of the first run that ends at or behind `offset`; `count` if there is none. */
static size_t find(const struct extents *extents, uint64_t offset) {
    size_t from = 0, to = extents->count;
    while (from < to) {
        size_t middle = from + (to - from) / 2;
        if (extents->at[middle].end < offset)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

/* Inserts a run at index `at`; false: out of memory. */
static bool insert(struct extents *extents, size_t at, uint64_t start, uint64_t end) {
    if (extents->count == extents->capacity) {
        size_t capacity = extents->capacity ? extents->capacity * 2 : 8;
        struct extent *grown = realloc(extents->at, capacity * sizeof *grown);
        if (!grown)
            return false;
        extents->at = grown;
        extents->capacity = capacity;
    }
    memmove(extents->at + at + 1, extents->at + at, (extents->count - at) * sizeof *extents->at);
    extents->at[at] = (struct extent){start, end};
    extents->count++;
    return true;
}

/* Removes the runs with indices [first, last). */
static void cut(struct extents *extents, size_t first, size_t last) {
    if (first == last)
        return;
    memmove(extents->at + first, extents->at + last, (extents->count - last) * sizeof *extents->at);
    extents->count -= last - first;
}

bool extents_add(struct extents *extents, uint64_t start, uint64_t end) {
    if (start >= end)
        return true;
    size_t first = find(extents, start);
    size_t last = first; /* one behind the last run that [start, end) touches */
    while (last < extents->count && extents->at[last].start <= end)
        last++;
    if (last == first)
        return insert(extents, first, start, end);
    if (extents->at[first].start < start)
        start = extents->at[first].start;
    if (extents->at[last - 1].end > end)
        end = extents->at[last - 1].end;
    extents->at[first] = (struct extent){start, end};
    cut(extents, first + 1, last);
    return true;
}

bool extents_append(struct extents *extents, uint64_t start, uint64_t end) {
    return start >= end || insert(extents, extents->count, start, end);
}

static int compare(const void *left, const void *right) {
    const struct extent *a = left, *b = right;
    return (a->start > b->start) - (a->start < b->start);
}

void extents_sort(struct extents *extents) {
    if (!extents->count)
        return;
    qsort(extents->at, extents->count, sizeof *extents->at, compare);
    size_t last = 0;
    for (size_t i = 1; i < extents->count; i++) {
        struct extent *into = &extents->at[last], next = extents->at[i];
        if (next.start > into->end)
            extents->at[++last] = next;
        else if (next.end > into->end)
            into->end = next.end;
    }
    extents->count = last + 1;
}

bool extents_remove(struct extents *extents, uint64_t start, uint64_t end) {
    if (start >= end)
        return true;
    size_t first = find(extents, start);
    if (first < extents->count && extents->at[first].start < start) {
        uint64_t run_end = extents->at[first].end;
        if (run_end > end &&
            !insert(extents, first + 1, end, run_end)) /* a gap inside the run: two runs are left */
            return false;
        extents->at[first++].end = start;
    }
    size_t last = first; /* one behind the last run that lies in [start, end) */
    while (last < extents->count && extents->at[last].end <= end)
        last++;
    if (last < extents->count && extents->at[last].start < end)
        extents->at[last].start = end;
    cut(extents, first, last);
    return true;
}

uint64_t extents_run_end(const struct extents *extents, uint64_t offset) {
    size_t i = find(extents, offset);
    if (i < extents->count && extents->at[i].end == offset)
        i++; /* this run ends just before `offset` */
    return i < extents->count && extents->at[i].start <= offset ? extents->at[i].end : offset;
}

bool extents_gap(const struct extents *extents, uint64_t from, uint64_t limit, struct extent *gap) {
    uint64_t start = extents_run_end(extents, from);
    if (start >= limit)
        return false;
    size_t i = find(extents, start);
    if (i < extents->count && extents->at[i].end == start)
        i++; /* the run that ends where the gap begins */
    uint64_t end =
        i < extents->count && extents->at[i].start < limit ? extents->at[i].start : limit;
    *gap = (struct extent){start, end};
    return true;
}

uint64_t extents_total(const struct extents *extents) {
    uint64_t total = 0;
    for (size_t i = 0; i < extents->count; i++)
        total += extents->at[i].end - extents->at[i].start;
    return total;
}
