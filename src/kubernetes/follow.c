/* Keeps up with all objects of one kind: the thread, what it knows, and its pauses. */
#include "kubernetes/follow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/thread.h"
#include "kubernetes/follow_private.h"

enum {
    FIRST_PAUSE_MS = 1000,
    LONGEST_PAUSE_MS = 30000,
    PERIOD_MS = 30000,    /* of the lists where a watch is forbidden */
    PERIODS = 20,         /* after so many of them a watch is tried again */
    FORBIDDEN_TRIES = 6,  /* about a minute */
    SHORT_MS = 1000,      /* a watch that ends sooner and without an event is a failure */
    LIST_REST_MS = 30000, /* lists that follow each other sooner are paused between */
    VERSION_LIMIT = 1024, /* bytes */
    UID_LIMIT = 256,      /* bytes */
};

#define LISTS      "tarn_kube_lists_total"
#define LISTS_HELP "Lists of all objects that were begun, by resource and reason."
#define WORD       "tarn_kube_last_event_seconds"
#define WORD_HELP  "Seconds since Kubernetes last sent anything about a resource."

/* ---- what is known ---- */

const char *follow_uid(struct follow *follow, const json_t *object, struct error *error) {
    const json_t *uid = json_object_get(json_object_get(object, "metadata"), "uid");
    const char *text = json_string_value(uid);
    if (text && *text && json_string_length(uid) <= UID_LIMIT)
        return text;
    follow->broken = true;
    error_set(error, ERROR_INVALID, "an object without metadata.uid");
    return NULL;
}

bool follow_set(struct follow *follow, const json_t *object, struct error *error) {
    struct follow_known *known;
    const char *uid = follow_uid(follow, object, error);
    if (!uid)
        return false;
    HASH_FIND_STR(follow->known, uid, known);
    if (!known) {
        size_t size = strlen(uid) + 1;
        known = calloc(1, sizeof *known + size);
        if (!known)
            return error_set(error, ERROR_MEMORY, "out of memory");
        memcpy(known->uid, uid, size);
        HASH_ADD_STR(follow->known, uid, known);
        if (!known->hh.tbl) {
            free(known);
            return error_set(error, ERROR_MEMORY, "out of memory");
        }
    }
    known->list = follow->lists;
    follow->settings.sink.changed(follow->settings.sink.context, object);
    return true;
}

void follow_remove(struct follow *follow, const char *uid) {
    struct follow_known *known;
    HASH_FIND_STR(follow->known, uid, known);
    if (!known)
        return;
    follow->settings.sink.gone(follow->settings.sink.context, known->uid);
    HASH_DEL(follow->known, known);
    free(known);
}

bool follow_set_version(struct follow *follow, const json_t *meta, struct error *error) {
    const char *text = json_string_value(json_object_get(meta, "resourceVersion"));
    if (!text || !*text || strlen(text) > VERSION_LIMIT) {
        follow->broken = true;
        return error_set(error, ERROR_INVALID, "an event without metadata.resourceVersion");
    }
    char *version = strdup(text);
    if (!version)
        return error_set(error, ERROR_MEMORY, "out of memory");
    free(follow->version);
    follow->version = version;
    return true;
}

/* ---- the state ---- */

void follow_heard(struct follow *follow) {
    lock_acquire(&follow->state_lock);
    follow->word_ms = clock_ms();
    lock_release(&follow->state_lock);
}

void follow_connect(struct follow *follow) {
    lock_acquire(&follow->state_lock);
    bool again = !follow->state.connected && follow->state.error[0];
    follow->state.connected = true;
    follow->state.error[0] = '\0';
    follow->word_ms = follow->state.true_ms = clock_ms();
    lock_release(&follow->state_lock);
    if (again)
        log_at(LOG_INFO, "Kubernetes answers again",
               LOG_STRING("resource", follow->settings.resource));
}

/* A list is whole. The sink is told last, so that it finds that in the state. */
static void set_listed(struct follow *follow, int64_t began_ms) {
    lock_acquire(&follow->state_lock);
    follow->state.listed = true;
    follow->state.began_ms = began_ms;
    follow->state.true_ms = clock_ms();
    lock_release(&follow->state_lock);
    if (follow->settings.sink.listed)
        follow->settings.sink.listed(follow->settings.sink.context);
}

/* The connection is over, and why, if that is a failure. */
static void set_over(struct follow *follow, const struct error *why) {
    lock_acquire(&follow->state_lock);
    if (follow->state.connected)
        follow->state.true_ms = clock_ms();
    follow->state.connected = false;
    bool first = !follow->state.error[0];
    if (why)
        snprintf(follow->state.error, sizeof follow->state.error, "%.399s", why->text);
    lock_release(&follow->state_lock);
    if (why && first)
        log_at(LOG_WARN, "Kubernetes does not answer as it should",
               LOG_STRING("resource", follow->settings.resource), LOG_STRING("error", why->text));
}

void follow_look(struct follow *follow, struct follow_state *out) {
    lock_acquire(&follow->state_lock);
    *out = follow->state;
    lock_release(&follow->state_lock);
    if (out->connected && !out->lists_only)
        out->true_ms = clock_ms();
}

static void write_label(const struct follow *follow, char *out, size_t size) {
    snprintf(out, size, "resource=\"%s\"", follow->settings.resource);
}

void follow_update_metrics(struct follow *follow) {
    char label[64];
    write_label(follow, label, sizeof label);
    lock_acquire(&follow->state_lock);
    int64_t word_ms = follow->word_ms;
    lock_release(&follow->state_lock);
    /* Before the first word, the time since the start would be of no use to an alert. */
    if (word_ms)
        metric_set(metric_get(METRIC_SECONDS_GAUGE, WORD, WORD_HELP, label),
                   (clock_ms() - word_ms) * 1000);
}

void follow_declare_metrics(void) {
    metric_declare(METRIC_COUNTER, LISTS, LISTS_HELP);
    metric_declare(METRIC_SECONDS_GAUGE, WORD, WORD_HELP);
}

static void count_list(const struct follow *follow, const char *reason) {
    char labels[96];
    snprintf(labels, sizeof labels, "resource=\"%s\",reason=\"%s\"", follow->settings.resource,
             reason);
    metric_add(metric_get(METRIC_COUNTER, LISTS, LISTS_HELP, labels), 1);
}

/* ---- pauses ---- */

/* How the last requests went. */
struct pace {
    unsigned failures; /* in a row */
    unsigned lists;    /* in a row, each soon after the one before */
    int64_t listed_ms; /* when the last list began; 0: none */
};

/* `count` failures: 0, 1 s, 2 s, ... 30 s, each longer or shorter by up to a fifth. */
static int64_t pause_of(unsigned count) {
    if (count == 0)
        return 0;
    int64_t pause = FIRST_PAUSE_MS;
    for (; count > 1 && pause < LONGEST_PAUSE_MS; count--)
        pause *= 2;
    if (pause > LONGEST_PAUSE_MS)
        pause = LONGEST_PAUSE_MS;
    return pause - pause / 5 + clock_jitter((uint32_t)(pause * 2 / 5 + 1));
}

/* Waits after a failure, and as long as the server asks for. */
static void pause_after(struct follow *follow, struct pace *pace, const struct error *why) {
    int64_t pause = pause_of(++pace->failures), asked = (int64_t)why->retry_after_s * 1000;
    set_over(follow, why);
    cancel_sleep(&follow->cancel, clock_ms() + (pause > asked ? pause : asked), NULL);
}

/* Waits before a list that follows another one soon, because a server that spoils each watch must
 * not be asked for everything again and again. */
static void pause_before_list(struct follow *follow, struct pace *pace) {
    int64_t now = clock_ms();
    if (pace->listed_ms && now - pace->listed_ms < LIST_REST_MS)
        cancel_sleep(&follow->cancel, now + pause_of(pace->lists++), NULL);
    else
        pace->lists = 0;
    pace->listed_ms = clock_ms();
}

/* ---- the thread ---- */

/* Lists until a list is whole. *reason is why the first one is needed, and then "failed". */
static void list_all(struct follow *follow, struct pace *pace, const char *reason) {
    pause_before_list(follow, pace);
    while (!atomic_load(&follow->stopping)) {
        struct error error = {0};
        int64_t began_ms = clock_ms();
        if (atomic_exchange(&follow->refreshing, false))
            reason = "refresh";
        count_list(follow, reason);
        if (follow_list(follow, &error)) {
            pace->failures = 0;
            set_listed(follow, began_ms);
            return;
        }
        if (atomic_load(&follow->refreshing))
            continue;
        if (atomic_load(&follow->stopping))
            return;
        pause_after(follow, pace, &error);
        reason = follow->broken ? "broken" : "failed";
    }
}

/* A watch is forbidden: lists every 30 s, for ten minutes. */
static void list_for_a_while(struct follow *follow, struct pace *pace, const struct error *why) {
    if (!follow->forbidden_told)
        log_at(LOG_WARN, "no right to watch: listing every 30 s instead",
               LOG_STRING("resource", follow->settings.resource), LOG_STRING("error", why->text));
    follow->forbidden_told = true;
    lock_acquire(&follow->state_lock);
    follow->state.lists_only = true;
    lock_release(&follow->state_lock);
    follow_connect(follow);
    for (unsigned i = 0; i < PERIODS; i++) {
        cancel_sleep(&follow->cancel, clock_ms() + PERIOD_MS, NULL);
        if (atomic_load(&follow->stopping))
            return;
        pace->listed_ms = 0; /* this one may follow soon */
        list_all(follow, pace, "no_watch");
        if (!atomic_load(&follow->stopping))
            follow_connect(follow);
    }
    lock_acquire(&follow->state_lock);
    follow->state.lists_only = false;
    lock_release(&follow->state_lock);
}

/* One watch, and what follows from its end. Returns why all has to be listed anew; NULL: the watch
 * goes on. */
static const char *watch_once(struct follow *follow, struct pace *pace) {
    struct error error = {0};
    char *before = strdup(follow->version);
    int64_t began = clock_ms();
    enum follow_end end = follow_watch(follow, &error);
    bool moved = before && strcmp(before, follow->version) != 0;
    free(before);
    if (atomic_load(&follow->stopping))
        return NULL;
    if (atomic_load(&follow->refreshing)) {
        set_over(follow, NULL);
        return "refresh";
    }
    switch (end) {
    case FOLLOW_EXPIRED:
        set_over(follow, NULL);
        return "expired";
    case FOLLOW_BROKEN:
        set_over(follow, &error);
        cancel_sleep(&follow->cancel, clock_ms() + (int64_t)error.retry_after_s * 1000, NULL);
        return "broken";
    case FOLLOW_FORBIDDEN:
        /* A server that has just started refuses for some seconds, because it has not read the
         * rights yet (seen with kube-apiserver 1.37). */
        if (follow->watched && pace->failures < FORBIDDEN_TRIES)
            break;
        list_for_a_while(follow, pace, &error);
        return NULL;
    case FOLLOW_ENDED:
        set_over(follow, NULL);
        if (moved || clock_ms() - began >= SHORT_MS) {
            pace->failures = 0;
            return NULL;
        }
        if (error.kind == ERROR_NONE)
            error_set(&error, ERROR_UNAVAILABLE, "Kubernetes: watch %s: it ended at once",
                      follow->settings.resource);
        break;
    case FOLLOW_FAILED:
        break;
    }
    pause_after(follow, pace, &error);
    return NULL;
}

static void run(void *argument) {
    struct follow *follow = argument;
    struct pace pace = {0};
    const char *reason = "start";
    while (!atomic_load(&follow->stopping)) {
        if (reason)
            list_all(follow, &pace, reason);
        reason = NULL;
        if (!atomic_load(&follow->stopping))
            reason = watch_once(follow, &pace);
    }
}

/* ---- life ---- */

static void follow_free(struct follow *follow) {
    struct follow_known *known, *next;
    HASH_ITER (hh, follow->known, known, next) {
        HASH_DEL(follow->known, known);
        free(known);
    }
    free(follow->version);
    free((char *)follow->settings.path);
    free((char *)follow->settings.query);
    lock_finish(&follow->state_lock);
    free(follow);
}

/* Whether a request that is under way goes on. */
static bool is_wanted(void *context) {
    struct follow *follow = context;
    return !atomic_load(&follow->refreshing);
}

void follow_refresh(struct follow *follow) {
    atomic_store(&follow->refreshing, true);
}

struct follow *follow_start(struct kubernetes *kubernetes, const struct follow_settings *settings,
                            struct error *error) {
    struct follow *follow = calloc(1, sizeof *follow);
    if (!follow) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    lock_init(&follow->state_lock);
    follow->kubernetes = kubernetes;
    follow->settings = *settings;
    follow->settings.path = strdup(settings->path);
    follow->settings.query = settings->query ? strdup(settings->query) : NULL;
    follow->cancel = (struct cancel){&follow->stopping, is_wanted, follow};
    if (!follow->settings.path || (settings->query && !follow->settings.query)) {
        error_set(error, ERROR_MEMORY, "out of memory");
    } else {
        char name[THREAD_NAME_SIZE];
        snprintf(name, sizeof name, "kube %.9s", settings->resource);
        if (thread_start(name, THREAD_STACK, run, follow, &follow->thread, error))
            return follow;
    }
    follow_free(follow);
    return NULL;
}

void follow_stop(struct follow *follow) {
    if (!follow)
        return;
    atomic_store(&follow->stopping, true);
    pthread_join(follow->thread, NULL);
    follow_free(follow);
}
