/*
 * The health of an upstream: which of its locations are asked, and why not. It stands between the
 * requests and the breakers of the locations, and tells people.
 *
 * Private to upstream/. Threads: any. No function waits.
 */
#ifndef UPSTREAM_HEALTH_H
#define UPSTREAM_HEALTH_H

#include "base/metric.h"
#include "upstream/location.h"

/* Of one upstream, of all locations of all its hosts. */
struct health {
    const char *name; /* for the log */
    struct metric *open_gauge;
    struct lock open_lock;
    int open GUARDED_BY(open_lock);                          /* breakers */
    char reason[UPSTREAM_REASON_SIZE] GUARDED_BY(open_lock); /* of the one that opened last */
};

void health_init(struct health *health);
/* Called before the first request. `name` is borrowed, and `label` is the upstream's in metrics. */
void health_name(struct health *health, const char *name, const char *label);
void health_finish(struct health *health);

/* upstream_is_asked() */
bool health_is_good(struct health *health, char reason[static UPSTREAM_REASON_SIZE]);

/* How far an attempt at a request has come. */
enum health_contact { CONTACT_NONE, CONTACT_ASKED, CONTACT_RESPONDED };

/* Whether the location may be asked now; for a request that has to wait for a connection first.
 * False: ERROR_UNAVAILABLE with a time to wait. */
bool health_may_ask(struct location *location, bool insists, struct error *error);
/* The same for an attempt that begins. When it has ended, health_leave() is called. */
bool health_enter(struct location *location, bool insists, struct breaker_pass *pass,
                  struct error *error);
/* `error`: why the attempt failed; NULL: it did not. */
void health_leave(struct location *location, const struct breaker_pass *pass,
                  enum health_contact contact, const struct error *error);

/* The location goes: an open breaker counts no longer. */
void health_forget(struct location *location);

#endif
