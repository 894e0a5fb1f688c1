/* TLS for the server's side: OpenSSL's contexts and sessions, and nothing of HTTP. */
#include "http/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "http/tls_clients.h"
#include "http/tls_tickets.h"

enum { REFRESH_MS = 1000 };

/* The state of a file. It differs from an earlier one when the file has changed. */
struct stamp {
    struct timespec modified;
    off_t size;
    ino_t inode;
};

struct tls_identity {
    const char *certificate, *key;
    const char *client_ca;                     /* NULL: clients are not asked for certificates */
    atomic_bool refreshing;                    /* one thread looks at the files */
    int64_t refreshed_ms;                      /* for that thread, as the stamps */
    struct stamp certificate_stamp, key_stamp; /* at the last attempt */
    struct stamp client_ca_stamp;
    struct tls_tickets *tickets; /* the keys of all contexts */
    struct lock context_lock;
    SSL_CTX *context GUARDED_BY(context_lock); /* each session holds a reference of its own */
};

static struct stamp stamp_of(const char *path) {
    struct stat status;
    if (stat(path, &status) != 0)
        return (struct stamp){{0, 0}, -1, 0};
    return (struct stamp){status.st_mtim, status.st_size, status.st_ino};
}

static bool stamps_equal(const struct stamp *a, const struct stamp *b) {
    return a->modified.tv_sec == b->modified.tv_sec && a->modified.tv_nsec == b->modified.tv_nsec &&
           a->size == b->size && a->inode == b->inode;
}

/* ---- the context ---- */

/* Takes OpenSSL's oldest queued reason; the later ones say where in OpenSSL it was. */
static bool refused_by_openssl(struct error *error, const char *what, const char *path) {
    const char *reason = ERR_reason_error_string(ERR_peek_error());
    error_set(error, ERROR_INVALID, "%s %s: %s", what, path, reason ? reason : "unusable");
    ERR_clear_error();
    return false;
}

/* A client that offers protocols by ALPN gets HTTP/1.1 if it is among them. */
static int choose_protocol(SSL *session, const unsigned char **out, unsigned char *out_length,
                           const unsigned char *offered, unsigned offered_length, void *context) {
    static const unsigned char ours[] = "\x08http/1.1";
    (void)session;
    (void)context;
    unsigned char *chosen;
    if (SSL_select_next_proto(&chosen, out_length, ours, sizeof ours - 1, offered,
                              offered_length) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

/* Refuses a key with a passphrase; OpenSSL would ask for it on the terminal. */
static int no_passphrase(char *out, int size, int writing, void *context) {
    (void)out;
    (void)size;
    (void)writing;
    (void)context;
    return 0;
}

static void set_rules(SSL_CTX *context) {
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_options(context, SSL_OP_ENABLE_KTLS | SSL_OP_NO_RENEGOTIATION |
                                     SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    /* Idle sessions hold no buffers, and a send may take a part of the bytes. */
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    /* A receive takes one record, even if that has no bytes for us (KeyUpdate). Otherwise a client
     * that sends many such records would keep the thread in one call. */
    SSL_CTX_clear_mode(context, SSL_MODE_AUTO_RETRY);
    /* A record's header and its content come by one system call. */
    SSL_CTX_set_read_ahead(context, 1);
    /* Sessions are resumed by tickets, which need no memory in this process. */
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_alpn_select_cb(context, choose_protocol, NULL);
    SSL_CTX_set_default_passwd_cb(context, no_passphrase);
}

/* The pair of files as the identity names them. */
static SSL_CTX *load_context(const struct tls_identity *identity, struct error *error) {
    const char *certificate = identity->certificate, *key = identity->key;
    ERR_clear_error();
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (!context) {
        error_set(error, ERROR_MEMORY, "no memory for TLS");
        return NULL;
    }
    set_rules(context);
    tls_tickets_use(identity->tickets, context);
    bool loaded =
        (SSL_CTX_use_certificate_chain_file(context, certificate) == 1 ||
         refused_by_openssl(error, "TLS certificate", certificate)) &&
        (SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) == 1 ||
         refused_by_openssl(error, "TLS key", key)) &&
        (SSL_CTX_check_private_key(context) == 1 || refused_by_openssl(error, "TLS key", key)) &&
        (!identity->client_ca || tls_clients_use(context, identity->client_ca, error));
    if (!loaded) {
        SSL_CTX_free(context);
        return NULL;
    }
    return context;
}

struct tls_identity *tls_identity_new(const char *certificate, const char *key,
                                      const char *client_ca, struct error *error) {
    struct tls_identity *identity = calloc(1, sizeof *identity);
    if (!identity) {
        error_set(error, ERROR_MEMORY, "no memory for TLS");
        return NULL;
    }
    identity->certificate = certificate;
    identity->key = key;
    identity->client_ca = client_ca;
    identity->client_ca_stamp = client_ca ? stamp_of(client_ca) : (struct stamp){0};
    identity->certificate_stamp = stamp_of(certificate);
    identity->key_stamp = stamp_of(key);
    identity->tickets = tls_tickets_new(error);
    identity->context = identity->tickets ? load_context(identity, error) : NULL;
    if (!identity->context) {
        tls_tickets_free(identity->tickets);
        free(identity);
        return NULL;
    }
    lock_init(&identity->context_lock);
    return identity;
}

void tls_identity_free(struct tls_identity *identity) {
    if (!identity)
        return;
    SSL_CTX_free(identity->context);
    tls_tickets_free(identity->tickets);
    lock_finish(&identity->context_lock);
    free(identity);
}

/* OpenSSL would wait for the writer of a pipe. */
static bool check_regular(const char *path, struct error *error) {
    struct stat status;
    return stat(path, &status) != 0 || S_ISREG(status.st_mode) ||
           error_set(error, ERROR_INVALID, "%s is no regular file", path);
}

static void refresh(struct tls_identity *identity) {
    tls_tickets_rotate(identity->tickets);
    struct stamp certificate = stamp_of(identity->certificate), key = stamp_of(identity->key);
    struct stamp client_ca =
        identity->client_ca ? stamp_of(identity->client_ca) : (struct stamp){0};
    if (stamps_equal(&certificate, &identity->certificate_stamp) &&
        stamps_equal(&key, &identity->key_stamp) &&
        stamps_equal(&client_ca, &identity->client_ca_stamp))
        return;
    identity->client_ca_stamp = client_ca;
    identity->certificate_stamp = certificate;
    identity->key_stamp = key;
    struct error error = {0};
    bool is_regular =
        check_regular(identity->certificate, &error) && check_regular(identity->key, &error);
    SSL_CTX *fresh = is_regular ? load_context(identity, &error) : NULL;
    if (!fresh) {
        log_at(LOG_WARN,
               "the changed TLS certificate cannot be used, the previous one stays in use",
               LOG_STRING("error", error.text));
        return;
    }
    lock_acquire(&identity->context_lock);
    SSL_CTX *old = identity->context;
    identity->context = fresh;
    lock_release(&identity->context_lock);
    SSL_CTX_free(old);
    log_at(LOG_INFO, "the TLS certificate was read again",
           LOG_STRING("certificate", identity->certificate));
}

void tls_identity_refresh(struct tls_identity *identity) {
    if (atomic_exchange(&identity->refreshing, true))
        return;
    int64_t now = clock_ms();
    if (now - identity->refreshed_ms >= REFRESH_MS) {
        identity->refreshed_ms = now;
        refresh(identity);
    }
    atomic_store(&identity->refreshing, false);
}

/* ---- a session ---- */

SSL *tls_session_new(struct tls_identity *identity, int fd) {
    lock_acquire(&identity->context_lock);
    SSL_CTX *context = identity->context;
    SSL_CTX_up_ref(context);
    lock_release(&identity->context_lock);
    SSL *session = SSL_new(context);
    SSL_CTX_free(context);
    if (session && SSL_set_fd(session, fd) != 1) {
        SSL_free(session);
        return NULL;
    }
    if (session)
        SSL_set_accept_state(session);
    return session;
}

void tls_session_free(SSL *session) {
    SSL_free(session);
}

enum tls_step tls_handshake(SSL *session) {
    ERR_clear_error();
    int result = SSL_do_handshake(session);
    if (result == 1) {
        tls_clients_note(session);
        return TLS_DONE;
    }
    switch (SSL_get_error(session, result)) {
    case SSL_ERROR_WANT_READ:
        return TLS_WAITS_TO_READ;
    case SSL_ERROR_WANT_WRITE:
        return TLS_WAITS_TO_WRITE;
    default:
        break;
    }
    bool is_http = ERR_GET_REASON(ERR_peek_error()) == SSL_R_HTTP_REQUEST;
    ERR_clear_error();
    return is_http ? TLS_MET_PLAIN_HTTP : TLS_FAILED;
}

static ssize_t outcome(SSL *session, int result) {
    int kind = SSL_get_error(session, result);
    ERR_clear_error();
    switch (kind) {
    case SSL_ERROR_WANT_READ:
        return TLS_NOTHING;
    case SSL_ERROR_WANT_WRITE:
        return TLS_MUST_SEND;
    default:
        return TLS_CLOSED;
    }
}

ssize_t tls_receive(SSL *session, void *out, size_t size) {
    ERR_clear_error();
    size_t received = 0;
    int result = SSL_read_ex(session, out, size, &received);
    return result == 1 ? (ssize_t)received : outcome(session, result);
}

ssize_t tls_send(SSL *session, const void *bytes, size_t length) {
    ERR_clear_error();
    size_t sent = 0;
    int result = SSL_write_ex(session, bytes, length, &sent);
    ssize_t n = result == 1 ? (ssize_t)sent : outcome(session, result);
    return n == TLS_MUST_SEND ? TLS_NOTHING : n;
}

bool tls_has_pending(SSL *session) {
    return SSL_has_pending(session) == 1;
}

bool tls_kernel_sends(SSL *session) {
    return BIO_get_ktls_send(SSL_get_wbio(session));
}

ssize_t tls_send_file(SSL *session, int file, off_t offset, size_t length) {
    ERR_clear_error();
    errno = 0;
    ssize_t sent = SSL_sendfile(session, file, offset, length, 0);
    if (sent > 0)
        return sent;
    int kind = SSL_get_error(session, (int)sent);
    ERR_clear_error();
    if (kind == SSL_ERROR_WANT_READ || kind == SSL_ERROR_WANT_WRITE)
        errno = EAGAIN;
    else if (sent == 0 && errno == 0)
        return 0;
    else if (errno == 0)
        errno = EPIPE;
    return -1;
}

void tls_finish(SSL *session) {
    ERR_clear_error();
    SSL_shutdown(session);
    ERR_clear_error();
}
