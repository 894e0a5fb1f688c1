/* Checks users and passwords, remembers right ones, and reads the file again when it changes. */
#include "registry/clients.h"

#include <crypt.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "registry/htpasswd.h"

enum {
    LOOK_MS = 1000,          /* the shortest time between two checks of the file */
    REMEMBER_MS = 60 * 1000, /* how long a successful check holds */
    REMEMBERED = 1024,       /* slots; two users that share a slot cost one more hash */
    BASIC_LIMIT = 1024,      /* bytes of Basic credentials, in base64 */
};

struct remembered {
    unsigned char key[32];
    int64_t until_ms; /* 0: empty */
};

struct clients {
    char *file;
    unsigned char secret[32]; /* keys the hashes in `remembered` */
    _Atomic int64_t
        look_ms;     /* next time to stat() the file; the thread that checks sets it when done */
    bool complained; /* only the thread that checks uses it */

    struct lock users_lock; /* guards all down to `remembered`; never held for I/O or a hash */
    struct htpasswd users;
    unsigned generation; /* counts the times `users` were replaced */
    struct remembered remembered[REMEMBERED];

    struct lock hashing_lock; /* guards `hashing` */
    struct condition hashing_ended;
    long hashing, hashing_most;
};

struct clients *clients_new(const char *htpasswd_file, struct error *error) {
    struct clients *clients = calloc(1, sizeof *clients);
    if (!clients || !(clients->file = strdup(htpasswd_file))) {
        free(clients);
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    lock_init(&clients->users_lock);
    lock_init(&clients->hashing_lock);
    condition_init(&clients->hashing_ended);
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    clients->hashing_most = processors > 0 ? processors : 1;
    clients->look_ms = clock_ms() + LOOK_MS;
    if (RAND_bytes(clients->secret, sizeof clients->secret) != 1)
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
    lock_finish(&clients->users_lock);
    htpasswd_finish(&clients->users);
    free(clients->file);
    OPENSSL_cleanse(clients, sizeof *clients);
    free(clients);
}

/* ---- the file ---- */

/* Checks whether the file has changed: one thread at a time, at most once a second. */
static void check_file(struct clients *clients) {
    int64_t now = clock_ms(), due = atomic_load(&clients->look_ms);
    if (now < due || !atomic_compare_exchange_strong(&clients->look_ms, &due, INT64_MAX))
        return;
    struct error error = {0};
    struct htpasswd fresh = {0};
    /* Only this thread replaces the users, so it may read their identity without the lock. */
    bool changed = htpasswd_changed(clients->file, &clients->users);
    bool read = changed && htpasswd_read(clients->file, &fresh, &error);
    if (read) {
        lock_acquire(&clients->users_lock);
        struct htpasswd old = clients->users;
        clients->users = fresh;
        clients->generation++;
        memset(clients->remembered, 0, sizeof clients->remembered);
        lock_release(&clients->users_lock);
        htpasswd_finish(&old);
        log_at(LOG_INFO, "the clients' passwords were read again",
               LOG_STRING("file", clients->file));
    } else if (changed && !clients->complained) {
        log_at(LOG_ERROR, "cannot read the clients' passwords; the ones read before stay in use",
               LOG_STRING("error", error.text));
    }
    clients->complained = changed && !read; /* so that each broken file is logged once */
    atomic_store(&clients->look_ms, now + LOOK_MS);
}

/* ---- one check ---- */

struct login {
    char bytes[BASIC_LIMIT]; /* user NUL password NUL */
    const char *user, *password;
    unsigned char key[32]; /* stands for both in `remembered` */
};

/* Reads "Basic dXNlcjpwYXNz" (RFC 7617). */
static bool read_basic(struct text header, struct login *out) {
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
    return true;
}

static bool make_key(const struct clients *clients, struct login *login) {
    size_t length = strlen(login->user) + 1 + strlen(login->password);
    unsigned size = sizeof login->key;
    return HMAC(EVP_sha256(), clients->secret, sizeof clients->secret,
                (const unsigned char *)login->bytes, length, login->key, &size) != NULL;
}

static struct remembered *slot_of(struct clients *clients, const struct login *login) {
    return &clients->remembered[(login->key[0] << 8 | login->key[1]) % REMEMBERED];
}

static bool is_remembered(struct clients *clients, const struct login *login) {
    int64_t now = clock_ms();
    lock_acquire(&clients->users_lock);
    const struct remembered *slot = slot_of(clients, login);
    bool held =
        now < slot->until_ms && CRYPTO_memcmp(slot->key, login->key, sizeof login->key) == 0;
    lock_release(&clients->users_lock);
    return held;
}

static void remember(struct clients *clients, const struct login *login, unsigned generation) {
    int64_t until = clock_ms() + REMEMBER_MS;
    lock_acquire(&clients->users_lock);
    if (generation == clients->generation) { /* otherwise the users were replaced meanwhile */
        struct remembered *slot = slot_of(clients, login);
        memcpy(slot->key, login->key, sizeof slot->key);
        slot->until_ms = until;
    }
    lock_release(&clients->users_lock);
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
    check_file(clients);
    if (size)
        *user = '\0';
    bool allowed = false;
    if (authorization_header.at && read_basic(authorization_header, &login) &&
        make_key(clients, &login)) {
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
