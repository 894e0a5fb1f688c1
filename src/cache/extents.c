#include "cache/extents.h"

#include <stdlib.h>
#include <string.h>

void extents_free(struct extents *extents) {
    free(extents->at);
    *extents = (struct extents){0};
}

bool extents_add(struct extents *extents, uint64_t start, uint64_t end) {
    if (start >= end)
        return true;
    size_t first = 0;
    while (first < extents->count && extents->at[first].end < start)
        first++;
    size_t last = first; /* one behind the last run that [start, end) touches */
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
    if (extents->count == extents->capacity) {
        size_t capacity = extents->capacity ? extents->capacity * 2 : 8;
        struct extent *at = realloc(extents->at, capacity * sizeof *at);
        if (!at)
            return false;
        extents->at = at;
        extents->capacity = capacity;
    }
    memmove(extents->at + first + 1, extents->at + first,
            (extents->count - first) * sizeof *extents->at);
    extents->at[first] = (struct extent){start, end};
    extents->count++;
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
