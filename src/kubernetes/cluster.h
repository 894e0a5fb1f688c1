/*
 * Which cluster is meant: the first of a kubeconfig file that is named, $KUBECONFIG, the pod that
 * tarn runs in, and ~/.kube/config.
 */
#ifndef KUBERNETES_CLUSTER_H
#define KUBERNETES_CLUSTER_H

#include <stdbool.h>
#include "base/error.h"
#include "kubernetes/kubeconfig.h"

/* Where a pod finds the credentials of its service account. */
#define CLUSTER_ACCOUNT_FOLDER "/var/run/secrets/kubernetes.io/serviceaccount"

struct cluster {
    struct kubeconfig config; /* namespace is never NULL */
    char from[600];           /* for people: "kubeconfig FILE, context NAME", "the pod's account" */
};
void cluster_wipe(struct cluster *cluster);

/* `kubeconfig`: a file, in place of the search; NULL: search. `account_folder`: NULL: the one
 * above. Reads the environment, so no thread may change it meanwhile. False: the error says what
 * was looked at, or what is wrong with it. */
bool cluster_find(const char *kubeconfig, const char *account_folder, struct cluster *out,
                  struct error *error);

#endif
