/*
 * A file of the operator's that is read again when it changes, by the threads that need it.
 *
 * Whoever needs what the file says calls watched_look() first, which looks at most once a second. A
 * thread that must not wait asks watched_is_current() instead. So a change counts for every request
 * that comes later than three seconds after it.
 *
 * A file that is gone says nothing any more: its owner forgets what it read, and nobody gets in by
 * it. A file that is wrong or cannot be read is a mistake, or half written: what was read before
 * stays, and the mistake is logged once.
 *
 * A call to a network file system whose server has gone ends when the server comes back, and
 * nothing can interrupt it. So a thread of its own looks, and the caller waits for it a few seconds
 * at most. While a look hangs, nobody else looks or waits, and what was read before stays.
 *
 * Threads: any number. `read` and `forget` are called by one thread at a time.
 */
#ifndef LOGIN_WATCHED_H
#define LOGIN_WATCHED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include "base/error.h"
#include "base/lock.h"

/* What the owner of a file does with it. */
struct watched_use {
    const char *what; /* for the log: "passwords" */
    /* Reads the file, and takes it over. False: it has not, and nothing has changed. */
    bool (*read)(void *owner, const char *path, struct stat *identity, struct error *error);
    void (*forget)(void *owner);
    /* One more reference to the owner, and one fewer: a thread that hangs holds one. */
    void (*hold)(void *owner);
    void (*release)(void *owner);
    void *owner;
};

struct watched {
    struct watched_use use;
    char *path;                 /* owned */
    _Atomic int64_t looked_ms;  /* when the file was last looked at */
    _Atomic int64_t claimed_ms; /* when watched_is_current() last left the look to a caller */
    atomic_bool is_looking;     /* a thread looks; what follows is that thread's */
    struct stat identity;       /* of the file that was read */
    bool is_gone, has_complained;
    bool was_read; /* at least once: until then a failure is `failure` and not logged */
    struct error failure;
    struct lock look_lock;
    struct condition looked;              /* a look has ended */
    unsigned looks GUARDED_BY(look_lock); /* that have ended */
};

/* Reads the file for the first time. False: the file is missing, wrong or cannot be read, or its
 * file system hangs (ERROR_TIMEOUT). watched_finish() must be called all the same. */
bool watched_init(struct watched *watched, const char *path, const struct watched_use *use,
                  struct error *error);
void watched_finish(struct watched *watched); /* zeroed is allowed */

/* Looks whether the file has changed, if nobody has for a second. May wait for the disk, a few
 * seconds at most.
 * watched_look_now() looks also if somebody has. */
void watched_look(struct watched *watched);
void watched_look_now(struct watched *watched);

/* Whether somebody has looked at the file a moment ago. Once a second one caller is told that
 * nobody has, so that it does; and every caller, when nobody has for three seconds. No system call.
 */
bool watched_is_current(struct watched *watched);

#endif
