/* Certificates of clients. */
#include "http/tls_clients.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/clock.h"
#include "http/pem.h"

enum { USER_SIZE = 256 };

/* What is noted of a session. */
struct peer {
    char user[USER_SIZE];
    int64_t until_s;      /* wall time of the certificate's end */
    uint64_t authorities; /* by which it was checked last */
    bool is_refused;      /* they have not issued it */
};

/* ---- the place for it in a session ---- */

static int peer_index = -1, authorities_index = -1;
static pthread_once_t peer_index_once = PTHREAD_ONCE_INIT;

static void free_peer(void *parent, void *peer, CRYPTO_EX_DATA *data, int index, long number,
                      void *pointer) {
    (void)parent;
    (void)data;
    (void)index;
    (void)number;
    (void)pointer;
    free(peer);
}

static void make_index(void) {
    peer_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, free_peer);
    authorities_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
}

/* ---- the authorities ---- */

/* Ties sessions to the authorities: one that began under others cannot be resumed. */
static bool tie_sessions(SSL_CTX *context, const unsigned char hash[static 32]) {
    uintptr_t authorities;
    memcpy(&authorities, hash, sizeof authorities);
    return SSL_CTX_set_session_id_context(context, hash, 32) == 1 &&
           SSL_CTX_set_ex_data(context, authorities_index, (void *)(authorities | 1)) == 1;
}

uint64_t tls_clients_authorities(const SSL_CTX *context) {
    return authorities_index < 0 ? 0 : (uintptr_t)SSL_CTX_get_ex_data(context, authorities_index);
}

bool tls_clients_use(SSL_CTX *context, struct file_reader *files, const char *ca,
                     struct stat *status, struct error *error) {
    const struct pem_file file = {"authorities of clients", ca};
    unsigned char hash[32];
    pthread_once(&peer_index_once, make_index);
    if (!pem_use_authorities(context, files, &file, hash, status, error))
        return false;
    if (!tie_sessions(context, hash)) {
        ERR_clear_error();
        return error_set(error, ERROR_MEMORY, "no memory for TLS");
    }
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    return true;
}

/* ---- one client ---- */

/* Copies the only common name of the subject. */
static bool common_name(const X509 *certificate, char out[static USER_SIZE]) {
    const X509_NAME *subject = X509_get_subject_name(certificate);
    int index = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (index < 0 || X509_NAME_get_index_by_NID(subject, NID_commonName, index) >= 0)
        return false;
    unsigned char *text = NULL;
    int length =
        ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, index)));
    bool is_fine = length > 0 && length < USER_SIZE;
    for (int i = 0; is_fine && i < length; i++)
        is_fine =
            text[i] >= ' ' && text[i] != 0x7F; /* also no NUL, behind which more could stand */
    if (is_fine) {
        memcpy(out, text, (size_t)length);
        out[length] = '\0';
    }
    OPENSSL_free(text);
    return is_fine;
}

static bool end_of(const X509 *certificate, int64_t *until_s) {
    struct tm end = {0};
    if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &end) != 1)
        return false;
    *until_s = timegm(&end);
    return true;
}

void tls_clients_note(SSL *session) {
    if (SSL_get_verify_mode(session) == SSL_VERIFY_NONE ||
        SSL_get_verify_result(session) != X509_V_OK)
        return;
    X509 *certificate = SSL_get1_peer_certificate(session);
    struct peer *peer = certificate ? calloc(1, sizeof *peer) : NULL;
    if (peer)
        peer->authorities = tls_clients_authorities(SSL_get_SSL_CTX(session));
    if (peer && !(common_name(certificate, peer->user) && end_of(certificate, &peer->until_s) &&
                  SSL_set_ex_data(session, peer_index, peer) == 1))
        free(peer);
    X509_free(certificate);
    ERR_clear_error();
}

static struct peer *peer_of(SSL *session) {
    return peer_index >= 0 ? SSL_get_ex_data(session, peer_index) : NULL;
}

const char *tls_clients_user(SSL *session) {
    const struct peer *peer = peer_of(session);
    return peer && !peer->is_refused && clock_wall_s() < peer->until_s ? peer->user : NULL;
}

bool tls_clients_is_checked(SSL *session, uint64_t authorities) {
    const struct peer *peer = peer_of(session);
    return !peer || peer->authorities == authorities;
}

/* A session that was resumed has no certificates but the client's own. */
static bool is_issued_by(SSL *session, SSL_CTX *context) {
    X509_STORE_CTX *check = X509_STORE_CTX_new();
    bool is = tls_clients_authorities(context) && check &&
              X509_STORE_CTX_init(check, SSL_CTX_get_cert_store(context),
                                  SSL_get0_peer_certificate(session),
                                  SSL_get_peer_cert_chain(session)) == 1 &&
              X509_STORE_CTX_set_default(check, "ssl_client") == 1 && X509_verify_cert(check) == 1;
    X509_STORE_CTX_free(check);
    ERR_clear_error();
    return is;
}

void tls_clients_check_again(SSL *session, SSL_CTX *context) {
    struct peer *peer = peer_of(session);
    peer->authorities = tls_clients_authorities(context);
    peer->is_refused = !is_issued_by(session, context);
}
