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
        "Locations of the upstream that are not asked for now, because they do not respond.",
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

/* ---- whether to ask ---- */

static bool refuse(int wait_s, struct error *error) {
    error_set(error, ERROR_UNAVAILABLE,
              "the last requests got no response; it is asked again in %d s", wait_s);
    error->retry_after_s = wait_s;
    error->lasting = true;
    return false;
}

bool health_may_ask(struct location *location, bool insists, struct error *error) {
    int wait_s = insists ? 0 : breaker_wait_s(&location->breaker, clock_ms());
    return wait_s == 0 || refuse(wait_s, error);
}

bool health_enter(struct location *location, bool insists, struct breaker_pass *pass,
                  struct error *error) {
    int64_t now = clock_ms();
    if (breaker_enter(&location->breaker, now, insists, pass))
        return true;
    int wait_s = breaker_wait_s(&location->breaker, now);
    return refuse(wait_s > 0 ? wait_s : 1, error);
}

/* ---- how it ended ---- */

/* `patience_ms`: after so long without a response, a request counts as failed even if it was ended
 * because its client had left. Otherwise clients with little patience would keep a silent location
 * from being noticed. */
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
    static const char *const known[] = {"no such host", "certificate", "no connection"};
    if (error->kind == ERROR_TIMEOUT)
        return "no response in time";
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strstr(error->text, known[i]))
            return known[i];
    }
    return "no response";
}

static void record_open(struct health *health, const struct location *location,
                        const struct error *error) {
    lock_acquire(&health->open_lock);
    health->open++;
    snprintf(health->reason, sizeof health->reason, "%s", reason_of(error));
    lock_release(&health->open_lock);
    metric_add(health->open_gauge, 1);
    log_at(LOG_WARN, "upstream does not respond; its requests fail at once until a probe succeeds",
           LOG_STRING("upstream", health->name), LOG_STRING("url", location->base),
           LOG_STRING("error", error->text));
}

static void record_closed(struct health *health) {
    lock_acquire(&health->open_lock);
    health->open--;
    lock_release(&health->open_lock);
    metric_add(health->open_gauge, -1);
}

void health_leave(struct location *location, const struct breaker_pass *pass,
                  enum health_contact contact, const struct error *error) {
    struct health *health = location->health;
    int64_t now = clock_ms();
    enum breaker_outcome outcome =
        outcome_of(contact, error, now - pass->began_ms, location->settings->stall_timeout_ms);
    enum breaker_change change = breaker_leave(&location->breaker, pass, outcome, now);
    if (!health || change == BREAKER_STAYS)
        return;
    if (change == BREAKER_OPENS) {
        record_open(health, location, error);
        return;
    }
    record_closed(health);
    log_at(LOG_INFO, "upstream responds again", LOG_STRING("upstream", health->name),
           LOG_STRING("url", location->base));
}

void health_forget(struct location *location) {
    if (location->health && breaker_is_open(&location->breaker))
        record_closed(location->health);
}
