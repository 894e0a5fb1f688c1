/* Keeps the list of members and the secrets up to date while tarn runs. */
#include "replica/replicas.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/clock.h"
#include "base/file.h"
#include "base/file_reader.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/secret.h"
#include "base/shared.h"
#include "base/thread.h"
#include "replica/resolve.h"

enum {
    RESOLVE_AGAIN_MS = 5000,
    FIRST_ANSWER_MS = 2000,  /* that the start waits for dns */
    LOOK_AGAIN_MS = 1000,    /* at the file of secrets */
    PATIENCE_MS = 5000,      /* for that file; then its file system counts as hung */
    LOOK_PATIENCE_MS = 1000, /* the same, for a look at it */
    END_MS = 1000,           /* that the end waits for a resolver */
    SECRETS_FILE_LIMIT = SECRETS_LIMIT * (SECRET_MOST + 2),
};

/* Secrets that requests are signed with, exchanged as a whole. */
struct keyring {
    struct shared_value value; /* the first member */
    struct secrets *secrets;
};

struct replicas {
    const struct replicas_settings *settings;
    struct members *members;
    struct shared keyring; /* of struct keyring */

    /* Of the thread that looks at the file. */
    struct file_reader *files;
    struct stat identity;
    bool is_open, has_complained;
    /* Of the thread that resolves. */
    bool is_failing, is_long;

    struct lock rest_lock;
    struct condition changed;
    bool stopping GUARDED_BY(rest_lock);
    bool has_answer GUARDED_BY(rest_lock);   /* to dns, be it a failure */
    bool has_resolved GUARDED_BY(rest_lock); /* the thread that resolves is about to end */
    bool watches, resolves;
    pthread_t watcher, resolver;
};

static const char members_name[] = "tarn_replicas";
static const char members_help[] = "Members of the replicas' list by state, this one included.";
static const char changes_name[] = "tarn_replica_list_changes_total";
static const char changes_help[] = "Changes of the replicas' list.";

void replicas_declare_metrics(void) {
    metric_declare(METRIC_GAUGE, members_name, members_help);
    metric_get(METRIC_COUNTER, changes_name, changes_help, "");
}

void replicas_update_metrics(const struct replicas *replicas) {
    static const char *const labels[] = {[MEMBER_SELF] = "state=\"self\"",
                                         [MEMBER_LIVE] = "state=\"live\"",
                                         [MEMBER_DOWN] = "state=\"down\""};
    struct member_figures figures[MEMBERS_LIMIT];
    int64_t counts[sizeof labels / sizeof *labels] = {0};
    const size_t count = replicas ? members_describe(replicas->members, clock_ms(), figures) : 0;
    for (size_t i = 0; i < count; i++)
        counts[figures[i].state]++;
    for (size_t i = 0; i < sizeof labels / sizeof *labels; i++)
        metric_set(metric_get(METRIC_GAUGE, members_name, members_help, labels[i]), counts[i]);
}

/* ---- secrets ---- */

static struct secrets *read_secrets(struct file_reader *files, const char *file,
                                    struct stat *identity, struct error *error) {
    size_t length = 0;
    cleanup_secret char *bytes = files ? file_reader_read(files, file, SECRETS_FILE_LIMIT,
                                                          PATIENCE_MS, &length, identity, error)
                                       : NULL;
    if (!files)
        error_set(error, ERROR_MEMORY, "out of memory");
    return bytes ? secrets_parse((struct text){bytes, length}, error) : NULL;
}

static bool others_may_read(const struct stat *identity) {
    return identity->st_mode & S_IROTH;
}

struct secrets *replicas_read_secrets(struct file_reader *files, const char *file, bool *is_open,
                                      struct error *error) {
    struct stat identity = {0};
    struct secrets *secrets = read_secrets(files, file, &identity, error);
    *is_open = others_may_read(&identity);
    return secrets;
}

static void free_keyring(struct shared_value *value) {
    struct keyring *keyring = (struct keyring *)value;
    secrets_free(keyring->secrets);
    free(keyring);
}

static struct keyring *read_keyring(const struct replicas *replicas, struct stat *identity,
                                    struct error *error) {
    struct keyring *keyring = calloc(1, sizeof *keyring);
    if (!keyring)
        error_set(error, ERROR_MEMORY, "out of memory");
    else if ((keyring->secrets =
                  read_secrets(replicas->files, replicas->settings->secret_file, identity, error)))
        return keyring;
    free(keyring);
    return NULL;
}

static void warn_if_open(struct replicas *replicas) {
    const bool is_open = others_may_read(&replicas->identity);
    char message[512];
    if (is_open && !replicas->is_open) {
        snprintf(message, sizeof message, REPLICAS_OPEN_SECRETS, replicas->settings->secret_file);
        log_event(LOG_WARN, message, NULL, 0);
    }
    replicas->is_open = is_open;
}

/* A file that is wrong, gone or hung is read again until it is right. */
static void look_at_secrets(struct replicas *replicas) {
    const char *file = replicas->settings->secret_file;
    struct stat identity = {0};
    struct error error = {0};
    const bool is_seen =
        file_reader_look(replicas->files, file, LOOK_PATIENCE_MS, &identity, &error);
    if (is_seen && !file_identity_differs(&identity, &replicas->identity))
        return;
    struct keyring *keyring = is_seen ? read_keyring(replicas, &identity, &error) : NULL;
    if (keyring) {
        replicas->identity = identity;
        replicas->has_complained = false;
        shared_exchange(&replicas->keyring, &keyring->value);
        log_at(LOG_INFO, "the replicas' secrets were read again", LOG_STRING("file", file));
        warn_if_open(replicas);
    } else if (!replicas->has_complained) {
        replicas->has_complained = true;
        log_at(LOG_ERROR,
               "cannot read the replicas' secrets again; what was read before stays in use",
               LOG_STRING("file", file), LOG_STRING("error", error.text));
    }
}

bool replicas_sign(struct replicas *replicas, const struct signed_request *request,
                   char input[static SIGNATURE_INPUT_SIZE], char signature[static SIGNATURE_SIZE]) {
    struct shared_value *value = shared_hold(&replicas->keyring);
    const bool is_signed = signature_make(((struct keyring *)value)->secrets, request,
                                          clock_wall_s(), input, signature);
    shared_release(value);
    return is_signed;
}

bool replicas_verify(struct replicas *replicas, const struct signed_request *request,
                     struct text input, struct text signature) {
    struct shared_value *value = shared_hold(&replicas->keyring);
    const bool is_good = signature_is_good(((struct keyring *)value)->secrets, request, input,
                                           signature, clock_wall_s());
    shared_release(value);
    return is_good;
}

/* ---- the own member ---- */

unsigned replicas_listen_port(const char *address) {
    const char *colon = strrchr(address, ':');
    uint64_t port;
    return colon && text_to_u64(text_of(colon + 1), &port) && port <= 65535 ? (unsigned)port : 0;
}

static bool is_in(const struct member_list *list, const struct member *member) {
    return member_list_find(list, member) >= 0;
}

/* False: this tarn is a guest. */
static bool find_self(const struct replicas_settings *settings, const struct member_list *list,
                      struct member *self) {
    if (settings->self)
        return member_parse(text_of(settings->self), settings->port, self) && is_in(list, self);
    const char *const *listen = settings->listen;
    for (size_t i = 0; listen && listen[i]; i++) {
        if (member_parse(text_of(listen[i]), 0, self) && is_in(list, self))
            return true;
    }
    for (size_t i = 0; listen && listen[i]; i++) {
        const unsigned port = replicas_listen_port(listen[i]);
        if (port && resolve_own_member(list, port, self))
            return true;
    }
    return false;
}

/* ---- the list ---- */

enum { LIST_TEXT_SIZE = MEMBERS_LIMIT * MEMBER_SIZE };

/* The members with commas between them; "-": none. */
static const char *list_text(const struct member_list *list, char out[static LIST_TEXT_SIZE]) {
    size_t used = 0;
    for (size_t i = 0; i < list->count; i++)
        used += (size_t)snprintf(out + used, LIST_TEXT_SIZE - used, "%s%s", i ? "," : "",
                                 list->each[i].text);
    return list->count ? out : "-";
}

static void take_list(struct replicas *replicas, const struct member_list *list) {
    struct members_change change;
    struct member self;
    char added[LIST_TEXT_SIZE], removed[LIST_TEXT_SIZE];
    const bool has_self = find_self(replicas->settings, list, &self);
    members_set(replicas->members, list, has_self ? &self : NULL, clock_ms(), &change);
    if (!change.is_new)
        return;
    metric_add(metric_get(METRIC_COUNTER, changes_name, changes_help, ""), 1);
    log_at(LOG_INFO, "replicas changed", LOG_NUMBER("members", list->count),
           LOG_STRING("added", list_text(&change.added, added)),
           LOG_STRING("removed", list_text(&change.removed, removed)));
}

static void take_peers(struct replicas *replicas) {
    struct member_list list = {0};
    struct member member;
    const char *const *peers = replicas->settings->peers;
    for (size_t i = 0; peers && peers[i]; i++) {
        if (member_parse(text_of(peers[i]), 0, &member))
            member_list_add(&list, &member);
    }
    take_list(replicas, &list);
}

/* Logs the first failure of several. */
static void note_failure(struct replicas *replicas, const struct error *error) {
    if (!replicas->is_failing)
        log_at(LOG_WARN, "cannot find the replicas; the last list stays in use",
               LOG_STRING("dns", replicas->settings->dns), LOG_STRING("error", error->text));
    replicas->is_failing = true;
}

static void warn_of_length(struct replicas *replicas, size_t left_out) {
    if (left_out && !replicas->is_long)
        log_at(LOG_WARN,
               "there are too many replicas; those whose addresses come last are left out",
               LOG_NUMBER("limit", MEMBERS_LIMIT), LOG_NUMBER("left_out", left_out));
    replicas->is_long = left_out > 0;
}

static void resolve(struct replicas *replicas) {
    const struct replicas_settings *settings = replicas->settings;
    struct member_list list;
    struct error error = {0};
    size_t left_out;
    if (!resolve_members(settings->dns, settings->port, &list, &left_out, &error)) {
        note_failure(replicas, &error);
        return;
    }
    replicas->is_failing = false;
    warn_of_length(replicas, left_out);
    take_list(replicas, &list);
}

/* ---- the threads ---- */

/* False: the thread ends. */
static bool rest(struct replicas *replicas, int64_t pause_ms) {
    const int64_t until_ms = clock_ms() + pause_ms;
    lock_acquire(&replicas->rest_lock);
    while (!replicas->stopping && clock_ms() < until_ms)
        condition_wait_until(&replicas->changed, &replicas->rest_lock, until_ms);
    const bool goes_on = !replicas->stopping;
    lock_release(&replicas->rest_lock);
    return goes_on;
}

static void run_watcher(void *context) {
    struct replicas *replicas = context;
    while (rest(replicas, LOOK_AGAIN_MS)) {
        look_at_secrets(replicas);
        shared_sweep(&replicas->keyring, free_keyring);
    }
}

static void tell(struct replicas *replicas, bool *what) {
    lock_acquire(&replicas->rest_lock);
    *what = true;
    condition_broadcast(&replicas->changed);
    lock_release(&replicas->rest_lock);
}

static void run_resolver(void *context) {
    struct replicas *replicas = context;
    do {
        resolve(replicas);
        tell(replicas, &replicas->has_answer);
    } while (rest(replicas, RESOLVE_AGAIN_MS));
    tell(replicas, &replicas->has_resolved);
}

/* Waits until `what` is true, but no longer than `most_ms`. */
static bool wait_for(struct replicas *replicas, const bool *what, int64_t most_ms) {
    const int64_t until_ms = clock_ms() + most_ms;
    lock_acquire(&replicas->rest_lock);
    while (!*what && clock_ms() < until_ms)
        condition_wait_until(&replicas->changed, &replicas->rest_lock, until_ms);
    const bool is_true = *what;
    lock_release(&replicas->rest_lock);
    return is_true;
}

/* ---- the whole ---- */

struct replicas *replicas_new(const struct replicas_settings *settings, struct error *error) {
    struct replicas *replicas = calloc(1, sizeof *replicas);
    struct keyring *keyring = NULL;
    if (!replicas) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    replicas->settings = settings;
    replicas->files = file_reader_new();
    replicas->members = members_new(clock_ms());
    if (!replicas->members)
        error_set(error, ERROR_MEMORY, "out of memory");
    else if (!(keyring = read_keyring(replicas, &replicas->identity, error)))
        error_wrap(error, "replicas.secret_file: %s", settings->secret_file);
    if (!keyring) {
        members_free(replicas->members);
        file_reader_free(replicas->files);
        free(replicas);
        return NULL;
    }
    replicas->is_open = others_may_read(&replicas->identity); /* config/ has warned of that */
    shared_init(&replicas->keyring, &keyring->value);
    lock_init(&replicas->rest_lock);
    condition_init(&replicas->changed);
    replicas_declare_metrics();
    if (!settings->dns)
        take_peers(replicas);
    return replicas;
}

bool replicas_start(struct replicas *replicas, struct error *error) {
    replicas->watches =
        thread_start("replicas", THREAD_STACK, run_watcher, replicas, &replicas->watcher, error);
    if (!replicas->watches || !replicas->settings->dns)
        return replicas->watches;
    replicas->resolves = thread_start("replicas-dns", THREAD_STACK, run_resolver, replicas,
                                      &replicas->resolver, error);
    if (replicas->resolves)
        (void)wait_for(replicas, &replicas->has_answer, FIRST_ANSWER_MS);
    return replicas->resolves;
}

bool replicas_free(struct replicas *replicas) {
    if (!replicas)
        return true;
    tell(replicas, &replicas->stopping);
    if (replicas->resolves && !wait_for(replicas, &replicas->has_resolved, END_MS))
        return false;
    if (replicas->resolves)
        pthread_join(replicas->resolver, NULL);
    if (replicas->watches)
        pthread_join(replicas->watcher, NULL);
    shared_finish(&replicas->keyring, free_keyring);
    members_free(replicas->members);
    file_reader_free(replicas->files);
    condition_finish(&replicas->changed);
    lock_finish(&replicas->rest_lock);
    free(replicas);
    return true;
}

const struct replicas_settings *replicas_settings(const struct replicas *replicas) {
    return replicas->settings;
}

struct members *replicas_members(const struct replicas *replicas) {
    return replicas->members;
}

bool replicas_own(const struct replicas *replicas, const char *key) {
    struct members_owner owner;
    if (!replicas)
        return true;
    members_owner(replicas->members, key, 0, clock_ms(), &owner);
    return owner.is_self || owner.is_nobody;
}

bool replicas_self(const struct replicas *replicas, struct member *self) {
    struct member_figures figures[MEMBERS_LIMIT];
    const size_t count = members_describe(replicas->members, clock_ms(), figures);
    for (size_t i = 0; i < count; i++) {
        if (figures[i].state == MEMBER_SELF) {
            *self = figures[i].member;
            return true;
        }
    }
    return false;
}

bool replicas_has_self(const struct replicas *replicas) {
    struct member self;
    return replicas_self(replicas, &self);
}

bool replicas_derive_key(struct replicas *replicas, size_t line, const char *purpose,
                         unsigned char out[static REPLICAS_KEY_SIZE]) {
    struct shared_value *value = shared_hold(&replicas->keyring);
    const struct secret *secret = secrets_at(((struct keyring *)value)->secrets, line);
    unsigned length = REPLICAS_KEY_SIZE;
    const bool ok = secret && HMAC(EVP_sha256(), secret->bytes, (int)secret->length,
                                   (const unsigned char *)purpose, strlen(purpose), out, &length);
    shared_release(value);
    return ok;
}
