/* tarn build with Kaniko: a Job in a cluster builds the context from its bucket. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "build/kaniko.h"
#include "client/origin.h"
#include "cmd/build_stage.h"

enum { DOCKERFILE_LIMIT = 1 << 20 };

struct kaniko {
    struct build_run *run;
    struct build_stage stage;
    struct kubernetes *kubernetes;
    const char **node_selector, **tolerations; /* owned; end with NULL */
    json_t *hosts;                             /* of the Dockerfile's images */
    const char **host_list;                    /* owned; ends with NULL */
    char via[ORIGIN_HOST_SIZE];                /* "": no tarn between */
    bool via_is_http;
    char name[KANIKO_NAME_SIZE], namespace[64];
};

/* ---- the wish ---- */

/* Where the executor finds a tarn: --via, or TARN_VIA. The exit status. */
static int read_via(struct kaniko *kaniko) {
    const char *url = arguments_string(kaniko->run->arguments, "via");
    struct origin origin;
    if (!url)
        return 0;
    if (!origin_parse(url, &origin))
        return command_refuse(kaniko->run->arguments->command,
                              "--via %.100s is no URL such as http://tarn.tarn:5000", url);
    origin_host(&origin, kaniko->via);
    kaniko->via_is_http = !origin.https;
    return 0;
}

/* Which registries the Dockerfile begins from. The exit status. */
static int read_hosts(struct kaniko *kaniko, const char *folder) {
    cleanup_buffer struct buffer path = {0};
    struct error error = {0};
    size_t length;
    buffer_printf(&path, "%s/%s", folder, kaniko->stage.context->dockerfile);
    cleanup_free char *bytes = path.failed ? NULL
                                           : file_read_small(path.bytes, DOCKERFILE_LIMIT,
                                                             FILE_REGULAR, &length, NULL, &error);
    if (!bytes)
        return build_complain("%s: %s", path.bytes ? path.bytes : folder, error.text);
    kaniko->hosts = json_array();
    if (!kaniko->hosts || !kaniko_read_hosts((struct text){bytes, length}, kaniko->hosts))
        return build_complain("out of memory");
    kaniko->host_list = calloc(json_array_size(kaniko->hosts) + 1, sizeof *kaniko->host_list);
    for (size_t i = 0; kaniko->host_list && i < json_array_size(kaniko->hosts); i++)
        kaniko->host_list[i] = json_string_value(json_array_get(kaniko->hosts, i));
    return kaniko->host_list ? 0 : build_complain("out of memory");
}

static json_t *make_job(struct kaniko *kaniko, struct error *error) {
    const struct arguments *arguments = kaniko->run->arguments;
    cleanup_buffer struct buffer context = {0};
    struct kaniko_wish wish = {
        .images = (const char *const *)kaniko->run->to,
        .dockerfile = kaniko->stage.context->dockerfile,
        .target = arguments_string(arguments, "target"),
        .platform = kaniko->run->platform,
        .build_args = kaniko->run->build_args,
        .hosts = kaniko->host_list,
        .via = kaniko->via[0] ? kaniko->via : NULL,
        .via_is_http = kaniko->via_is_http,
        .cache = arguments_flag(arguments, "cache"),
        .image = arguments_string(arguments, "kaniko-image"),
        .service_account = arguments_string(arguments, "service-account"),
        .cpu = arguments_string(arguments, "cpu"),
        .memory = arguments_string(arguments, "memory"),
        .timeout_s = (arguments_number(arguments, "timeout", 0) + 999) / 1000,
        .node_selector = kaniko->node_selector,
        .tolerations = kaniko->tolerations,
        .is_standard = arguments_flag(arguments, "standard-cluster"),
    };
    if (!build_run_disk_size(kaniko->run, &wish.storage_gib, error))
        return NULL;
    if (!buffer_printf(&context, "gs://%s/%s", kaniko->stage.bucket, kaniko->stage.object)) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    wish.context = context.bytes;
    return kaniko_job(&wish, kaniko->name, error);
}

/* ---- the cluster ---- */

static int open_cluster(struct kaniko *kaniko) {
    const struct arguments *arguments = kaniko->run->arguments;
    const char *namespace = arguments_string(arguments, "namespace");
    struct error error = {0};
    const struct kubernetes_settings settings = {.kubeconfig =
                                                     arguments_string(arguments, "kubeconfig")};
    kaniko->kubernetes = kubernetes_open(&settings, kaniko->run->client, &error);
    if (!kaniko->kubernetes)
        return build_complain("%s", error.text);
    if (!namespace)
    namespace = kubernetes_namespace(kaniko->kubernetes);
    if (!text_copy(text_of(namespace), kaniko->namespace, sizeof kaniko->namespace))
        return command_refuse(arguments->command, "--namespace %.80s is too long", namespace);
    return 0;
}

static bool on_log(void *context, const void *bytes, size_t length, struct error *error) {
    struct kaniko *kaniko = context;
    (void)error;
    build_show_log(kaniko->run, bytes, length);
    return true;
}

static void on_state(void *context, const char *pod, const char *state) {
    struct kaniko *kaniko = context;
    build_show_event(kaniko->run, json_pack("{s:s, s:s, s:s, s:s}", "event", "build", "id",
                                            kaniko->name, "status", state, "pod", pod));
}

static void on_notice(void *context, const char *text) {
    struct kaniko *kaniko = context;
    build_show_notice(kaniko->run, text);
}

static void show_result(const struct kaniko *kaniko, const char *digest, const char *message) {
    build_show_event(kaniko->run, json_pack("{s:s, s:s, s:s*, s:s, s:s*}", "event", "result",
                                            "state", digest ? "done" : "failed", "digest", digest,
                                            "id", kaniko->name, "message", message));
}

/* The exit status after Ctrl-C; *keeps: the job goes on. */
static int end_interrupted(const struct kaniko *kaniko, bool *keeps) {
    *keeps = !build_wants_cancel(kaniko->run);
    if (*keeps)
        fprintf(stderr,
                "tarn build: the build goes on: kubectl --namespace %s logs --follow job/%s\n",
                kaniko->namespace, kaniko->name);
    else
        fputs("tarn build: the build is cancelled\n", stderr);
    return BUILD_INTERRUPTED;
}

static int follow(struct kaniko *kaniko, const struct kaniko_cluster *cluster, bool *keeps) {
    const struct kaniko_sink sink = {kaniko, on_log, on_state, on_notice};
    struct digest digest;
    struct error error = {0};
    char text[DIGEST_STRING_SIZE];
    if (kaniko_follow(cluster, &sink, &digest, &error)) {
        show_result(kaniko, digest_format(&digest, text), NULL);
        return 0;
    }
    if (error.kind == ERROR_CLOSED)
        return end_interrupted(kaniko, keeps);
    build_complain("%s", error.text);
    show_result(kaniko, NULL, error.text);
    return 1;
}

static int run_job(struct kaniko *kaniko, const json_t *job) {
    const struct kaniko_cluster cluster = {kaniko->kubernetes, kaniko->namespace, kaniko->name,
                                           &kaniko->run->cancel};
    struct error error = {0};
    bool keeps = arguments_flag(kaniko->run->arguments, "async");
    if (!kaniko_create(&cluster, job, &error))
        return error.kind == ERROR_CLOSED
                   ? BUILD_INTERRUPTED
                   : build_complain("the job cannot be created in namespace %s: %s",
                                    kaniko->namespace, error.text);
    if (keeps) {
        on_state(kaniko, "", "created");
        return 0;
    }
    int status = follow(kaniko, &cluster, &keeps);
    error_clear(&error);
    if (!keeps && !kaniko_remove(&cluster, &error))
        build_show_notice(kaniko->run, error.text);
    return status;
}

/* ---- all of it ---- */

static int print_dry_run(const struct kaniko *kaniko, json_t *job) {
    cleanup_buffer struct buffer text = {0};
    json_t *event = build_context_json(kaniko->stage.context, kaniko->stage.object, "dry_run");
    json_object_set_new(event, "event", json_string("request"));
    json_object_set(event, "job", job);
    bool ok = bounded_json_dump(event, kaniko->run->json ? JSON_COMPACT : JSON_INDENT(2), &text);
    json_decref(event);
    if (!ok)
        return build_complain("out of memory");
    printf("%s\n", text.bytes);
    return 0;
}

static int run_kaniko(struct kaniko *kaniko, const char *folder) {
    struct error error = {0};
    int status = build_stage_measure(&kaniko->stage, kaniko->run, folder, true);
    if (!status)
        status = read_hosts(kaniko, folder);
    if (status)
        return status;
    cleanup_json json_t *job = make_job(kaniko, &error);
    if (!job)
        return build_complain("%s", error.text);
    if (arguments_flag(kaniko->run->arguments, "dry-run"))
        return print_dry_run(kaniko, job);
    status = open_cluster(kaniko);
    if (status)
        return status;
    if (!build_stage_upload(&kaniko->stage, kaniko->run, &error))
        return error.kind == ERROR_CLOSED ? BUILD_INTERRUPTED : build_complain("%s", error.text);
    return run_job(kaniko, job);
}

int build_with_kaniko(struct build_run *run, const char *folder) {
    struct kaniko kaniko = {.run = run};
    kaniko_name(kaniko.name);
    int status = read_via(&kaniko);
    if (!status)
        status = build_run_open(run);
    if (!status)
        status = build_stage_begin(&kaniko.stage, run);
    if (!status && (!build_run_list(run, "node-selector", &kaniko.node_selector) ||
                    !build_run_list(run, "toleration", &kaniko.tolerations)))
        status = build_complain("out of memory");
    if (!status)
        status = run_kaniko(&kaniko, folder);
    kubernetes_close(kaniko.kubernetes);
    build_stage_end(&kaniko.stage);
    json_decref(kaniko.hosts);
    free(kaniko.host_list);
    free(kaniko.node_selector);
    free(kaniko.tolerations);
    return status;
}
