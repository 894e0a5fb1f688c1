/*
 * Watches members that are down: asks each for its /livez every second, and an answer ends that.
 * A thread does it, for as long as any member is down. Also remembers who has gone: whoever is not
 * in the list any more and does not answer is asked no more.
 *
 * Threads: any.
 */
#ifndef REPLICA_WATCH_H
#define REPLICA_WATCH_H

#include "base/cancel.h"
#include "replica/members.h"

enum { LIVE_MS = 1000 }; /* how long /livez may take, and the pause between two questions */

struct watch;

/* `ask` asks a member for its /livez. `members` and the context outlive the watch. NULL: out of
 * memory. */
struct watch *watch_new(struct members *members,
                        bool (*ask)(void *context, const struct member *member,
                                    const struct cancel *cancel),
                        void *context);
/* A member is down. */
void watch_begin(struct watch *watch);
/* Who may have left the list gave no answer. */
void watch_note_silent(struct watch *watch, const struct member *member);
/* Whether it is not in the list and did not answer. */
bool watch_is_gone(struct watch *watch, const struct member *member);
/* Asks nobody from now on. */
void watch_stop(struct watch *watch);
/* Stops, and waits for the thread. NULL is allowed. */
void watch_free(struct watch *watch);

#endif
