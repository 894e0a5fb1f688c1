/*
 * The access token of one configured source, kept and kept fresh.
 *
 * Many ask, one fetches: whoever finds no usable token while a request is under way waits for that
 * one's outcome, good or bad. A token is stale 225 s before its end, because a metadata server
 * hands out the same one until four or five minutes before; from then on a thread of our own asks
 * for the next, at most every 10 s, while the old one is still given out, until its very end. An
 * idle source is left alone: a token that nobody used is not replaced until somebody asks.
 *
 * "No source is present" is kept like a token for 30 s, then looked at again in the background.
 */
#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "auth/google/google.h"
#include "auth/google/kinds.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/secret.h"

enum {
    STALE_MARGIN_MS = 225000,
    ASK_AGAIN_MS = 10000,
    ABSENT_MS = 30000,      /* "no source" is believed so long without looking */
    FAILURE_HELD_MS = 1000, /* a crowd behind a failure gets that failure */
    REFRESHER_STACK = 256 * 1024,
};

struct google {
    struct client *client;           /* set before anybody asks */
    struct google_settings settings; /* owned copies */
    pthread_mutex_t token_lock;      /* guards everything below; never held while asking */
    pthread_cond_t changed;
    struct google_token token; /* the last that was fetched; `secret` NULL: none, or no source */
    bool known;                /* `token` is an answer (which may be "no source") */
    int64_t fetched_ms;        /* when it was */
    bool used;                 /* somebody was given it */
    bool asking;               /* a thread is fetching, without the lock */
    int64_t asked_ms;          /* when the last request began; 0: never */
    int64_t renewed_ms;        /* when somebody last had a refused token replaced; 0: never */
    uint64_t outcomes;         /* requests that have ended */
    bool failed;               /* the last of them */
    int64_t failed_ms;
    struct error failure;
    bool refresher_runs, stopping;
    pthread_t refresher;
};

/* ---- asking ---- */

static void count(bool ok) {
    metric_add(metric_get(METRIC_COUNTER, "tarn_google_token_requests_total",
                          "Access tokens asked for, by outcome.",
                          ok ? "outcome=\"ok\"" : "outcome=\"error\""),
               1);
}

/* Called and left with the lock held; asks without it. */
static void ask(struct google *google) {
    struct google_question question = {.client = google->client, .settings = google->settings};
    struct google_token token;
    struct error failure = {0};
    google->asking = true;
    google->asked_ms = clock_ms();
    pthread_mutex_unlock(&google->token_lock);
    bool ok = google_token_fetch(&question, &token, &failure);
    count(ok);
    if (!ok)
        log_at(LOG_WARN, "no google access token", LOG_STRING("error", failure.text));
    else
        log_at(LOG_DEBUG, "google access token fetched", LOG_STRING("kind", token.kind),
               LOG_STRING("from", token.from),
               LOG_NUMBER("seconds", token.secret ? (token.expires_ms - clock_ms()) / 1000 : 0));
    pthread_mutex_lock(&google->token_lock);
    google->asking = false;
    google->outcomes++;
    google->failed = !ok;
    if (ok) {
        google_token_wipe(&google->token);
        google->token = token;
        google->known = true;
        google->used = false;
        google->fetched_ms = clock_ms();
    } else {
        google->failure = failure;
        google->failed_ms = clock_ms();
    }
    pthread_cond_broadcast(&google->changed);
}

/* ---- what is held ---- */

static int64_t ends_ms(const struct google *google) {
    return google->token.secret ? google->token.expires_ms : INT64_MAX;
}

static int64_t stale_ms(const struct google *google) {
    return google->token.secret ? google->token.expires_ms - STALE_MARGIN_MS
                                : google->fetched_ms + ABSENT_MS;
}

static bool is_usable(const struct google *google) {
    return google->known && clock_ms() < ends_ms(google);
}

/* When the refresher should ask next: INT64_MAX while there is nothing to refresh. */
static int64_t refresh_at_ms(const struct google *google) {
    if (!google->known || !google->used || google->asking)
        return INT64_MAX;
    int64_t at = stale_ms(google), again = google->asked_ms + ASK_AGAIN_MS;
    return at > again ? at : again;
}

/* ---- refreshing in the background ---- */

static void *refresh(void *context) {
    struct google *google = context;
    pthread_mutex_lock(&google->token_lock);
    while (!google->stopping) {
        int64_t at = refresh_at_ms(google), now = clock_ms();
        if (at <= now) {
            ask(google);
        } else if (at == INT64_MAX) {
            pthread_cond_wait(&google->changed, &google->token_lock);
        } else {
            struct timespec deadline = clock_deadline(at - now);
            pthread_cond_clockwait(&google->changed, &google->token_lock, CLOCK_MONOTONIC,
                                   &deadline);
        }
    }
    pthread_mutex_unlock(&google->token_lock);
    return NULL;
}

/* With the lock held. Without the thread, tokens are fetched when the old one has ended. */
static void start_refresher(struct google *google) {
    pthread_attr_t attributes;
    if (google->refresher_runs || pthread_attr_init(&attributes) != 0)
        return;
    pthread_attr_setstacksize(&attributes, REFRESHER_STACK);
    google->refresher_runs = pthread_create(&google->refresher, &attributes, refresh, google) == 0;
    pthread_attr_destroy(&attributes);
}

/* ---- giving ---- */

/*
 * A refused token is replaced at once, but not again and again: a registry that refuses every
 * token would have us ask for one at each request.
 */
static bool renewal_is_due(const struct google *google) {
    int64_t now = clock_ms();
    if (!google->known)
        return false;
    if (!google->token.secret)
        return now - google->asked_ms >= ASK_AGAIN_MS;
    return !google->renewed_ms || now - google->renewed_ms >= ASK_AGAIN_MS;
}

/* With the lock held, until there is an answer: a usable token (or "no source") or a failure. */
static bool settle(struct google *google, bool renew, struct error *error) {
    if (renew && renewal_is_due(google)) {
        google->renewed_ms = clock_ms();
        google->known = false;
    }
    uint64_t joined = google->asking ? google->outcomes + 1 : 0;
    while (!is_usable(google)) {
        if (google->asking) {
            joined = google->outcomes + 1;
            pthread_cond_wait(&google->changed, &google->token_lock);
            continue;
        }
        bool shared = joined && google->outcomes >= joined;
        bool recent = google->failed_ms && clock_ms() - google->failed_ms < FAILURE_HELD_MS;
        if (google->failed && (shared || recent)) {
            if (error)
                *error = google->failure;
            return false;
        }
        ask(google);
        joined = google->outcomes;
    }
    return true;
}

static bool fill(const struct google_token *token, struct credential *out, struct error *error) {
    *out = (struct credential){0};
    if (!token->secret)
        return true; /* anonymous */
    out->kind = CREDENTIAL_BASIC;
    out->username = strdup(GOOGLE_USERNAME);
    out->secret = strdup(token->secret);
    out->expires_ms = token->expires_ms;
    snprintf(out->from, sizeof out->from, "google %.30s %.100s", token->kind, token->from);
    if (out->username && out->secret)
        return true;
    credential_wipe(out);
    return error_set(error, ERROR_MEMORY, "out of memory");
}

static bool google_get(void *context, const char *host, bool renew, struct credential *out,
                       struct error *error) {
    struct google *google = context;
    assert(google->client);
    (void)host; /* one token for all of Google's registries; upstream/ keeps it to its host */
    *out = (struct credential){0};
    pthread_mutex_lock(&google->token_lock);
    bool ok = settle(google, renew, error) && fill(&google->token, out, error);
    if (ok) {
        bool first = !google->used;
        google->used = true;
        start_refresher(google);
        if (first)
            pthread_cond_broadcast(&google->changed);
    }
    pthread_mutex_unlock(&google->token_lock);
    return ok;
}

/* ---- life ---- */

static void settings_free(struct google_settings *settings) {
    free((char *)settings->file);
    free((char *)settings->metadata);
    free((char *)settings->impersonate);
    for (size_t i = 0; settings->scopes && settings->scopes[i]; i++)
        free((char *)settings->scopes[i]);
    free((void *)settings->scopes);
    *settings = (struct google_settings){0};
}

static bool copy_string(const char *from, const char **to) {
    *to = from ? strdup(from) : NULL;
    return !from || *to;
}

static bool settings_copy(const struct google_settings *from, struct google_settings *to) {
    *to = (struct google_settings){.gcloud = from->gcloud};
    if (!copy_string(from->file, &to->file) || !copy_string(from->metadata, &to->metadata) ||
        !copy_string(from->impersonate, &to->impersonate))
        return false;
    size_t count = 0;
    while (from->scopes && from->scopes[count])
        count++;
    const char **scopes = count ? calloc(count + 1, sizeof *scopes) : NULL;
    to->scopes = scopes;
    for (size_t i = 0; scopes && i < count; i++) {
        if (!copy_string(from->scopes[i], &scopes[i]))
            return false;
    }
    return !count || scopes;
}

/* Waits for a request that is under way. */
static void google_free(void *context) {
    struct google *google = context;
    pthread_mutex_lock(&google->token_lock);
    google->stopping = true;
    pthread_cond_broadcast(&google->changed);
    bool runs = google->refresher_runs;
    pthread_mutex_unlock(&google->token_lock);
    if (runs)
        pthread_join(google->refresher, NULL);
    google_token_wipe(&google->token);
    settings_free(&google->settings);
    pthread_cond_destroy(&google->changed);
    pthread_mutex_destroy(&google->token_lock);
    free(google);
}

/* gcloud; or whatever a credential file names, where the environment allows that. */
static bool google_may_run(const void *context) {
    const struct google *google = context;
    const char *allowed = getenv("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES");
    return google->settings.gcloud || (allowed && strcmp(allowed, "1") == 0);
}

static void google_set_client(void *context, struct client *client) {
    struct google *google = context;
    google->client = client;
}

struct credential_source *google_credential_source(const struct google_settings *settings) {
    struct google *google = calloc(1, sizeof *google);
    if (!google)
        return NULL;
    if (!settings_copy(settings, &google->settings)) {
        settings_free(&google->settings);
        free(google);
        return NULL;
    }
    pthread_mutex_init(&google->token_lock, NULL);
    pthread_cond_init(&google->changed, NULL);
    struct credential_source *source =
        credential_source_new("google", google_get, google_free, google);
    if (source) {
        credential_source_may_run(source, google_may_run);
        credential_source_takes_client(source, google_set_client);
    }
    return source;
}
