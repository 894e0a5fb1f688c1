/* A sorted list of disjoint runs: adding, removing and searching. */
#include "base/extents.h"

#include <stdlib.h>
#include <string.h>

void extents_finish(struct extents *extents) {
    free(extents->at);
    *extents = (struct extents){0};
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

bool extents_add(struct extents *extents, uint64_t start, uint64_t end) {
    if (start >= end)
        return true;
    size_t first = 0;
    while (first < extents->count && extents->at[first].end < start)
        first++;
    size_t last = first; /* the index behind the last run that [start, end) touches */
    while (last < extents->count && extents->at[last].start <= end)
        last++;

    if (last > first) {
        if (extents->at[first].start < start)
            start = extents->at[first].start;
        if (extents->at[last - 1].end > end)
            end = extents->at[last - 1].end;
        extents->at[first] = (struct extent){start, end};
        memmove(extents->at + first + 1, extents->at + last,
                (extents->count - last) * sizeof *extents->at);
        extents->count -= last - first - 1;
        return true;
    }
    return insert(extents, first, start, end);
}

bool extents_remove(struct extents *extents, uint64_t start, uint64_t end) {
    for (size_t i = 0; i < extents->count && start < end;) {
        struct extent *run = &extents->at[i];
        if (run->end <= start) {
            i++;
        } else if (run->start >= end) {
            break;
        } else if (run->start < start &&
                   run->end > end) { /* a gap inside the run: it becomes two */
            if (!insert(extents, i + 1, end, run->end))
                return false;
            extents->at[i].end = start;
            break;
        } else if (run->start < start) {
            run->end = start;
            i++;
        } else if (run->end > end) {
            run->start = end;
            break;
        } else {
            memmove(run, run + 1, (extents->count - i - 1) * sizeof *run);
            extents->count--;
        }
    }
    return true;
}

uint64_t extents_run_end(const struct extents *extents, uint64_t offset) {
    for (size_t i = 0; i < extents->count; i++) {
        if (extents->at[i].start <= offset && offset < extents->at[i].end)
            return extents->at[i].end;
    }
    return offset;
}

bool extents_gap(const struct extents *extents, uint64_t from, uint64_t limit, struct extent *gap) {
    uint64_t start = extents_run_end(extents, from), end = limit;
    if (start >= limit)
        return false;
    for (size_t i = 0; i < extents->count; i++) {
        if (extents->at[i].start > start) {
            end = extents->at[i].start < limit ? extents->at[i].start : limit;
            break;
        }
    }
    *gap = (struct extent){start, end};
    return true;
}

uint64_t extents_total(const struct extents *extents) {
    uint64_t total = 0;
    for (size_t i = 0; i < extents->count; i++)
        total += extents->at[i].end - extents->at[i].start;
    return total;
}
