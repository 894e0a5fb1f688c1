/*
 * Whether a location answers HEAD. Some registries refuse every HEAD of one kind and answer the GET
 * of the same name, and some redirect a HEAD to a URL that is signed for GET alone. What a location
 * did is remembered for a while, so that it is not asked in vain for each name.
 *
 * Threads: any.
 */
#ifndef UPSTREAM_HEADS_H
#define UPSTREAM_HEADS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "upstream/upstream.h"

enum {
    HEADS_FORGET_MS = 10 * 60 * 1000, /* how long a refusal is remembered */
    HEADS_UNSURE_LIMIT = 2,           /* refusals in a row that may have had another reason */
};

/* Requests of one kind at one location. Zeroed: nothing is known. */
struct heads {
    _Atomic int64_t refused_until_ms; /* clock_ms(); 0: not refused */
    atomic_uint unsure;               /* refusals in a row that may have had another reason */
};

bool heads_are_refused(const struct heads *heads, int64_t now_ms);
/* A HEAD was answered. */
void heads_answered(struct heads *heads);
/* A HEAD was refused, and GET would have been answered. */
void heads_refused(struct heads *heads, bool is_sure, int64_t now_ms);

#endif
