/* tarn build with Cloud Build: the build is composed, submitted and followed. */
#include <stdio.h>
#include <string.h>
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "build/schema.h"
#include "cmd/build.h"
#include "cmd/build_stage.h"

enum { BUILD_FILE_LIMIT = 1 << 20 };

struct cloud {
    struct build_run *run;
    struct build_stage stage;
    json_t *file; /* the build file; NULL: none */
};

/* ---- the build file and the message ---- */

static int read_build_file(struct cloud *cloud) {
    const char *path = arguments_string(cloud->run->arguments, "build-file");
    struct error error = {0};
    size_t length;
    if (!path)
        return 0;
    cleanup_free char *bytes =
        file_read_small(path, BUILD_FILE_LIMIT, FILE_REGULAR, &length, NULL, &error);
    if (!bytes)
        return build_complain("the build file %s: %s", path, error.text);
    cloud->file = schema_read((struct text){bytes, length}, path, &error);
    return cloud->file ? 0 : build_complain("%s", error.text);
}

static json_t *make_message(struct cloud *cloud, struct error *error) {
    const struct build_run *run = cloud->run;
    const struct arguments *arguments = run->arguments;
    struct message_wish wish = {
        .file = cloud->file,
        .images = (const char *const *)run->to,
        .dockerfile = cloud->stage.context ? cloud->stage.context->dockerfile
                                           : arguments_string(arguments, "file"),
        .build_args = run->build_args,
        .target = arguments_string(arguments, "target"),
        .platform = run->platform,
        .substitutions = run->substitutions,
        .secrets = run->secrets,
        .tags = run->tags,
        .project = run->project,
        .region = run->region,
        .machine_type = arguments_string(arguments, "machine-type"),
        .pool = arguments_string(arguments, "pool"),
        .service_account = arguments_string(arguments, "service-account"),
        .timeout_s = (arguments_number(arguments, "timeout", 0) + 999) / 1000,
        .logs_bucket = arguments_string(arguments, "logs-bucket"),
        .cache = arguments_flag(arguments, "cache"),
    };
    if (!wish.dockerfile)
        wish.dockerfile = "Dockerfile";
    if (!wish.logs_bucket)
        wish.logs_bucket = cloud->stage.bucket;
    if (strncmp(wish.logs_bucket, "gs://", 5) == 0)
        wish.logs_bucket += 5;
    if (!build_run_disk_size(run, &wish.disk_size_gb, error))
        return NULL;
    return message_make(&wish, error);
}

/* ---- the source ---- */

/* Splits "git+https://HOST/REPO#REF". False: out of memory. */
static bool set_git(json_t *message, const char *folder) {
    struct text ref, url = text_cut(text_of(folder + strlen("git+")), '#', &ref);
    cleanup_free char *address = text_dup(url), *revision = ref.at ? text_dup(ref) : NULL;
    return address &&
           message_set_source(
               message, &(struct message_source){.git_url = address, .git_revision = revision});
}

static bool set_source(const struct cloud *cloud, json_t *message, const char *folder) {
    const struct message_source source = {
        .bucket = cloud->stage.bucket,
        .object = cloud->stage.object,
        .generation = cloud->stage.generation[0] ? cloud->stage.generation : NULL,
    };
    return cloud->stage.context ? message_set_source(message, &source) : set_git(message, folder);
}

/* ---- all of it ---- */

static int print_dry_run(const struct cloud *cloud, json_t *message) {
    cleanup_buffer struct buffer text = {0};
    json_t *event = cloud->stage.context
                        ? build_context_json(cloud->stage.context, cloud->stage.object, "dry_run")
                        : json_object();
    json_object_set_new(event, "event", json_string("request"));
    json_object_set(event, "build", message);
    bool ok = bounded_json_dump(event, cloud->run->json ? JSON_COMPACT : JSON_INDENT(2), &text);
    json_decref(event);
    if (!ok)
        return build_complain("out of memory");
    printf("%s\n", text.bytes);
    return 0;
}

static int submit(struct cloud *cloud, json_t *message) {
    struct build_run *run = cloud->run;
    const struct cloudbuild cloudbuild = build_run_cloudbuild(run);
    struct error error = {0};
    json_t *build = cloudbuild_submit(&cloudbuild, message, &error);
    if (!build)
        return error.kind == ERROR_CLOSED ? BUILD_INTERRUPTED : build_complain("%s", error.text);
    if (!arguments_flag(run->arguments, "async"))
        return build_follow(run, build, (const char *const *)run->to);
    json_t *event = json_pack(
        "{s:s, s:O, s:O*, s:O*}", "event", "build", "id", json_object_get(build, "id"), "status",
        json_object_get(build, "status"), "log_url", json_object_get(build, "logUrl"));
    if (!run->json)
        printf("%s\n", json_string_value(json_object_get(build, "id")));
    build_show_event(run, event);
    json_decref(build);
    return 0;
}

static int run_cloud(struct cloud *cloud, const char *folder) {
    struct build_run *run = cloud->run;
    struct error error = {0};
    int status = strncmp(folder, "git+", 4) == 0
                     ? 0
                     : build_stage_measure(&cloud->stage, run, folder, !cloud->file);
    if (status)
        return status;
    cleanup_json json_t *message = make_message(cloud, &error);
    if (!message)
        return build_complain("%s", error.text);
    bool dry_run = arguments_flag(run->arguments, "dry-run");
    if (!dry_run && cloud->stage.context && !build_stage_upload(&cloud->stage, run, &error))
        return error.kind == ERROR_CLOSED ? BUILD_INTERRUPTED : build_complain("%s", error.text);
    if (!set_source(cloud, message, folder))
        return build_complain("out of memory");
    return dry_run ? print_dry_run(cloud, message) : submit(cloud, message);
}

int build_at_cloudbuild(struct build_run *run, const char *folder) {
    struct cloud cloud = {.run = run};
    int status = build_run_open(run);
    if (!status)
        status = build_stage_begin(&cloud.stage, run);
    if (!status)
        status = read_build_file(&cloud);
    if (!status)
        status = run_cloud(&cloud, folder);
    build_stage_end(&cloud.stage);
    json_decref(cloud.file);
    return status;
}
