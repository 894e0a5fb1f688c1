/* Checks users and passwords, remembers right ones, and reads the file again when it changes. */
#include "registry/clients.h"

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
#include "base/siphash.h"
#include "registry/htpasswd.h"

enum {
    LOOK_MS = 1000,          /* the shortest time between two checks of the file */
    TRUST_MS = 3000,         /* the longest time without one in which clients_known() answers */
    REMEMBER_MS = 60 * 1000, /* how long a successful check holds */
    REMEMBERED = 1024,       /* slots; two users that share a slot cost one more hash */
    BASIC_LIMIT = 1024,      /* bytes of Basic credentials, in base64 */
};

struct remembered {
    struct siphash_tag key;
    int64_t until_ms; /* 0: empty */
};

struct clients {
    char *file;
    struct siphash_key secret;  /* keys the hashes in `remembered` */
    _Atomic int64_t looked_ms;  /* when the file was last checked */
    _Atomic int64_t claimed_ms; /* when clients_known() last left the check to a caller */
    atomic_bool looking;        /* a thread checks the file */
    bool complained;            /* only the thread that checks uses it */

    struct lock users_lock; /* guards users, generation; never held for I/O or a hash */
    struct htpasswd users;
    unsigned generation; /* counts the times `users` were replaced */

    struct lock remembered_lock; /* guards remembered, remembered_generation; held for one slot */
    struct remembered remembered[REMEMBERED];
    unsigned remembered_generation; /* of the users that `remembered` is about */

    struct lock hashing_lock; /* guards `hashing` */
    struct condition hashing_ended;
    long hashing, hashing_most;
};

struct clients_limits clients_limits_default(void) {
    return (struct clients_limits){.failures = 10, .within_ms = 60 * 1000, .waiting = 16};
}

struct clients *clients_new(const char *htpasswd_file, struct error *error) {
    struct clients *clients = calloc(1, sizeof *clients);
    if (!clients || !(clients->file = strdup(htpasswd_file))) {
        free(clients);
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    lock_init(&clients->users_lock);
    lock_init(&clients->remembered_lock);
    lock_init(&clients->hashing_lock);
    condition_init(&clients->hashing_ended);
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    clients->hashing_most = processors > 0 ? processors : 1;
    clients->looked_ms = clients->claimed_ms = clock_ms();
    if (RAND_bytes((unsigned char *)&clients->secret, sizeof clients->secret) != 1)
        error_set(error, ERROR_IO, "no random bytes for a key");
    else if (htpasswd_read(clients->file, &clients->users, error))
        return clients;
    clients_free(clients);
    return NULL;
}

void clients_free(struct clients *clients) {
    if (!clients)
        return;
    condition_finish(&clients->hashing_ended);
    lock_finish(&clients->hashing_lock);
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
    memset(clients->remembered, 0, sizeof clients->remembered);
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

struct login {
    char bytes[BASIC_LIMIT]; /* user NUL password NUL */
    const char *user, *password;
    struct siphash_tag key; /* stands for both in `remembered` */
};

/* Reads "Basic dXNlcjpwYXNz" (RFC 7617), and makes the key. Allocates nothing. */
static bool read_basic(const struct clients *clients, struct text header, struct login *out) {
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

static struct remembered *slot_of(struct clients *clients, const struct login *login) {
    return &clients->remembered[login->key.parts[0] % REMEMBERED];
}

static bool is_remembered(struct clients *clients, const struct login *login) {
    int64_t now = clock_ms();
    lock_acquire(&clients->remembered_lock);
    const struct remembered *slot = slot_of(clients, login);
    bool held =
        now < slot->until_ms && CRYPTO_memcmp(&slot->key, &login->key, sizeof login->key) == 0;
    lock_release(&clients->remembered_lock);
    return held;
}

static void remember(struct clients *clients, const struct login *login, unsigned generation) {
    int64_t until = clock_ms() + REMEMBER_MS;
    lock_acquire(&clients->remembered_lock);
    if (generation == clients->remembered_generation) { /* else the users were replaced meanwhile */
        struct remembered *slot = slot_of(clients, login);
        slot->key = login->key;
        slot->until_ms = until;
    }
    lock_release(&clients->remembered_lock);
}

/* Waits until fewer than hashing_most threads compute a hash. */
static void begin_hashing(struct clients *clients) {
    lock_acquire(&clients->hashing_lock);
    while (clients->hashing == clients->hashing_most)
        condition_wait(&clients->hashing_ended, &clients->hashing_lock);
    clients->hashing++;
    lock_release(&clients->hashing_lock);
}

static void end_hashing(struct clients *clients) {
    lock_acquire(&clients->hashing_lock);
    clients->hashing--;
    condition_signal(&clients->hashing_ended);
    lock_release(&clients->hashing_lock);
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

static bool check(struct clients *clients, const struct login *login) {
    char hash[HTPASSWD_HASH_SIZE];
    lock_acquire(&clients->users_lock);
    unsigned generation = clients->generation;
    bool known = htpasswd_find(&clients->users, login->user, hash);
    lock_release(&clients->users_lock);
    if (!*hash) /* there are no users */
        return false;
    bool right = password_is(login->password, hash) && known;
    OPENSSL_cleanse(hash, sizeof hash);
    if (right)
        remember(clients, login, generation);
    return right;
}

bool clients_allow(struct clients *clients, struct text authorization_header, char *user,
                   size_t size) {
    struct login login;
    clients_look(clients);
    if (size)
        *user = '\0';
    bool allowed = false;
    if (authorization_header.at && read_basic(clients, authorization_header, &login)) {
        allowed = is_remembered(clients, &login);
        if (!allowed) {
            begin_hashing(clients);
            /* A client opens many connections at once, and one check serves them all. */
            allowed = is_remembered(clients, &login) || check(clients, &login);
            end_hashing(clients);
        }
        if (allowed)
            text_copy(text_of(login.user), user, size);
    }
    OPENSSL_cleanse(&login, sizeof login);
    return allowed;
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

enum clients_verdict clients_known(struct clients *clients, struct text authorization_header,
                                   char *user, size_t size) {
    struct login login;
    enum clients_verdict verdict = CLIENTS_MUST_CHECK;
    if (size)
        *user = '\0';
    if (!authorization_header.at || !read_basic(clients, authorization_header, &login)) {
        verdict = CLIENTS_REFUSED;
    } else if (has_looked(clients) && is_remembered(clients, &login)) {
        verdict = CLIENTS_ALLOWED;
        text_copy(text_of(login.user), user, size);
    }
    OPENSSL_cleanse(&login, sizeof login);
    return verdict;
}
