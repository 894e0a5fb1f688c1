/* The state of a circuit breaker. */
#include "client/breaker.h"

#include "base/clock.h"

void breaker_init(struct breaker *breaker, const struct breaker_rule *rule) {
    *breaker = (struct breaker){.rule = rule};
    lock_init(&breaker->state_lock);
}

void breaker_finish(struct breaker *breaker) {
    lock_finish(&breaker->state_lock);
}

/* Milliseconds until a request may ask; 0: now. */
static int64_t wait_ms(const struct breaker *breaker, int64_t now_ms)
    REQUIRES(breaker->state_lock) {
    if (!breaker->is_open)
        return 0;
    if (breaker->is_probing) /* nobody knows how long the probe takes */
        return breaker->rule->first_pause_ms;
    return breaker->next_probe_ms > now_ms ? breaker->next_probe_ms - now_ms : 0;
}

int64_t breaker_wait_ms(struct breaker *breaker, int64_t now_ms) {
    lock_acquire(&breaker->state_lock);
    int64_t wait = wait_ms(breaker, now_ms);
    lock_release(&breaker->state_lock);
    return wait;
}

int breaker_wait_s(struct breaker *breaker, int64_t now_ms) {
    return (int)((breaker_wait_ms(breaker, now_ms) + 999) / 1000);
}

bool breaker_enter(struct breaker *breaker, int64_t now_ms, bool insists,
                   struct breaker_pass *pass) {
    *pass = (struct breaker_pass){.began_ms = now_ms};
    lock_acquire(&breaker->state_lock);
    bool may = wait_ms(breaker, now_ms) == 0;
    pass->is_probe = may && breaker->is_open;
    breaker->is_probing |= pass->is_probe;
    lock_release(&breaker->state_lock);
    return may || insists;
}

/* Sets the time of the next probe. The pause is a fourth longer at most, so that several tarns do
 * not ask at the same moment. */
static void pause(struct breaker *breaker, int64_t pause_ms, int64_t now_ms)
    REQUIRES(breaker->state_lock) {
    const int64_t most = breaker->rule->most_pause_ms * 4 / 5;
    breaker->pause_ms = pause_ms < most ? pause_ms : most;
    breaker->next_probe_ms =
        now_ms + breaker->pause_ms + clock_jitter((uint32_t)breaker->pause_ms / 4);
}

static enum breaker_change record_failure(struct breaker *breaker, const struct breaker_pass *pass,
                                          int64_t now_ms) REQUIRES(breaker->state_lock) {
    if (breaker->is_open) {
        if (pass->is_probe)
            pause(breaker, 2 * breaker->pause_ms, now_ms);
        return BREAKER_STAYS;
    }
    if (breaker->failures++ == 0)
        breaker->first_failure_ms = pass->began_ms;
    if (breaker->failures < breaker->rule->failures ||
        now_ms - breaker->first_failure_ms < breaker->rule->span_ms)
        return BREAKER_STAYS;
    breaker->is_open = true;
    pause(breaker, breaker->rule->first_pause_ms, now_ms);
    return BREAKER_OPENS;
}

static enum breaker_change record_response(struct breaker *breaker) REQUIRES(breaker->state_lock) {
    bool was_open = breaker->is_open;
    breaker->failures = 0;
    breaker->is_open = false;
    return was_open ? BREAKER_CLOSES : BREAKER_STAYS;
}

enum breaker_change breaker_leave(struct breaker *breaker, const struct breaker_pass *pass,
                                  enum breaker_outcome outcome, int64_t now_ms) {
    enum breaker_change change = BREAKER_STAYS;
    lock_acquire(&breaker->state_lock);
    if (pass->is_probe)
        breaker->is_probing = false;
    if (outcome == BREAKER_RESPONDED)
        change = record_response(breaker);
    else if (outcome == BREAKER_FAILED)
        change = record_failure(breaker, pass, now_ms);
    lock_release(&breaker->state_lock);
    return change;
}

bool breaker_is_open(struct breaker *breaker) {
    lock_acquire(&breaker->state_lock);
    bool open = breaker->is_open;
    lock_release(&breaker->state_lock);
    return open;
}
