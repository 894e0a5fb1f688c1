/* Reads a file again when it changes. */
#include "login/watched.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/log.h"

enum {
    LOOK_MS = 1000,  /* the shortest time between two looks */
    TRUST_MS = 3000, /* the longest time without one in which the file counts as current */
};

bool watched_init(struct watched *watched, const char *path, const struct watched_use *use,
                  struct error *error) {
    watched->use = *use;
    watched->path = strdup(path);
    watched->looked_ms = watched->claimed_ms = clock_ms();
    if (!watched->path)
        return error_set(error, ERROR_MEMORY, "out of memory");
    return use->read(use->owner, watched->path, &watched->identity, error);
}

void watched_finish(struct watched *watched) {
    free(watched->path);
}

static bool times_differ(const struct timespec *a, const struct timespec *b) {
    return a->tv_sec != b->tv_sec || a->tv_nsec != b->tv_nsec;
}

bool watched_differs(const char *path, const struct stat *identity, bool *is_gone) {
    struct stat now;
    *is_gone = false;
    if (stat(path, &now) < 0) {
        *is_gone = errno == ENOENT || errno == ENOTDIR;
        return true; /* reading it again gives the reason */
    }
    return now.st_dev != identity->st_dev || now.st_ino != identity->st_ino ||
           now.st_size != identity->st_size || times_differ(&now.st_mtim, &identity->st_mtim) ||
           times_differ(&now.st_ctim, &identity->st_ctim);
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

void watched_look(struct watched *watched) {
    if (clock_ms() >= atomic_load(&watched->looked_ms) + LOOK_MS)
        watched_look_now(watched);
}

void watched_look_now(struct watched *watched) {
    int64_t now = clock_ms();
    bool is_gone;
    if (atomic_exchange(&watched->is_looking, true))
        return;
    bool differs = watched_differs(watched->path, &watched->identity, &is_gone);
    if (is_gone)
        forget(watched);
    else if (differs || watched->is_gone)
        read_again(watched);
    atomic_store(&watched->looked_ms, now);
    atomic_store(&watched->is_looking, false);
}

bool watched_is_current(struct watched *watched) {
    int64_t now = clock_ms(), looked = atomic_load(&watched->looked_ms);
    int64_t claimed = atomic_load(&watched->claimed_ms);
    if (now - looked >= TRUST_MS)
        return false;
    return now - looked < LOOK_MS || now - claimed < LOOK_MS ||
           !atomic_compare_exchange_strong(&watched->claimed_ms, &claimed, now);
}
