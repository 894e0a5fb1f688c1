/*
 * The access token of one configured source, which is kept and kept fresh.
 *
 * Many ask, one fetches (base/once.h). A token is stale 225 s before its end, because a metadata
 * server hands out the same token until four or five minutes before its end. From then on the
 * source's own thread asks for the next token, at most every 10 s, and until the very end of the
 * old token callers are still given that one. A token that nobody used is not replaced until
 * somebody asks.
 *
 * "No source is present" is never believed for long. It is looked at again after 5 s in the
 * background, and at once for a caller whose anonymous request was refused. A look that no metadata
 * server answered proves nothing while this source is young, because the metadata server of a new
 * pod needs some seconds: until then the anonymous credential is provisional. Once a metadata
 * server has given a token, its silence is a failure.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "auth/google/google.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/once.h"
#include "base/thread.h"

enum {
    STALE_MARGIN_MS = 225000,
    ASK_AGAIN_MS = 10000,
    ABSENT_MS = 5000,       /* how long "no source" counts without looking again */
    ABSENT_AGAIN_MS = 1000, /* and if a caller was refused for it */
    ANONYMOUS_MS = 10000,   /* how long callers may use an anonymous credential */
    SETTLE_MS = 60000,      /* how long after the start a metadata server may still come */
    FAILURE_HELD_MS = 1000, /* how long callers share a failure that they did not wait for */
};

struct google {
    struct client *client;           /* set before anybody asks */
    int64_t made_ms;                 /* when this source was made */
    struct google_settings settings; /* owned copies */
    struct lock token_lock;          /* guards everything below; never held while asking */
    struct condition changed;        /* a request has ended, the token is used, or `stopping` */
    struct once once;
    struct google_token token; /* the last that was fetched; `secret` NULL: none, or no source */
    bool known;                /* `token` is an outcome, which may be "no source" */
    int64_t fetched_ms;        /* when it was fetched */
    bool metadata_seen;        /* a metadata server that was found by searching gave a token */
    bool used;                 /* a caller was given it */
    int64_t renewed_ms;        /* when a caller last had a refused token replaced; 0: never */
    bool refresher_runs, stopping;
    pthread_t refresher;
};

/* ---- asking ---- */

static const char requests_name[] = "tarn_google_token_requests_total";
static const char requests_help[] = "Access tokens asked for, by outcome.";
static const char expiry_name[] = "tarn_google_token_expiry_timestamp_seconds";
static const char expiry_help[] = "When the newest access token ends, in Unix time.";

void google_declare_metrics(void) {
    metric_declare(METRIC_COUNTER, requests_name, requests_help);
    metric_declare(METRIC_GAUGE, expiry_name, expiry_help);
}

/* `token`: NULL, or what was fetched, which may be nothing. */
static void count(const struct google_token *token) {
    metric_add(metric_get(METRIC_COUNTER, requests_name, requests_help,
                          token ? "outcome=\"ok\"" : "outcome=\"error\""),
               1);
    if (token && token->secret)
        metric_set(metric_get(METRIC_GAUGE, expiry_name, expiry_help, ""),
                   clock_wall_s() + (token->expires_ms - clock_ms()) / 1000);
}

/* Whether a token came from a metadata server that nobody named. */
static bool was_found(const struct google *google, const struct google_token *token) {
    return token->secret && strcmp(token->kind, "metadata") == 0 && !google->settings.metadata;
}

/* Asks without the lock, and publishes the outcome. `background`: no caller reports a failure. */
static void ask(struct google *google, bool background) REQUIRES(google->token_lock) {
    struct google_question question = {.client = google->client, .settings = google->settings};
    struct google_token token;
    struct error failure = {0};
    bool seen = google->metadata_seen;
    lock_release(&google->token_lock);
    bool ok = google_token_fetch(&question, &token, &failure);
    if (ok && token.unsettled && seen)
        ok =
            error_set(&failure, ERROR_UNAVAILABLE,
                      "google credentials: the metadata server gave a token before, and gives none "
                      "now");
    count(ok ? &token : NULL);
    if (!ok)
        log_at(background ? LOG_WARN : LOG_DEBUG, "no google access token",
               LOG_STRING("error", failure.text));
    else
        log_at(LOG_DEBUG, "google access token fetched", LOG_STRING("kind", token.kind),
               LOG_STRING("from", token.from),
               LOG_NUMBER("seconds", token.secret ? (token.expires_ms - clock_ms()) / 1000 : 0));
    lock_acquire(&google->token_lock);
    if (ok) {
        google_token_wipe(&google->token);
        google->token = token;
        google->known = true;
        google->metadata_seen |= was_found(google, &token);
        google->used = false;
        google->fetched_ms = clock_ms();
    }
    once_publish(&google->once, &google->changed, &failure);
}

/* Asks, or waits for the request under way. */
static void ask_or_wait(struct google *google, bool background) REQUIRES(google->token_lock) {
    if (once_take_turn(&google->once, &google->changed, &google->token_lock, false, INT64_MAX) ==
        ONCE_ASK)
        ask(google, background);
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

/* When the refresher asks next; INT64_MAX while there is nothing to refresh. */
static int64_t refresh_at_ms(const struct google *google) {
    if (!google->known || !google->used || google->once.asking)
        return INT64_MAX;
    int64_t pause = google->token.secret ? ASK_AGAIN_MS : ABSENT_MS;
    int64_t at = stale_ms(google), again = google->once.began_ms + pause;
    return at > again ? at : again;
}

/* ---- refreshing in the background ---- */

static void refresh(void *context) {
    struct google *google = context;
    lock_acquire(&google->token_lock);
    while (!google->stopping) {
        int64_t at = refresh_at_ms(google);
        if (at <= clock_ms())
            ask_or_wait(google, true);
        else
            condition_wait_until(&google->changed, &google->token_lock, at);
    }
    lock_release(&google->token_lock);
}

/* Without the thread, a token is fetched when the old one has ended. */
static void start_refresher(struct google *google) REQUIRES(google->token_lock) {
    if (!google->refresher_runs)
        google->refresher_runs =
            thread_start("google-token", THREAD_STACK, refresh, google, &google->refresher, NULL);
}

/* ---- giving ---- */

/*
 * A refused token is replaced at once, but then not for a while: otherwise a registry that refuses
 * every token would cause a request for a token with each of its own requests.
 */
static bool renewal_is_due(const struct google *google) {
    int64_t now = clock_ms();
    if (!google->known)
        return false;
    if (!google->token.secret)
        return now - google->once.ended_ms >= ABSENT_AGAIN_MS;
    return !google->renewed_ms || now - google->renewed_ms >= ASK_AGAIN_MS;
}

/* Whether the last request failed so recently that this caller shares the failure. */
static bool failed_just_now(const struct google *google) {
    return !google->once.asking && google->once.ended_ms &&
           clock_ms() - google->once.ended_ms < FAILURE_HELD_MS;
}

/* Brings about an outcome: true with a usable token (or "no source"), false with a failure. */
static bool settle(struct google *google, bool renew, struct error *error)
    REQUIRES(google->token_lock) {
    if (renew && renewal_is_due(google)) {
        if (google->token.secret)
            google->renewed_ms = clock_ms();
        google->known = false;
    }
    bool has_asked = false;
    while (!is_usable(google)) {
        if ((has_asked || failed_just_now(google)) && once_failed(&google->once, error))
            return false;
        ask_or_wait(google, false);
        has_asked = true;
    }
    return true;
}

static bool fill(const struct google *google, struct credential *out, struct error *error) {
    const struct google_token *token = &google->token;
    int64_t now = clock_ms();
    *out = (struct credential){0};
    if (!token->secret) { /* anonymous, but tokens that are got without a credential end soon */
        out->expires_ms = now + ANONYMOUS_MS;
        out->provisional = token->unsettled && now - google->made_ms < SETTLE_MS;
        return true;
    }
    out->kind = CREDENTIAL_BASIC;
    out->username = strdup(GOOGLE_USERNAME);
    out->secret = strdup(token->secret);
    out->expires_ms = token->expires_ms;
    snprintf(out->from, sizeof out->from, "google %.100s", token->kind);
    snprintf(out->quota_project, sizeof out->quota_project, "%s", token->quota_project);
    snprintf(out->universe, sizeof out->universe, "%s", token->universe);
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
    lock_acquire(&google->token_lock);
    bool ok = settle(google, renew, error) && fill(google, out, error);
    if (ok) {
        bool first = !google->used;
        google->used = true;
        start_refresher(google);
        if (first)
            condition_broadcast(&google->changed); /* the refresher has something to do now */
    }
    lock_release(&google->token_lock);
    return ok;
}

/* ---- life ---- */

static void settings_free(struct google_settings *settings) {
    free((char *)settings->file);
    free((char *)settings->metadata);
    free((char *)settings->impersonate);
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
    to->scopes = from->scopes ? text_list_dup(from->scopes) : NULL;
    return to->scopes || !from->scopes;
}

/* Waits for a request that is under way. */
static void google_free(void *context) {
    struct google *google = context;
    lock_acquire(&google->token_lock);
    google->stopping = true;
    condition_broadcast(&google->changed);
    bool runs = google->refresher_runs;
    lock_release(&google->token_lock);
    if (runs)
        pthread_join(google->refresher, NULL);
    google_token_wipe(&google->token);
    settings_free(&google->settings);
    condition_finish(&google->changed);
    lock_finish(&google->token_lock);
    free(google);
}

/* gcloud is a program, and a credential file may name one where the environment allows that. */
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
    static const struct credential_source_kind kind = {.name = "google",
                                                       .may_hang = true, /* files of keys */
                                                       .get = google_get,
                                                       .free_context = google_free,
                                                       .may_run = google_may_run,
                                                       .set_client = google_set_client};
    struct google *google = calloc(1, sizeof *google);
    if (!google)
        return NULL;
    if (!settings_copy(settings, &google->settings)) {
        settings_free(&google->settings);
        free(google);
        return NULL;
    }
    google->made_ms = clock_ms();
    lock_init(&google->token_lock);
    condition_init(&google->changed);
    return credential_source_new(&kind, google);
}
