/* Reads a file again when it changes. */
#include "login/watched.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/thread.h"

enum {
    LOOK_MS = 1000,     /* the shortest time between two looks */
    TRUST_MS = 3000,    /* the longest time without one in which the file counts as current */
    PATIENCE_MS = 2000, /* how long a caller waits for a look */
    FIRST_PATIENCE_MS = 10000, /* for the first one, without which nobody can log in */
};

void watched_finish(struct watched *watched) {
    if (!watched->use.owner)
        return;
    free(watched->path);
    condition_finish(&watched->looked);
    lock_finish(&watched->look_lock);
}

static void forget(struct watched *watched) {
    if (!watched->is_gone) {
        watched->use.forget(watched->use.owner);
        log_at(LOG_ERROR, "a file of the clients' logins is gone: nobody gets in by it",
               LOG_STRING("of", watched->use.what), LOG_STRING("file", watched->path));
    }
    watched->is_gone = true;
    watched->has_complained = false;
}

static void read_again(struct watched *watched) {
    struct error error = {0};
    struct stat identity = {0};
    if (watched->use.read(watched->use.owner, watched->path, &identity, &error)) {
        watched->identity = identity;
        watched->is_gone = watched->has_complained = false;
        log_at(LOG_INFO, "a file of the clients' logins was read again",
               LOG_STRING("of", watched->use.what), LOG_STRING("file", watched->path));
    } else if (error.kind == ERROR_NOT_FOUND) { /* it has gone since it was looked at */
        forget(watched);
    } else if (!watched->has_complained) {
        log_at(LOG_ERROR,
               "cannot read a file of the clients' logins again; what was read before stays in use",
               LOG_STRING("of", watched->use.what), LOG_STRING("error", error.text));
        watched->has_complained = true;
    }
}

static void look(struct watched *watched) {
    bool is_gone;
    bool differs = file_differs(watched->path, &watched->identity, &is_gone);
    if (is_gone)
        forget(watched);
    else if (differs || watched->is_gone)
        read_again(watched);
}

/* The thread of one look. The owner may be freed with the reference that it gives back. */
static void run_look(void *argument) {
    struct watched *watched = argument;
    const struct watched_use use = watched->use;
    int64_t now = clock_ms();
    if (watched->was_read)
        look(watched);
    else
        watched->was_read =
            use.read(use.owner, watched->path, &watched->identity, &watched->failure);
    atomic_store(&watched->looked_ms, now);
    lock_acquire(&watched->look_lock);
    watched->looks++;
    atomic_store(&watched->is_looking, false);
    condition_broadcast(&watched->looked);
    lock_release(&watched->look_lock);
    use.release(use.owner);
}

/* Lets a thread look, and waits for it. True: it has looked. */
static bool look_beside(struct watched *watched, int64_t patience_ms, struct error *error) {
    const int64_t until_ms = clock_ms() + patience_ms;
    lock_acquire(&watched->look_lock);
    const unsigned looks = watched->looks;
    bool begins = !atomic_exchange(&watched->is_looking, true);
    lock_release(&watched->look_lock);
    if (!begins)
        return error_set(error, ERROR_BUSY, "another thread looks at the file");
    watched->use.hold(watched->use.owner);
    if (!thread_start("file-look", THREAD_STACK, run_look, watched, NULL, error)) {
        atomic_store(&watched->is_looking, false);
        watched->use.release(watched->use.owner);
        return false;
    }
    lock_acquire(&watched->look_lock);
    while (watched->looks == looks && clock_ms() < until_ms)
        condition_wait_until(&watched->looked, &watched->look_lock, until_ms);
    bool has_looked = watched->looks != looks;
    lock_release(&watched->look_lock);
    return has_looked ||
           error_set(error, ERROR_TIMEOUT, "%s: its file system has not answered for %lld s",
                     watched->path, (long long)patience_ms / 1000);
}

bool watched_init(struct watched *watched, const char *path, const struct watched_use *use,
                  struct error *error) {
    watched->use = *use;
    lock_init(&watched->look_lock);
    condition_init(&watched->looked);
    watched->path = strdup(path);
    watched->looked_ms = watched->claimed_ms = clock_ms();
    if (!watched->path)
        return error_set(error, ERROR_MEMORY, "out of memory");
    if (!look_beside(watched, FIRST_PATIENCE_MS, error))
        return false;
    if (!watched->was_read && error)
        *error = watched->failure;
    return watched->was_read;
}

void watched_look_now(struct watched *watched) {
    struct error error = {0};
    if (!look_beside(watched, PATIENCE_MS, &error) && error.kind != ERROR_BUSY)
        log_at(LOG_WARN,
               "cannot look at a file of the clients' logins; what was read before stays "
               "in use",
               LOG_STRING("of", watched->use.what), LOG_STRING("error", error.text));
}

void watched_look(struct watched *watched) {
    if (clock_ms() >= atomic_load(&watched->looked_ms) + LOOK_MS)
        watched_look_now(watched);
}

bool watched_is_current(struct watched *watched) {
    int64_t now = clock_ms(), looked = atomic_load(&watched->looked_ms);
    int64_t claimed = atomic_load(&watched->claimed_ms);
    if (now - looked >= TRUST_MS)
        return false;
    return now - looked < LOOK_MS || now - claimed < LOOK_MS ||
           !atomic_compare_exchange_strong(&watched->claimed_ms, &claimed, now);
}
