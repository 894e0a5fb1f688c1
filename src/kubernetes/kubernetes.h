/*
 * A client of the Kubernetes API.
 *
 * A connection knows its cluster (cluster.h), as whom it asks (identity.h), and asks: one request
 * here, lists and watches in follow.h, a lease in lease.h, its own rights in rights.h. The room
 * knows no image: what the objects mean is the caller's.
 *
 * A credential is sent to the cluster's own server alone, no redirect is followed, and no error,
 * log line or metric holds a credential. Threads: any; a call blocks.
 */
#ifndef KUBERNETES_KUBERNETES_H
#define KUBERNETES_KUBERNETES_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/buffer.h"
#include "base/cancel.h"
#include "base/error.h"
#include "base/text.h"
#include "client/client.h"

struct kubernetes;

struct kubernetes_settings {
    const char *kubeconfig;     /* a file; NULL: search (cluster.h) */
    const char *account_folder; /* of the pod's account; NULL: where Kubernetes puts it */
};

/* Finds the cluster and asks nothing yet. The client outlives the connection. NULL: the error says
 * where a cluster was searched, or what is wrong with what was found. */
struct kubernetes *kubernetes_open(const struct kubernetes_settings *settings,
                                   struct client *client, struct error *error);
void kubernetes_close(struct kubernetes *kubernetes); /* no call is under way; NULL is fine */

static inline void kubernetes_close_call(struct kubernetes **kubernetes) {
    kubernetes_close(*kubernetes);
}
#define cleanup_kubernetes __attribute__((cleanup(kubernetes_close_call)))

/* What was found, for people and for paths; borrowed. */
const char *kubernetes_server(const struct kubernetes *kubernetes);
const char *kubernetes_from(const struct kubernetes *kubernetes); /* "kubeconfig F, context C" */
const char *kubernetes_namespace(const struct kubernetes *kubernetes); /* the pod's own, or the
                                                                          context's */
const char *
kubernetes_user(const struct kubernetes *kubernetes); /* of the kubeconfig; NULL: a pod */
const char *kubernetes_credential(const struct kubernetes *kubernetes, char *out, size_t size);

/* Whether a program may be started to get a credential. */
bool kubernetes_may_run_programs(const struct kubernetes *kubernetes);

/* Names the metrics before there are any. */
void kubernetes_declare_metrics(void);

struct kubernetes_call {
    /* "get", "list", "watch", "create", "update", "patch", "delete": of RBAC, which names the
     * method, too. */
    const char *verb;
    const char *resource;        /* "pods": for errors and metrics; a literal */
    const char *path;            /* "/api/v1/namespaces/x/pods?limit=50" */
    const char *content_type;    /* of the body; NULL: JSON, and of a patch JSON Merge Patch */
    struct text body;            /* empty: none */
    int64_t timeout_ms;          /* for all of it, the second request after 401 included; 0: 20 s */
    const struct cancel *cancel; /* may be NULL */
};

/*
 * Asks once, and once more after 401 when the credential can be read again. True: a status of 200
 * to 299, with the object in *answer (the caller's to json_decref()), if `answer` is not NULL and
 * there is one. False: error.status is the response's (0: there was none), error.code is the reason
 * of its metav1.Status ("AlreadyExists", "Conflict", "Expired"; "" if it has none), and the text
 * has its message. 404 is ERROR_NOT_FOUND, 401 and 403 ERROR_DENIED, 429 ERROR_RATE_LIMITED with
 * retry_after_s, other statuses below 500 ERROR_INVALID, the others ERROR_UNAVAILABLE.
 */
bool kubernetes_call(struct kubernetes *kubernetes, const struct kubernetes_call *call,
                     json_t **answer, struct error *error);

/* kubernetes_call() whose body of a status 200 goes to `on_bytes` as it comes, after a first call
 * without bytes when the head is here. `timeout_ms` is then
 * for the whole response. *status: the metav1.Status of a refusal, the caller's to json_decref();
 * NULL: there is none. */
bool kubernetes_stream(struct kubernetes *kubernetes, const struct kubernetes_call *call,
                       bool (*on_bytes)(void *context, const void *bytes, size_t length,
                                        struct error *error),
                       void *context, json_t **status, struct error *error);

#endif
