/*
 * Whom a cluster's server is trusted by, and as whom it is asked: read from files and programs, and
 * kept in memory.
 *
 * Files (a token, certificates) are read again each minute, a program is asked again when what it
 * printed has expired, and both at once when the server refused what was shown. All threads share
 * what was read; one of them reads at a time.
 */
#ifndef KUBERNETES_IDENTITY_H
#define KUBERNETES_IDENTITY_H

#include <stdbool.h>
#include "client/client.h"
#include "client/request.h"
#include "kubernetes/kubeconfig.h"

struct identity;

/* What a request needs. It never changes; it is freed when nobody holds it any more. */
struct identity_proof {
    struct client_tls tls;
    char *authorization; /* the whole header; NULL: none */
};

/* The configuration and the client outlive it. NULL: out of memory. */
struct identity *identity_new(const struct kubeconfig *config, struct client *client);
void identity_free(struct identity *identity); /* nobody holds a proof; NULL is fine */

/*
 * The proof to use now, the caller's to release. `refused`: a proof that the server refused; then
 * the files are read and the program is asked again, unless another thread has done that meanwhile.
 * NULL with the error set: a file cannot be read, or a program fails. A file that cannot be read
 * any more does not end what was read before.
 */
const struct identity_proof *
identity_hold(struct identity *identity, const struct identity_proof *refused, struct error *error);
void identity_release(const struct identity_proof *proof); /* NULL is fine */

/* Whether reading again may bring another proof. */
bool identity_is_renewable(const struct identity *identity);

/* For people: "a token in FILE", "a certificate", "the program NAME", "nothing". */
const char *identity_kind(const struct identity *identity, char *out, size_t size);

#endif
