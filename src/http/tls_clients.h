/*
 * Private to http/. Certificates of clients (mutual TLS): asked for, checked against authorities,
 * and turned into the name of a user.
 *
 * A client need not send a certificate. If it sends one that the authorities have not issued, the
 * handshake fails. The user is the one common name (CN) of the certificate's subject; a certificate
 * without one, or with several, names nobody. A session that is resumed keeps the certificate that
 * it began with, as long as the authorities are the same ones.
 */
#ifndef HTTP_TLS_CLIENTS_H
#define HTTP_TLS_CLIENTS_H

#include <openssl/types.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include "base/error.h"
#include "base/file_reader.h"

/* Makes the context ask for certificates of the authorities in the PEM file `ca`. `status` is the
 * file's (http/pem.h). */
bool tls_clients_use(SSL_CTX *context, struct file_reader *files, const char *ca,
                     struct stat *status, struct error *error);

/* Stands for the authorities of the context, which are other ones when it differs; 0: clients are
 * not asked for certificates. */
uint64_t tls_clients_authorities(const SSL_CTX *context);

/* Notes the user of a session whose handshake has ended. Allocates. */
void tls_clients_note(SSL *session);

/* The user of the session; NULL: it has none, or the certificate has expired meanwhile. As old as
 * the session. Makes no system call. */
const char *tls_clients_user(SSL *session);

/* Whether the certificate of the session, if there is one, was checked by those authorities. */
bool tls_clients_is_checked(SSL *session, uint64_t authorities);
/* Checks the certificate by the authorities of another context. If it is not theirs, the session
 * has no user, until it is checked by others. */
void tls_clients_check_again(SSL *session, SSL_CTX *context);

#endif
