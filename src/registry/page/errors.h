/*
 * The latest requests that failed because of an upstream or of tarn itself: a ring of fixed size.
 * Requests that fail alike take one place.
 *
 * Threads: any. A short lock.
 */
#ifndef PAGE_ERRORS_H
#define PAGE_ERRORS_H

#include <stddef.h>
#include <stdint.h>
#include "base/lock.h"
#include "oci/reference.h"

enum { ERRORS_KEPT = 40, ERRORS_TEXT = 240, ERRORS_REFERENCE = 80 };

struct errors_entry {
    int64_t last_s; /* wall seconds; 0: empty */
    unsigned count;
    int status;                    /* of the response */
    char upstream[HOST_LIMIT + 1]; /* its name in the configuration; a pattern has one for all */
    struct repository_name repository;
    char reference[ERRORS_REFERENCE]; /* the beginning of a tag or digest */
    char text[ERRORS_TEXT];           /* the beginning of the message that the client got */
};

struct errors {
    struct lock ring_lock;
    struct errors_entry ring[ERRORS_KEPT] GUARDED_BY(ring_lock);
    size_t next GUARDED_BY(ring_lock);
};

void errors_init(struct errors *errors);
void errors_finish(struct errors *errors);

/* `last_s` and `count` of the entry do not matter. */
void errors_note(struct errors *errors, const struct errors_entry *entry, int64_t now_s);

/* Copies the entries, the latest first; returns how many there are. */
size_t errors_read(struct errors *errors, struct errors_entry out[static ERRORS_KEPT]);

#endif
