/* tarn keep --whoami: which cluster, as whom, with which rights. */
#include "cmd/keep_whoami.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/json.h"
#include "client/client.h"
#include "cmd/standard_streams.h"
#include "config/config.h"
#include "kubernetes/kubernetes.h"
#include "kubernetes/rights.h"

#define LEASES    "coordination.k8s.io"
#define CONFIGMAP "tarn-keep"
#define NO_LEASE  "set keep.lease: none, and run one tarn keep"

/* Where the objects of a right are. */
enum place {
    PLACE_CLUSTER,
    PLACE_PODS, /* the namespace of the puller pods */
    PLACE_OWN,  /* our own namespace */
};

/* A right that `tarn keep` uses, and what it does without. */
struct keep_right {
    struct right right; /* without its namespace */
    enum place place;
    const char *without; /* NULL: no image can be kept */
};

/* The name of the Lease is a setting. */
static const struct keep_right rights[] = {
    {{"", "nodes", "list"}, PLACE_CLUSTER, NULL},
    {{"", "pods", "list"}, PLACE_PODS, NULL},
    {{"", "pods", "create"}, PLACE_PODS, NULL},
    {{"", "pods", "delete"}, PLACE_PODS, NULL},
    {{"", "nodes", "watch"}, PLACE_CLUSTER, "nodes are listed every 30 s instead"},
    {{"", "pods", "watch"}, PLACE_PODS, "pods are listed every 30 s instead"},
    {{"", "nodes", "get"}, PLACE_CLUSTER, "nothing changes"},
    {{"", "pods", "get"}, PLACE_PODS, "nothing changes"},
    {{LEASES, "leases", "create"}, PLACE_OWN, "create the Lease yourself, or " NO_LEASE},
    {{LEASES, "leases", "get"}, PLACE_OWN, NO_LEASE},
    {{LEASES, "leases", "update"}, PLACE_OWN, NO_LEASE},
    {{"", "configmaps", "create"}, PLACE_OWN, "create the ConfigMap yourself, or nobody can POST"},
    {{"", "configmaps", "get", .name = CONFIGMAP}, PLACE_OWN, "POSTed machines are not known"},
    {{"", "configmaps", "update", .name = CONFIGMAP}, PLACE_OWN, "nobody can POST"},
};
enum { RIGHT_COUNT = sizeof rights / sizeof *rights };

struct report {
    struct kubernetes *kubernetes;
    const char *namespace; /* of the puller pods */
    const char *lease;     /* its name, or "none" */
    char user[256];        /* "": the server does not say */
    bool allowed[RIGHT_COUNT];
    unsigned asked; /* of the rights */
};

/* Right number `at` with all its names. False: it is not used. */
static bool right_of(const struct report *report, unsigned at, struct right *out) {
    const struct keep_right *known = &rights[at];
    bool is_lease = strcmp(known->right.resource, "leases") == 0;
    *out = known->right;
    if (is_lease && strcmp(report->lease, "none") == 0)
        return false;
    if (is_lease && strcmp(out->verb, "create") != 0) /* RBAC knows no name of what is created */
        out->name = report->lease;
    out->namespace = known->place == PLACE_PODS  ? report->namespace
                     : known->place == PLACE_OWN ? kubernetes_namespace(report->kubernetes)
                                                 : NULL;
    return true;
}

/* ---- asking ---- */

static bool ask(struct report *report, struct error *error) {
    struct error why;
    if (!rights_whoami(report->kubernetes, report->user, sizeof report->user, &why)) {
        bool unknown = why.status == 404 || why.status == 403 || why.status == 405;
        if (!unknown) {
            *error = why;
            return false;
        }
    }
    for (; report->asked < RIGHT_COUNT; report->asked++) {
        struct right right;
        bool *allowed = &report->allowed[report->asked];
        if (right_of(report, report->asked, &right) &&
            !rights_check(report->kubernetes, &right, allowed, error))
            return false;
    }
    return true;
}

static bool has_least(const struct report *report) {
    for (unsigned i = 0; i < RIGHT_COUNT; i++) {
        if (!rights[i].without && !report->allowed[i])
            return false;
    }
    return true;
}

/* ---- printing ---- */

static void write_right(const struct report *report, unsigned at, struct buffer *out) {
    struct right right;
    right_of(report, at, &right);
    buffer_printf(out, "missing:    %s %s%s%s%s%s (%s)\n", right.verb, right.resource,
                  right.name ? " " : "", right.name ? right.name : "",
                  right.namespace ? " in " : "", right.namespace ? right.namespace : "",
                  rights[at].without ? rights[at].without
                                     : "needed: without it no image can be kept");
}

static void write_text(const struct report *report, struct buffer *out) {
    char credential[256];
    const struct kubernetes *kubernetes = report->kubernetes;
    const char *user = kubernetes_user(kubernetes);
    unsigned missing = 0;
    buffer_printf(out, "cluster:    %s\nsource:     %s\n", kubernetes_server(kubernetes),
                  kubernetes_from(kubernetes));
    if (*report->user)
        buffer_printf(out, "user:       %s\n", report->user);
    else
        buffer_printf(out, "user:       %s%s\n", user ? user : "the pod's service account",
                      user ? " (the kubeconfig's name; the cluster does not say)" : "");
    buffer_printf(out, "credential: %s\nnamespace:  %s\n",
                  kubernetes_credential(kubernetes, credential, sizeof credential),
                  report->namespace);
    for (unsigned i = 0; i < report->asked; i++) {
        struct right right;
        if (!report->allowed[i] && right_of(report, i, &right)) {
            missing++;
            write_right(report, i, out);
        }
    }
    if (report->asked == RIGHT_COUNT && !missing)
        buffer_append_string(out, "rights:     all that tarn keep uses\n");
}

static json_t *right_json(const struct report *report, unsigned at, const struct right *right) {
    return json_pack("{s:s, s:s, s:s, s:s*, s:s*, s:b, s:b}", "verb", right->verb, "group",
                     right->group, "resource", right->resource, "namespace", right->namespace,
                     "name", right->name, "needed", !rights[at].without, "allowed",
                     report->allowed[at]);
}

static void write_json(const struct report *report, const struct error *error, struct buffer *out) {
    char credential[256];
    const struct kubernetes *kubernetes = report->kubernetes;
    cleanup_json json_t *json =
        json_pack("{s:s, s:s, s:s, s:s, s:s*, s:s*, s:[]}", "server", kubernetes_server(kubernetes),
                  "source", kubernetes_from(kubernetes), "credential",
                  kubernetes_credential(kubernetes, credential, sizeof credential), "namespace",
                  report->namespace, "user", *report->user ? report->user : NULL, "error",
                  error->kind != ERROR_NONE ? error->text : NULL, "rights");
    for (unsigned i = 0; i < report->asked; i++) {
        struct right right;
        if (right_of(report, i, &right))
            json_array_append_new(json_object_get(json, "rights"), right_json(report, i, &right));
    }
    if (!bounded_json_dump(json, JSON_COMPACT, out) || !buffer_append_string(out, "\n"))
        out->failed = true;
}

static int print_report(const struct keep_whoami_settings *settings, struct report *report) {
    cleanup_buffer struct buffer out = {0};
    struct error error = {0};
    bool ok = ask(report, &error);
    if (settings->json)
        write_json(report, &error, &out);
    else
        write_text(report, &out);
    if (!standard_output_write(&out))
        return 1;
    if (!ok)
        fprintf(stderr, "tarn keep: %s\n", error.text);
    return ok && has_least(report) ? 0 : 1;
}

/* The report for these settings of the configuration. */
static int whoami(const struct keep_whoami_settings *settings, const struct keep_settings *keep) {
    cleanup_client struct client *client = client_new();
    struct error error = {0};
    const struct kubernetes_settings cluster = {.kubeconfig = keep->kubeconfig};
    cleanup_kubernetes struct kubernetes *kubernetes = kubernetes_open(&cluster, client, &error);
    if (!kubernetes) {
        fprintf(stderr, "tarn keep: %s\n", error.text);
        return 1;
    }
    struct report report = {
        .kubernetes = kubernetes,
        .namespace = keep->namespace ? keep->namespace : kubernetes_namespace(kubernetes),
        .lease = keep->lease,
    };
    return print_report(settings, &report);
}

int keep_whoami(const struct keep_whoami_settings *settings) {
    cleanup_buffer struct buffer problems = {0};
    struct config *config = config_load(settings->flags, environ, &problems);
    if (!config) {
        fputs(problems.bytes ? problems.bytes : "tarn keep: out of memory\n", stderr);
        return 1;
    }
    int status = whoami(settings, &config->keep);
    config_free(config);
    return status;
}
