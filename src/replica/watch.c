/* Asks members that are down whether they are back. */
#include "replica/watch.h"

#include <stdlib.h>
#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/thread.h"

enum { GONE_LIMIT = 16 };

/* It has left the list, and gave no answer. */
struct gone {
    struct member member;
    int64_t until_ms; /* by then nobody asks former owners any more */
};

struct watch {
    struct members *members;
    bool (*ask)(void *context, const struct member *member, const struct cancel *cancel);
    void *context;
    atomic_bool stopping;
    struct lock running_lock;
    struct condition ended;
    bool is_running GUARDED_BY(running_lock);
    struct gone gone[GONE_LIMIT] GUARDED_BY(running_lock);
    unsigned gone_next GUARDED_BY(running_lock);
    bool is_wanted GUARDED_BY(running_lock); /* a member has gone down since the last look */
};

struct watch *watch_new(struct members *members,
                        bool (*ask)(void *context, const struct member *member,
                                    const struct cancel *cancel),
                        void *context) {
    struct watch *watch = calloc(1, sizeof *watch);
    if (!watch)
        return NULL;
    watch->members = members;
    watch->ask = ask;
    watch->context = context;
    lock_init(&watch->running_lock);
    condition_init(&watch->ended);
    return watch;
}

/* Asks those that are down. False: none is. */
static bool ask_all(struct watch *watch, const struct cancel *cancel) {
    struct member_figures figures[MEMBERS_LIMIT];
    const size_t count = members_describe(watch->members, clock_ms(), figures);
    bool any = false;
    for (size_t i = 0; i < count && !atomic_load(&watch->stopping); i++) {
        if (figures[i].state != MEMBER_DOWN)
            continue;
        if (!watch->ask(watch->context, &figures[i].member, cancel))
            any = true;
        else if (members_note_answer(watch->members, &figures[i].member, clock_ms()))
            log_at(LOG_INFO, "a replica is back", LOG_STRING("replica", figures[i].member.text));
    }
    return any;
}

/* `any`: some are still down. False: the thread ends. */
static bool goes_on(struct watch *watch, bool any) {
    lock_acquire(&watch->running_lock);
    const bool more = (any || watch->is_wanted) && !atomic_load(&watch->stopping);
    watch->is_wanted = false;
    watch->is_running = more;
    if (!more)
        condition_broadcast(&watch->ended);
    lock_release(&watch->running_lock);
    return more;
}

static void run(void *argument) {
    struct watch *watch = argument;
    const struct cancel cancel = {.stop = &watch->stopping};
    bool any;
    do {
        cancel_sleep(&cancel, clock_ms() + LIVE_MS, NULL);
        any = ask_all(watch, &cancel);
    } while (goes_on(watch, any));
}

void watch_begin(struct watch *watch) {
    lock_acquire(&watch->running_lock);
    watch->is_wanted = true;
    if (!watch->is_running && !atomic_load(&watch->stopping))
        watch->is_running = thread_start_detached("replica-watch", run, watch, NULL);
    lock_release(&watch->running_lock);
}

static bool is_member(struct watch *watch, const struct member *member) {
    struct member_figures figures[MEMBERS_LIMIT];
    const size_t count = members_describe(watch->members, clock_ms(), figures);
    for (size_t i = 0; i < count; i++) {
        if (member_equal(&figures[i].member, member))
            return true;
    }
    return false;
}

void watch_note_silent(struct watch *watch, const struct member *member) {
    if (is_member(watch, member))
        return;
    lock_acquire(&watch->running_lock);
    watch->gone[watch->gone_next++ % GONE_LIMIT] =
        (struct gone){*member, clock_ms() + FORMER_MS}; /* the oldest entry goes */
    lock_release(&watch->running_lock);
}

bool watch_is_gone(struct watch *watch, const struct member *member) {
    const int64_t now_ms = clock_ms();
    bool is_gone = false;
    lock_acquire(&watch->running_lock);
    for (unsigned i = 0; i < GONE_LIMIT; i++)
        is_gone = is_gone || (now_ms < watch->gone[i].until_ms &&
                              member_equal(&watch->gone[i].member, member));
    lock_release(&watch->running_lock);
    return is_gone && !is_member(watch, member); /* it may have come back */
}

void watch_stop(struct watch *watch) {
    atomic_store(&watch->stopping, true);
}

void watch_free(struct watch *watch) {
    if (!watch)
        return;
    watch_stop(watch);
    lock_acquire(&watch->running_lock);
    while (watch->is_running)
        condition_wait(&watch->ended, &watch->running_lock);
    lock_release(&watch->running_lock);
    lock_finish(&watch->running_lock);
    condition_finish(&watch->ended);
    free(watch);
}
