/*
 * A circuit breaker: it decides whether a server may be asked, by how the last requests ended.
 *
 * Closed, it lets every request pass. After some failures in a row that took some time together it
 * opens: requests are refused, but for one probe at a time. The first probe may go after a pause,
 * which doubles after each probe that fails, up to a limit. One response closes the breaker.
 *
 * A failure is a connection that could not be made, or no response in time; what else counts is the
 * caller's to say. The time that failures must take lets a server be restarted.
 *
 * Threads: any. A breaker waits for nothing, and its times are clock_ms().
 */
#ifndef CLIENT_BREAKER_H
#define CLIENT_BREAKER_H

#include <stdbool.h>
#include <stdint.h>
#include "base/lock.h"

struct breaker_rule {
    unsigned failures;      /* in a row */
    int64_t span_ms;        /* that they must take together */
    int64_t first_pause_ms; /* before the first probe */
    int64_t most_pause_ms;
};

enum breaker_outcome {
    BREAKER_RESPONDED,
    BREAKER_FAILED,
    BREAKER_UNKNOWN, /* the request says nothing about the location: it was cancelled, for example
                      */
};

enum breaker_change { BREAKER_STAYS, BREAKER_OPENS, BREAKER_CLOSES };

struct breaker {
    const struct breaker_rule *rule;
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

/* Closed. The rule outlives the breaker. */
void breaker_init(struct breaker *breaker, const struct breaker_rule *rule);
void breaker_finish(struct breaker *breaker);

/* How long a request should wait before it asks, in milliseconds; 0: it may ask now. */
int64_t breaker_wait_ms(struct breaker *breaker, int64_t now_ms);
/* The same in seconds, at least 1; 0: it may ask now. */
int breaker_wait_s(struct breaker *breaker, int64_t now_ms);

/* Whether the request may ask; it may be the probe. It then calls breaker_leave(). `insists`: it
 * may ask even while the breaker is open, because it has patience of its own. */
bool breaker_enter(struct breaker *breaker, int64_t now_ms, bool insists,
                   struct breaker_pass *pass);
enum breaker_change breaker_leave(struct breaker *breaker, const struct breaker_pass *pass,
                                  enum breaker_outcome outcome, int64_t now_ms);

bool breaker_is_open(struct breaker *breaker);

#endif
