#include "cmd/warming.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/clock.h"
#include "base/log.h"
#include "http/http.h"
#include "registry/admin.h"
#include "registry/registry.h"
#include "registry/warm.h"

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

struct warming {
    const struct config *config;
    struct warmer warmer;
    char *address; /* "unix:ROOT/tarn.sock" */
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
static bool warm_entry(struct warming *warming, const struct config_warm *entry) {
    bool again = false;
    for (size_t i = 0; entry->images[i] && !atomic_load(&warming->warmer.stopping); i++) {
        const struct warm_request request = {.image = entry->images[i],
                                             .platforms = entry->platforms};
        struct warm_result result;
        struct error error;
        if (!warm_image(&warming->warmer, &request, &result, &error))
            again = again || may_pass(&error);
    }
    return again;
}

static void take_turn(struct warming *warming, const struct config_warm *entry, struct turn *turn) {
    int64_t pause_ms = entry->every_ms ? entry->every_ms : INT64_MAX;
    if (warm_entry(warming, entry)) {
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
static bool sleep_until(struct warming *warming, int64_t due_ms) {
    pthread_mutex_lock(&warming->ending_lock);
    while (!warming->stopping) {
        int64_t left_ms = due_ms - clock_ms();
        if (left_ms <= 0)
            break;
        struct timespec deadline =
            clock_deadline(left_ms < AGAIN_MOST_MS ? left_ms : AGAIN_MOST_MS);
        pthread_cond_clockwait(&warming->ending, &warming->ending_lock, CLOCK_MONOTONIC, &deadline);
    }
    bool goes_on = !warming->stopping;
    pthread_mutex_unlock(&warming->ending_lock);
    return goes_on;
}

static void end_thread(struct warming *warming) {
    pthread_mutex_lock(&warming->ending_lock);
    warming->running--;
    pthread_cond_broadcast(&warming->ending);
    pthread_mutex_unlock(&warming->ending_lock);
}

static void *keep_schedule(void *context) {
    struct warming *warming = context;
    for (;;) {
        size_t next = 0;
        for (size_t i = 1; i < warming->config->warm_count; i++) {
            if (warming->turns[i].due_ms < warming->turns[next].due_ms)
                next = i;
        }
        if (warming->turns[next].due_ms == INT64_MAX ||
            !sleep_until(warming, warming->turns[next].due_ms))
            break;
        take_turn(warming, &warming->config->warm[next], &warming->turns[next]);
    }
    end_thread(warming);
    return NULL;
}

/* ---- the socket ---- */

static void *serve_socket(void *context) {
    struct warming *warming = context;
    struct error error = {0};
    if (!http_server_run(warming->server, &error))
        log_at(LOG_ERROR, "no orders are taken", LOG_STRING("error", error.text));
    end_thread(warming);
    return NULL;
}

/* ---- life ---- */

static bool set_up(struct warming *warming, struct error *error) {
    const struct config *config = warming->config;
    if (asprintf(&warming->address, "unix:%s/" WARMING_SOCKET, config->root) < 0)
        warming->address = NULL;
    warming->turns = calloc(config->warm_count + 1, sizeof *warming->turns);
    if (!warming->address || !warming->turns)
        return error_set(error, ERROR_MEMORY, "out of memory");
    warming->listen[0] = warming->address;
    const struct http_server_settings settings = {
        .listen = warming->listen,
        .listen_count = 1,
        .max_connections = 64,
        .max_workers = 32,
        .grace_ms = 1000,
        .handle = admin_handle,
        .error_body = registry_error_body,
        .context = &warming->warmer,
    };
    struct error why;
    warming->server = http_server_new(&settings, &why);
    if (!warming->server) /* no reason not to serve */
        log_at(LOG_WARN, "tarn warm will not work", LOG_STRING("error", why.text));
    return true;
}

static void destroy(struct warming *warming) {
    http_server_free(warming->server);
    pthread_mutex_destroy(&warming->ending_lock);
    pthread_cond_destroy(&warming->ending);
    free(warming->address);
    free(warming->turns);
    free(warming);
}

struct warming *warming_new(const struct config *config, struct cache *cache,
                            struct upstreams *upstreams, struct error *error) {
    struct warming *warming = calloc(1, sizeof *warming);
    if (!warming) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    warming->config = config;
    warming->warmer.cache = cache;
    warming->warmer.upstreams = upstreams;
    pthread_mutex_init(&warming->ending_lock, NULL);
    pthread_cond_init(&warming->ending, NULL);
    if (set_up(warming, error))
        return warming;
    destroy(warming);
    return NULL;
}

static bool start_thread(struct warming *warming, void *(*run)(void *), struct error *error) {
    pthread_mutex_lock(&warming->ending_lock);
    warming->running++;
    pthread_mutex_unlock(&warming->ending_lock);
    int failed = pthread_create(&warming->threads[warming->started], NULL, run, warming);
    if (!failed) {
        warming->started++;
        return true;
    }
    end_thread(warming);
    return error_set_errno(error, failed, "starting a thread");
}

bool warming_start(struct warming *warming, struct error *error) {
    return (!warming->server || start_thread(warming, serve_socket, error)) &&
           (warming->config->warm_count == 0 || start_thread(warming, keep_schedule, error));
}

void warming_stop(struct warming *warming) {
    atomic_store(&warming->warmer.stopping, true);
    if (warming->server)
        http_server_stop(warming->server);
    pthread_mutex_lock(&warming->ending_lock);
    warming->stopping = true;
    pthread_cond_broadcast(&warming->ending);
    pthread_mutex_unlock(&warming->ending_lock);
}

bool warming_free(struct warming *warming) {
    if (!warming)
        return true;
    struct timespec deadline = clock_deadline(LEAVE_MS);
    int waited = 0;
    pthread_mutex_lock(&warming->ending_lock);
    while (warming->running > 0 && waited == 0)
        waited = pthread_cond_clockwait(&warming->ending, &warming->ending_lock, CLOCK_MONOTONIC,
                                        &deadline);
    bool ended = warming->running == 0;
    pthread_mutex_unlock(&warming->ending_lock);
    if (!ended)
        return false;
    for (unsigned i = 0; i < warming->started; i++)
        pthread_join(warming->threads[i], NULL);
    destroy(warming);
    return true;
}
