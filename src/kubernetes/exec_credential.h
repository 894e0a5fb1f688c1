/*
 * Programs that print a credential: Kubernetes' protocol client.authentication.k8s.io, v1 and
 * v1beta1. What the program is told stands in its environment; it prints an ExecCredential.
 */
#ifndef KUBERNETES_EXEC_CREDENTIAL_H
#define KUBERNETES_EXEC_CREDENTIAL_H

#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"
#include "base/text.h"
#include "client/client.h"
#include "kubernetes/kubeconfig.h"

struct exec_credential {
    char *token;             /* owned; NULL: none */
    char *certificate, *key; /* owned, PEM; NULL: none */
    int64_t expires_s;       /* seconds since 1970; INT64_MAX: it does not say */
};
void exec_credential_wipe(struct exec_credential *credential);

/* Reads what a program printed. `version` is what the kubeconfig says. A credential has a token, or
 * a certificate with its key, or both. False: ERROR_INVALID without a word of what was printed, or
 * ERROR_MEMORY. Pure; hostile input. */
bool exec_credential_read(struct text printed, const char *version, struct exec_credential *out,
                          struct error *error);

/*
 * Runs the program of the configuration. `authority` is the cluster's certificates (PEM; may be
 * empty), for a program that wants to know the cluster. Where the program is
 * gke-gcloud-auth-plugin and not on this machine, the token is that of tarn's own Google
 * credentials. False: the error names the program, and says how to install it when it is not there.
 * Any thread; blocks for a minute at most.
 */
bool exec_credential_run(struct client *client, const struct kubeconfig *config,
                         struct text authority, struct exec_credential *out, struct error *error);

#endif
