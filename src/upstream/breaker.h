/*
 * A circuit breaker: it decides whether a location may be asked, by how the last requests ended.
 *
 * Closed, it lets every request pass. After five failures in a row that took at least a second
 * together it opens: requests are refused, but for one probe at a time. The first probe may go
 * after a second, and the pause doubles after each probe that fails, up to thirty seconds. One
 * response closes the breaker.
 *
 * A failure is a connection that could not be made, or no response in time. Every response counts
 * as one, whatever its status. The second that failures must take lets a registry be restarted.
 *
 * Private to upstream/. Threads: any. A breaker waits for nothing, and its times are clock_ms().
 */
#ifndef UPSTREAM_BREAKER_H
#define UPSTREAM_BREAKER_H

#include <stdbool.h>
#include <stdint.h>
#include "base/lock.h"

enum {
    BREAKER_FAILURES = 5,          /* in a row */
    BREAKER_SPAN_MS = 1000,        /* that they must take together */
    BREAKER_FIRST_PAUSE_MS = 1000, /* before the first probe */
    BREAKER_MOST_PAUSE_MS = 30000,
};

enum breaker_outcome {
    BREAKER_RESPONDED,
    BREAKER_FAILED,
    BREAKER_UNKNOWN, /* the request says nothing about the location: it was cancelled, for example
                      */
};

enum breaker_change { BREAKER_STAYS, BREAKER_OPENS, BREAKER_CLOSES };

struct breaker {
    struct lock state_lock;
    unsigned failures GUARDED_BY(state_lock);        /* in a row */
    int64_t first_failure_ms GUARDED_BY(state_lock); /* when the first of them began */
    bool is_open GUARDED_BY(state_lock);
    bool is_probing GUARDED_BY(state_lock);
    int64_t pause_ms GUARDED_BY(state_lock); /* the last one, without its random part */
    int64_t next_probe_ms GUARDED_BY(state_lock);
};

/* One request that may ask. */
struct breaker_pass {
    int64_t began_ms;
    bool is_probe;
};

void breaker_init(struct breaker *breaker); /* closed */
void breaker_finish(struct breaker *breaker);

/* How many seconds a request should wait before it asks, at least 1; 0: it may ask now. */
int breaker_wait_s(struct breaker *breaker, int64_t now_ms);

/* Whether the request may ask; it may be the probe. It then calls breaker_leave(). `insists`: it
 * may ask even while the breaker is open, because it has patience of its own. */
bool breaker_enter(struct breaker *breaker, int64_t now_ms, bool insists,
                   struct breaker_pass *pass);
enum breaker_change breaker_leave(struct breaker *breaker, const struct breaker_pass *pass,
                                  enum breaker_outcome outcome, int64_t now_ms);

bool breaker_is_open(struct breaker *breaker);

#endif
