/* tarn build with Cloud Build: the context goes to a bucket of the project, the build is submitted
 * and followed. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "build/context.h"
#include "build/schema.h"
#include "build/staging.h"
#include "cmd/build.h"
#include "cmd/build_context.h"
#include "copy/compress.h"

enum { BUILD_FILE_LIMIT = 1 << 20, UPLOADS_MOST = 3, OBJECT_SIZE = 200 };

struct cloud {
    struct build_run *run;
    struct build_context *context; /* NULL: git's */
    json_t *file;                  /* the build file; NULL: none */
    char bucket[STAGING_BUCKET_SIZE], object[OBJECT_SIZE], generation[STAGING_GENERATION_SIZE];
    char **images; /* with their tags; owned; ends with NULL */
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

/* "100", "100GB", "100GiB": whole gigabytes. */
static bool read_disk_size(const char *text, int64_t *gigabytes) {
    size_t length = strspn(text, "0123456789");
    uint64_t number;
    if (!text_to_u64((struct text){text, length}, &number) || number == 0 || number > 1000000)
        return false;
    *gigabytes = (int64_t)number;
    const char *unit = text + length;
    return !*unit || strcmp(unit, "GB") == 0 || strcmp(unit, "G") == 0 ||
           strcmp(unit, "GiB") == 0 || strcmp(unit, "Gi") == 0;
}

static json_t *make_message(struct cloud *cloud, struct error *error) {
    const struct build_run *run = cloud->run;
    const struct arguments *arguments = run->arguments;
    const char *disk = arguments_string(arguments, "disk-size");
    struct message_wish wish = {
        .file = cloud->file,
        .images = (const char *const *)cloud->images,
        .dockerfile =
            cloud->context ? cloud->context->dockerfile : arguments_string(arguments, "file"),
        .build_args = run->build_args,
        .target = arguments_string(arguments, "target"),
        .platform = arguments_string(arguments, "platform"),
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
        wish.logs_bucket = cloud->bucket;
    if (strncmp(wish.logs_bucket, "gs://", 5) == 0)
        wish.logs_bucket += 5;
    if (disk && !read_disk_size(disk, &wish.disk_size_gb)) {
        error_set(error, ERROR_INVALID, "--disk-size %.40s: a number of gigabytes is wanted", disk);
        return NULL;
    }
    return message_make(&wish, error);
}

/* Every --to with its tag. The exit status. */
static int read_images(struct cloud *cloud) {
    size_t count = 0;
    while (cloud->run->images[count])
        count++;
    cloud->images = calloc(count + 1, sizeof *cloud->images);
    for (size_t i = 0; cloud->images && i < count; i++) {
        char image[1024];
        struct error error = {0};
        if (!message_image(cloud->run->images[i], image, sizeof image, &error))
            return command_refuse(cloud->run->arguments->command, "--to %s", error.text);
        if (!(cloud->images[i] = strdup(image)))
            return build_complain("out of memory");
    }
    return cloud->images ? 0 : build_complain("out of memory");
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
        .bucket = cloud->bucket,
        .object = cloud->object,
        .generation = cloud->generation[0] ? cloud->generation : NULL,
    };
    return cloud->context ? message_set_source(message, &source) : set_git(message, folder);
}

static bool write_upload(void *context, const void *bytes, size_t length, struct error *error) {
    struct staging_upload *upload = context;
    return staging_write(upload, bytes, length, error);
}

static bool write_compress(void *context, const void *bytes, size_t length, struct error *error) {
    struct compress *compress = context;
    return compress_write(compress, bytes, length, error);
}

/* Packs, compresses and uploads the context once. *lost: the service has dropped the session. */
static bool upload_once(struct cloud *cloud, bool *lost, struct error *error) {
    struct staging_upload *upload =
        staging_begin(cloud->run->api, cloud->bucket, cloud->object, error);
    if (!upload)
        return false;
    const struct sink out = {write_upload, upload};
    struct compress_result result;
    struct compress *compress = compress_new(COMPRESS_GZIP, 0, &out, error);
    const struct sink in = {write_compress, compress};
    bool ok = compress && context_write(cloud->context->context, &in, error) &&
              compress_finish(compress, &result, error) &&
              staging_finish(upload, cloud->generation, error);
    *lost = staging_is_lost(upload);
    compress_free(compress);
    staging_free(upload);
    return ok;
}

/* A session that the service has dropped is begun anew. */
static bool upload(struct cloud *cloud, struct error *error) {
    bool lost = false;
    for (unsigned tries = 1; !upload_once(cloud, &lost, error); tries++) {
        if (!lost || tries == UPLOADS_MOST)
            return false;
        error_clear(error);
    }
    return true;
}

/* The context is at its object, which is made if it is not there. */
static bool stage(struct cloud *cloud, struct error *error) {
    const struct build_run *run = cloud->run;
    const bool is_given = arguments_string(run->arguments, "staging-bucket") != NULL;
    bool found = false;
    if (!staging_check_bucket(run->api, run->project, run->region, cloud->bucket, !is_given,
                              error) ||
        !staging_find(run->api, cloud->bucket, cloud->object, &found, cloud->generation, error) ||
        (!found && !upload(cloud, error)))
        return false;
    build_context_show(run, cloud->context, cloud->object, found ? "present" : "uploaded");
    return true;
}

/* ---- all of it ---- */

static int print_dry_run(const struct cloud *cloud, json_t *message) {
    cleanup_buffer struct buffer text = {0};
    json_t *event = cloud->context ? build_context_json(cloud->context, cloud->object, "dry_run")
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
        return build_follow(run, build, (const char *const *)cloud->images);
    json_t *event = json_pack(
        "{s:s, s:O, s:O*, s:O*}", "event", "build", "id", json_object_get(build, "id"), "status",
        json_object_get(build, "status"), "log_url", json_object_get(build, "logUrl"));
    if (!run->json)
        printf("%s\n", json_string_value(json_object_get(build, "id")));
    build_show_event(run, event);
    json_decref(build);
    return 0;
}

/* The context is measured, and the object named after it. The exit status. */
static int measure(struct cloud *cloud, const char *folder) {
    char digest[DIGEST_STRING_SIZE];
    if (strncmp(folder, "git+", 4) == 0)
        return 0;
    int status = build_context_open(cloud->run, folder, !cloud->file, true, &cloud->context);
    if (status)
        return status;
    digest_format(&cloud->context->sum.digest, digest);
    snprintf(cloud->object, sizeof cloud->object, "source/sha256-%s.tgz",
             digest + strlen("sha256:"));
    return 0;
}

static int run_cloud(struct cloud *cloud, const char *folder) {
    struct build_run *run = cloud->run;
    struct error error = {0};
    int status = measure(cloud, folder);
    if (status)
        return status;
    cleanup_json json_t *message = make_message(cloud, &error);
    if (!message)
        return build_complain("%s", error.text);
    bool dry_run = arguments_flag(run->arguments, "dry-run");
    if (!dry_run && cloud->context && !stage(cloud, &error))
        return error.kind == ERROR_CLOSED ? BUILD_INTERRUPTED : build_complain("%s", error.text);
    if (!set_source(cloud, message, folder))
        return build_complain("out of memory");
    return dry_run ? print_dry_run(cloud, message) : submit(cloud, message);
}

int build_at_cloudbuild(struct build_run *run, const char *folder) {
    struct cloud cloud = {.run = run};
    const char *bucket = arguments_string(run->arguments, "staging-bucket");
    if (bucket && strncmp(bucket, "gs://", 5) == 0)
        bucket += 5;
    int status = read_images(&cloud);
    if (!status)
        status = build_run_open(run);
    if (!status && !(bucket ? text_copy(text_of(bucket), cloud.bucket, sizeof cloud.bucket)
                            : staging_bucket_name(run->project, run->region, cloud.bucket)))
        status = build_complain("the name of the staging bucket is too long");
    if (!status)
        status = read_build_file(&cloud);
    if (!status)
        status = run_cloud(&cloud, folder);
    build_context_close(cloud.context);
    json_decref(cloud.file);
    for (size_t i = 0; cloud.images && cloud.images[i]; i++)
        free(cloud.images[i]);
    free(cloud.images);
    return status;
}
