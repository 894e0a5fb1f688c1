/*
 * The pod that makes a node pull an image: how it is written, and what its status says of the pull.
 *
 * A kubelet pulls first; only then it configures, creates and starts the container (kubelet,
 * startContainer()). So whatever state comes after the pull is a success, and an image without
 * /bin/true is kept like any other. Pure; any thread.
 */
#ifndef KEEP_POD_H
#define KEEP_POD_H

#include <jansson.h>
#include "base/buffer.h"
#include "base/error.h"
#include "keep/spec.h"

#define KEEP_POD_NAME       "tarn"
#define KEEP_POD_COMPONENT  "puller"
#define KEEP_POD_MANAGED_BY "tarn-keep"
/* The selector of our own pods, for a list or a watch. */
#define KEEP_POD_SELECTOR                                                                          \
    "app.kubernetes.io/component=" KEEP_POD_COMPONENT                                              \
    ",app.kubernetes.io/managed-by=" KEEP_POD_MANAGED_BY

/* ---- writing ---- */

struct keep_pod_wish {
    const char *keep;
    const struct keep_nodes *nodes; /* whose tolerations the pod has */
    const struct keep_pull *pull;
    const char *node;
    const char *name;   /* "HOST/NAME", as nodes pull it */
    const char *tag;    /* NULL: none */
    const char *digest; /* NULL: not known; not NULL if there is no tag or for a pull by digest */
    bool always; /* imagePullPolicy: Always, for a tag that the node may have by another digest */
    const char *namespace;
    const char *owner_name, *owner_uid; /* tarn's own pod, or NULL */
};

/* Appends the Pod as JSON. False: out of memory. */
bool keep_pod_write(const struct keep_pod_wish *wish, struct buffer *out);

enum { KEEP_POD_PREFIX_SIZE = 59 };
/* Writes "keep-TAG-" as a name by RFC 1123, whatever the tag: the API appends five characters. */
void keep_pod_prefix(const char *tag, const char *digest, char out[static KEEP_POD_PREFIX_SIZE]);

/* ---- reading ---- */

enum keep_verdict {
    KEEP_PULLING, /* the pull has not ended */
    KEEP_PULLED,
    KEEP_REFUSED,     /* the image cannot be pulled, as the kubelet says */
    KEEP_NODE_FAILED, /* the node does not take the pod */
    KEEP_TIMED_OUT,
};

enum { KEEP_REASON_SIZE = 64, KEEP_MESSAGE_SIZE = 512 };

struct keep_pod {
    const char *name, *uid, *node, *keep, *image, *digest; /* borrowed from the JSON; "": absent */
    bool deleting;
    enum keep_verdict verdict;
    char reason[KEEP_REASON_SIZE];   /* "ErrImagePull", "OutOfpods"; "" */
    char message[KEEP_MESSAGE_SIZE]; /* the kubelet's, printable; "" */
    char pulled[136];                /* PULLED: the digest of the container's imageID; "" */
};

/* Reads one of our own pods. False: it is a stranger's, or has no metadata.uid. */
bool keep_pod_read(const json_t *json, struct keep_pod *out);

/* ErrImagePull and ImagePullBackOff are the same refusal. */
const char *keep_refusal(const char *reason);

#endif
