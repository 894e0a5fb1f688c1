/* The bytes of a blob that passes through: a memory file, and which bytes are in it or on disk. */
#include "cache/flight/passing.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

void passing_init(struct passing *passing, _Atomic int64_t *held) {
    *passing = (struct passing){.memory = -1, .held = held};
}

void passing_finish(struct passing *passing) {
    atomic_fetch_sub(passing->held, (int64_t)extents_total(&passing->in_memory));
    if (passing->memory >= 0)
        close(passing->memory);
    extents_finish(&passing->on_disk);
    extents_finish(&passing->in_memory);
}

bool passing_begin(struct passing *passing, enum unkept reason, const struct error *why,
                   const struct extents *present, struct error *error) {
    passing->reason = reason;
    passing->why = *why;
    passing->memory = memfd_create("blob", MFD_CLOEXEC);
    if (passing->memory < 0)
        return error_set(error, ERROR_MEMORY, "no memory for a blob");
    for (size_t i = 0; i < present->count; i++) {
        if (!extents_add(&passing->on_disk, present->at[i].start, present->at[i].end))
            return error_set(error, ERROR_MEMORY, "out of memory");
    }
    passing->on = true;
    return true;
}

bool passing_record(struct passing *passing, bool to_memory, uint64_t start, uint64_t end) {
    if (!to_memory)
        return extents_add(&passing->on_disk, start, end);
    if (!extents_add(&passing->in_memory, start, end))
        return false;
    atomic_fetch_add(passing->held, (int64_t)(end - start));
    return true;
}

void passing_drop(struct passing *passing, uint64_t start, uint64_t end, uint64_t size,
                  struct extents *present, uint64_t hashed) {
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    start = (start + page - 1) / page * page;
    if (end < size)
        end = end / page * page;
    /* Dropped bytes that were not hashed yet must be fetched again if a reader wants the whole
     * blob. */
    uint64_t again = start > hashed ? start : hashed;
    if (start >= end || (again < end && !extents_remove(present, again, end)) ||
        !extents_remove(&passing->in_memory, start, end))
        return;
    /* The lock may be held here, because a memory file does no I/O. */
    fallocate(passing->memory, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)start,
              (off_t)(end - start));
    atomic_fetch_sub(passing->held, (int64_t)(end - start));
    passing->dropped = true;
}

bool passing_accepts(const struct passing *passing, const struct blob_range *first,
                     const struct blob_range *wanted) {
    return !passing->on ||
           (!passing->dropped && wanted->kind == BLOB_WHOLE && first->kind == BLOB_WHOLE);
}
