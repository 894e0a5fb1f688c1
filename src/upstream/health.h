/*
 * The health of an upstream: which of its locations and of their token services are asked, and why
 * not. It stands between the requests and the breakers, and tells people.
 *
 * Private to upstream/. Threads: any. No function waits.
 */
#ifndef UPSTREAM_HEALTH_H
#define UPSTREAM_HEALTH_H

#include "base/metric.h"
#include "upstream/location.h"

/* Of one upstream, of all locations of all its hosts, and their token services. */
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

/* A server that is asked. Borrowed for the call. */
struct health_server {
    struct breaker *breaker;
    struct health *health; /* NULL: nobody is told */
    const char *url;       /* its query is not shown */
    bool issues_tokens;
    int64_t patience_ms; /* of a client, at most: see health_leave() */
};

struct health_server health_location(struct location *location);
/* The location's token service, whichever it is: a location names one as a rule. */
struct health_server health_token_service(struct location *location, const char *realm);

/* Whether the server may be asked now; for a request that has to wait for a connection first.
 * False: ERROR_UNAVAILABLE with ERROR_REASON_NOT_ASKED and a time to wait. */
bool health_may_ask(const struct health_server *server, bool insists, struct error *error);
/* The same for an attempt that begins. When it has ended, health_leave() is called. */
bool health_enter(const struct health_server *server, bool insists, struct breaker_pass *pass,
                  struct error *error);
/* `error`: why the attempt failed; NULL: it did not. An attempt that was ended because its client
 * had left has failed if there was no response for `patience_ms`. Otherwise impatient clients would
 * keep a silent server from being noticed. */
void health_leave(const struct health_server *server, const struct breaker_pass *pass,
                  enum health_contact contact, const struct error *error);

/* The breaker goes: if it is open, it counts no longer. */
void health_forget(struct health *health, struct breaker *breaker);

#endif
