/*
 * A peer is one host of an upstream, with all that is kept for asking it: connections, the
 * challenge, tokens, rate limits. An upstream that is configured by its host has one peer as long
 * as it lives. A pattern has a peer for each of the hosts that are asked through it. Clients can
 * name any number of those, so the peers of patterns are bounded:
 *
 * - A peer begins with a request to upstream, not with a name that a client uses.
 * - A peer whose host has never answered goes when no request uses it any more.
 * - When there are PEERS_LIMIT, the one that was used least recently goes for a new one. When
 *   requests use all of them, the new request fails with ERROR_BUSY.
 * - Only the PEERS_CONNECTED that were used last keep connections while no request uses them.
 *
 * Private to upstream/. Threads: any.
 */
#ifndef UPSTREAM_PEER_H
#define UPSTREAM_PEER_H

#include <stdatomic.h>
#include <uthash.h>
#include "client/lane.h"
#include "upstream/authorizer.h"
#include "upstream/queue.h"
#include "upstream/upstream.h"

enum {
    PEERS_LIMIT = 1024,
    PEERS_CONNECTED = 64,
    PEERS_TOKEN_BYTES = 16 << 20, /* tokens of all peers; a few more for each peer */
};

struct peer {
    struct upstream *upstream;
    char host[HOST_LIMIT + 1];      /* canonical, as clients know it */
    struct authorizer *authorizers; /* one a location: url, then fallbacks */
    unsigned locations_count;
    struct queue queue;
    struct lanes lanes;
    atomic_bool answered; /* an HTTP response has come, of whatever status */

    /* Of a pattern's peer, guarded by the peers' lock: */
    unsigned users; /* requests */
    bool is_closed; /* its connections were closed after the last request began */
    enum peer_list { PEER_USED, PEER_CONNECTED, PEER_BARE, PEER_LISTS } list;
    struct peer *prev, *next; /* in its list; the one that was used least recently is first */
    UT_hash_handle hh;        /* in its upstream's peers, by host */
};

/* NULL: the settings are impossible (ERROR_INVALID), or no memory. */
struct peer *peer_new(struct upstream *upstream, const char *host, struct error *error);
void peer_free(struct peer *peer); /* NULL is fine */

/* The peers of all patterns, and what all peers share. */
struct peers {
    struct once_pot tokens;
    struct lock peers_lock; /* guards the lists, and `peers` of each upstream */
    unsigned limit, connected_limit;
    unsigned count GUARDED_BY(peers_lock);
    unsigned connected GUARDED_BY(peers_lock); /* in the list PEER_CONNECTED */
    struct peer *lists[PEER_LISTS] GUARDED_BY(peers_lock);
};

void peers_init(struct peers *peers);
void peers_finish(struct peers *peers); /* the peers are gone already */

/* The peer of a canonical host that the upstream serves, for one request, which gives it back.
 * False: ERROR_BUSY or ERROR_MEMORY. */
struct peer *peers_take(struct peers *peers, struct upstream *upstream, const char *host,
                        struct error *error);
void peers_give(struct peers *peers, struct peer *peer);

/* The peers of an upstream that nobody uses any more leave the lists; upstream->peers keeps them.
 */
void peers_forget(struct peers *peers, struct upstream *upstream) REQUIRES(peers->peers_lock);

#endif
