/* The body of a blob under way: what is here, where it is written and where it can be read. */
#include "cache/flight/body.h"

#include <unistd.h>

void body_init(struct body *body, _Atomic int64_t *held) {
    *body = (struct body){.fd = -1};
    passing_init(&body->passing, held);
}

void body_finish(struct body *body) {
    if (body->fd >= 0)
        close(body->fd);
    passing_finish(&body->passing);
    extents_finish(&body->present);
}

bool body_learn_size(struct body *body, uint64_t size, const char *label, struct error *error) {
    if (body->size_known && body->size != size)
        return error_set(error, ERROR_CORRUPT,
                         "%s: the blob's size changed from %llu to %llu bytes during the transfer",
                         label, (unsigned long long)body->size, (unsigned long long)size);
    const struct extents *present = &body->present;
    if (present->count && present->at[present->count - 1].end > size)
        return error_set(error, ERROR_CORRUPT,
                         "the blob is shorter than the bytes that have arrived");
    body->size_known = true;
    body->size = size;
    return true;
}

bool body_is_complete(const struct body *body) {
    return body->size_known && extents_run_end(&body->present, 0) >= body->size;
}

int body_write_fd(const struct body *body) {
    return body->passing.on ? body->passing.memory : body->fd;
}

bool body_record(struct body *body, int fd, uint64_t start, uint64_t end) {
    struct passing *passing = &body->passing;
    if (passing->on && !passing_record(passing, fd == passing->memory, start, end))
        return false;
    return extents_add(&body->present, start, end);
}

int body_readable_at(const struct body *body, uint64_t offset, uint64_t *end) {
    const struct passing *passing = &body->passing;
    if (!passing->on) {
        *end = extents_run_end(&body->present, offset);
        return body->fd;
    }
    *end = extents_run_end(&passing->in_memory, offset);
    if (*end > offset)
        return passing->memory;
    *end = extents_run_end(&passing->on_disk, offset);
    if (*end > offset)
        return body->fd;
    /* Dropped, up to the next byte that is in memory or on disk. */
    struct extent gap = {offset, UINT64_MAX}, other = gap;
    extents_gap(&passing->in_memory, offset, UINT64_MAX, &gap);
    extents_gap(&passing->on_disk, offset, UINT64_MAX, &other);
    *end = gap.end < other.end ? gap.end : other.end;
    return -1;
}
