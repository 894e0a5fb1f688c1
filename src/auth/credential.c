#include "auth/credential.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include "auth/source.h"
#include "base/cleanup.h"
#include "base/clock.h"

enum {
    FRESH_MS = 10000,       /* how long an answer is given again without looking */
    RENEWED_MS = 1000,      /* how long an answer counts as renewed: a crowd renews once */
    ANSWERS_LIMIT = 256,    /* hosts remembered */
    PASSWORD_LIMIT = 65536, /* bytes of a password file */
};

static void wipe_string(char **string) {
    if (*string)
        explicit_bzero(*string, strlen(*string));
    free(*string);
    *string = NULL;
}

void credential_wipe(struct credential *credential) {
    wipe_string(&credential->username);
    wipe_string(&credential->secret);
    *credential = (struct credential){0};
}

bool credential_copy(const struct credential *from, struct credential *to) {
    *to = *from;
    to->username = from->username ? strdup(from->username) : NULL;
    to->secret = from->secret ? strdup(from->secret) : NULL;
    if ((from->username && !to->username) || (from->secret && !to->secret)) {
        credential_wipe(to);
        return false;
    }
    return true;
}

/* ---- a source: what it was told, one question a host at a time ---- */

/* The last answer for a host, and those who wait for the next. In the list while remembered; lives
 * on until the last who waits has left. */
struct answer {
    char *host;
    unsigned users; /* threads that hold it; only an unused one may be dropped */
    bool asking;    /* a thread is asking, without the lock */
    bool renewing;  /* the question under way, or the last, was to renew */
    uint64_t asked; /* questions that have ended */
    bool ok;        /* of the last question: credential is set, else error */
    int64_t answered_ms;
    struct credential credential;
    struct error error;
    struct answer *next;
};

struct credential_source {
    char *name;
    bool by_host;
    bool (*get)(void *context, const char *host, bool renew, struct credential *out,
                struct error *error);
    void (*free_context)(void *context);
    bool (*may_run)(const void *context);                     /* NULL: never */
    void (*set_client)(void *context, struct client *client); /* NULL: it asks nobody over HTTP */
    void *context;
    pthread_mutex_t answers_lock; /* guards answers and what hangs off it */
    pthread_cond_t answered;
    struct answer *answers;
    unsigned answers_count;
};

struct credential_source *source_new_named(const char *name, bool by_host,
                                           bool (*get)(void *context, const char *host, bool renew,
                                                       struct credential *out, struct error *error),
                                           void (*free_context)(void *context), void *context) {
    struct credential_source *source = calloc(1, sizeof *source);
    if (!source || !(source->name = strdup(name))) {
        free(source);
        if (free_context)
            free_context(context);
        return NULL;
    }
    source->by_host = by_host;
    source->get = get;
    source->free_context = free_context;
    source->context = context;
    pthread_mutex_init(&source->answers_lock, NULL);
    pthread_cond_init(&source->answered, NULL);
    return source;
}

struct credential_source *
credential_source_new(const char *name,
                      bool (*get)(void *context, const char *host, bool renew,
                                  struct credential *out, struct error *error),
                      void (*free_context)(void *context), void *context) {
    return source_new_named(name, false, get, free_context, context);
}

static void answer_free(struct answer *answer) {
    credential_wipe(&answer->credential);
    free(answer->host);
    free(answer);
}

void credential_source_free(struct credential_source *source) {
    if (!source)
        return;
    while (source->answers) {
        struct answer *answer = source->answers;
        source->answers = answer->next;
        answer_free(answer);
    }
    if (source->free_context)
        source->free_context(source->context);
    pthread_cond_destroy(&source->answered);
    pthread_mutex_destroy(&source->answers_lock);
    free(source->name);
    free(source);
}

const char *credential_source_name(const struct credential_source *source) {
    return source ? source->name : "anonymous";
}

bool credential_source_is_by_host(const struct credential_source *source) {
    return source && source->by_host;
}

void credential_source_may_run(struct credential_source *source,
                               bool (*may_run)(const void *context)) {
    source->may_run = may_run;
}

void credential_source_takes_client(struct credential_source *source,
                                    void (*set_client)(void *context, struct client *client)) {
    source->set_client = set_client;
}

void credential_source_set_client(struct credential_source *source, struct client *client) {
    if (source && source->set_client)
        source->set_client(source->context, client);
}

bool credential_source_may_run_programs(const struct credential_source *source) {
    return source && source->may_run && source->may_run(source->context);
}

/* Forgets the answer that is oldest and that nobody holds. */
static void forget_one(struct credential_source *source) {
    struct answer **oldest = NULL;
    for (struct answer **slot = &source->answers; *slot; slot = &(*slot)->next) {
        if ((*slot)->users == 0 && (!oldest || (*slot)->answered_ms < (*oldest)->answered_ms))
            oldest = slot;
    }
    if (!oldest)
        return;
    struct answer *answer = *oldest;
    *oldest = answer->next;
    source->answers_count--;
    answer_free(answer);
}

static struct answer *find_or_add(struct credential_source *source, const char *host) {
    for (struct answer *answer = source->answers; answer; answer = answer->next) {
        if (strcmp(answer->host, host) == 0)
            return answer;
    }
    if (source->answers_count >= ANSWERS_LIMIT)
        forget_one(source);
    struct answer *answer = calloc(1, sizeof *answer);
    if (!answer || !(answer->host = strdup(host))) {
        free(answer);
        return NULL;
    }
    answer->next = source->answers;
    source->answers = answer;
    source->answers_count++;
    return answer;
}

/* Whether the last answer may be given again. */
static bool is_fresh(const struct answer *answer, bool renew) {
    if (!answer->asked || !answer->ok)
        return false;
    int64_t now = clock_ms(), ends = answer->credential.expires_ms;
    if (ends && now >= ends)
        return false;
    if (renew)
        return answer->renewing && now - answer->answered_ms < RENEWED_MS;
    return now - answer->answered_ms < FRESH_MS;
}

/* Asks the source with the lock released; everybody who waits gets the same answer. */
static void ask(struct credential_source *source, struct answer *answer, bool renew) {
    struct credential credential = {0};
    struct error error = {0};
    answer->asking = true;
    answer->renewing = renew;
    pthread_mutex_unlock(&source->answers_lock);
    bool ok = source->get(source->context, answer->host, renew, &credential, &error);
    pthread_mutex_lock(&source->answers_lock);
    if (!ok)
        credential_wipe(&credential);
    credential_wipe(&answer->credential);
    answer->credential = credential;
    answer->error = error;
    answer->ok = ok;
    answer->answered_ms = clock_ms();
    answer->asked++;
    answer->asking = false;
    pthread_cond_broadcast(&source->answered);
}

/* Leaves `answer` with an answer that is new enough: the one under way, if it renews when renewing
 * is what this caller wants. */
static void settle(struct credential_source *source, struct answer *answer, bool renew) {
    while (answer->asking) {
        bool joins = answer->renewing || !renew;
        uint64_t before = answer->asked;
        while (answer->asked == before)
            pthread_cond_wait(&source->answered, &source->answers_lock);
        if (joins)
            return;
    }
    if (!is_fresh(answer, renew))
        ask(source, answer, renew);
}

bool credential_source_get(struct credential_source *source, const char *host, bool renew,
                           struct credential *out, struct error *error) {
    *out = (struct credential){0};
    if (!source)
        return true;
    pthread_mutex_lock(&source->answers_lock);
    struct answer *answer = find_or_add(source, host);
    if (!answer) {
        pthread_mutex_unlock(&source->answers_lock);
        return error_set(error, ERROR_MEMORY, "out of memory");
    }
    answer->users++;
    settle(source, answer, renew);
    bool ok = answer->ok;
    if (!ok) {
        if (error)
            *error = answer->error;
    } else if (!credential_copy(&answer->credential, out)) {
        ok = error_set(error, ERROR_MEMORY, "out of memory");
    }
    answer->users--;
    pthread_mutex_unlock(&source->answers_lock);
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
    return credential_source_new("anonymous", anonymous_get, NULL, NULL);
}

struct fixed {
    char *username, *password_file;
};

static void fixed_free(void *context) {
    struct fixed *fixed = context;
    free(fixed->username);
    free(fixed->password_file);
    free(fixed);
}

/* The file's content without one final newline, to be wiped; NULL with the error set. */
static char *read_password(const char *path, struct error *error) {
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        error_set_errno(error, errno, "password file %s", path);
        return NULL;
    }
    char *secret = malloc(PASSWORD_LIMIT + 1);
    size_t length = 0;
    ssize_t got = secret ? 1 : -1;
    while (got > 0 && length <= PASSWORD_LIMIT) {
        got = read(fd, secret + length, PASSWORD_LIMIT + 1 - length);
        length += got > 0 ? (size_t)got : 0;
    }
    if (got < 0)
        error_set_errno(error, errno, "password file %s", path);
    else if (length > PASSWORD_LIMIT || memchr(secret, '\0', length))
        error_set(error, ERROR_INVALID, "password file %s: longer than %d bytes, or holds a NUL",
                  path, PASSWORD_LIMIT);
    else {
        if (length && secret[length - 1] == '\n')
            length--;
        if (length && secret[length - 1] == '\r')
            length--;
        secret[length] = '\0';
        return secret;
    }
    if (secret)
        explicit_bzero(secret, length);
    free(secret);
    return NULL;
}

static bool fixed_get(void *context, const char *host, bool renew, struct credential *out,
                      struct error *error) {
    const struct fixed *fixed = context;
    (void)host, (void)renew; /* read anew each time */
    *out = (struct credential){.kind = CREDENTIAL_BASIC};
    out->secret = read_password(fixed->password_file, error);
    if (!out->secret)
        return false;
    snprintf(out->from, sizeof out->from, "user %.40s, password file %.90s", fixed->username,
             fixed->password_file);
    out->username = strdup(fixed->username);
    return out->username || error_set(error, ERROR_MEMORY, "out of memory");
}

struct credential_source *credential_source_static(const char *username,
                                                   const char *password_file) {
    struct fixed *fixed = calloc(1, sizeof *fixed);
    if (!fixed)
        return NULL;
    fixed->username = strdup(username);
    fixed->password_file = strdup(password_file);
    if (!fixed->username || !fixed->password_file) {
        fixed_free(fixed);
        return NULL;
    }
    return credential_source_new("static", fixed_get, fixed_free, fixed);
}
