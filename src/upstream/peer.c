/* The peers of upstreams. */
#include "upstream/peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>
#include "upstream/upstream_private.h"

#define HUB_HOST "docker.io"
#define HUB_URL  "https://registry-1.docker.io"

/* ---- one peer ---- */

void peer_free(struct peer *peer) {
    if (!peer)
        return;
    for (unsigned i = 0; i < peer->locations_count; i++)
        authorizer_finish(&peer->authorizers[i]);
    free(peer->authorizers);
    lanes_finish(&peer->lanes);
    queue_finish(&peer->queue);
    free(peer);
}

/*
 * The upstream's credentials go to its url. A fallback on another host gets that host's own
 * credentials, if the source has some for each host. A password or a Google token that was given
 * for the upstream is not shown to its mirrors (design, promise 8).
 */
static void give_credentials(struct peer *peer) {
    struct credential_source *source = peer->upstream->settings.credentials;
    struct location *main = &peer->authorizers[0].location;
    for (unsigned i = 0; i < peer->locations_count; i++) {
        struct location *location = &peer->authorizers[i].location;
        bool own = origin_equal(&location->origin, &main->origin);
        if (own) {
            memcpy(location->credential_host, peer->host, sizeof peer->host);
            memcpy(location->service, peer->host, sizeof peer->host);
            location->has_client_names = true;
        }
        if (own || credential_source_is_by_host(source))
            location->credentials = source;
    }
}

static bool add_location(struct peer *peer, const char *url, bool configured, struct error *error) {
    struct upstream *upstream = peer->upstream;
    struct authorizer *authorizer = &peer->authorizers[peer->locations_count];
    struct location *location = &authorizer->location;
    location->client = upstream->client;
    location->settings = &upstream->settings;
    location->health = &upstream->health;
    location->configured = configured;
    location->counts = &upstream->counts;
    const char *prefix = peer->locations_count == 0 ? upstream->settings.prefix : NULL;
    if (!location_init(location, url, prefix, error)) {
        location_finish(location);
        return false;
    }
    authorizer_init(authorizer, &upstream->peers_of_all->tokens);
    peer->locations_count++;
    return true;
}

/* Adds every location: the url, which is "https://HOST" unless it is set, then the fallbacks. */
static bool add_locations(struct peer *peer, struct error *error) {
    const struct upstream *upstream = peer->upstream;
    const struct upstream_settings *settings = &upstream->settings;
    bool is_pattern = upstream->pattern[0] != '\0';
    char own[HOST_LIMIT + 17];
    peer->authorizers = calloc(upstream->locations_count, sizeof *peer->authorizers);
    if (!peer->authorizers)
        return error_set(error, ERROR_MEMORY, "out of memory");
    if (strcmp(peer->host, HUB_HOST) == 0)
        snprintf(own, sizeof own, "%s", HUB_URL);
    else
        snprintf(own, sizeof own, "https://%s", peer->host);
    if (!add_location(peer, settings->url ? settings->url : own, settings->url || !is_pattern,
                      error))
        return false;
    for (unsigned i = 0; i + 1 < upstream->locations_count; i++) {
        if (!add_location(peer, settings->fallbacks[i], true, error))
            return false;
    }
    return true;
}

struct peer *peer_new(struct upstream *upstream, const char *host, struct error *error) {
    struct peer *peer = calloc(1, sizeof *peer);
    if (!peer) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    peer->upstream = upstream;
    snprintf(peer->host, sizeof peer->host, "%s", host);
    queue_init(&peer->queue, upstream->settings.max_connections);
    lanes_init(&peer->lanes, upstream->client);
    if (!add_locations(peer, error)) {
        error_wrap(error, "upstream %s", host);
        peer_free(peer);
        return NULL;
    }
    give_credentials(peer);
    return peer;
}

/* ---- the peers of patterns ---- */

void peers_init(struct peers *peers) {
    *peers = (struct peers){.tokens.limit = PEERS_TOKEN_BYTES,
                            .limit = PEERS_LIMIT,
                            .connected_limit = PEERS_CONNECTED};
    lock_init(&peers->peers_lock);
}

void peers_finish(struct peers *peers) {
    lock_finish(&peers->peers_lock);
}

static void move(struct peers *peers, struct peer *peer, enum peer_list list)
    REQUIRES(peers->peers_lock);
static void move(struct peers *peers, struct peer *peer, enum peer_list list) {
    DL_DELETE(peers->lists[peer->list], peer);
    peers->connected -= peer->list == PEER_CONNECTED;
    peers->connected += list == PEER_CONNECTED;
    peer->list = list;
    DL_APPEND(peers->lists[list], peer);
}

static void leave_lists(struct peers *peers, struct peer *peer) REQUIRES(peers->peers_lock);
static void leave_lists(struct peers *peers, struct peer *peer) {
    DL_DELETE(peers->lists[peer->list], peer);
    peers->connected -= peer->list == PEER_CONNECTED;
    peers->count--;
}

/* Nobody uses the peer. The caller frees it without the lock, because that closes connections. */
static void forget(struct peers *peers, struct peer *peer) REQUIRES(peers->peers_lock);
static void forget(struct peers *peers, struct peer *peer) {
    leave_lists(peers, peer);
    HASH_DEL(peer->upstream->peers, peer);
}

void peers_forget(struct peers *peers, struct upstream *upstream) {
    for (struct peer *peer = upstream->peers; peer; peer = peer->hh.next)
        leave_lists(peers, peer);
}

/* Makes place for one more peer. *gone is then the caller's to free; NULL: there was place. */
static bool make_place(struct peers *peers, struct peer **gone, struct error *error)
    REQUIRES(peers->peers_lock);
static bool make_place(struct peers *peers, struct peer **gone, struct error *error) {
    *gone = NULL;
    if (peers->count < peers->limit)
        return true;
    *gone = peers->lists[PEER_BARE] ? peers->lists[PEER_BARE] : peers->lists[PEER_CONNECTED];
    if (*gone) {
        forget(peers, *gone);
        return true;
    }
    error_set(error, ERROR_BUSY, "requests to %u other hosts are under way; try again",
              peers->limit);
    if (error)
        error->retry_after_s = 1;
    return false;
}

/* NULL: no memory. */
static struct peer *add(struct peers *peers, struct upstream *upstream, const char *host,
                        struct error *error) REQUIRES(peers->peers_lock);
static struct peer *add(struct peers *peers, struct upstream *upstream, const char *host,
                        struct error *error) {
    struct peer *peer = peer_new(upstream, host, error);
    if (!peer)
        return NULL;
    HASH_ADD_STR(upstream->peers, host, peer);
    if (!peer->hh.tbl) {
        peer_free(peer);
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    peer->list = PEER_USED;
    DL_APPEND(peers->lists[PEER_USED], peer);
    peers->count++;
    return peer;
}

struct peer *peers_take(struct peers *peers, struct upstream *upstream, const char *host,
                        struct error *error) {
    if (upstream->own)
        return upstream->own;
    struct peer *peer = NULL, *gone = NULL;
    lock_acquire(&peers->peers_lock);
    HASH_FIND_STR(upstream->peers, host, peer);
    if (!peer && make_place(peers, &gone, error))
        peer = add(peers, upstream, host, error);
    if (peer && peer->users++ == 0)
        move(peers, peer, PEER_USED);
    if (peer)
        peer->is_closed = false;
    lock_release(&peers->peers_lock);
    peer_free(gone);
    return peer;
}

/* The peer whose connections are to be closed, because others were used later; NULL: none. The
 * caller uses it from now on, and refers to its upstream. */
static struct peer *take_overdue(struct peers *peers) REQUIRES(peers->peers_lock);
static struct peer *take_overdue(struct peers *peers) {
    struct peer *peer = peers->lists[PEER_CONNECTED];
    if (peers->connected <= peers->connected_limit)
        return NULL;
    peer->users++;
    upstream_keep(peer->upstream);
    peer->is_closed = true;
    move(peers, peer, PEER_USED);
    return peer;
}

/* One user less. What is returned is the caller's to free: the peer, if nothing is to be kept. */
static struct peer *leave(struct peers *peers, struct peer *peer) REQUIRES(peers->peers_lock);
static struct peer *leave(struct peers *peers, struct peer *peer) {
    if (--peer->users > 0)
        return NULL;
    if (atomic_load(&peer->answered)) {
        move(peers, peer, peer->is_closed ? PEER_BARE : PEER_CONNECTED);
        return NULL;
    }
    forget(peers, peer);
    return peer;
}

void peers_give(struct peers *peers, struct peer *peer) {
    if (peer == peer->upstream->own)
        return;
    lock_acquire(&peers->peers_lock);
    struct peer *gone = leave(peers, peer);
    struct peer *overdue = take_overdue(peers);
    lock_release(&peers->peers_lock);
    peer_free(gone);
    if (!overdue)
        return;
    lanes_close(&overdue->lanes);
    struct upstream *upstream = overdue->upstream;
    lock_acquire(&peers->peers_lock);
    leave(peers, overdue); /* keeps the peer, because its host has answered */
    lock_release(&peers->peers_lock);
    upstream_release(upstream);
}
