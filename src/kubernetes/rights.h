/*
 * Who we are to a cluster, and what we may do there: SelfSubjectReview and SelfSubjectAccessReview,
 * which every user may create.
 */
#ifndef KUBERNETES_RIGHTS_H
#define KUBERNETES_RIGHTS_H

#include <stdbool.h>
#include "base/error.h"
#include "kubernetes/kubernetes.h"

/* One right: a verb on a kind of objects. */
struct right {
    const char *group;     /* "" or "coordination.k8s.io" */
    const char *resource;  /* "pods" */
    const char *verb;      /* "create" */
    const char *namespace; /* NULL: objects of the cluster */
    const char *name;      /* of one object; NULL: all */
};

/* Whether the server would allow it. False:
 * it could not be asked. */
bool rights_check(struct kubernetes *kubernetes, const struct right *right, bool *allowed,
                  struct error *error);

/* The name under which the server knows us ("system:serviceaccount:tarn:tarn-keep"). False: the
 * server does not say (before Kubernetes 1.28 it has no such request; then error.status is 404), or
 * could not be asked. */
bool rights_whoami(struct kubernetes *kubernetes, char *out, size_t size, struct error *error);

#endif
