/* Tells what the breakers of an upstream do, and turns their decisions into errors. */
#include "upstream/health.h"

#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "base/log.h"

enum { LEAST_SILENCE_MS = 1000 }; /* a shorter one may be the request's own fault */

void health_init(struct health *health) {
    lock_init(&health->open_lock);
}

void health_name(struct health *health, const char *name, const char *label) {
    health->name = name;
    health->open_gauge = metric_get(
        METRIC_GAUGE, "tarn_upstream_breaker_open",
        "Locations and token services of the upstream that are not asked for now, because they do "
        "not respond.",
        label);
}

void health_finish(struct health *health) {
    lock_finish(&health->open_lock);
}

bool health_is_good(struct health *health, char reason[static UPSTREAM_REASON_SIZE]) {
    lock_acquire(&health->open_lock);
    bool good = health->open <= 0;
    memcpy(reason, health->reason, UPSTREAM_REASON_SIZE);
    lock_release(&health->open_lock);
    return good;
}

/* ---- whom to ask ---- */

struct health_server health_location(struct location *location) {
    return (struct health_server){
        .breaker = &location->breaker,
        .health = location->health,
        .url = location->base,
        .patience_ms = location->settings->stall_timeout_ms,
    };
}

struct health_server health_token_service(struct location *location, const char *realm) {
    return (struct health_server){
        .breaker = location->token_breaker,
        .health = location->health,
        .url = realm,
        .issues_tokens = true,
        .patience_ms = location->settings->stall_timeout_ms,
    };
}

/* Without the query, which may hold a secret. */
static int shown_length(const char *url) {
    return (int)strcspn(url, "?#");
}

/* ---- whether to ask ---- */

static bool refuse(const struct health_server *server, int wait_s, struct error *error) {
    error_set(error, ERROR_UNAVAILABLE,
              "the last requests got no response; it is asked again in %d s", wait_s);
    if (server->issues_tokens)
        error_wrap(error, "its token service %.*s", shown_length(server->url), server->url);
    error->retry_after_s = wait_s;
    error->lasting = true;
    return error_because(error, ERROR_REASON_NOT_ASKED);
}

bool health_may_ask(const struct health_server *server, bool insists, struct error *error) {
    int wait_s = insists ? 0 : breaker_wait_s(server->breaker, clock_ms());
    return wait_s == 0 || refuse(server, wait_s, error);
}

bool health_enter(const struct health_server *server, bool insists, struct breaker_pass *pass,
                  struct error *error) {
    int64_t now = clock_ms();
    if (breaker_enter(server->breaker, now, insists, pass))
        return true;
    int wait_s = breaker_wait_s(server->breaker, now);
    return refuse(server, wait_s > 0 ? wait_s : 1, error);
}

/* ---- how it ended ---- */

static enum breaker_outcome outcome_of(enum health_contact contact, const struct error *error,
                                       int64_t elapsed_ms, int64_t patience_ms) {
    if (contact == CONTACT_RESPONDED)
        return BREAKER_RESPONDED;
    bool failed = contact == CONTACT_ASKED && error &&
                  (error->kind == ERROR_UNAVAILABLE ||
                   (error->kind == ERROR_TIMEOUT && elapsed_ms >= LEAST_SILENCE_MS) ||
                   (error->kind == ERROR_CLOSED && elapsed_ms >= patience_ms));
    return failed ? BREAKER_FAILED : BREAKER_UNKNOWN;
}

/* In words that may be shown to everybody: without addresses and without what upstream sent. */
static const char *reason_of(const struct error *error) {
    const char *reason = error_reason_text(error->reason);
    if (error->kind == ERROR_TIMEOUT)
        return "no response in time";
    return reason ? reason : "no response";
}

static void record_open(const struct health_server *server, const struct error *error) {
    struct health *health = server->health;
    struct text url = {server->url, (size_t)shown_length(server->url)};
    lock_acquire(&health->open_lock);
    health->open++;
    snprintf(health->reason, sizeof health->reason, "%s%s",
             server->issues_tokens ? "token service: " : "", reason_of(error));
    lock_release(&health->open_lock);
    metric_add(health->open_gauge, 1);
    log_at(LOG_WARN,
           server->issues_tokens ? "token service does not respond; requests that need a token "
                                   "fail at once until a probe succeeds"
                                 : "upstream does not respond; its requests fail at once until a "
                                   "probe succeeds",
           LOG_STRING("upstream", health->name), LOG_SLICE("url", url),
           LOG_STRING("error", error->text));
}

static void record_closed(struct health *health) {
    lock_acquire(&health->open_lock);
    health->open--;
    lock_release(&health->open_lock);
    metric_add(health->open_gauge, -1);
}

void health_leave(const struct health_server *server, const struct breaker_pass *pass,
                  enum health_contact contact, const struct error *error) {
    struct health *health = server->health;
    int64_t now = clock_ms();
    enum breaker_outcome outcome =
        outcome_of(contact, error, now - pass->began_ms, server->patience_ms);
    enum breaker_change change = breaker_leave(server->breaker, pass, outcome, now);
    if (!health || change == BREAKER_STAYS)
        return;
    if (change == BREAKER_OPENS) {
        record_open(server, error);
        return;
    }
    record_closed(health);
    struct text url = {server->url, (size_t)shown_length(server->url)};
    log_at(LOG_INFO,
           server->issues_tokens ? "token service responds again" : "upstream responds again",
           LOG_STRING("upstream", health->name), LOG_SLICE("url", url));
}

void health_forget(struct health *health, struct breaker *breaker) {
    if (health && breaker_is_open(breaker))
        record_closed(health);
}
