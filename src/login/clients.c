/* Checks users and passwords, remembers right ones, and reads the file again when it changes. */
#include "login/clients.h"

#include <crypt.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/siphash.h"
#include "login/failures.h"
#include "login/htpasswd.h"
#include "login/turns.h"

enum {
    LOOK_MS = 1000,          /* the shortest time between two checks of the file */
    TRUST_MS = 3000,         /* the longest time without one in which clients_known() answers */
    REMEMBER_MS = 60 * 1000, /* how long a successful check holds */
    REFUSE_MS = 10 * 1000,   /* how long a failed one holds */
    REMEMBERED = 1024,       /* slots; two users that share a slot cost one more hash */
    BASIC_LIMIT = 1024,      /* bytes of Basic credentials, in base64 */
    USER_SHOWN = 64,         /* bytes of a user's name in the log */
};

struct remembered {
    struct siphash_tag key;
    int64_t until_ms; /* 0: empty */
};

struct clients {
    char *file;
    struct siphash_key secret;  /* keys the hashes of logins */
    _Atomic int64_t looked_ms;  /* when the file was last checked */
    _Atomic int64_t claimed_ms; /* when clients_known() last left the check to a caller */
    atomic_bool looking;        /* a thread checks the file */
    bool complained;            /* only the thread that checks uses it */

    struct lock users_lock; /* guards users, generation; never held for I/O or a hash */
    struct htpasswd users;
    unsigned generation; /* counts the times `users` were replaced */

    struct lock remembered_lock; /* guards the next three; held for one slot */
    struct remembered right[REMEMBERED], wrong[REMEMBERED];
    unsigned remembered_generation; /* of the users that both are about */

    struct turns turns;
    struct failures failures;
    struct metric *failed, *locked_out, *too_many;
};

struct clients_limits clients_limits_default(void) {
    return (struct clients_limits){.failures = 10, .within_ms = 60 * 1000, .waiting = 16};
}

static void prepare(struct clients *clients, const struct clients_limits *limits) {
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    lock_init(&clients->users_lock);
    lock_init(&clients->remembered_lock);
    turns_init(&clients->turns, processors > 0 ? (unsigned)processors : 1, limits->waiting);
    clients->looked_ms = clients->claimed_ms = clock_ms();
    clients->failed = metric_get(METRIC_COUNTER, "tarn_failed_logins_total",
                                 "Logins with a wrong password or an unknown user.", "");
    clients->locked_out = metric_get(METRIC_COUNTER, METRIC_REFUSED, METRIC_REFUSED_HELP,
                                     "reason=\"login_failures\"");
    clients->too_many = metric_get(METRIC_COUNTER, METRIC_REFUSED, METRIC_REFUSED_HELP,
                                   "reason=\"logins_waiting\"");
}

struct clients *clients_new(const char *htpasswd_file, const struct clients_limits *limits,
                            struct error *error) {
    struct clients *clients = calloc(1, sizeof *clients);
    if (!clients || !(clients->file = strdup(htpasswd_file))) {
        free(clients);
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    prepare(clients, limits);
    bool has_secret = RAND_bytes((unsigned char *)&clients->secret, sizeof clients->secret) == 1;
    failures_init(&clients->failures, limits->failures, limits->within_ms, &clients->secret);
    if (!has_secret)
        error_set(error, ERROR_IO, "no random bytes for a key");
    else if (htpasswd_read(clients->file, &clients->users, error))
        return clients;
    clients_free(clients);
    return NULL;
}

void clients_free(struct clients *clients) {
    if (!clients)
        return;
    failures_finish(&clients->failures);
    turns_finish(&clients->turns);
    lock_finish(&clients->remembered_lock);
    lock_finish(&clients->users_lock);
    htpasswd_finish(&clients->users);
    free(clients->file);
    OPENSSL_cleanse(clients, sizeof *clients);
    free(clients);
}

/* ---- the file ---- */

/* Replaces the users. What was remembered of the old ones is forgotten. Takes `fresh` over. */
static void replace_users(struct clients *clients, const struct htpasswd *fresh) {
    lock_acquire(&clients->users_lock);
    struct htpasswd old = clients->users;
    clients->users = *fresh;
    unsigned generation = ++clients->generation;
    lock_release(&clients->users_lock);
    lock_acquire(&clients->remembered_lock);
    memset(clients->right, 0, sizeof clients->right);
    memset(clients->wrong, 0, sizeof clients->wrong);
    clients->remembered_generation = generation;
    lock_release(&clients->remembered_lock);
    htpasswd_finish(&old);
}

void clients_look(struct clients *clients) {
    int64_t now = clock_ms();
    if (now < atomic_load(&clients->looked_ms) + LOOK_MS ||
        atomic_exchange(&clients->looking, true))
        return;
    struct error error = {0};
    struct htpasswd fresh = {0};
    /* Only this thread replaces the users, so it may read their identity without the lock. */
    bool changed = htpasswd_changed(clients->file, &clients->users);
    bool read = changed && htpasswd_read(clients->file, &fresh, &error);
    if (read) {
        replace_users(clients, &fresh);
        log_at(LOG_INFO, "the clients' passwords were read again",
               LOG_STRING("file", clients->file));
    } else if (changed && !clients->complained) {
        log_at(LOG_ERROR, "cannot read the clients' passwords; the ones read before stay in use",
               LOG_STRING("error", error.text));
    }
    clients->complained = changed && !read; /* so that each broken file is logged once */
    atomic_store(&clients->looked_ms, now);
    atomic_store(&clients->looking, false);
}

/* ---- one check ---- */

struct credentials {
    char bytes[BASIC_LIMIT]; /* user NUL password NUL */
    const char *user, *password;
    struct siphash_tag key; /* stands for both where they are remembered */
};

/* Reads "Basic dXNlcjpwYXNz" (RFC 7617), and makes the key. Allocates nothing. */
static bool read_basic(const struct clients *clients, struct text header, struct credentials *out) {
    struct text rest, scheme = text_cut(header, ' ', &rest);
    if (!rest.at || !text_is_nocase(scheme, "Basic"))
        return false;
    struct text token = text_trim(rest);
    if (token.length == 0 || token.length % 4 != 0 || token.length >= BASIC_LIMIT)
        return false;
    size_t padding = 0;
    while (padding < 2 && token.at[token.length - 1 - padding] == '=')
        padding++;
    for (size_t i = 0; i < token.length - padding; i++) { /* EVP_DecodeBlock skips spaces */
        unsigned char c = (unsigned char)token.at[i];
        if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') &&
            c != '+' && c != '/')
            return false;
    }
    int decoded = EVP_DecodeBlock((unsigned char *)out->bytes, (const unsigned char *)token.at,
                                  (int)token.length);
    if (decoded < 0 || (size_t)decoded < padding)
        return false;
    size_t length = (size_t)decoded - padding;
    out->bytes[length] = '\0';
    char *colon = memchr(out->bytes, ':', length);
    if (!colon || memchr(out->bytes, '\0', length))
        return false;
    *colon = '\0';
    out->user = out->bytes;
    out->password = colon + 1;
    out->key = siphash_tag_of(&clients->secret, out->bytes, length);
    return true;
}

static struct remembered *slot_of(struct remembered table[static REMEMBERED],
                                  const struct credentials *credentials) {
    return &table[credentials->key.parts[0] % REMEMBERED];
}

static bool is_in(struct clients *clients, struct remembered table[static REMEMBERED],
                  const struct credentials *credentials) {
    int64_t now = clock_ms();
    lock_acquire(&clients->remembered_lock);
    const struct remembered *slot = slot_of(table, credentials);
    bool held = now < slot->until_ms &&
                CRYPTO_memcmp(&slot->key, &credentials->key, sizeof credentials->key) == 0;
    lock_release(&clients->remembered_lock);
    return held;
}

static void remember(struct clients *clients, bool right, const struct credentials *credentials,
                     unsigned generation) {
    int64_t until = clock_ms() + (right ? REMEMBER_MS : REFUSE_MS);
    lock_acquire(&clients->remembered_lock);
    if (generation == clients->remembered_generation) { /* else the users were replaced meanwhile */
        struct remembered *slot = slot_of(right ? clients->right : clients->wrong, credentials);
        slot->key = credentials->key;
        slot->until_ms = until;
    }
    lock_release(&clients->remembered_lock);
}

static bool password_is(const char *password, const char *hash) {
    struct crypt_data *data = calloc(1, sizeof *data); /* 32 KiB: too much for a worker's stack */
    if (!data)
        return false;
    const char *computed = crypt_rn(password, hash, data, sizeof *data);
    size_t length = strlen(hash);
    bool same =
        computed && strlen(computed) == length && CRYPTO_memcmp(computed, hash, length) == 0;
    OPENSSL_cleanse(data, sizeof *data);
    free(data);
    return same;
}

/* Computes the hash, and remembers the result. */
static bool check(struct clients *clients, const struct credentials *credentials) {
    char hash[HTPASSWD_HASH_SIZE];
    const char *user = credentials->user;
    uint64_t stand_in = siphash_of(&clients->secret, user, strlen(user));
    lock_acquire(&clients->users_lock);
    unsigned generation = clients->generation;
    bool known = htpasswd_find(&clients->users, user, stand_in, hash);
    lock_release(&clients->users_lock);
    if (!*hash) /* there are no users */
        return false;
    bool right = password_is(credentials->password, hash) && known;
    OPENSSL_cleanse(hash, sizeof hash);
    remember(clients, right, credentials, generation);
    return right;
}

/* The answer to a client that is locked out; CLIENTS_ALLOWED: it is not. */
static struct clients_answer check_lock(struct clients *clients,
                                        const struct clients_login *login) {
    int64_t ms = failures_locked_ms(&clients->failures, login->address);
    if (ms == 0)
        return (struct clients_answer){CLIENTS_ALLOWED, 0};
    metric_add(clients->locked_out, 1);
    return (struct clients_answer){CLIENTS_LOCKED_OUT, (int)((ms + 999) / 1000)};
}

static struct clients_answer too_many(struct clients *clients) {
    metric_add(clients->too_many, 1);
    return (struct clients_answer){CLIENTS_TOO_MANY, 1};
}

/* Counts and logs a failed login. */
static struct clients_answer fail(struct clients *clients, const struct clients_login *login,
                                  const struct credentials *credentials) {
    size_t length = strnlen(credentials->user, USER_SHOWN);
    metric_add(clients->failed, 1);
    log_at(LOG_INFO, "a login failed: wrong password or unknown user",
           LOG_SLICE("user", ((struct text){credentials->user, length})),
           LOG_STRING("client", login->client));
    if (failures_count(&clients->failures, login->address))
        log_at(LOG_WARN, "too many failed logins: this client's address is locked out for a while",
               LOG_STRING("client", login->client),
               LOG_NUMBER("seconds", (double)clients->failures.within_ms / 1000));
    return (struct clients_answer){CLIENTS_REFUSED, 0};
}

/* Checks credentials whose turn has come. Another turn may have locked the address meanwhile. */
static struct clients_answer take_turn(struct clients *clients, const struct clients_login *login,
                                       const struct credentials *credentials) {
    struct clients_answer answer = check_lock(clients, login);
    if (answer.verdict != CLIENTS_ALLOWED || check(clients, credentials))
        return answer;
    return fail(clients, login, credentials);
}

static struct clients_answer allow(struct clients *clients, const struct clients_login *login,
                                   const struct credentials *credentials) {
    for (;;) {
        struct clients_answer answer = check_lock(clients, login);
        struct turn *turn;
        if (answer.verdict != CLIENTS_ALLOWED || is_in(clients, clients->right, credentials))
            return answer;
        if (is_in(clients, clients->wrong, credentials))
            return fail(clients, login, credentials);
        switch (
            turns_begin(&clients->turns, &credentials->key, login->address, login->cancel, &turn)) {
        case TURNS_SHARED:
            continue;
        case TURNS_BEGINS:
            answer = take_turn(clients, login, credentials);
            turns_end(&clients->turns, turn);
            return answer;
        case TURNS_GONE:
            return (struct clients_answer){CLIENTS_GONE, 0};
        case TURNS_FULL:
        case TURNS_NO_MEMORY:
            return too_many(clients);
        }
    }
}

struct clients_answer clients_allow(struct clients *clients, const struct clients_login *login,
                                    char *user, size_t size) {
    struct credentials credentials;
    struct clients_answer answer = {CLIENTS_REFUSED, 0};
    clients_look(clients);
    if (size)
        *user = '\0';
    if (login->authorization.at && read_basic(clients, login->authorization, &credentials)) {
        answer = allow(clients, login, &credentials);
        if (answer.verdict == CLIENTS_ALLOWED)
            text_copy(text_of(credentials.user), user, size);
    }
    OPENSSL_cleanse(&credentials, sizeof credentials);
    return answer;
}

/* ---- without waiting ---- */

/* Whether somebody has checked the file a moment ago. Once a second one caller is told that nobody
 * has, so that it does. */
static bool has_looked(struct clients *clients) {
    int64_t now = clock_ms(), looked = atomic_load(&clients->looked_ms);
    int64_t claimed = atomic_load(&clients->claimed_ms);
    if (now - looked >= TRUST_MS)
        return false;
    return now - looked < LOOK_MS || now - claimed < LOOK_MS ||
           !atomic_compare_exchange_strong(&clients->claimed_ms, &claimed, now);
}

/* The same as allow(), as far as it is known. */
static struct clients_answer look_up(struct clients *clients, const struct clients_login *login,
                                     const struct credentials *credentials) {
    struct clients_answer answer = check_lock(clients, login);
    if (answer.verdict != CLIENTS_ALLOWED)
        return answer;
    bool is_current = has_looked(clients);
    if (is_current && is_in(clients, clients->right, credentials))
        return answer;
    if (is_current && !is_in(clients, clients->wrong, credentials) &&
        turns_are_full(&clients->turns, &credentials->key, login->address))
        return too_many(clients);
    return (struct clients_answer){CLIENTS_MUST_CHECK, 0};
}

struct clients_answer clients_known(struct clients *clients, const struct clients_login *login,
                                    char *user, size_t size) {
    struct credentials credentials;
    struct clients_answer answer = {CLIENTS_REFUSED, 0};
    if (size)
        *user = '\0';
    if (login->authorization.at && read_basic(clients, login->authorization, &credentials)) {
        answer = look_up(clients, login, &credentials);
        if (answer.verdict == CLIENTS_ALLOWED)
            text_copy(text_of(credentials.user), user, size);
    }
    OPENSSL_cleanse(&credentials, sizeof credentials);
    return answer;
}
