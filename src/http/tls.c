/* TLS for the server's side: OpenSSL's contexts and sessions, and nothing of HTTP. */
#include "http/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/thread.h"
#include "http/http.h"
#include "http/pem.h"
#include "http/tls_clients.h"
#include "http/tls_tickets.h"

enum {
    REFRESH_MS = 1000,
    LOOK_PATIENCE_MS = 1000, /* for a look at a file; then its file system counts as hung */
};

/* The state of a file. It differs from an earlier one when the file has changed. A new file may
 * have the inode, the size and the time of a deleted one; then the time of its entry differs. */
struct stamp {
    struct timespec modified, entered;
    off_t size;
    dev_t device;
    ino_t inode;
};

/* A certificate and its key, the authorities of clients' certificates, and the least version. */
struct pair {
    char *certificate, *key; /* paths, owned */
    char *client_ca;         /* owned; NULL: clients are not asked for certificates */
    enum http_tls_version minimum;
    struct stamp certificate_stamp, key_stamp, client_ca_stamp; /* at the last attempt */
};

struct tls_identity {
    atomic_bool refreshing; /* one thread looks at the files: `pair` is that thread's */
    struct pair pair;
    struct file_reader *files;   /* reads them */
    struct tls_tickets *tickets; /* the keys of all contexts */
    struct lock context_lock;
    SSL_CTX *context GUARDED_BY(context_lock); /* each session holds a reference of its own */
    _Atomic uint64_t authorities;              /* tls_clients_authorities() of that context */

    pthread_t watcher;
    bool is_watched;
    struct lock end_lock;
    struct condition end; /* `ends` has become true */
    bool ends GUARDED_BY(end_lock);
};

static struct stamp stamp_of(const struct stat *status) {
    return (struct stamp){
        .modified = status->st_mtim,
        .entered = status->st_ctim,
        .size = status->st_size,
        .device = status->st_dev,
        .inode = status->st_ino,
    };
}

static bool times_equal(const struct timespec *a, const struct timespec *b) {
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static bool stamps_equal(const struct stamp *a, const struct stamp *b) {
    return times_equal(&a->modified, &b->modified) && times_equal(&a->entered, &b->entered) &&
           a->size == b->size && a->device == b->device && a->inode == b->inode;
}

static void pair_finish(struct pair *pair) {
    free(pair->certificate);
    free(pair->key);
    free(pair->client_ca);
    *pair = (struct pair){0};
}

/* Without memory the paths are NULL. */
static void pair_init(struct pair *pair, const char *certificate, const char *key,
                      const char *client_ca, enum http_tls_version minimum) {
    *pair = (struct pair){
        .certificate = strdup(certificate),
        .key = strdup(key),
        .client_ca = client_ca ? strdup(client_ca) : NULL,
        .minimum = minimum,
    };
    if (!pair->certificate || !pair->key || (client_ca && !pair->client_ca))
        pair_finish(pair);
}

/* ---- the context ---- */

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

static void set_rules(SSL_CTX *context, enum http_tls_version minimum) {
    SSL_CTX_set_min_proto_version(context,
                                  minimum == HTTP_TLS_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION);
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
}

/* The place for its identity in a context. */
static int identity_index;
static pthread_once_t identity_index_once = PTHREAD_ONCE_INIT;

static void make_index(void) {
    identity_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
}

static struct tls_identity *identity_of(const SSL *session) {
    return SSL_CTX_get_ex_data(SSL_get_SSL_CTX(session), identity_index);
}

/* Before the first session of the context. False: no memory. */
static bool own_context(struct tls_identity *identity, SSL_CTX *context) {
    pthread_once(&identity_index_once, make_index);
    return SSL_CTX_set_ex_data(context, identity_index, identity) == 1;
}

/* Reads the files, and notes their stamps. */
static bool load_files(SSL_CTX *context, struct pair *pair, struct file_reader *files,
                       struct error *error) {
    const struct pem_file certificate = {"TLS certificate", pair->certificate};
    const struct pem_file key = {"TLS key", pair->key};
    struct stat status = {0}, key_status = {0}, client_ca_status = {0};
    bool ok = pem_use_certificate(context, files, &certificate, &status, error) &&
              pem_use_key(context, files, &key, &key_status, error) &&
              (!pair->client_ca ||
               tls_clients_use(context, files, pair->client_ca, &client_ca_status, error));
    pair->certificate_stamp = stamp_of(&status);
    pair->key_stamp = stamp_of(&key_status);
    pair->client_ca_stamp = stamp_of(&client_ca_status);
    return ok;
}

/* `identity` NULL: the context is for a check only. */
static SSL_CTX *load_context(struct pair *pair, struct file_reader *files,
                             struct tls_identity *identity, struct error *error) {
    ERR_clear_error();
    SSL_CTX *context = pair->key && files ? SSL_CTX_new(TLS_server_method()) : NULL;
    if (!context) {
        error_set(error, ERROR_MEMORY, "no memory for TLS");
        return NULL;
    }
    set_rules(context, pair->minimum);
    if (identity)
        tls_tickets_use(identity->tickets, context);
    if ((!identity || own_context(identity, context)) && load_files(context, pair, files, error))
        return context;
    SSL_CTX_free(context);
    return NULL;
}

/* The caller has the lock, or nobody else knows the identity. */
static void set_context(struct tls_identity *identity, SSL_CTX *context) {
    identity->context = context;
    atomic_store(&identity->authorities, tls_clients_authorities(context));
}

struct tls_identity *tls_identity_new(const char *certificate, const char *key,
                                      const char *client_ca, enum http_tls_version minimum,
                                      struct error *error) {
    struct tls_identity *identity = calloc(1, sizeof *identity);
    if (!identity) {
        error_set(error, ERROR_MEMORY, "no memory for TLS");
        return NULL;
    }
    lock_init(&identity->context_lock);
    lock_init(&identity->end_lock);
    condition_init(&identity->end);
    pair_init(&identity->pair, certificate, key, client_ca, minimum);
    identity->files = file_reader_new();
    identity->tickets = tls_tickets_new(error);
    if (identity->tickets)
        identity->context = load_context(&identity->pair, identity->files, identity, error);
    if (identity->context) {
        set_context(identity, identity->context);
        return identity;
    }
    tls_identity_free(identity);
    return NULL;
}

void tls_identity_free(struct tls_identity *identity) {
    if (!identity)
        return;
    tls_identity_unwatch(identity);
    SSL_CTX_free(identity->context);
    tls_tickets_free(identity->tickets);
    pair_finish(&identity->pair);
    file_reader_free(identity->files);
    lock_finish(&identity->context_lock);
    lock_finish(&identity->end_lock);
    condition_finish(&identity->end);
    free(identity);
}

bool http_check_certificate(struct file_reader *files, const char *certificate, const char *key,
                            enum http_pair_fault *fault, struct error *error) {
    struct pair pair;
    const struct pem_file file = {"TLS certificate", certificate};
    struct stat status;
    pair_init(&pair, certificate, key, NULL, HTTP_TLS_1_2);
    SSL_CTX *context = load_context(&pair, files, NULL, error);
    bool is_sound = context != NULL;
    *fault = HTTP_PAIR_KEY;
    if (!is_sound && files && (context = SSL_CTX_new(TLS_server_method()))) {
        set_rules(context, pair.minimum);
        if (!pem_use_certificate(context, files, &file, &status, NULL))
            *fault = HTTP_PAIR_CERTIFICATE;
    }
    SSL_CTX_free(context);
    pair_finish(&pair);
    return is_sound;
}

bool http_check_authorities(struct file_reader *files, const char *client_ca, struct error *error) {
    ERR_clear_error();
    struct stat status;
    SSL_CTX *context = files ? SSL_CTX_new(TLS_server_method()) : NULL;
    bool are_sound = context ? tls_clients_use(context, files, client_ca, &status, error)
                             : error_set(error, ERROR_MEMORY, "no memory for TLS");
    SSL_CTX_free(context);
    return are_sound;
}

/* ---- changes ---- */

static void take_context(struct tls_identity *identity, SSL_CTX *fresh) {
    lock_acquire(&identity->context_lock);
    SSL_CTX *old = identity->context;
    set_context(identity, fresh);
    lock_release(&identity->context_lock);
    SSL_CTX_free(old);
}

/* The stamps of the three files. */
struct stamps {
    struct stamp certificate, key, client_ca;
};

/* Stamps the file; one that is not there, or cannot be looked at, has a zeroed stamp. `path` NULL:
 * there is none. False: its file system hangs. */
static bool look(struct tls_identity *identity, const char *path, struct stamp *stamp) {
    struct error error = {0};
    struct stat status = {0};
    bool answers = !path ||
                   file_reader_look(identity->files, path, LOOK_PATIENCE_MS, &status, &error) ||
                   error.kind != ERROR_TIMEOUT;
    *stamp = stamp_of(&status);
    return answers;
}

static bool are_those_of(const struct stamps *stamps, const struct pair *pair) {
    return stamps_equal(&stamps->certificate, &pair->certificate_stamp) &&
           stamps_equal(&stamps->key, &pair->key_stamp) &&
           stamps_equal(&stamps->client_ca, &pair->client_ca_stamp);
}

/* The files that have these stamps cannot be used. They are read again when they change; and soon,
 * if their file system hangs. */
static void refuse_change(struct tls_identity *identity, const struct stamps *stamps,
                          const struct error *error) {
    static struct log_pause pause;
    struct pair *pair = &identity->pair;
    unsigned more = 0;
    bool hangs = error->kind == ERROR_TIMEOUT;
    pair->certificate_stamp = stamps->certificate;
    pair->key_stamp = stamps->key;
    pair->client_ca_stamp = stamps->client_ca;
    if (hangs)
        pair->certificate_stamp.size = -1; /* no file has this stamp */
    if (!hangs || log_is_due(&pause, &more))
        log_at(LOG_WARN,
               "the changed TLS certificate cannot be used, the previous one stays in use",
               LOG_STRING("error", error->text));
}

static void refresh(struct tls_identity *identity) {
    struct pair *pair = &identity->pair;
    struct stamps now;
    tls_tickets_rotate(identity->tickets);
    if (!look(identity, pair->certificate, &now.certificate) ||
        !look(identity, pair->key, &now.key) || !look(identity, pair->client_ca, &now.client_ca) ||
        are_those_of(&now, pair))
        return;
    struct error error = {0};
    SSL_CTX *fresh = load_context(pair, identity->files, identity, &error);
    if (!fresh) {
        refuse_change(identity, &now, &error);
        return;
    }
    take_context(identity, fresh);
    log_at(LOG_INFO, "the TLS certificate was read again",
           LOG_STRING("certificate", pair->certificate));
}

void tls_identity_refresh(struct tls_identity *identity) {
    if (atomic_exchange(&identity->refreshing, true))
        return;
    refresh(identity);
    atomic_store(&identity->refreshing, false);
}

struct tls_change {
    struct pair pair;
    SSL_CTX *context;
};

struct tls_change *tls_change_new(struct tls_identity *identity, const char *certificate,
                                  const char *key, const char *client_ca,
                                  enum http_tls_version minimum, struct error *error) {
    struct tls_change *change = calloc(1, sizeof *change);
    if (!change) {
        error_set(error, ERROR_MEMORY, "no memory for TLS");
        return NULL;
    }
    pair_init(&change->pair, certificate, key, client_ca, minimum);
    change->context = load_context(&change->pair, identity->files, identity, error);
    if (change->context)
        return change;
    tls_change_free(change);
    return NULL;
}

void tls_change_free(struct tls_change *change) {
    if (!change)
        return;
    SSL_CTX_free(change->context);
    pair_finish(&change->pair);
    free(change);
}

void tls_identity_change(struct tls_identity *identity, struct tls_change *change) {
    while (atomic_exchange(&identity->refreshing, true)) /* a look takes a moment */
        clock_sleep_ms(1);
    struct pair before = identity->pair;
    identity->pair = change->pair;
    change->pair = before;
    take_context(identity, take(change->context));
    atomic_store(&identity->refreshing, false);
    tls_change_free(change);
}

static void watch(void *argument) {
    struct tls_identity *identity = argument;
    lock_acquire(&identity->end_lock);
    while (!identity->ends) {
        const int64_t until_ms = clock_ms() + REFRESH_MS;
        while (!identity->ends &&
               condition_wait_until(&identity->end, &identity->end_lock, until_ms))
            ;
        lock_release(&identity->end_lock);
        tls_identity_refresh(identity);
        lock_acquire(&identity->end_lock);
    }
    lock_release(&identity->end_lock);
}

bool tls_identity_watch(struct tls_identity *identity, struct error *error) {
    identity->is_watched =
        thread_start("tls-files", THREAD_STACK, watch, identity, &identity->watcher, error);
    return identity->is_watched;
}

void tls_identity_unwatch(struct tls_identity *identity) {
    if (!identity->is_watched)
        return;
    lock_acquire(&identity->end_lock);
    identity->ends = true;
    condition_broadcast(&identity->end);
    lock_release(&identity->end_lock);
    pthread_join(identity->watcher, NULL);
    identity->is_watched = false;
}

/* ---- a session ---- */

/* The caller frees it. */
static SSL_CTX *hold_context(struct tls_identity *identity) {
    lock_acquire(&identity->context_lock);
    SSL_CTX *context = identity->context;
    SSL_CTX_up_ref(context);
    lock_release(&identity->context_lock);
    return context;
}

SSL *tls_session_new(struct tls_identity *identity, int fd) {
    SSL_CTX *context = hold_context(identity);
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

const char *tls_session_user(SSL *session) {
    struct tls_identity *identity = identity_of(session);
    uint64_t authorities = atomic_load(&identity->authorities);
    if (!tls_clients_is_checked(session, authorities)) {
        SSL_CTX *context = hold_context(identity);
        tls_clients_check_again(session, context);
        SSL_CTX_free(context);
    }
    return tls_clients_user(session);
}

bool tls_session_is_outdated(SSL *session) {
    struct tls_identity *identity = identity_of(session);
    uint64_t authorities = atomic_load_explicit(&identity->authorities, memory_order_relaxed);
    return authorities != 0 && authorities != tls_clients_authorities(SSL_get_SSL_CTX(session));
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
