/*
 * Private to http/. The keys of TLS session tickets (RFC 5077, RFC 8446 §4.6.1).
 *
 * With a ticket a client resumes its session without a whole handshake. The server keeps nothing
 * for it: the ticket holds the session, encrypted under a key of the server. Whoever gets that key
 * can read old connections of TLS 1.2, so no key is used for long: a new one comes every hour, and
 * the old one only reads tickets for another hour. Such a ticket is replaced. Keys are random,
 * never leave the memory of this process, and are overwritten when they are replaced.
 *
 * Threads: any, but tls_tickets_rotate() is called by one thread at a time.
 */
#ifndef HTTP_TLS_TICKETS_H
#define HTTP_TLS_TICKETS_H

#include <openssl/types.h>
#include <stdbool.h>
#include "base/error.h"

struct tls_tickets;

struct tls_tickets *tls_tickets_new(struct error *error);
void tls_tickets_free(struct tls_tickets *tickets); /* NULL is allowed */

/* The context's sessions use these keys. `tickets` must outlive every session of the context.
 * Several contexts may share the keys, so that a new certificate leaves old tickets valid. */
void tls_tickets_use(struct tls_tickets *tickets, SSL_CTX *context);

/* Makes a new key if the newest is an hour old; to be called every few seconds. If OpenSSL has
 * no random bytes, the keys stay, and the next call tries again. */
void tls_tickets_rotate(struct tls_tickets *tickets);

#endif
