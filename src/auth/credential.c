/* Credentials, and what every source of them shares: one request for each host at a time, and a
 * short cache. */
#include "auth/credential.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include "auth/shown.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/once.h"
#include "base/secret.h"
#include "base/thread.h"

enum {
    FRESH_MS = 10000,  /* how long a credential is given again without asking the source */
    RENEWED_MS = 1000, /* how long a credential counts as renewed: concurrent renewals share it */
    HOSTS_LIMIT = 256, /* hosts whose credential is remembered */
    ASKING_LIMIT = 64, /* threads that ask one source at once */
    PASSWORD_LIMIT = 65536, /* bytes of a password file */
    END_MS = 1000,          /* how long the end of a source waits for a thread that asks */
};

void credential_wipe(struct credential *credential) {
    secret_free(&credential->username);
    secret_free(&credential->secret);
    *credential = (struct credential){0};
}

static bool copy_credential(const struct credential *from, struct credential *to) {
    *to = *from;
    to->username = from->username ? strdup(from->username) : NULL;
    to->secret = from->secret ? strdup(from->secret) : NULL;
    if ((from->username && !to->username) || (from->secret && !to->secret)) {
        credential_wipe(to);
        return false;
    }
    return true;
}

/* ---- namespaces ---- */

bool credential_namespaces_add(struct credential_namespaces *namespaces, struct text path,
                               struct credential *credential, const struct error *problem) {
    struct credential_namespace *at =
        reallocarray(namespaces->at, namespaces->count + 1, sizeof *at);
    if (at)
        namespaces->at = at;
    char *copy = at ? text_dup(path) : NULL;
    if (!copy)
        return false;
    at[namespaces->count++] = (struct credential_namespace){copy, *credential, *problem};
    *credential = (struct credential){0};
    return true;
}

static bool is_below(const char *path, const char *namespace) {
    size_t length = strlen(namespace);
    return strncmp(path, namespace, length) == 0 && (path[length] == '\0' || path[length] == '/');
}

const struct credential_namespace *
credential_namespaces_find(const struct credential_namespaces *namespaces, const char *path) {
    const struct credential_namespace *longest = NULL;
    for (size_t i = 0; i < namespaces->count; i++) {
        const struct credential_namespace *namespace = &namespaces->at[i];
        if (is_below(path, namespace->path) &&
            (!longest || strlen(namespace->path) > strlen(longest->path)))
            longest = namespace;
    }
    return longest;
}

void credential_namespaces_wipe(struct credential_namespaces *namespaces) {
    for (size_t i = 0; i < namespaces->count; i++) {
        credential_wipe(&namespaces->at[i].credential);
        free(namespaces->at[i].path);
    }
    free(namespaces->at);
    *namespaces = (struct credential_namespaces){0};
}

/* ---- a source ---- */

/* The last credential for a host, and those for its namespaces. */
struct host_credential {
    struct once_entry entry; /* first: the table's entry is this struct */
    struct credential credential;
    struct credential_namespaces namespaces;
};

struct credential_source {
    struct credential_source_kind kind; /* its name is an owned copy */
    void *context;
    char *identity; /* credential_source_identify(); NULL: unknown */
    atomic_uint references;
    bool has_client;
    struct once_table hosts; /* of struct host_credential */
    unsigned asking;         /* threads that ask; guarded by the table's lock */
};

/* What a thread asks, on the heap. */
struct question {
    struct credential_source *source;
    struct host_credential *held; /* the thread is one of its users */
    bool renew;
};

static void wipe_host_credential(struct once_entry *entry) {
    credential_wipe(&((struct host_credential *)entry)->credential);
    credential_namespaces_wipe(&((struct host_credential *)entry)->namespaces);
}

struct credential_source *credential_source_new(const struct credential_source_kind *kind,
                                                void *context) {
    struct credential_source *source = calloc(1, sizeof *source);
    char *name = source ? strdup(kind->name) : NULL;
    if (!name) {
        free(source);
        if (kind->free_context)
            kind->free_context(context);
        return NULL;
    }
    source->kind = *kind;
    source->kind.name = name;
    source->context = context;
    atomic_init(&source->references, 1);
    once_table_init(&source->hosts, sizeof(struct host_credential),
                    &(struct once_bounds){.entries = HOSTS_LIMIT}, wipe_host_credential);
    return source;
}

/* Waits for the threads that ask. False: one does not end, because its file or its program hangs.
 */
static bool wait_for_threads(struct credential_source *source) {
    int64_t deadline_ms = clock_ms() + END_MS;
    bool in_time = true;
    lock_acquire(&source->hosts.entries_lock);
    while (source->asking && in_time)
        in_time =
            condition_wait_until(&source->hosts.ended, &source->hosts.entries_lock, deadline_ms);
    bool ended = source->asking == 0;
    lock_release(&source->hosts.entries_lock);
    return ended;
}

struct credential_source *credential_source_keep(struct credential_source *source) {
    if (source)
        atomic_fetch_add(&source->references, 1);
    return source;
}

bool credential_source_identify(struct credential_source *source, const char *identity) {
    source->identity = strdup(identity);
    return source->identity != NULL;
}

bool credential_source_equal(const struct credential_source *a, const struct credential_source *b) {
    return a == b ||
           (a && b && a->identity && b->identity && strcmp(a->identity, b->identity) == 0);
}

void credential_source_free(struct credential_source *source) {
    if (!source || atomic_fetch_sub(&source->references, 1) > 1 ||
        !wait_for_threads(source)) /* the thread that hangs still uses it */
        return;
    once_table_finish(&source->hosts);
    if (source->kind.free_context)
        source->kind.free_context(source->context);
    free((char *)source->kind.name);
    free(source->identity);
    free(source);
}

const char *credential_source_name(const struct credential_source *source) {
    return source ? source->kind.name : "anonymous";
}

bool credential_source_is_by_host(const struct credential_source *source) {
    return source && source->kind.by_host;
}

bool credential_source_may_run_programs(const struct credential_source *source) {
    return source && source->kind.may_run && source->kind.may_run(source->context);
}

void credential_source_set_client(struct credential_source *source, struct client *client) {
    if (source && source->kind.set_client && !source->has_client)
        source->kind.set_client(source->context, client);
    if (source)
        source->has_client = true;
}

/* Whether the last credential may be given again. */
static bool is_fresh(const struct host_credential *held, bool renew) {
    const struct once *once = &held->entry.once;
    if (!once->outcomes || once_failed(once, NULL))
        return false;
    int64_t now = clock_ms(), expires_ms = held->credential.expires_ms;
    if (expires_ms && now >= expires_ms)
        return false;
    if (renew)
        return once->renewing && now - once->ended_ms < RENEWED_MS;
    return now - once->ended_ms < FRESH_MS;
}

static void log_failure(const struct credential_source *source, const char *host,
                        const struct error *error) {
    log_at(LOG_WARN, "no credentials", LOG_STRING("host", host),
           LOG_STRING("source", source->kind.name), LOG_STRING("error", error->text));
}

static void get_namespaces(const struct credential_source *source, const char *host,
                           struct credential_namespaces *out) {
    if (source->kind.get_namespaces)
        source->kind.get_namespaces(source->context, host, out);
    for (size_t i = 0; i < out->count; i++) {
        if (out->at[i].problem.kind != ERROR_NONE)
            log_failure(source, host, &out->at[i].problem);
    }
}

/* Asks the source without the lock, and publishes the outcome. */
static void ask(struct credential_source *source, struct host_credential *held, bool renew)
    REQUIRES(source->hosts.entries_lock) {
    struct credential credential = {0};
    struct credential_namespaces namespaces = {0};
    struct error error;
    error_set(&error, ERROR_UNAVAILABLE, "the source failed and gave no reason");
    lock_release(&source->hosts.entries_lock);
    get_namespaces(source, held->entry.key, &namespaces);
    bool ok = source->kind.get(source->context, held->entry.key, renew, &credential, &error);
    if (!ok) {
        credential_wipe(&credential);
        log_failure(source, held->entry.key, &error);
    }
    lock_acquire(&source->hosts.entries_lock);
    credential_wipe(&held->credential);
    held->credential = credential;
    credential_namespaces_wipe(&held->namespaces);
    held->namespaces = namespaces;
    once_publish(&held->entry.once, &source->hosts.ended, ok ? NULL : &error);
}

static void ask_in_thread(void *context) {
    struct question question = *(struct question *)context;
    struct credential_source *source = question.source;
    free(context);
    lock_acquire(&source->hosts.entries_lock);
    ask(source, question.held, question.renew);
    once_table_leave(&source->hosts, &question.held->entry);
    source->asking--;
    condition_broadcast(&source->hosts.ended);
    lock_release(&source->hosts.entries_lock);
}

/* Asks, or has a thread of its own ask, because a file or a program may hang for longer than any
 * request may wait. */
static void start_asking(struct credential_source *source, struct host_credential *held, bool renew)
    REQUIRES(source->hosts.entries_lock) {
    struct question *question = source->kind.may_hang ? calloc(1, sizeof *question) : NULL;
    held->entry.users++;
    source->asking++;
    if (question) {
        *question = (struct question){source, held, renew};
        if (thread_start_detached("credentials", ask_in_thread, question, NULL))
            return;
        free(question);
    }
    ask(source, held, renew);
    held->entry.users--;
    source->asking--;
}

/* Waits for the request under way. False: it did not end in time. */
static bool wait_for_outcome(struct credential_source *source, const struct once *once,
                             int64_t deadline_ms) REQUIRES(source->hosts.entries_lock) {
    const uint64_t before = once->outcomes;
    bool in_time = true;
    while (once->asking && once->outcomes == before && in_time)
        in_time =
            condition_wait_until(&source->hosts.ended, &source->hosts.entries_lock, deadline_ms);
    return !once->asking || once->outcomes != before;
}

/* Brings about an outcome that this caller may share: one that is fresh, or that of a request that
 * was under way while the caller waited, unless the caller wants a renewal and that request was
 * none. False: none in time. */
static bool settle(struct credential_source *source, struct host_credential *held, bool renew,
                   int64_t deadline_ms) REQUIRES(source->hosts.entries_lock) {
    struct once *once = &held->entry.once;
    bool joined = false;
    while (!joined && (once->asking || !is_fresh(held, renew))) {
        uint64_t before = once->outcomes;
        if (!once->asking && once_take_turn(once, &source->hosts.ended, &source->hosts.entries_lock,
                                            renew, deadline_ms) == ONCE_ASK)
            start_asking(source, held, renew);
        joined = once->renewing || !renew;
        if (once->outcomes == before && !wait_for_outcome(source, once, deadline_ms))
            return false;
    }
    return true;
}

/* Whether a question would need one thread more than may ask at once: each host that a client names
 * is asked for by a thread of its own, and threads may hang. */
static bool is_overrun(const struct credential_source *source, const struct host_credential *held,
                       bool renew) REQUIRES(source->hosts.entries_lock) {
    return source->kind.may_hang && source->asking >= ASKING_LIMIT && !held->entry.once.asking &&
           !is_fresh(held, renew);
}

/* Takes the outcome for the repository at `path`; "": for the host. */
static bool take_outcome(const struct host_credential *held, const char *path,
                         struct credential *out, struct error *error) {
    const struct credential_namespace *namespace =
        credential_namespaces_find(&held->namespaces, path);
    if (namespace && namespace->problem.kind != ERROR_NONE) {
        if (error)
            *error = namespace->problem;
        return false;
    }
    if (!namespace && once_failed(&held->entry.once, error))
        return false;
    return copy_credential(namespace ? &namespace->credential : &held->credential, out) ||
           error_set(error, ERROR_MEMORY, "out of memory");
}

bool credential_source_get(struct credential_source *source, const char *name, bool renew,
                           int64_t deadline_ms, struct credential *out, struct error *error) {
    struct text path, host = text_cut(text_of(name), '/', &path);
    *out = (struct credential){0};
    if (!source)
        return true;
    cleanup_free char *key = text_dup(host);
    lock_acquire(&source->hosts.entries_lock);
    struct host_credential *held =
        key ? (struct host_credential *)once_table_enter(&source->hosts, key) : NULL;
    if (!held) {
        lock_release(&source->hosts.entries_lock);
        return error_set(error, ERROR_MEMORY, "out of memory");
    }
    bool ok;
    if (is_overrun(source, held, renew))
        ok = error_set(error, ERROR_BUSY, "credentials for %u other hosts are asked for just now",
                       source->asking);
    else if (!settle(source, held, renew, deadline_ms))
        ok = error_set(error, ERROR_TIMEOUT, "the source of credentials does not answer");
    else
        ok = take_outcome(held, path.at ? path.at : "", out, error);
    once_table_leave(&source->hosts, &held->entry);
    lock_release(&source->hosts.entries_lock);
    return ok;
}

/* ---- the two simple sources ---- */

static bool anonymous_get(void *context, const char *host, bool renew, struct credential *out,
                          struct error *error) {
    (void)context, (void)host, (void)renew, (void)error;
    *out = (struct credential){0};
    return true;
}

struct credential_source *credential_source_anonymous(void) {
    static const struct credential_source_kind kind = {.name = "anonymous", .get = anonymous_get};
    return credential_source_new(&kind, NULL);
}

struct fixed {
    char *username;
    char *password_file; /* NULL: the password does not come from a file */
    char *password;      /* wiped at the end */
};

static void fixed_free(void *context) {
    struct fixed *fixed = context;
    free(fixed->username);
    free(fixed->password_file);
    secret_free(&fixed->password);
    free(fixed);
}

/* The file's content without one final end of line, to be wiped; NULL with the error set. */
static char *read_password(const char *path, struct error *error) {
    size_t length;
    char *secret =
        file_read_small(path, PASSWORD_LIMIT, FILE_REGULAR | FILE_TEXT, &length, NULL, error);
    if (!secret) {
        error_wrap(error, "the password file %s", shown_value(path));
        return NULL;
    }
    if (length && secret[length - 1] == '\n')
        length--;
    if (length && secret[length - 1] == '\r')
        length--;
    secret[length] = '\0';
    return secret;
}

static bool fixed_get(void *context, const char *host, bool renew, struct credential *out,
                      struct error *error) {
    const struct fixed *fixed = context;
    (void)host, (void)renew; /* the file is read each time */
    *out = (struct credential){.kind = CREDENTIAL_BASIC};
    if (fixed->password_file) {
        out->secret = read_password(fixed->password_file, error);
        if (!out->secret)
            return false;
    } else if (!(out->secret = strdup(fixed->password))) {
        return error_set(error, ERROR_MEMORY, "out of memory");
    }
    snprintf(out->from, sizeof out->from, "user %.100s", shown_value(fixed->username));
    out->username = strdup(fixed->username);
    return out->username || error_set(error, ERROR_MEMORY, "out of memory");
}

struct credential_source *credential_source_static(const char *username,
                                                   const char *password_file) {
    static const struct credential_source_kind kind = {
        .name = "static", .may_hang = true, .get = fixed_get, .free_context = fixed_free};
    struct fixed *fixed = calloc(1, sizeof *fixed);
    if (!fixed)
        return NULL;
    fixed->username = strdup(username);
    fixed->password_file = strdup(password_file);
    if (!fixed->username || !fixed->password_file) {
        fixed_free(fixed);
        return NULL;
    }
    return credential_source_new(&kind, fixed);
}

struct credential_source *credential_source_password(const char *username, const char *password) {
    static const struct credential_source_kind kind = {
        .name = "static", .get = fixed_get, .free_context = fixed_free};
    struct fixed *fixed = calloc(1, sizeof *fixed);
    if (!fixed)
        return NULL;
    fixed->username = strdup(username);
    fixed->password = strdup(password);
    if (!fixed->username || !fixed->password) {
        fixed_free(fixed);
        return NULL;
    }
    return credential_source_new(&kind, fixed);
}
