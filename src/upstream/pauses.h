/*
 * The requests that a server has asked not to repeat for a while (429, or 503 with Retry-After).
 *
 * What a server limits differs. Docker Hub counts GETs of manifests and nothing else; others count
 * by repository, by user or by address. So a pause is for the very request that was refused: the
 * method, the kind of thing, the repository and the reference (of a token: its scope). Every other
 * request is asked, and is refused or not.
 *
 * A pause lasts as long as Retry-After says, a minute at most. Where the server names no time, or
 * one of more than ten minutes, the request is tried again after a second, and after twice as long
 * each time it is refused again. A success ends what is remembered of the request.
 *
 * At most PAUSES_LIMIT requests are remembered; the one whose pause began first is forgotten for a
 * new one. Threads: any.
 */
#ifndef UPSTREAM_PAUSES_H
#define UPSTREAM_PAUSES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/lock.h"
#include "base/siphash.h"

enum {
    PAUSES_LIMIT = 256, /* 10 KiB */
    PAUSE_MOST_S = 60,
    PAUSE_BELIEVED_S = 600, /* a longer Retry-After counts as none */
};

struct pause;

struct pauses {
    atomic_bool in_use; /* false: nothing is remembered, and no lock is needed to know */
    struct siphash_key secret;
    struct lock pauses_lock;
    struct pause *at GUARDED_BY(pauses_lock); /* PAUSES_LIMIT; NULL until the first pause */
};

void pauses_init(struct pauses *pauses);
void pauses_finish(struct pauses *pauses);

/* The server refused the request with `status` and named `after_s` seconds (0: none). The result
 * is how many seconds the pause lasts, at least 1. `request` is any text that says which. */
int pauses_begin(struct pauses *pauses, const char *request, int status, int after_s,
                 int64_t now_ms);
/* Seconds until the request may be sent again, rounded up, and the status that asked for the pause;
 * 0: now. */
int pauses_left(struct pauses *pauses, const char *request, int *status, int64_t now_ms);
/* The request was answered. */
void pauses_end(struct pauses *pauses, const char *request);

#endif
