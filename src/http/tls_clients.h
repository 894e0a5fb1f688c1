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
#include "base/error.h"

/* Makes the context ask for certificates of the authorities in the PEM file `ca`. */
bool tls_clients_use(SSL_CTX *context, const char *ca, struct error *error);

/* Notes the user of a session whose handshake has ended. Allocates. */
void tls_clients_note(SSL *session);

/* The user of the session; NULL: it has none, or the certificate has expired meanwhile. As old as
 * the session. Makes no system call. */
const char *tls_clients_user(SSL *session);

#endif
