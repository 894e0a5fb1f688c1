/* tarn keep --whoami: which cluster, as whom, with which rights. */
#include "cmd/keep_whoami.h"

#include <stdio.h>
#include <string.h>
#include "base/json.h"
#include "client/client.h"
#include "cmd/standard_streams.h"
#include "kubernetes/kubernetes.h"
#include "kubernetes/rights.h"

#define LEASE   "coordination.k8s.io"
#define OBJECTS "tarn-keep" /* the name of the Lease and of the ConfigMap */

/* A right that `tarn keep` uses, and what it does without. */
struct keep_right {
    struct right right;
    bool in_namespace;
    const char *without; /* NULL: no image can be kept */
};

static const struct keep_right rights[] = {
    {{"", "nodes", "list"}, false, NULL},
    {{"", "pods", "list"}, true, NULL},
    {{"", "pods", "create"}, true, NULL},
    {{"", "pods", "delete"}, true, NULL},
    {{"", "nodes", "watch"}, false, "nodes are listed every 30 s instead"},
    {{"", "pods", "watch"}, true, "pods are listed every 30 s instead"},
    {{"", "nodes", "get"}, false, "nothing changes"},
    {{"", "pods", "get"}, true, "nothing changes"},
    {{LEASE, "leases", "create"}, true, "create the Lease " OBJECTS ", or set keep.lease: none"},
    {{LEASE, "leases", "get", .name = OBJECTS},
     true,
     "set keep.lease: none, and run one tarn keep"},
    {{LEASE, "leases", "update", .name = OBJECTS},
     true,
     "set keep.lease: none, and run one tarn keep"},
    {{"", "configmaps", "create"}, true, "create the ConfigMap " OBJECTS ", or nobody can POST"},
    {{"", "configmaps", "get", .name = OBJECTS}, true, "machines that were POSTed are not known"},
    {{"", "configmaps", "update", .name = OBJECTS}, true, "nobody can POST"},
};
enum { RIGHT_COUNT = sizeof rights / sizeof *rights };

struct report {
    struct kubernetes *kubernetes;
    const char *namespace;
    char user[256]; /* "": the server does not say */
    bool allowed[RIGHT_COUNT];
    unsigned asked; /* of the rights */
};

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
        struct right right = rights[report->asked].right;
        if (rights[report->asked].in_namespace)
            right.namespace = report->namespace;
        if (!rights_check(report->kubernetes, &right, &report->allowed[report->asked], error))
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
    const struct keep_right *known = &rights[at];
    buffer_printf(out, "missing:    %s %s%s%s%s%s (%s)\n", known->right.verb, known->right.resource,
                  known->right.name ? " " : "", known->right.name ? known->right.name : "",
                  known->in_namespace ? " in " : "", known->in_namespace ? report->namespace : "",
                  known->without ? known->without : "needed: without it no image can be kept");
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
        if (!report->allowed[i]) {
            missing++;
            write_right(report, i, out);
        }
    }
    if (report->asked == RIGHT_COUNT && !missing)
        buffer_append_string(out, "rights:     all that tarn keep uses\n");
}

static json_t *right_json(const struct report *report, unsigned at) {
    const struct keep_right *known = &rights[at];
    return json_pack("{s:s, s:s, s:s, s:s*, s:s*, s:b, s:b}", "verb", known->right.verb, "group",
                     known->right.group, "resource", known->right.resource, "namespace",
                     known->in_namespace ? report->namespace : NULL, "name", known->right.name,
                     "needed", !known->without, "allowed", report->allowed[at]);
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
    for (unsigned i = 0; i < report->asked; i++)
        json_array_append_new(json_object_get(json, "rights"), right_json(report, i));
    if (!bounded_json_dump(json, JSON_COMPACT, out) || !buffer_append_string(out, "\n"))
        out->failed = true;
}

int keep_whoami(const struct keep_whoami_settings *settings) {
    cleanup_client struct client *client = client_new();
    struct error error = {0};
    cleanup_kubernetes struct kubernetes *kubernetes = kubernetes_open(
        &(struct kubernetes_settings){.kubeconfig = settings->kubeconfig}, client, &error);
    if (!kubernetes) {
        fprintf(stderr, "tarn keep: %s\n", error.text);
        return 1;
    }
    cleanup_buffer struct buffer out = {0};
    struct report report = {
        .kubernetes = kubernetes,
        .namespace = settings->namespace ? settings->namespace : kubernetes_namespace(kubernetes),
    };
    bool ok = ask(&report, &error);
    if (settings->json)
        write_json(&report, &error, &out);
    else
        write_text(&report, &out);
    if (!standard_output_write(&out))
        return 1;
    if (!ok)
        fprintf(stderr, "tarn keep: %s\n", error.text);
    return ok && has_least(&report) ? 0 : 1;
}
