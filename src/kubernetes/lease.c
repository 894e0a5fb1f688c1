/* A Lease: taking, renewing, losing and giving it back. */
#include "kubernetes/lease.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/json.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/thread.h"

enum {
    DURATION_S = 15, /* so long a lease holds that its holder does not renew */
    DURATION_LIMIT_S = 300,
    RENEW_MS = 5000,
    GIVE_UP_MS = 10000, /* after the start of the last renewal that succeeded */
    RETRY_MS = 2000,    /* between looks at another's lease, and after a failure */
    RELEASE_MS = 2000,
    NAME_LIMIT = 253, /* RFC 1123 subdomain */
    MARK_TRIES = 8,   /* while others write at the same time */
};

struct lease {
    struct kubernetes *kubernetes;
    struct lease_settings settings;
    char namespace[NAME_LIMIT + 1], name[NAME_LIMIT + 1], identity[256];
    char path[64 + 2 * NAME_LIMIT];
    pthread_t thread;
    atomic_bool stopping;
    struct cancel cancel;

    /* For the thread. */
    json_t *object;                  /* the Lease as last read or written; NULL: none */
    int64_t observed_ms;             /* clock_ms() when its spec last changed */
    int64_t transitions;             /* of `object` */
    char mark[LEASE_MARK_LIMIT + 1]; /* as last seen; "": there is none */

    struct lock state_lock;
    struct lease_state state GUARDED_BY(state_lock);
    int64_t renewed_ms GUARDED_BY(state_lock); /* clock_ms() when the last renewal began */
};

/* ---- the state ---- */

static bool is_leading(struct lease *lease) {
    lock_acquire(&lease->state_lock);
    bool leading = lease->state.leading;
    lock_release(&lease->state_lock);
    return leading;
}

/* When a holder leads no more, on clock_ms(). */
static int64_t give_up_ms(struct lease *lease) {
    lock_acquire(&lease->state_lock);
    int64_t at = lease->renewed_ms + GIVE_UP_MS;
    lock_release(&lease->state_lock);
    return at;
}

bool lease_holds(struct lease *lease) {
    if (!lease)
        return true;
    lock_acquire(&lease->state_lock);
    bool holds = lease->state.leading && clock_ms() < lease->renewed_ms + GIVE_UP_MS;
    lock_release(&lease->state_lock);
    return holds;
}

void lease_look(struct lease *lease, struct lease_state *out) {
    lock_acquire(&lease->state_lock);
    *out = lease->state;
    lock_release(&lease->state_lock);
    out->leading = lease_holds(lease);
}

const char *lease_identity(const struct lease *lease) {
    return lease->identity;
}

/* Changes who leads, and tells the caller. */
static void set_leading(struct lease *lease, bool leading, const char *why) {
    lock_acquire(&lease->state_lock);
    bool changes = lease->state.leading != leading;
    lease->state.leading = leading;
    lock_release(&lease->state_lock);
    if (!changes)
        return;
    log_at(LOG_INFO, leading ? "leading" : "not leading any more", LOG_STRING("lease", lease->name),
           LOG_STRING("why", why));
    if (lease->settings.on_change)
        lease->settings.on_change(lease->settings.context, leading);
}

static void set_renewed(struct lease *lease, int64_t began_ms) {
    lock_acquire(&lease->state_lock);
    lease->renewed_ms = began_ms;
    lock_release(&lease->state_lock);
}

/* Notes how the last request went. An error is logged when it is the first one. */
static void set_error(struct lease *lease, const struct error *error) {
    lock_acquire(&lease->state_lock);
    bool first = error && !lease->state.error[0];
    snprintf(lease->state.error, sizeof lease->state.error, "%.399s", error ? error->text : "");
    lock_release(&lease->state_lock);
    if (first)
        log_at(LOG_WARN, "cannot use the lease", LOG_STRING("lease", lease->name),
               LOG_STRING("error", error->text));
}

/* ---- the object ---- */

static const char *holder_of(const json_t *object) {
    const char *holder =
        json_string_value(json_object_get(json_object_get(object, "spec"), "holderIdentity"));
    return holder ? holder : "";
}

static const char *mark_of(const struct lease *lease, const json_t *object) {
    const json_t *annotations = json_object_get(json_object_get(object, "metadata"), "annotations");
    const char *mark = lease->settings.mark
                           ? json_string_value(json_object_get(annotations, lease->settings.mark))
                           : NULL;
    return mark ? mark : "";
}

/* Takes over the Lease that the server sent. What stands beside its spec is no sign of life of its
 * holder. */
static void observe(struct lease *lease, json_t *object) {
    const json_t *spec = json_object_get(object, "spec");
    const char *mark = mark_of(lease, object);
    if (!lease->object || !json_equal(json_object_get(lease->object, "spec"), spec))
        lease->observed_ms = clock_ms();
    json_decref(lease->object);
    lease->object = object;
    lease->transitions = json_integer_value(json_object_get(spec, "leaseTransitions"));
    lock_acquire(&lease->state_lock);
    snprintf(lease->state.holder, sizeof lease->state.holder, "%s", holder_of(object));
    lock_release(&lease->state_lock);
    if (strncmp(lease->mark, mark, LEASE_MARK_LIMIT) == 0)
        return;
    snprintf(lease->mark, sizeof lease->mark, "%s", mark);
    if (lease->settings.on_mark)
        lease->settings.on_mark(lease->settings.context, lease->mark);
}

/* Whether the lease is another's, and that one may still lead. */
static bool is_taken(const struct lease *lease) {
    const char *holder = holder_of(lease->object);
    const json_t *spec = json_object_get(lease->object, "spec");
    json_int_t seconds = json_integer_value(json_object_get(spec, "leaseDurationSeconds"));
    if (!*holder || strcmp(holder, lease->identity) == 0)
        return false;
    if (seconds < 1 || seconds > DURATION_LIMIT_S)
        seconds = DURATION_S;
    return clock_ms() < lease->observed_ms + seconds * 1000;
}

/* "2026-11-21T03:55:00.123456Z" (metav1.MicroTime). */
static void format_now(char *out, size_t size) {
    struct timeval now;
    struct tm tm;
    gettimeofday(&now, NULL);
    gmtime_r(&now.tv_sec, &tm);
    size_t length = strftime(out, size, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out + length, size - length, ".%06ldZ", (long)now.tv_usec);
}

/* A copy of the Lease, or a new one, with `holder` as its holder. All else that is in it stays.
 * NULL: out of memory. */
static json_t *compose(const struct lease *lease, const char *holder) {
    char now[40];
    bool is_new = !lease->object, mine = !is_new && strcmp(holder_of(lease->object), holder) == 0;
    format_now(now, sizeof now);
    json_t *out =
        is_new ? json_pack("{s:s, s:s, s:{s:s}, s:{}}", "apiVersion", "coordination.k8s.io/v1",
                           "kind", "Lease", "metadata", "name", lease->name, "spec")
               : json_deep_copy(lease->object);
    json_t *spec = json_object_get(out, "spec");
    if (out && !spec)
        json_object_set_new(out, "spec", spec = json_object());
    int failed =
        json_object_set_new(spec, "holderIdentity", json_string(holder)) |
        json_object_set_new(spec, "leaseDurationSeconds", json_integer(*holder ? DURATION_S : 1)) |
        json_object_set_new(spec, "renewTime", json_string(now));
    if (!mine)
        failed |=
            json_object_set_new(spec, "acquireTime", json_string(now)) |
            json_object_set_new(spec, "leaseTransitions",
                                json_integer(lease->transitions + (*holder && !is_new ? 1 : 0)));
    if (!failed)
        return out;
    json_decref(out);
    return NULL;
}

/* ---- requests ---- */

/* How long a request may take: a holder must know in time that it failed. */
static int64_t request_ms(struct lease *lease) {
    if (!is_leading(lease))
        return LEASE_REQUEST_MS;
    int64_t left = give_up_ms(lease) - clock_ms();
    return left > LEASE_REQUEST_MS ? LEASE_REQUEST_MS : left > 1 ? left : 1;
}

/* NULL: the error says why. */
static json_t *get_lease(const struct lease *lease, int64_t timeout_ms, struct error *error) {
    json_t *answer = NULL;
    const struct kubernetes_call call = {.verb = "get",
                                         .resource = "leases",
                                         .path = lease->path,
                                         .timeout_ms = timeout_ms,
                                         .cancel = &lease->cancel};
    if (!kubernetes_call(lease->kubernetes, &call, &answer, error))
        return NULL;
    if (json_is_object(answer))
        return answer;
    json_decref(answer);
    error_set(error, ERROR_UNAVAILABLE, "Kubernetes: get leases: no object came");
    return NULL;
}

static bool read_lease(struct lease *lease, struct error *error) {
    json_t *answer = get_lease(lease, request_ms(lease), error);
    if (answer)
        observe(lease, answer);
    return answer != NULL;
}

/* Writes the Lease with this holder. `cancel` may be NULL. */
static bool write_lease(struct lease *lease, const char *holder, int64_t timeout_ms,
                        const struct cancel *cancel, struct error *error) {
    cleanup_json json_t *wanted = compose(lease, holder);
    cleanup_buffer struct buffer body = {0};
    json_t *answer = NULL;
    char collection[sizeof lease->path];
    if (!bounded_json_dump(wanted, JSON_COMPACT, &body))
        return error_set(error, ERROR_MEMORY, "out of memory");
    snprintf(collection, sizeof collection, "%.*s", (int)(strrchr(lease->path, '/') - lease->path),
             lease->path);
    const struct kubernetes_call call = {.verb = lease->object ? "update" : "create",
                                         .resource = "leases",
                                         .path = lease->object ? lease->path : collection,
                                         .body = {body.bytes, body.length},
                                         .timeout_ms = timeout_ms,
                                         .cancel = cancel};
    if (!kubernetes_call(lease->kubernetes, &call, &answer, error))
        return false;
    if (!json_is_object(answer)) {
        json_decref(answer);
        return error_set(error, ERROR_UNAVAILABLE, "Kubernetes: update leases: no object came");
    }
    observe(lease, answer);
    return true;
}

/* Takes or renews. True: it is ours. */
static bool write_ours(struct lease *lease, struct error *error) {
    int64_t began = clock_ms();
    if (!write_lease(lease, lease->identity, request_ms(lease), &lease->cancel, error))
        return false;
    set_renewed(lease, began);
    return true;
}

/* ---- the thread ---- */

/* A holder renews. When somebody else wrote in between, it reads what. */
static bool renew(struct lease *lease, struct error *error) {
    if (write_ours(lease, error))
        return true;
    if (error->status == 404) { /* deleted by hand: it is made anew */
        json_decref(lease->object);
        lease->object = NULL;
        return write_ours(lease, error);
    }
    if (error->status != 409 || !read_lease(lease, error))
        return false;
    if (strcmp(holder_of(lease->object), lease->identity) == 0)
        return write_ours(lease, error);
    set_leading(lease, false, "another process took the lease");
    return false;
}

/* Somebody who does not lead looks, and takes what is free. */
static bool try_to_take(struct lease *lease, struct error *error) {
    if (!read_lease(lease, error)) {
        if (error->status != 404)
            return false;
        error_clear(error);
        json_decref(lease->object);
        lease->object = NULL;
    } else if (is_taken(lease)) {
        return true;
    }
    if (write_ours(lease, error)) {
        if (clock_ms() < give_up_ms(lease))
            set_leading(lease, true, "the lease was free");
        return true;
    }
    if (error->status == 409) /* somebody else was faster */
        error_clear(error);
    return error->kind == ERROR_NONE;
}

/* How long until the next request. */
static int64_t pause_of(struct lease *lease, bool ok, const struct error *error) {
    bool leading = is_leading(lease);
    int64_t pause = leading && ok ? RENEW_MS : RETRY_MS;
    int64_t asked = (int64_t)error->retry_after_s * 1000;
    if (!leading)
        pause += clock_jitter(RETRY_MS / 5);
    if (asked > pause)
        pause = asked;
    if (!leading)
        return pause;
    /* A holder must not sleep beyond its time. */
    int64_t left = give_up_ms(lease) - clock_ms();
    return left < pause ? (left > 0 ? left : 0) : pause;
}

static void run(void *argument) {
    struct lease *lease = argument;
    while (!atomic_load(&lease->stopping)) {
        struct error error = {0};
        if (is_leading(lease) && clock_ms() >= give_up_ms(lease))
            set_leading(lease, false, "it could not be renewed in time");
        bool ok = is_leading(lease) ? renew(lease, &error) : try_to_take(lease, &error);
        if (atomic_load(&lease->stopping))
            break;
        if (is_leading(lease) && clock_ms() >= give_up_ms(lease))
            set_leading(lease, false, "it could not be renewed in time");
        set_error(lease, ok ? NULL : &error);
        cancel_sleep(&lease->cancel, clock_ms() + pause_of(lease, ok, &error), NULL);
    }
    bool holds = lease_holds(lease);
    set_leading(lease, false, "this process ends");
    /* Somebody else need not wait then. If this fails, they wait. */
    if (holds && lease->object)
        write_lease(lease, "", RELEASE_MS, NULL, NULL);
}

/* ---- marks ---- */

/* False: it was not written, and the error says why; status 409: somebody else wrote meanwhile. */
static bool write_mark(const struct lease *lease, json_t *object, const char *mark,
                       struct error *error) {
    json_t *meta = json_object_get(object, "metadata");
    json_t *annotations = json_object_get(meta, "annotations");
    cleanup_buffer struct buffer body = {0};
    if (!json_is_object(annotations))
        json_object_set_new(meta, "annotations", annotations = json_object());
    if (json_object_set_new(annotations, lease->settings.mark, json_string(mark)) != 0 ||
        !bounded_json_dump(object, JSON_COMPACT, &body))
        return error_set(error, ERROR_MEMORY, "out of memory");
    const struct kubernetes_call call = {.verb = "update",
                                         .resource = "leases",
                                         .path = lease->path,
                                         .body = {body.bytes, body.length},
                                         .timeout_ms = LEASE_REQUEST_MS,
                                         .cancel = &lease->cancel};
    return kubernetes_call(lease->kubernetes, &call, NULL, error);
}

bool lease_mark(struct lease *lease, const char *mark, struct error *error) {
    char wanted[LEASE_MARK_LIMIT + 1];
    snprintf(wanted, sizeof wanted, "%s", mark);
    for (int i = 0; lease && i < MARK_TRIES; i++) {
        *error = (struct error){0};
        cleanup_json json_t *object = get_lease(lease, LEASE_REQUEST_MS, error);
        if (!object && error->status == 404)
            error_clear(error);
        if (!object || strcmp(mark_of(lease, object), wanted) == 0)
            return error->kind == ERROR_NONE;
        if (write_mark(lease, object, wanted, error))
            return true;
        if (error->status != 409)
            return false;
    }
    return !lease;
}

/* ---- life ---- */

static void lease_free(struct lease *lease) {
    json_decref(lease->object);
    lock_finish(&lease->state_lock);
    free(lease);
}

/* Unique to this process. */
static void make_identity(char *out, size_t size) {
    char host[200] = "tarn";
    uint64_t chance = 0;
    gethostname(host, sizeof host - 1);
    if (getrandom(&chance, sizeof chance, 0) != sizeof chance)
        chance = (uint64_t)clock_us() ^ ((uint64_t)getpid() << 32);
    snprintf(out, size, "%s_%016llx", host, (unsigned long long)chance);
}

struct lease *lease_start(struct kubernetes *kubernetes, const struct lease_settings *settings,
                          struct error *error) {
    struct lease *lease = calloc(1, sizeof *lease);
    if (!lease) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    lock_init(&lease->state_lock);
    lease->kubernetes = kubernetes;
    lease->settings = *settings;
    lease->cancel.stop = &lease->stopping;
    snprintf(lease->namespace, sizeof lease->namespace, "%s", settings->namespace);
    snprintf(lease->name, sizeof lease->name, "%s", settings->name);
    snprintf(lease->path, sizeof lease->path,
             "/apis/coordination.k8s.io/v1/namespaces/%s/leases/%s", lease->namespace, lease->name);
    if (settings->identity)
        snprintf(lease->identity, sizeof lease->identity, "%s", settings->identity);
    else
        make_identity(lease->identity, sizeof lease->identity);
    if (thread_start("kube lease", THREAD_STACK, run, lease, &lease->thread, error))
        return lease;
    lease_free(lease);
    return NULL;
}

void lease_stop(struct lease *lease) {
    if (!lease)
        return;
    atomic_store(&lease->stopping, true);
    pthread_join(lease->thread, NULL);
    lease_free(lease);
}
