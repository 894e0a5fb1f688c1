/* Runs the schedule of images to warm and the socket for orders, each on a thread. */
#include "admin/service.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include "admin/admin.h"
#include "admin/rm.h"
#include "admin/schedule.h"
#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/thread.h"
#include "http/http.h"
#include "oci/error_body.h"

enum {
    /* An order notices within about a second that tarn stops, and then still says so to its client.
     */
    GRACE_MS = 3000,
    END_MS = 5000,          /* how long service_free() waits for the threads */
    MEMBER_WAIT_MS = 60000, /* how long the schedule waits until this tarn is among the replicas */
    MEMBER_LOOK_MS = 200,
};

struct service {
    const struct service_settings *settings;
    struct warmer warmer;
    struct order_target target;
    struct admin admin; /* points to warmer and target */
    char *address;      /* "unix:ROOT/tarn.sock" */
    const char *listen[1];
    struct http_server *server;          /* NULL: the socket could not be made */
    struct warm_schedule *schedule;      /* its own thread's */
    struct lock ending_lock;             /* guards what follows, down to `running` */
    struct condition ending;             /* some of it has changed */
    struct warm_schedule *next_schedule; /* takes the place of `schedule`; NULL: none */
    bool stopping;
    unsigned running; /* threads that have not ended */
    pthread_t threads[2];
    unsigned started;
};

/* ---- the schedule ---- */

/* Whether the same request may work later. */
static bool is_temporary(const struct error *error) {
    switch (error->kind) {
    case ERROR_UNAVAILABLE:
    case ERROR_TIMEOUT:
    case ERROR_RATE_LIMITED:
    case ERROR_BUSY:
    case ERROR_FILES:
        return true;
    default:
        return false;
    }
}

/* Whether the image is for this tarn to warm. */
static bool is_own(const struct service *service, const char *image) {
    char key[RANKING_KEY_LIMIT];
    snprintf(key, sizeof key, "warm %s", image);
    return replicas_own(service->settings->replicas, key);
}

/* Warms the images of an entry. True: one of them failed for a temporary reason. */
static bool warm_images(struct service *service, const struct warm_entry *entry) {
    bool again = false;
    for (size_t i = 0; entry->images[i] && !atomic_load(&service->warmer.stopping); i++) {
        const struct warm_request request = {.image = entry->images[i],
                                             .platforms = entry->platforms};
        struct warm_result result;
        struct error error;
        if (!is_own(service, entry->images[i]))
            continue;
        if (!warm_image(&service->warmer, &request, &result, &error))
            again = again || is_temporary(&error);
    }
    return again;
}

static void end_thread(struct service *service) {
    lock_acquire(&service->ending_lock);
    service->running--;
    condition_broadcast(&service->ending);
    lock_release(&service->ending_lock);
}

/* Waits until a turn is due, or for another schedule, and takes it. NULL: the service stops. */
static struct warm_turn *await_turn(struct service *service) {
    struct warm_turn *turn = NULL;
    lock_acquire(&service->ending_lock);
    while (!service->stopping) {
        if (service->next_schedule) {
            schedule_take_times(service->next_schedule, service->schedule);
            service_give_up_schedule(service->schedule);
            service->schedule = service->next_schedule;
            service->next_schedule = NULL;
        }
        turn = schedule_next(service->schedule);
        int64_t due_ms = turn ? turn->due_ms : INT64_MAX;
        if (clock_ms() >= due_ms)
            break;
        condition_wait_until(&service->ending, &service->ending_lock, due_ms);
    }
    turn = service->stopping ? NULL : turn;
    lock_release(&service->ending_lock);
    return turn;
}

/* Waits until this tarn is one of the replicas, because a guest owns no image, and the first of
 * several that start at once would own all. */
static void await_membership(struct service *service) {
    const struct replicas *replicas = service->settings->replicas;
    const int64_t until_ms = clock_ms() + MEMBER_WAIT_MS;
    if (!replicas)
        return;
    lock_acquire(&service->ending_lock);
    while (!service->stopping && !replicas_has_self(replicas) && clock_ms() < until_ms)
        condition_wait_until(&service->ending, &service->ending_lock, clock_ms() + MEMBER_LOOK_MS);
    lock_release(&service->ending_lock);
}

static void run_schedule(void *context) {
    struct service *service = context;
    struct warm_turn *turn;
    await_membership(service);
    while ((turn = await_turn(service)))
        schedule_note(turn, warm_images(service, &turn->entry));
    end_thread(service);
}

void service_change_schedule(struct service *service, struct warm_schedule *prepared) {
    lock_acquire(&service->ending_lock);
    struct warm_schedule *passed_over = service->next_schedule;
    service->next_schedule = prepared;
    condition_broadcast(&service->ending);
    lock_release(&service->ending_lock);
    service_give_up_schedule(passed_over);
}

void service_change_limit(struct service *service, uint64_t max_size) {
    service->target.limit = max_size;
}

/* ---- another replica's tarn rm ---- */

/* A pattern that matches nothing gets a line that says so. */
static bool note_unmatched(void *context, const char *bytes, size_t length) {
    static const char unmatched[] = "{\"unmatched\":";
    bool *had_any = context;
    if (text_starts((struct text){bytes, length}, unmatched))
        *had_any = false;
    return true;
}

bool service_forget(struct service *service, const char *name, bool *had_any, struct error *error) {
    const struct service_settings *settings = service->settings;
    const char *const names[] = {name, NULL};
    const struct line_sink sink = {.write = note_unmatched, .context = had_any};
    struct order_target target = {
        .store = settings->store, .cache = settings->cache, .stopping = &service->warmer.stopping};
    *had_any = true;
    return order_rm(&target, names, &sink, error);
}

/* ---- the socket ---- */

static void serve_socket(void *context) {
    struct service *service = context;
    struct error error = {0};
    if (!http_server_run(service->server, &error))
        log_at(LOG_ERROR, "orders are not taken", LOG_STRING("error", error.text));
    end_thread(service);
}

/* ---- life ---- */

static bool set_up(struct service *service, struct error *error) {
    if (asprintf(&service->address, "unix:%s/" ADMIN_SOCKET, service->settings->root) < 0)
        service->address = NULL;
    service->schedule =
        service_prepare_schedule(service->settings->warm, service->settings->warm_count);
    if (!service->address || !service->schedule)
        return error_set(error, ERROR_MEMORY, "out of memory");
    service->listen[0] = service->address;
    struct http_server_settings settings = http_server_settings_default();
    settings.listen = service->listen;
    settings.listen_count = 1;
    settings.max_connections = 64;
    settings.loops = 1;
    settings.max_workers = 32;
    settings.grace_ms = GRACE_MS;
    settings.handle = admin_handle;
    settings.error_body = error_body_of_status;
    settings.context = &service->admin;
    struct error why;
    service->server = http_server_new(&settings, &why);
    if (!service->server) /* not fatal: clients can be served without the socket */
        log_at(
            LOG_WARN,
            "orders are not taken: tarn warm, ls, du, rm, prune, verify and reload will not work",
            LOG_STRING("error", why.text));
    return true;
}

static void destroy(struct service *service) {
    http_server_free(service->server);
    lock_finish(&service->ending_lock);
    condition_finish(&service->ending);
    free(service->address);
    service_give_up_schedule(service->schedule);
    service_give_up_schedule(service->next_schedule);
    free(service);
}

struct service *service_new(const struct service_settings *settings, struct error *error) {
    struct service *service = calloc(1, sizeof *service);
    if (!service) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    service->settings = settings;
    service->warmer.cache = settings->cache;
    service->warmer.upstreams = settings->upstreams;
    service->target = (struct order_target){.store = settings->store,
                                            .cache = settings->cache,
                                            .bucket = settings->bucket,
                                            .replicas = settings->asker,
                                            .limit = settings->max_size,
                                            .stopping = &service->warmer.stopping};
    service->admin = (struct admin){&service->warmer, &service->target, settings};
    lock_init(&service->ending_lock);
    condition_init(&service->ending);
    if (set_up(service, error))
        return service;
    destroy(service);
    return NULL;
}

static bool start_thread(struct service *service, const char *name, void (*run)(void *),
                         struct error *error) {
    lock_acquire(&service->ending_lock);
    service->running++;
    lock_release(&service->ending_lock);
    if (thread_start(name, THREAD_STACK_SYSTEM, run, service, &service->threads[service->started],
                     error)) {
        service->started++;
        return true;
    }
    end_thread(service);
    return false;
}

bool service_start(struct service *service, struct error *error) {
    return (!service->server || start_thread(service, "orders", serve_socket, error)) &&
           start_thread(service, "warm schedule", run_schedule, error);
}

void service_stop(struct service *service) {
    atomic_store(&service->warmer.stopping, true);
    if (service->server)
        http_server_stop(service->server);
    lock_acquire(&service->ending_lock);
    service->stopping = true;
    condition_broadcast(&service->ending);
    lock_release(&service->ending_lock);
}

bool service_free(struct service *service) {
    if (!service)
        return true;
    int64_t deadline_ms = clock_ms() + END_MS;
    bool in_time = true;
    lock_acquire(&service->ending_lock);
    while (service->running > 0 && in_time)
        in_time = condition_wait_until(&service->ending, &service->ending_lock, deadline_ms);
    bool ended = service->running == 0;
    lock_release(&service->ending_lock);
    if (!ended)
        return false;
    for (unsigned i = 0; i < service->started; i++)
        pthread_join(service->threads[i], NULL);
    destroy(service);
    return true;
}
