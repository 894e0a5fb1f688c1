/*
 * Private to http/. TLS for the server's side (OpenSSL 3, TLS 1.2 and later): the certificate, read
 * again when its files change, and sessions on sockets that do not block. If the kernel does TLS
 * (kTLS), it sends files without copying them through this process.
 */
#ifndef HTTP_TLS_H
#define HTTP_TLS_H

#include <openssl/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include "base/error.h"
#include "http/http.h"

/* A certificate and its key, as read from their files. */
struct tls_identity;

/* Reads the PEM files. `client_ca` has the authorities of clients' certificates (tls_clients.h);
 * NULL: clients are not asked for one. `minimum` is the least version of TLS. */
struct tls_identity *tls_identity_new(const char *certificate, const char *key,
                                      const char *client_ca, enum http_tls_version minimum,
                                      struct error *error);
void tls_identity_free(struct tls_identity *identity); /* after the last of its sessions */

/* Replaces an old key of session tickets, and reads the files again if they have changed. If they
 * cannot be used, that is logged and the previous pair stays in use. Sessions keep the certificate
 * that they began with. Any thread; while one does it, the others return at once. */
void tls_identity_refresh(struct tls_identity *identity);

/* Starts a thread that refreshes the identity each second until tls_identity_unwatch(). It is a
 * thread of its own, because a file may be on a file system that hangs. */
bool tls_identity_watch(struct tls_identity *identity, struct error *error);
void tls_identity_unwatch(struct tls_identity *identity); /* does nothing if it is not watched */

/* Other files and another least version, which the identity may take. */
struct tls_change;
/* NULL: the files cannot be used. */
struct tls_change *tls_change_new(struct tls_identity *identity, const char *certificate,
                                  const char *key, const char *client_ca,
                                  enum http_tls_version minimum, struct error *error);
void tls_change_free(struct tls_change *change); /* NULL is allowed */
/* Takes them from now on, and frees `change`. Sessions stay what they are, except that a client's
 * certificate counts only if the authorities of now have issued it. One thread at a time. */
void tls_identity_change(struct tls_identity *identity, struct tls_change *change);

/* Begins a session on a socket; NULL when out of memory. May be called during a refresh. */
SSL *tls_session_new(struct tls_identity *identity, int fd);
void tls_session_free(SSL *session);

/* The user that the client's certificate names by the authorities of now; NULL: none. Makes no
 * system call. */
const char *tls_session_user(SSL *session);
/* Whether the client should begin a new session, because clients are asked for certificates of
 * other authorities now. */
bool tls_session_is_outdated(SSL *session);

enum tls_step {
    TLS_DONE,
    TLS_WAITS_TO_READ,
    TLS_WAITS_TO_WRITE,
    TLS_MET_PLAIN_HTTP, /* the client sent a request in clear */
    TLS_FAILED
};
enum tls_step tls_handshake(SSL *session); /* never blocks */

enum { TLS_CLOSED = 0, TLS_NOTHING = -1, TLS_MUST_SEND = -2 };

/* The number of bytes received or sent, or TLS_CLOSED, or TLS_NOTHING when it would have to wait.
 * tls_receive() returns TLS_MUST_SEND when it has to wait until it can send: the client has asked
 * for an answer of the session itself (KeyUpdate), which the socket does not take. */
ssize_t tls_receive(SSL *session, void *out, size_t size);
ssize_t tls_send(SSL *session, const void *bytes, size_t length);

/* Whether the session holds bytes that were received and not yet asked for. */
bool tls_has_pending(SSL *session);

/* Whether the kernel does the sending, so that tls_send_file() works. */
bool tls_kernel_sends(SSL *session);
/* Like sendfile(2): bytes sent, 0 at the file's end, or -1 with errno. */
ssize_t tls_send_file(SSL *session, int file, off_t offset, size_t length);

/* Tells the client that nothing more comes. Never blocks. */
void tls_finish(SSL *session);

#endif
