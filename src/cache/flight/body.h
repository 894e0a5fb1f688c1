/*
 * The body of a blob under way: its size, which of its bytes are here and in which file, and how
 * far they are hashed. Private to cache/flight/.
 *
 * Part of struct flight. The owner holds the flight's state_lock.
 */
#ifndef FLIGHT_BODY_H
#define FLIGHT_BODY_H

#include "base/extents.h"
#include "cache/flight/passing.h"

struct body {
    bool size_known;
    uint64_t size;
    char etag[160]; /* of the place that is asked now; "": none */
    struct extents present;
    uint64_t hashed; /* [0, hashed) is hashed; see hashing.h */
    int fd;          /* of the partial file; -1: there is none */
    struct passing passing;
};

/* `held`: see struct passing. */
void body_init(struct body *body, _Atomic int64_t *held);
void body_finish(struct body *body); /* closes the files */

/* A place says that the blob has `size` bytes. False (ERROR_CORRUPT): that contradicts what is
 * known. `label` names the place. */
bool body_learn_size(struct body *body, uint64_t size, const char *label, struct error *error);

/* Whether all bytes are present. */
bool body_is_complete(const struct body *body);

/* The descriptor to which new bytes are written. */
int body_write_fd(const struct body *body);
/* Records that [start, end) was written to `fd`. False: no memory. */
bool body_record(struct body *body, int fd, uint64_t start, uint64_t end);
/* The descriptor from which present bytes at `offset` can be read, and in *end up to where they can
 * be read from it. -1: they were dropped, up to *end. */
int body_readable_at(const struct body *body, uint64_t offset, uint64_t *end);

#endif
