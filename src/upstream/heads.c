/* Judges refusals of HEAD, and remembers which location refuses it. */
#include "upstream/heads.h"

#include "base/clock.h"
#include "upstream/upstream_private.h"

bool heads_are_refused(const struct heads *heads, int64_t now_ms) {
    return now_ms < atomic_load(&heads->refused_until_ms);
}

void heads_answered(struct heads *heads) {
    atomic_store(&heads->unsure, 0);
}

void heads_refused(struct heads *heads, bool is_sure, int64_t now_ms) {
    if (!is_sure && atomic_fetch_add(&heads->unsure, 1) + 1 < HEADS_UNSURE_LIMIT)
        return;
    atomic_store(&heads->unsure, 0);
    atomic_store(&heads->refused_until_ms, now_ms + HEADS_FORGET_MS);
}

/* ---- for the caller of upstream_perform() ---- */

enum head_refusal upstream_judge_head(const struct error *error) {
    bool is_clients = error->status / 100 == 4; /* a status that blames the request */
    bool is_failing = error->status == 408 || error->status == 503 || error->status == 504;
    switch (error->kind) {
    case ERROR_DENIED:
        return error->status ? (error->reached ? HEAD_NOT_OFFERED : HEAD_DOUBTFUL) : HEAD_FAILED;
    case ERROR_NOT_FOUND:
        return HEAD_DOUBTFUL;
    case ERROR_UNAVAILABLE:
        if (is_failing) /* whatever it is asked */
            return HEAD_FAILED;
        if (error->status == 501 || is_clients)
            return HEAD_NOT_OFFERED;
        return error->status || error->reached ? HEAD_DOUBTFUL : HEAD_FAILED;
    default:
        return HEAD_FAILED;
    }
}

static struct heads *heads_of(const struct peer *peer, const struct upstream_request *request) {
    struct location *at = &peer->authorizers[request->location].location;
    return request->what == UPSTREAM_BLOB ? &at->blob_heads : &at->manifest_heads;
}

static struct peer *take_peer(struct upstream *upstream, const struct upstream_request *request) {
    const char *host = upstream->own ? upstream->name : request->host;
    if (request->location >= upstream->locations_count)
        return NULL;
    return peers_take(upstream->peers_of_all, upstream, host, NULL);
}

bool upstream_refuses_head(struct upstream *upstream, const struct upstream_request *request) {
    struct peer *peer = take_peer(upstream, request);
    if (!peer)
        return false;
    bool refused = heads_are_refused(heads_of(peer, request), clock_ms());
    peers_give(upstream->peers_of_all, peer);
    return refused;
}

void upstream_note_head(struct upstream *upstream, const struct upstream_request *request,
                        const struct error *refusal) {
    struct peer *peer = take_peer(upstream, request);
    if (!peer)
        return;
    struct heads *heads = heads_of(peer, request);
    if (!refusal)
        heads_answered(heads);
    else
        heads_refused(heads,
                      refusal->kind == ERROR_DENIED ||
                          upstream_judge_head(refusal) == HEAD_NOT_OFFERED,
                      clock_ms());
    peers_give(upstream->peers_of_all, peer);
}
