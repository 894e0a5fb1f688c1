/* Makes, uses and forgets the keys of TLS session tickets. */
#include "http/tls_tickets.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/lock.h"

enum {
    NAME_SIZE = 16, /* OpenSSL's */
    ROTATE_S = 60 * 60,
    READ_MOST = 2, /* keys that read tickets, each for so many times ROTATE_S */
};

/* An unused one is zeroed. */
struct key {
    unsigned char name[NAME_SIZE]; /* stands in front of the ticket */
    unsigned char cipher[32], mac[32];
    int64_t made_ms;
    bool used;
};

struct tls_tickets {
    struct lock keys_lock;
    struct key keys[READ_MOST] GUARDED_BY(keys_lock); /* newest first */
};

static bool make_key(struct key *key) {
    *key = (struct key){.made_ms = clock_ms(), .used = true};
    return RAND_bytes(key->name, sizeof key->name) == 1 &&
           RAND_priv_bytes(key->cipher, sizeof key->cipher) == 1 &&
           RAND_priv_bytes(key->mac, sizeof key->mac) == 1;
}

struct tls_tickets *tls_tickets_new(struct error *error) {
    struct tls_tickets *tickets = calloc(1, sizeof *tickets);
    if (!tickets) {
        error_set(error, ERROR_MEMORY, "no memory for TLS");
        return NULL;
    }
    lock_init(&tickets->keys_lock);
    if (make_key(&tickets->keys[0]))
        return tickets;
    ERR_clear_error();
    error_set(error, ERROR_IO, "no random bytes for the keys of TLS session tickets");
    tls_tickets_free(tickets);
    return NULL;
}

void tls_tickets_free(struct tls_tickets *tickets) {
    if (!tickets)
        return;
    lock_finish(&tickets->keys_lock);
    OPENSSL_cleanse(tickets, sizeof *tickets);
    free(tickets);
}

void tls_tickets_rotate(struct tls_tickets *tickets) {
    struct key fresh;
    lock_acquire(&tickets->keys_lock);
    int64_t age_ms = clock_ms() - tickets->keys[0].made_ms;
    lock_release(&tickets->keys_lock);
    if (age_ms < ROTATE_S * 1000)
        return;
    bool made = make_key(&fresh);
    if (made) {
        lock_acquire(&tickets->keys_lock);
        tickets->keys[1] = tickets->keys[0];
        tickets->keys[0] = fresh;
        lock_release(&tickets->keys_lock);
    } else {
        ERR_clear_error();
    }
    OPENSSL_cleanse(&fresh, sizeof fresh);
}

/* ---- one ticket ---- */

/* The newest key, for writing. */
static struct key newest_key(struct tls_tickets *tickets) {
    lock_acquire(&tickets->keys_lock);
    struct key key = tickets->keys[0];
    lock_release(&tickets->keys_lock);
    return key;
}

/* Copies the key of that name, for reading. *newest: it is the newest. */
static bool find_key(struct tls_tickets *tickets, const unsigned char *name, struct key *out,
                     bool *newest) {
    bool found = false;
    int64_t now = clock_ms();
    lock_acquire(&tickets->keys_lock);
    for (size_t i = 0; i < READ_MOST && !found; i++) {
        const struct key *key = &tickets->keys[i];
        bool usable = key->used && now - key->made_ms < ROTATE_S * 1000 * READ_MOST;
        found = usable && CRYPTO_memcmp(key->name, name, NAME_SIZE) == 0;
        *newest = i == 0;
        if (found)
            *out = *key;
    }
    lock_release(&tickets->keys_lock);
    return found;
}

static bool begin(const struct key *key, const unsigned char *iv, EVP_CIPHER_CTX *cipher,
                  EVP_MAC_CTX *mac, bool writes) {
    char digest[] = "SHA256";
    const OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    return EVP_MAC_init(mac, key->mac, sizeof key->mac, parameters) == 1 &&
           EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, key->cipher, iv, writes) == 1;
}

static int set_key_to_write(struct tls_tickets *tickets, unsigned char *name, unsigned char *iv,
                            EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac) {
    struct key key = newest_key(tickets);
    memcpy(name, key.name, NAME_SIZE);
    bool ok = RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) == 1 &&
              begin(&key, iv, cipher, mac, true);
    OPENSSL_cleanse(&key, sizeof key);
    return ok ? 1 : -1;
}

/* OpenSSL's callback (SSL_CTX_set_tlsext_ticket_key_evp_cb(3)). The result is 1: the key is set; 2:
 * the same, and the client gets a new ticket; 0: there is no key, so the handshake is a whole one;
 * -1: failure. */
static int set_key(SSL *session, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                   EVP_MAC_CTX *mac, int writes) {
    struct tls_tickets *tickets = SSL_CTX_get_app_data(SSL_get_SSL_CTX(session));
    struct key key;
    bool newest;
    if (writes)
        return set_key_to_write(tickets, name, iv, cipher, mac);
    if (!find_key(tickets, name, &key, &newest))
        return 0;
    bool ok = begin(&key, iv, cipher, mac, false);
    OPENSSL_cleanse(&key, sizeof key);
    if (!ok)
        return -1;
    /* With TLS 1.3 each resumption gets a new ticket, as with OpenSSL's own keys: a ticket that is
     * used twice tells an observer that both connections are one client's (RFC 8446, C.4). */
    return newest && SSL_version(session) < TLS1_3_VERSION ? 1 : 2;
}

void tls_tickets_use(struct tls_tickets *tickets, SSL_CTX *context) {
    SSL_CTX_set_app_data(context, tickets);
    SSL_CTX_set_tlsext_ticket_key_evp_cb(context, set_key);
    SSL_CTX_set_timeout(context, ROTATE_S); /* each ticket can be read for at least as long */
}
