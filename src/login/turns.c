/* Gives each password its turn to be hashed. */
#include "login/turns.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>
#include "base/clock.h"

enum { LOOK_MS = 250 /* between two looks at whether the client is still there */ };

struct turn {
    struct siphash_tag login;
    struct http_address address; /* zeros: none */
    unsigned references;
    enum { TURN_WAITS, TURN_RUNS, TURN_HAS_ENDED } state;
    struct condition moved;
    struct turn *prev, *next;
};

void turns_init(struct turns *turns, unsigned at_once, unsigned waiting) {
    *turns = (struct turns){.at_once = at_once};
    lock_init(&turns->turns_lock);
    pot_init(&turns->waiting, waiting);
}

void turns_finish(struct turns *turns) {
    lock_finish(&turns->turns_lock);
}

void turns_change(struct turns *turns, unsigned waiting) {
    pot_resize(&turns->waiting, waiting);
}

static struct turn *find(struct turns *turns, const struct siphash_tag *login)
    REQUIRES(turns->turns_lock) {
    struct turn *turn;
    DL_FOREACH (turns->line, turn)
        if (memcmp(&turn->login, login, sizeof *login) == 0)
            return turn;
    return NULL;
}

/* How many turns of an address wait, or run. */
static unsigned count_of(struct turns *turns, const struct http_address *address, bool runs)
    REQUIRES(turns->turns_lock) {
    unsigned count = 0;
    const struct turn *turn;
    DL_FOREACH (turns->line, turn)
        count += (turn->state == TURN_RUNS) == runs &&
                 memcmp(&turn->address, address, sizeof *address) == 0;
    return count;
}

static bool is_full_for(struct turns *turns, const struct http_address *address)
    REQUIRES(turns->turns_lock) {
    const struct pot *waiting = &turns->waiting;
    return turns->running >= turns->at_once &&
           (pot_is_empty(waiting) ||
            !pot_may_take(waiting, count_of(turns, address, false), pot_share(waiting, 50)));
}

/* NULL: out of memory. */
static struct turn *add(struct turns *turns, const struct siphash_tag *login,
                        const struct http_address *address) REQUIRES(turns->turns_lock) {
    struct turn *turn = calloc(1, sizeof *turn);
    if (!turn)
        return NULL;
    turn->login = *login;
    turn->address = *address;
    turn->state = turns->running < turns->at_once ? TURN_RUNS : TURN_WAITS;
    condition_init(&turn->moved);
    if (turn->state == TURN_RUNS)
        turns->running++;
    else
        pot_take(&turns->waiting);
    DL_APPEND(turns->line, turn);
    return turn;
}

static void release(struct turn *turn) {
    if (--turn->references > 0)
        return;
    condition_finish(&turn->moved);
    free(turn);
}

/* Lets the next turn begin, if there is a place for it. */
static void begin_next(struct turns *turns) REQUIRES(turns->turns_lock) {
    struct turn *turn, *next = NULL;
    unsigned least = 0;
    if (turns->running >= turns->at_once)
        return;
    DL_FOREACH (turns->line, turn) {
        unsigned runs = turn->state == TURN_WAITS ? count_of(turns, &turn->address, true) : 0;
        if (turn->state == TURN_WAITS && (!next || runs < least)) {
            next = turn;
            least = runs;
        }
    }
    if (!next)
        return;
    pot_give_back(&turns->waiting);
    turns->running++;
    next->state = TURN_RUNS;
    condition_broadcast(&next->moved);
}

static void end(struct turns *turns, struct turn *turn) REQUIRES(turns->turns_lock) {
    if (turn->state == TURN_RUNS)
        turns->running--;
    else
        pot_give_back(&turns->waiting);
    turn->state = TURN_HAS_ENDED;
    DL_DELETE(turns->line, turn);
    condition_broadcast(&turn->moved);
    begin_next(turns);
    release(turn);
}

/* Waits until the turn is in `state`, or has ended. False: cancelled. */
static bool wait_until(struct turns *turns, struct turn *turn, int state,
                       const struct cancel *cancel) REQUIRES(turns->turns_lock) {
    bool is_wanted = true;
    while (is_wanted && (int)turn->state < state) {
        condition_wait_until(&turn->moved, &turns->turns_lock, clock_ms() + LOOK_MS);
        lock_release(&turns->turns_lock);
        is_wanted = cancel_check(cancel, NULL);
        lock_acquire(&turns->turns_lock);
    }
    return is_wanted;
}

static enum turns_answer share(struct turns *turns, struct turn *turn, const struct cancel *cancel)
    REQUIRES(turns->turns_lock) {
    turn->references++;
    bool is_wanted = wait_until(turns, turn, TURN_HAS_ENDED, cancel);
    release(turn);
    return is_wanted ? TURNS_SHARED : TURNS_GONE;
}

static enum turns_answer begin(struct turns *turns, struct turn *turn, const struct cancel *cancel,
                               struct turn **out) REQUIRES(turns->turns_lock) {
    turn->references = 1;
    if (wait_until(turns, turn, TURN_RUNS, cancel)) {
        *out = turn;
        return TURNS_BEGINS;
    }
    end(turns, turn);
    return TURNS_GONE;
}

enum turns_answer turns_begin(struct turns *turns, const struct siphash_tag *login,
                              const struct http_address *address, const struct cancel *cancel,
                              struct turn **turn) {
    static const struct http_address none;
    enum turns_answer answer = TURNS_FULL;
    const struct http_address *from = address ? address : &none;
    if (!cancel_check(cancel, NULL))
        return TURNS_GONE;
    lock_acquire(&turns->turns_lock);
    struct turn *same = find(turns, login), *added = NULL;
    if (same)
        answer = share(turns, same, cancel);
    else if (!is_full_for(turns, from) && !(added = add(turns, login, from)))
        answer = TURNS_NO_MEMORY;
    else if (added)
        answer = begin(turns, added, cancel, turn);
    lock_release(&turns->turns_lock);
    return answer;
}

void turns_end(struct turns *turns, struct turn *turn) {
    lock_acquire(&turns->turns_lock);
    end(turns, turn);
    lock_release(&turns->turns_lock);
}

bool turns_are_full(struct turns *turns, const struct siphash_tag *login,
                    const struct http_address *address) {
    static const struct http_address none;
    lock_acquire(&turns->turns_lock);
    bool is_full = is_full_for(turns, address ? address : &none) && !find(turns, login);
    lock_release(&turns->turns_lock);
    return is_full;
}
