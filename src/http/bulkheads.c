/* Keeps each client address to its share of the connections and the workers. */
#include "http/bulkheads.h"

#include <limits.h>

enum {
    COPIED_MOST = 32 << 20, /* bytes */
    SHARED_LEAST = 4,       /* a smaller pot has no shares */
    MANY_PART = 8,          /* this part of a share is many */
};

static void make_metrics(struct bulkheads *bulkheads) {
    static const char *const labels[REFUSED_KINDS] = {
        [REFUSED_CONNECTIONS] = "reason=\"connections\"",
        [REFUSED_CLIENT_CONNECTIONS] = "reason=\"client_connections\"",
        [REFUSED_WORKERS] = "reason=\"workers\"",
        [REFUSED_CLIENT_REQUESTS] = "reason=\"client_requests\"",
        [REFUSED_CLIENT_RATE] = "reason=\"client_rate\"",
        [REFUSED_HANDSHAKES] = "reason=\"handshakes\"",
    };
    for (int i = 0; i < REFUSED_KINDS; i++)
        bulkheads->refused[i] =
            metric_get(METRIC_COUNTER, METRIC_REFUSED, METRIC_REFUSED_HELP, labels[i]);
}

/* With 100 % an address has no share, and waits in line as all others do. Where there is place for
 * a few connections only, a part of them would be too few for any client. */
static unsigned share_of(const struct pot *pot, unsigned percent) {
    return percent >= 100 || pot_capacity(pot) < SHARED_LEAST ? UINT_MAX : pot_share(pot, percent);
}

void bulkheads_change(struct bulkheads *bulkheads, const struct http_server_settings *settings) {
    pot_resize(&bulkheads->connections, settings->max_connections);
    bulkheads->connections_share =
        share_of(&bulkheads->connections, settings->per_client.connections);
    bulkheads->requests_share = share_of(&bulkheads->workers, settings->per_client.requests);
    bulkheads->least_rate = settings->per_client.least_rate;
}

bool bulkheads_init(struct bulkheads *bulkheads, const struct http_server_settings *settings,
                    struct error *error) {
    pot_init(&bulkheads->connections, settings->max_connections);
    pot_init(&bulkheads->workers, settings->max_workers);
    bulkheads_change(bulkheads, settings);
    make_metrics(bulkheads);
    return remotes_init(&bulkheads->remotes, settings->max_connections, error);
}

void bulkheads_finish(struct bulkheads *bulkheads) {
    remotes_finish(&bulkheads->remotes);
}

void bulkheads_count_refusal(const struct bulkheads *bulkheads, enum refusal why) {
    metric_add(bulkheads->refused[why], 1);
}

bool bulkheads_take_copied(struct bulkheads *bulkheads, size_t bytes) {
    if (bytes <= COPIED_MOST && atomic_fetch_add(&bulkheads->copied, bytes) <= COPIED_MOST - bytes)
        return true;
    if (bytes <= COPIED_MOST)
        atomic_fetch_sub(&bulkheads->copied, bytes);
    return false;
}

void bulkheads_give_back_copied(struct bulkheads *bulkheads, size_t bytes) {
    atomic_fetch_sub(&bulkheads->copied, bytes);
}

/* ---- connections ---- */

bool bulkheads_may_connect(const struct bulkheads *bulkheads, const struct remote *remote) {
    return !remote || pot_may_take(&bulkheads->connections, atomic_load(&remote->connections),
                                   bulkheads->connections_share);
}

bool bulkheads_has_its_share(const struct bulkheads *bulkheads, const struct remote *remote) {
    return remote && atomic_load(&remote->connections) >= bulkheads->connections_share;
}

bool bulkheads_has_many(const struct bulkheads *bulkheads, const struct remote *remote) {
    return remote && atomic_load(&remote->connections) > bulkheads->connections_share / MANY_PART;
}

bool bulkheads_has_anybody_its_share(const struct bulkheads *bulkheads) {
    return atomic_load(&bulkheads->remotes_with_their_share) > 0;
}

bool bulkheads_take_connection(struct bulkheads *bulkheads, struct remote *remote) {
    if (!pot_take_if_left(&bulkheads->connections))
        return false;
    if (remote && atomic_fetch_add(&remote->connections, 1) + 1 >= bulkheads->connections_share &&
        !atomic_exchange(&remote->has_its_share, true))
        atomic_fetch_add(&bulkheads->remotes_with_their_share, 1);
    return true;
}

void bulkheads_give_back_connection(struct bulkheads *bulkheads, struct remote *remote) {
    /* The share may have changed since the address was counted. */
    if (remote && atomic_fetch_sub(&remote->connections, 1) <= bulkheads->connections_share &&
        atomic_exchange(&remote->has_its_share, false))
        atomic_fetch_sub(&bulkheads->remotes_with_their_share, 1);
    pot_give_back(&bulkheads->connections);
}

bool bulkheads_may_be_busy(const struct bulkheads *bulkheads, const struct remote *remote) {
    return !remote || pot_may_keep(&bulkheads->connections,
                                   atomic_load_explicit(&remote->busy, memory_order_relaxed),
                                   bulkheads->connections_share);
}

/* ---- workers ---- */

bool bulkheads_may_request(const struct bulkheads *bulkheads, const struct remote *remote) {
    return !remote || pot_may_take(&bulkheads->workers,
                                   atomic_load_explicit(&remote->requests, memory_order_relaxed),
                                   bulkheads->requests_share);
}

bool bulkheads_begin_request(struct bulkheads *bulkheads, struct remote *remote) {
    if (!remote) {
        pot_take(&bulkheads->workers);
        return true;
    }
    unsigned own = atomic_load_explicit(&remote->requests, memory_order_relaxed);
    do {
        if (!pot_may_take(&bulkheads->workers, own, bulkheads->requests_share))
            return false;
    } while (!atomic_compare_exchange_weak(&remote->requests, &own, own + 1));
    pot_take(&bulkheads->workers);
    return true;
}

void bulkheads_take_worker(struct bulkheads *bulkheads, struct remote *remote) {
    pot_take(&bulkheads->workers);
    if (remote)
        atomic_fetch_add_explicit(&remote->requests, 1, memory_order_relaxed);
}

void bulkheads_give_back_worker(struct bulkheads *bulkheads, struct remote *remote) {
    if (remote)
        atomic_fetch_sub_explicit(&remote->requests, 1, memory_order_relaxed);
    pot_give_back(&bulkheads->workers);
}
