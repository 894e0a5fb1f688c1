/*
 * The credentials of one source, which are kept and kept fresh.
 *
 * Only the source's own thread asks, so that a caller can stop waiting at its own deadline, and so
 * that many callers cause one question. A failure is kept for a pause that doubles; callers get it
 * without a question of their own.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "auth/aws/sources.h"
#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/secret.h"
#include "base/thread.h"

enum {
    SOFT_MARGIN_MS = 900000, /* before the end: ask in the background */
    HARD_MARGIN_MS = 600000, /* callers wait for new ones */
    LEAST_PAUSE_MS = 1000,   /* between two questions; after a failure it doubles */
    MOST_PAUSE_MS = 10000,
    /* Two refusals in a row have the source asked at once; then the pause doubles, because a bucket
     * that refuses everything would otherwise cause a question with each request. */
    RENEW_AT_ONCE = 2,
    MOST_RENEW_PAUSE_MS = 64000,
    RENEW_FORGOTTEN_MS = 120000, /* so long after a refusal, another one is the first again */
    LOOK_AROUND_MS = 200,        /* how often a waiting caller looks whether it is cancelled */
    COMPLAIN_AGAIN_MS = 60000,
};

struct aws_source {
    struct client *client;
    struct aws_settings settings; /* owned copies */
    atomic_bool stop;             /* ends a question under way */
    struct lock held_lock;        /* guards everything below; never held while asking */
    struct condition wanted;      /* for the thread: a caller waits, a refusal, `stopping` */
    struct condition settled;     /* for callers: a question has ended */
    struct aws_credentials held;  /* `key_id` NULL: none */
    int64_t fetched_ms;           /* when they were */
    bool refused;                 /* they are not to be given any more */
    unsigned number;              /* of the last that were fetched */
    char from[AWS_DESCRIPTION_SIZE], region[AWS_REGION_SIZE];
    struct error failure; /* of the last question; kind NONE: it succeeded */
    unsigned failures;    /* in a row */
    int64_t asked_ms;     /* when the last question ended; 0: there was none */
    int64_t renewed_ms;   /* when a refusal last had it asked; 0: never */
    unsigned renewals;    /* because of refusals in a row */
    int64_t complained_ms;
    unsigned waiting; /* callers */
    bool thread_runs, stopping;
    pthread_t thread;
};

/* ---- what is held ---- */

static bool is_usable(const struct aws_source *source, int64_t now_ms) {
    return source->held.key_id && !source->refused && now_ms < source->held.expires_ms;
}

/* How long before their end credentials are replaced. */
static int64_t soft_margin_ms(const struct aws_source *source) {
    int64_t life_ms = source->held.expires_ms - source->fetched_ms;
    return life_ms < SOFT_MARGIN_MS ? life_ms / 2 : SOFT_MARGIN_MS;
}

static int64_t soft_ms(const struct aws_source *source) {
    return source->held.expires_ms == INT64_MAX ? INT64_MAX
                                                : source->held.expires_ms - soft_margin_ms(source);
}

static int64_t hard_ms(const struct aws_source *source) {
    if (source->held.expires_ms == INT64_MAX)
        return INT64_MAX;
    int64_t soft = soft_margin_ms(source);
    return source->held.expires_ms - (soft < SOFT_MARGIN_MS ? soft / 2 : HARD_MARGIN_MS);
}

static int64_t pause_ms(const struct aws_source *source) {
    int64_t pause = LEAST_PAUSE_MS;
    for (unsigned i = 1; i < source->failures && pause < MOST_PAUSE_MS; i++)
        pause *= 2;
    return pause < MOST_PAUSE_MS ? pause : MOST_PAUSE_MS;
}

/* Whether the last question failed so recently that its failure is everybody's. */
static bool is_failing(const struct aws_source *source, int64_t now_ms) {
    return source->failures && now_ms < source->asked_ms + pause_ms(source);
}

/* When the thread asks next; INT64_MAX: when somebody waits. */
static int64_t ask_at_ms(const struct aws_source *source) {
    int64_t now_ms = clock_ms();
    if (!is_usable(source, now_ms) || now_ms >= hard_ms(source))
        return source->waiting || is_usable(source, now_ms)
                   ? source->asked_ms + (source->failures ? pause_ms(source) : 0)
                   : INT64_MAX;
    int64_t soft = soft_ms(source), again = source->asked_ms + pause_ms(source);
    return soft == INT64_MAX || soft > again ? soft : again;
}

/* ---- asking ---- */

static void report(struct aws_source *source, const struct aws_answer *answer,
                   const struct error *failure) REQUIRES(source->held_lock) {
    int64_t now_ms = clock_ms();
    if (failure->kind == ERROR_NONE) {
        bool again = source->complained_ms != 0;
        log_at(again || strcmp(source->from, answer->from) != 0 ? LOG_INFO : LOG_DEBUG,
               "aws credentials", LOG_STRING("from", answer->from));
        source->complained_ms = 0;
    } else if (failure->kind != ERROR_CLOSED &&
               (!source->complained_ms || now_ms - source->complained_ms >= COMPLAIN_AGAIN_MS)) {
        source->complained_ms = now_ms;
        log_at(LOG_WARN, "no aws credentials", LOG_STRING("error", failure->text));
    }
}

/* Asks without the lock, and takes over the outcome. */
static void ask(struct aws_source *source) REQUIRES(source->held_lock) {
    const struct cancel cancel = {.stop = &source->stop};
    struct aws_question question = {
        .client = source->client, .settings = &source->settings, .cancel = &cancel};
    struct aws_answer answer;
    struct error failure = {0};
    lock_release(&source->held_lock);
    if (!*aws_region_known(&source->settings, question.region))
        aws_shared_region(&source->settings, question.region);
    bool ok = aws_search(&question, &answer, &failure);
    lock_acquire(&source->held_lock);
    source->asked_ms = clock_ms();
    source->failure = failure;
    source->failures = ok ? 0 : source->failures + 1;
    report(source, &answer, &failure);
    text_copy(text_of(*question.region ? question.region : answer.region), source->region,
              sizeof source->region);
    text_copy(text_of(answer.from), source->from, sizeof source->from);
    if (ok) {
        aws_credentials_wipe(&source->held);
        source->held = answer.credentials;
        source->held.number = ++source->number;
        source->fetched_ms = source->asked_ms;
        source->refused = false;
    }
    condition_broadcast(&source->settled);
}

static void keep(void *context) {
    struct aws_source *source = context;
    lock_acquire(&source->held_lock);
    while (!source->stopping) {
        int64_t at = ask_at_ms(source);
        if (at <= clock_ms())
            ask(source);
        else
            condition_wait_until(&source->wanted, &source->held_lock, at);
    }
    lock_release(&source->held_lock);
}

/* ---- giving ---- */

static bool give(const struct aws_source *source, struct aws_credentials *out,
                 struct error *error) {
    const struct aws_credentials *held = &source->held;
    const char *token = held->session_token;
    if (!aws_credentials_fill(out, text_of(held->key_id), text_of(held->secret),
                              text_of(token ? token : ""), error))
        return false;
    out->expires_ms = held->expires_ms;
    out->number = held->number;
    return true;
}

static bool start_thread(struct aws_source *source, struct error *error)
    REQUIRES(source->held_lock) {
    if (!source->thread_runs)
        source->thread_runs =
            thread_start("aws-credentials", THREAD_STACK, keep, source, &source->thread, error);
    return source->thread_runs;
}

/* Waits for a change, for `deadline_ms`, or for a moment after which the caller looks around. */
static void wait_a_little(struct aws_source *source, int64_t deadline_ms, bool looks_around)
    REQUIRES(source->held_lock) {
    int64_t moment_ms = clock_ms() + LOOK_AROUND_MS;
    source->waiting++;
    condition_signal(&source->wanted);
    condition_wait_until(&source->settled, &source->held_lock,
                         looks_around && moment_ms < deadline_ms ? moment_ms : deadline_ms);
    source->waiting--;
}

static bool check_cancel(struct aws_source *source, const struct cancel *cancel,
                         struct error *error) REQUIRES(source->held_lock) {
    if (!cancel)
        return true;
    lock_release(&source->held_lock);
    bool goes_on = cancel_check(cancel, error);
    lock_acquire(&source->held_lock);
    return goes_on;
}

/* Waits until credentials can be given. */
static bool settle(struct aws_source *source, int64_t deadline_ms, const struct cancel *cancel,
                   struct error *error) REQUIRES(source->held_lock) {
    if (!start_thread(source, error))
        return false;
    for (;;) {
        int64_t now_ms = clock_ms();
        bool usable = is_usable(source, now_ms);
        if (usable && (now_ms < hard_ms(source) || is_failing(source, now_ms)))
            return true;
        if (!usable && is_failing(source, now_ms)) {
            if (error)
                *error = source->failure;
            return false;
        }
        if (now_ms >= deadline_ms)
            return usable ||
                   error_set(error, ERROR_TIMEOUT, "aws credentials: none have come in time%s%s",
                             *source->from ? " from " : "", source->from);
        if (!check_cancel(source, cancel, error))
            return false;
        wait_a_little(source, deadline_ms, cancel != NULL);
    }
}

bool aws_source_get(struct aws_source *source, int64_t deadline_ms, const struct cancel *cancel,
                    struct aws_credentials *out, struct error *error) {
    *out = (struct aws_credentials){0};
    lock_acquire(&source->held_lock);
    bool ok = settle(source, deadline_ms, cancel, error) && give(source, out, error);
    lock_release(&source->held_lock);
    return ok;
}

static int64_t renew_pause_ms(const struct aws_source *source) {
    int64_t pause = source->renewals < RENEW_AT_ONCE ? 0 : LEAST_PAUSE_MS;
    for (unsigned i = RENEW_AT_ONCE; i < source->renewals && pause < MOST_RENEW_PAUSE_MS; i++)
        pause *= 2;
    return pause;
}

void aws_source_renew(struct aws_source *source, unsigned number) {
    lock_acquire(&source->held_lock);
    int64_t now_ms = clock_ms();
    if (now_ms - source->renewed_ms > RENEW_FORGOTTEN_MS)
        source->renewals = 0;
    if (source->held.key_id && source->held.number == number && !source->refused &&
        now_ms - source->renewed_ms >= renew_pause_ms(source)) {
        source->renewed_ms = now_ms;
        source->renewals++;
        source->refused = true;
        source->failures = 0;
        condition_signal(&source->wanted);
    }
    lock_release(&source->held_lock);
}

const char *aws_source_describe(struct aws_source *source, char out[static AWS_DESCRIPTION_SIZE]) {
    lock_acquire(&source->held_lock);
    text_copy(text_of(source->from), out, AWS_DESCRIPTION_SIZE);
    lock_release(&source->held_lock);
    return out;
}

const char *aws_source_region(struct aws_source *source, char out[static AWS_REGION_SIZE]) {
    lock_acquire(&source->held_lock);
    text_copy(text_of(source->region), out, AWS_REGION_SIZE);
    lock_release(&source->held_lock);
    return *out ? out : aws_region_known(&source->settings, out);
}

/* ---- its life ---- */

static void settings_free(struct aws_settings *settings) {
    free((void *)settings->key_id);
    free((void *)settings->secret_file);
    char *secret = (char *)settings->secret;
    secret_free(&secret);
    free((void *)settings->profile);
    free((void *)settings->file);
    free((void *)settings->region);
    *settings = (struct aws_settings){0};
}

static bool copy_string(const char *from, const char **to) {
    *to = from ? strdup(from) : NULL;
    return !from || *to;
}

struct aws_source *aws_source_new(const struct aws_settings *settings, struct client *client) {
    struct aws_source *source = calloc(1, sizeof *source);
    if (!source)
        return NULL;
    struct aws_settings *own = &source->settings;
    if (!copy_string(settings->key_id, &own->key_id) ||
        !copy_string(settings->secret_file, &own->secret_file) ||
        !copy_string(settings->secret, &own->secret) ||
        !copy_string(settings->profile, &own->profile) ||
        !copy_string(settings->file, &own->file) || !copy_string(settings->region, &own->region)) {
        settings_free(own);
        free(source);
        return NULL;
    }
    source->client = client;
    lock_init(&source->held_lock);
    condition_init(&source->wanted);
    condition_init(&source->settled);
    return source;
}

void aws_source_free(struct aws_source *source) {
    if (!source)
        return;
    atomic_store(&source->stop, true);
    lock_acquire(&source->held_lock);
    source->stopping = true;
    condition_signal(&source->wanted);
    bool runs = source->thread_runs;
    lock_release(&source->held_lock);
    if (runs)
        pthread_join(source->thread, NULL);
    aws_credentials_wipe(&source->held);
    settings_free(&source->settings);
    condition_finish(&source->wanted);
    condition_finish(&source->settled);
    lock_finish(&source->held_lock);
    free(source);
}
