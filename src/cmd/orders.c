#include "cmd/orders.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/clock.h"
#include "base/log.h"
#include "cmd/admin_client.h"
#include "http/http.h"
#include "registry/admin.h"
#include "registry/registry.h"

enum {
    AGAIN_FIRST_MS = 60 * 1000, /* after a failure that may pass; doubled each time */
    AGAIN_MOST_MS = 3600 * 1000,
    LEAVE_MS = 5000,
};

/* When an entry of `warm:` is due, and how it went. */
struct turn {
    int64_t due_ms;   /* clock_ms(); INT64_MAX: never again */
    int64_t again_ms; /* the pause after the last failure; 0: it did not fail */
};

struct orders {
    const struct config *config;
    struct warmer warmer;
    struct contents contents;
    struct admin admin; /* both of them */
    char *address;      /* "unix:ROOT/tarn.sock" */
    const char *listen[1];
    struct http_server *server;  /* NULL: the file system has no sockets */
    struct turn *turns;          /* one an entry; the schedule's own */
    pthread_mutex_t ending_lock; /* guards stopping and running */
    pthread_cond_t ending;       /* either has changed */
    bool stopping;
    unsigned running; /* threads that have not ended */
    pthread_t threads[2];
    unsigned started;
};

/* ---- the schedule ---- */

static bool may_pass(const struct error *error) {
    switch (error->kind) {
    case ERROR_UNAVAILABLE:
    case ERROR_TIMEOUT:
    case ERROR_RATE_LIMITED:
    case ERROR_BUSY:
        return true;
    default:
        return false;
    }
}

/* Warms an entry's images; true when it is worth trying again soon. */
static bool warm_entry(struct orders *orders, const struct config_warm *entry) {
    bool again = false;
    for (size_t i = 0; entry->images[i] && !atomic_load(&orders->warmer.stopping); i++) {
        const struct warm_request request = {.image = entry->images[i],
                                             .platforms = entry->platforms};
        struct warm_result result;
        struct error error;
        if (!warm_image(&orders->warmer, &request, &result, &error))
            again = again || may_pass(&error);
    }
    return again;
}

static void take_turn(struct orders *orders, const struct config_warm *entry, struct turn *turn) {
    int64_t pause_ms = entry->every_ms ? entry->every_ms : INT64_MAX;
    if (warm_entry(orders, entry)) {
        turn->again_ms = turn->again_ms ? turn->again_ms * 2 : AGAIN_FIRST_MS;
        if (turn->again_ms > AGAIN_MOST_MS)
            turn->again_ms = AGAIN_MOST_MS;
        if (turn->again_ms < pause_ms)
            pause_ms = turn->again_ms;
    } else {
        turn->again_ms = 0;
    }
    turn->due_ms = pause_ms == INT64_MAX ? INT64_MAX : clock_ms() + pause_ms;
}

/* Sleeps until then; false when it is to end. */
static bool sleep_until(struct orders *orders, int64_t due_ms) {
    pthread_mutex_lock(&orders->ending_lock);
    while (!orders->stopping) {
        int64_t left_ms = due_ms - clock_ms();
        if (left_ms <= 0)
            break;
        struct timespec deadline =
            clock_deadline(left_ms < AGAIN_MOST_MS ? left_ms : AGAIN_MOST_MS);
        pthread_cond_clockwait(&orders->ending, &orders->ending_lock, CLOCK_MONOTONIC, &deadline);
    }
    bool goes_on = !orders->stopping;
    pthread_mutex_unlock(&orders->ending_lock);
    return goes_on;
}

static void end_thread(struct orders *orders) {
    pthread_mutex_lock(&orders->ending_lock);
    orders->running--;
    pthread_cond_broadcast(&orders->ending);
    pthread_mutex_unlock(&orders->ending_lock);
}

static void *keep_schedule(void *context) {
    struct orders *orders = context;
    for (;;) {
        size_t next = 0;
        for (size_t i = 1; i < orders->config->warm_count; i++) {
            if (orders->turns[i].due_ms < orders->turns[next].due_ms)
                next = i;
        }
        if (orders->turns[next].due_ms == INT64_MAX ||
            !sleep_until(orders, orders->turns[next].due_ms))
            break;
        take_turn(orders, &orders->config->warm[next], &orders->turns[next]);
    }
    end_thread(orders);
    return NULL;
}

/* ---- the socket ---- */

static void *serve_socket(void *context) {
    struct orders *orders = context;
    struct error error = {0};
    if (!http_server_run(orders->server, &error))
        log_at(LOG_ERROR, "no orders are taken", LOG_STRING("error", error.text));
    end_thread(orders);
    return NULL;
}

/* ---- life ---- */

static bool set_up(struct orders *orders, struct error *error) {
    const struct config *config = orders->config;
    if (asprintf(&orders->address, "unix:%s/" ADMIN_SOCKET, config->root) < 0)
        orders->address = NULL;
    orders->turns = calloc(config->warm_count + 1, sizeof *orders->turns);
    if (!orders->address || !orders->turns)
        return error_set(error, ERROR_MEMORY, "out of memory");
    if (!config_max_size(config, &orders->contents.limit, error))
        return false;
    orders->listen[0] = orders->address;
    const struct http_server_settings settings = {
        .listen = orders->listen,
        .listen_count = 1,
        .max_connections = 64,
        .max_workers = 32,
        .grace_ms = 1000,
        .handle = admin_handle,
        .error_body = registry_error_body,
        .context = &orders->admin,
    };
    struct error why;
    orders->server = http_server_new(&settings, &why);
    if (!orders->server) /* no reason not to serve */
        log_at(LOG_WARN,
               "no orders are taken: tarn warm, ls, du, rm, prune and verify will not work",
               LOG_STRING("error", why.text));
    return true;
}

static void destroy(struct orders *orders) {
    http_server_free(orders->server);
    pthread_mutex_destroy(&orders->ending_lock);
    pthread_cond_destroy(&orders->ending);
    free(orders->address);
    free(orders->turns);
    free(orders);
}

struct orders *orders_new(const struct config *config, struct store *store, struct cache *cache,
                          struct upstreams *upstreams, struct error *error) {
    struct orders *orders = calloc(1, sizeof *orders);
    if (!orders) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    orders->config = config;
    orders->warmer.cache = cache;
    orders->warmer.upstreams = upstreams;
    orders->contents =
        (struct contents){.store = store, .cache = cache, .stopping = &orders->warmer.stopping};
    orders->admin = (struct admin){&orders->warmer, &orders->contents};
    pthread_mutex_init(&orders->ending_lock, NULL);
    pthread_cond_init(&orders->ending, NULL);
    if (set_up(orders, error))
        return orders;
    destroy(orders);
    return NULL;
}

static bool start_thread(struct orders *orders, void *(*run)(void *), struct error *error) {
    pthread_mutex_lock(&orders->ending_lock);
    orders->running++;
    pthread_mutex_unlock(&orders->ending_lock);
    int failed = pthread_create(&orders->threads[orders->started], NULL, run, orders);
    if (!failed) {
        orders->started++;
        return true;
    }
    end_thread(orders);
    return error_set_errno(error, failed, "starting a thread");
}

bool orders_start(struct orders *orders, struct error *error) {
    return (!orders->server || start_thread(orders, serve_socket, error)) &&
           (orders->config->warm_count == 0 || start_thread(orders, keep_schedule, error));
}

void orders_stop(struct orders *orders) {
    atomic_store(&orders->warmer.stopping, true);
    if (orders->server)
        http_server_stop(orders->server);
    pthread_mutex_lock(&orders->ending_lock);
    orders->stopping = true;
    pthread_cond_broadcast(&orders->ending);
    pthread_mutex_unlock(&orders->ending_lock);
}

bool orders_free(struct orders *orders) {
    if (!orders)
        return true;
    struct timespec deadline = clock_deadline(LEAVE_MS);
    int waited = 0;
    pthread_mutex_lock(&orders->ending_lock);
    while (orders->running > 0 && waited == 0)
        waited = pthread_cond_clockwait(&orders->ending, &orders->ending_lock, CLOCK_MONOTONIC,
                                        &deadline);
    bool ended = orders->running == 0;
    pthread_mutex_unlock(&orders->ending_lock);
    if (!ended)
        return false;
    for (unsigned i = 0; i < orders->started; i++)
        pthread_join(orders->threads[i], NULL);
    destroy(orders);
    return true;
}
