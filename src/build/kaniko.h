/*
 * A build in a Kubernetes cluster: a Job whose one pod runs Kaniko's executor on a context in a
 * bucket (Kaniko README, "Additional Flags").
 *
 * The job's pod is tried once. Kaniko writes the digest of the image to the termination message.
 * The job is removed when the build has ended, by whoever calls kaniko_remove(), and else by the
 * cluster after ten minutes.
 *
 * Kaniko unpacks images into the container's own file system, which counts as ephemeral storage.
 * GKE Autopilot gives a pod at most 10 GiB of that, and cuts a larger request down without a word;
 * so a larger one is refused here.
 *
 * One thread.
 */
#ifndef BUILD_KANIKO_H
#define BUILD_KANIKO_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/buffer.h"
#include "base/cancel.h"
#include "base/error.h"
#include "kubernetes/kubernetes.h"
#include "oci/digest.h"

enum {
    KANIKO_NAME_SIZE = 32,
    KANIKO_AUTOPILOT_GIB = 10, /* of ephemeral storage */
};

/* Upstream's image is frozen, so it can be another one. */
#define KANIKO_IMAGE "gcr.io/kaniko-project/executor:latest"

/* Borrows all that it points to. Lists end with NULL; NULL is an empty one. */
struct kaniko_wish {
    const char *context;       /* "gs://BUCKET/OBJECT" */
    const char *const *images; /* to push; one at least */
    const char *dockerfile, *target, *platform;
    const char *const *build_args;
    const char *const *hosts; /* registries whose images come through `via` */
    const char *via;          /* "HOST:PORT" of a tarn; NULL: none */
    bool via_is_http;
    bool cache;
    const char *image;                /* of the executor; NULL: KANIKO_IMAGE */
    const char *service_account;      /* Kubernetes' */
    const char *cpu, *memory;         /* quantities; NULL: not said */
    int64_t storage_gib;              /* 0: not said */
    bool is_standard;                 /* the cluster is no Autopilot cluster */
    int64_t timeout_s;                /* 0: none */
    const char *const *node_selector; /* "KEY=VALUE" */
    const char *const *tolerations;   /* "KEY[=VALUE]:EFFECT" */
};

/* The Job; the caller's to json_decref(). NULL: ERROR_INVALID or ERROR_MEMORY. */
json_t *kaniko_job(const struct kaniko_wish *wish, const char *name, struct error *error);

/* Adds the hosts of the images that a Dockerfile begins from to `hosts`, an array without doubles.
 * Names with variables are passed over. False: out of memory. */
bool kaniko_read_hosts(struct text dockerfile, json_t *hosts);

/* A new name for a job: "tarn-build-1f2e3d4c". */
void kaniko_name(char out[static KANIKO_NAME_SIZE]);

struct kaniko_cluster {
    struct kubernetes *kubernetes;
    const char *namespace, *job;
    const struct cancel *cancel;
};

bool kaniko_create(const struct kaniko_cluster *cluster, const json_t *job, struct error *error);
/* True also when it is gone already. */
bool kaniko_remove(const struct kaniko_cluster *cluster, struct error *error);

struct kaniko_sink {
    void *context;
    bool (*on_log)(void *context, const void *bytes, size_t length, struct error *error);
    void (*on_state)(void *context, const char *pod, const char *state); /* "Pending", "Running" */
    void (*on_notice)(void *context, const char *text);                  /* that ends nothing */
};

/* Follows the job's pod to its end. True: the image was pushed. False: the error says in words how
 * the build failed; ERROR_CLOSED: it was cancelled and goes on. */
bool kaniko_follow(const struct kaniko_cluster *cluster, const struct kaniko_sink *sink,
                   struct digest *digest, struct error *error);

#endif
