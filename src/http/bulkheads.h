/*
 * Private to http/. What all clients share, and how much of it one client address may take: places
 * for connections, and workers. See base/pot.h for the rule, and remotes.h for what an address is.
 *
 * Threads: any.
 */
#ifndef HTTP_BULKHEADS_H
#define HTTP_BULKHEADS_H

#include "base/metric.h"
#include "http/http.h"
#include "http/remotes.h"

/* Why a client was refused or cut; the label `reason` of tarn_refused_total. */
enum refusal {
    REFUSED_CONNECTIONS,        /* every connection is taken, and none is idle: 503 */
    REFUSED_CLIENT_CONNECTIONS, /* the address has its share of connections: 429 */
    REFUSED_WORKERS,            /* the request waited too long for a worker: 503 */
    REFUSED_CLIENT_REQUESTS,    /* the address has its share of workers: 429 */
    REFUSED_CLIENT_RATE,        /* the client was slower than least_rate: cut */
    REFUSED_HANDSHAKES,         /* the handshake waited too long for a thread: closed */
    REFUSED_KINDS
};

struct bulkheads {
    struct pot connections;                        /* within the limit */
    struct pot workers;                            /* requests that have one or wait for one */
    atomic_uint connections_share, requests_share; /* of one address */
    _Atomic uint64_t least_rate; /* bytes a second, while all workers are taken; 0: none */
    struct remotes remotes;
    atomic_uint remotes_with_their_share; /* of connections */
    atomic_size_t copied; /* bytes of bodies that are kept for slow clients; see unsent_own() */
    struct metric *refused[REFUSED_KINDS];
};

/* False: bulkheads_finish() must be called all the same. */
bool bulkheads_init(struct bulkheads *bulkheads, const struct http_server_settings *settings,
                    struct error *error);
/* Takes max_connections and per_client of the settings from now on. */
void bulkheads_change(struct bulkheads *bulkheads, const struct http_server_settings *settings);
void bulkheads_finish(struct bulkheads *bulkheads); /* no connection is left */

void bulkheads_count_refusal(const struct bulkheads *bulkheads, enum refusal why);

/* Takes memory for a body that is kept for a slow client. False: all such bodies together would be
 * too long. */
bool bulkheads_take_copied(struct bulkheads *bulkheads, size_t bytes);
void bulkheads_give_back_copied(struct bulkheads *bulkheads, size_t bytes);

/* In the functions below a remote of NULL has no share. */

/* Whether the address may have one more connection. */
bool bulkheads_may_connect(const struct bulkheads *bulkheads, const struct remote *remote);
/* Whether the address has its share of connections, or more. */
bool bulkheads_has_its_share(const struct bulkheads *bulkheads, const struct remote *remote);
/* Whether there is an address that does. */
/* Whether the address holds more than an eighth of a share. */
bool bulkheads_has_many(const struct bulkheads *bulkheads, const struct remote *remote);
bool bulkheads_has_anybody_its_share(const struct bulkheads *bulkheads);
/* Counts a connection within the limit. False: the limit is reached. */
bool bulkheads_take_connection(struct bulkheads *bulkheads, struct remote *remote);
void bulkheads_give_back_connection(struct bulkheads *bulkheads, struct remote *remote);
/* Whether the address may have one more busy connection, which nobody can close for another. */
bool bulkheads_may_be_busy(const struct bulkheads *bulkheads, const struct remote *remote);

/* Whether the address may have one more request on a worker. */
bool bulkheads_may_request(const struct bulkheads *bulkheads, const struct remote *remote);
/* Counts a request that a worker begins. False: the address has its share. Requests in the line do
 * not count, because a burst of short ones is no use of workers. */
bool bulkheads_begin_request(struct bulkheads *bulkheads, struct remote *remote);
/* The same for a response that goes on; it is never refused. */
void bulkheads_take_worker(struct bulkheads *bulkheads, struct remote *remote);
void bulkheads_give_back_worker(struct bulkheads *bulkheads, struct remote *remote);

#endif
