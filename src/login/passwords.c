/* Checks users and passwords, and remembers right and wrong ones. */
#include "login/passwords.h"

#include <crypt.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/metric.h"
#include "login/htpasswd.h"
#include "login/turns.h"
#include "login/watched.h"

enum {
    REMEMBER_MS = 60 * 1000, /* how long a successful check holds */
    REFUSE_MS = 10 * 1000,   /* how long a failed one holds */
    REMEMBERED = 1024,       /* slots; two users that share a slot cost one more hash */
    BASIC_LIMIT = 1024,      /* bytes of Basic credentials, in base64 */
};

struct remembered {
    struct siphash_tag key;
    int64_t until_ms; /* 0: empty */
};

struct passwords {
    atomic_uint references;
    struct watched file;
    struct failures *failures; /* a reference */

    struct lock users_lock; /* never held for I/O or a hash */
    struct htpasswd users GUARDED_BY(users_lock);
    unsigned generation GUARDED_BY(users_lock); /* counts the times `users` were replaced */

    struct lock remembered_lock; /* held for one slot */
    struct remembered right[REMEMBERED] GUARDED_BY(remembered_lock);
    struct remembered wrong[REMEMBERED] GUARDED_BY(remembered_lock);
    /* Of the users that both are about. */
    unsigned remembered_generation GUARDED_BY(remembered_lock);

    struct turns turns;
    struct metric *too_many;
};

/* ---- the file ---- */

/* Replaces the users. What was remembered of the old ones is forgotten. Takes `fresh` over. */
static void replace_users(struct passwords *passwords, const struct htpasswd *fresh) {
    lock_acquire(&passwords->users_lock);
    struct htpasswd old = passwords->users;
    passwords->users = *fresh;
    unsigned generation = ++passwords->generation;
    lock_release(&passwords->users_lock);
    lock_acquire(&passwords->remembered_lock);
    memset(passwords->right, 0, sizeof passwords->right);
    memset(passwords->wrong, 0, sizeof passwords->wrong);
    passwords->remembered_generation = generation;
    lock_release(&passwords->remembered_lock);
    htpasswd_finish(&old);
}

static bool read_users(void *owner, const char *path, struct stat *identity, struct error *error) {
    struct htpasswd fresh;
    if (!htpasswd_read(path, &fresh, identity, error))
        return false;
    replace_users(owner, &fresh);
    return true;
}

static void forget_users(void *owner) {
    replace_users(owner, &(struct htpasswd){0});
}

static void hold(void *owner) {
    passwords_hold(owner);
}

static void release(void *owner) {
    passwords_release(owner);
}

struct passwords *passwords_new(const char *htpasswd, struct failures *failures,
                                struct error *error) {
    struct passwords *passwords = calloc(1, sizeof *passwords);
    if (!passwords) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    const struct watched_use use = {.what = "passwords",
                                    .read = read_users,
                                    .forget = forget_users,
                                    .hold = hold,
                                    .release = release,
                                    .owner = passwords};
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    atomic_init(&passwords->references, 1);
    passwords->failures = failures_hold(failures);
    lock_init(&passwords->users_lock);
    lock_init(&passwords->remembered_lock);
    turns_init(&passwords->turns, processors > 0 ? (unsigned)processors : 1, 1);
    passwords->too_many = metric_get(METRIC_COUNTER, METRIC_REFUSED, METRIC_REFUSED_HELP,
                                     "reason=\"logins_waiting\"");
    if (watched_init(&passwords->file, htpasswd, &use, error))
        return passwords;
    passwords_release(passwords);
    return NULL;
}

struct passwords *passwords_hold(struct passwords *passwords) {
    atomic_fetch_add(&passwords->references, 1);
    return passwords;
}

void passwords_release(struct passwords *passwords) {
    if (!passwords || atomic_fetch_sub(&passwords->references, 1) > 1)
        return;
    watched_finish(&passwords->file);
    turns_finish(&passwords->turns);
    forget_users(passwords);
    lock_finish(&passwords->remembered_lock);
    lock_finish(&passwords->users_lock);
    failures_release(passwords->failures);
    OPENSSL_cleanse(passwords, sizeof *passwords);
    free(passwords);
}

void passwords_look(struct passwords *passwords) {
    watched_look(&passwords->file);
}

void passwords_look_now(struct passwords *passwords) {
    watched_look_now(&passwords->file);
}

bool passwords_are_of(const struct passwords *passwords, const char *htpasswd) {
    return strcmp(passwords->file.path, htpasswd) == 0;
}

void passwords_change(struct passwords *passwords, unsigned waiting) {
    turns_change(&passwords->turns, waiting);
}

/* ---- one check ---- */

struct credentials {
    char bytes[BASIC_LIMIT]; /* user NUL password NUL */
    const char *user, *password;
    struct siphash_tag key; /* stands for both where they are remembered */
};

/* Reads "Basic dXNlcjpwYXNz" (RFC 7617), and makes the key. Allocates nothing. */
static bool read_basic(const struct passwords *passwords, struct text header,
                       struct credentials *out) {
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
    out->key = siphash_tag_of(&passwords->failures->key, out->bytes, length);
    return true;
}

static struct remembered *slot_of(struct passwords *passwords, bool right,
                                  const struct credentials *credentials)
    REQUIRES(passwords->remembered_lock) {
    size_t slot = credentials->key.parts[0] % REMEMBERED;
    return right ? &passwords->right[slot] : &passwords->wrong[slot];
}

static bool is_remembered(struct passwords *passwords, bool right,
                          const struct credentials *credentials) {
    int64_t now = clock_ms();
    lock_acquire(&passwords->remembered_lock);
    const struct remembered *slot = slot_of(passwords, right, credentials);
    bool held = now < slot->until_ms &&
                CRYPTO_memcmp(&slot->key, &credentials->key, sizeof credentials->key) == 0;
    lock_release(&passwords->remembered_lock);
    return held;
}

static bool is_right(struct passwords *passwords, const struct credentials *credentials) {
    return is_remembered(passwords, true, credentials);
}

static bool is_wrong(struct passwords *passwords, const struct credentials *credentials) {
    return is_remembered(passwords, false, credentials);
}

static void remember(struct passwords *passwords, bool right, const struct credentials *credentials,
                     unsigned generation) {
    int64_t until = clock_ms() + (right ? REMEMBER_MS : REFUSE_MS);
    lock_acquire(&passwords->remembered_lock);
    if (generation == passwords->remembered_generation) { /* else others are the users by now */
        struct remembered *slot = slot_of(passwords, right, credentials);
        slot->key = credentials->key;
        slot->until_ms = until;
    }
    lock_release(&passwords->remembered_lock);
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
static bool check(struct passwords *passwords, const struct credentials *credentials) {
    char hash[HTPASSWD_HASH_SIZE];
    const char *user = credentials->user;
    uint64_t stand_in = siphash_of(&passwords->failures->key, user, strlen(user));
    lock_acquire(&passwords->users_lock);
    unsigned generation = passwords->generation;
    bool known = htpasswd_find(&passwords->users, user, stand_in, hash);
    lock_release(&passwords->users_lock);
    if (!*hash) /* there are no users */
        return false;
    bool right = password_is(credentials->password, hash) && known;
    OPENSSL_cleanse(hash, sizeof hash);
    remember(passwords, right, credentials, generation);
    return right;
}

static struct clients_answer too_many(struct passwords *passwords) {
    metric_add(passwords->too_many, 1);
    return (struct clients_answer){CLIENTS_TOO_MANY, 1};
}

static bool has_users(struct passwords *passwords) {
    lock_acquire(&passwords->users_lock);
    bool has = passwords->users.count > 0;
    lock_release(&passwords->users_lock);
    return has;
}

/* While the file is gone, nobody's login is his own fault, and nobody is locked out for it. */
static struct clients_answer fail(struct passwords *passwords, const struct clients_login *login,
                                  const struct credentials *credentials) {
    if (!has_users(passwords)) {
        log_at(LOG_INFO, "a login failed: there are no users", LOG_STRING("client", login->client));
        return (struct clients_answer){CLIENTS_REFUSED, 0};
    }
    failures_report(passwords->failures, login, text_of(credentials->user),
                    "wrong password or unknown user");
    return (struct clients_answer){CLIENTS_REFUSED, 0};
}

/* Checks credentials whose turn has come. Another turn may have locked the address meanwhile. */
static struct clients_answer take_turn(struct passwords *passwords,
                                       const struct clients_login *login,
                                       const struct credentials *credentials) {
    struct clients_answer answer = failures_check(passwords->failures, login);
    if (answer.verdict != CLIENTS_LOGGED_IN || check(passwords, credentials))
        return answer;
    return fail(passwords, login, credentials);
}

static struct clients_answer find_out(struct passwords *passwords,
                                      const struct clients_login *login,
                                      const struct credentials *credentials) {
    for (;;) {
        struct clients_answer answer = failures_check(passwords->failures, login);
        struct turn *turn;
        if (answer.verdict != CLIENTS_LOGGED_IN || is_right(passwords, credentials))
            return answer;
        if (is_wrong(passwords, credentials))
            return fail(passwords, login, credentials);
        switch (turns_begin(&passwords->turns, &credentials->key, login->address, login->cancel,
                            &turn)) {
        case TURNS_SHARED:
            continue;
        case TURNS_BEGINS:
            answer = take_turn(passwords, login, credentials);
            turns_end(&passwords->turns, turn);
            return answer;
        case TURNS_GONE:
            return (struct clients_answer){CLIENTS_GONE, 0};
        case TURNS_FULL:
        case TURNS_NO_MEMORY:
            return too_many(passwords);
        }
    }
}

/* The same, as far as it is known. */
static struct clients_answer look_up(struct passwords *passwords, const struct clients_login *login,
                                     const struct credentials *credentials) {
    struct clients_answer answer = failures_check(passwords->failures, login);
    if (answer.verdict != CLIENTS_LOGGED_IN)
        return answer;
    bool is_current = watched_is_current(&passwords->file);
    if (is_current && is_right(passwords, credentials))
        return answer;
    if (is_current && !is_wrong(passwords, credentials) &&
        turns_are_full(&passwords->turns, &credentials->key, login->address))
        return too_many(passwords);
    return (struct clients_answer){CLIENTS_MUST_CHECK, 0};
}

/* Answers by find_out() or look_up(). */
static struct clients_answer
answer_by(struct clients_answer (*decide)(struct passwords *, const struct clients_login *,
                                          const struct credentials *),
          struct passwords *passwords, const struct clients_login *login,
          struct clients_identity *identity) {
    struct credentials credentials;
    struct clients_answer answer = {CLIENTS_REFUSED, 0};
    if (read_basic(passwords, login->authorization, &credentials)) {
        answer = decide(passwords, login, &credentials);
        if (answer.verdict == CLIENTS_LOGGED_IN &&
            (!text_copy(text_of(credentials.user), identity->user, sizeof identity->user) ||
             !identity->user[0])) /* no user of the file has such a name */
            answer.verdict = CLIENTS_REFUSED;
    }
    OPENSSL_cleanse(&credentials, sizeof credentials);
    return answer;
}

struct clients_answer passwords_check(struct passwords *passwords,
                                      const struct clients_login *login,
                                      struct clients_identity *identity) {
    passwords_look(passwords);
    return answer_by(find_out, passwords, login, identity);
}

struct clients_answer passwords_known(struct passwords *passwords,
                                      const struct clients_login *login,
                                      struct clients_identity *identity) {
    return answer_by(look_up, passwords, login, identity);
}
