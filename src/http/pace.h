/*
 * Private to http/. The least rate at which a client must send or take bytes while a worker waits
 * for it: it counts only while all workers are taken, because a slow client harms nobody before.
 *
 * Not thread-safe: a pace belongs to the worker that waits. A zeroed one may be checked at once.
 */
#ifndef HTTP_PACE_H
#define HTTP_PACE_H

#include "http/bulkheads.h"

struct pace {
    int64_t
        since_ms;   /* since when the client is measured; 0: it is not, because workers are free */
    uint64_t bytes; /* that it had sent or taken by then */
};

/* The longest time between two checks while a worker waits. */
enum { PACE_CHECK_MS = 250 };

/* To be called again and again while a worker waits for the client; `bytes` is how many the client
 * has sent or taken so far. False: it has been too slow for two seconds in which all workers were
 * taken. `bulkheads` of NULL has no least rate. */
bool pace_is_kept(struct pace *pace, const struct bulkheads *bulkheads, uint64_t bytes,
                  int64_t now_ms);

#endif
