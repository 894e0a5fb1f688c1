/* The command line of tarn build, and what its files have in common. */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "auth/google/google.h"
#include "base/log.h"
#include "base/secret.h"
#include "cmd/build.h"
#include "cmd/commands.h"
#include "oci/reference.h"

static atomic_bool interrupted;

static void on_interrupt(int number) {
    (void)number;
    atomic_store(&interrupted, true);
}

int build_complain(const char *format, ...) {
    va_list list;
    va_start(list, format);
    fputs("tarn build: ", stderr);
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
    va_end(list);
    return 1;
}

bool build_run_list(const struct build_run *run, const char *name, const char ***out) {
    const struct arguments *arguments = run->arguments;
    size_t count = 0, at = 0;
    const char *value;
    while (arguments_next(arguments, name, &at))
        count++;
    *out = calloc(count + 1, sizeof **out);
    at = count = 0;
    while (*out && (value = arguments_next(arguments, name, &at)))
        (*out)[count++] = value;
    return *out != NULL;
}

/* The project that an image of Artifact Registry or Container Registry is in. NULL: none. */
static char *project_of_image(const char *image) {
    struct text path, host = text_cut(text_of(image), '/', &path);
    struct text rest, project = text_cut(path, '/', &rest);
    bool is_google =
        text_ends(host, ".pkg.dev") || text_is(host, "gcr.io") || text_ends(host, ".gcr.io");
    return is_google && rest.at && project.length > 0 ? text_dup(project) : NULL;
}

/* The first that is given: --project, the environment, the first image's. */
static char *choose_project(const struct build_run *run) {
    static const char *const variables[] = {"GOOGLE_CLOUD_PROJECT", "CLOUDSDK_CORE_PROJECT"};
    const char *given = arguments_string(run->arguments, "project");
    if (given && *given)
        return strdup(given);
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) {
        const char *value = getenv(variables[i]);
        if (value && *value)
            return strdup(value);
    }
    for (size_t i = 0; run->images[i]; i++) {
        char *project = project_of_image(run->images[i]);
        if (project)
            return project;
    }
    return NULL;
}

static bool is_project(const char *text) {
    size_t length = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-.:");
    return length > 0 && length <= 100 && !text[length];
}

static int check_place(struct build_run *run) {
    const char *region = arguments_string(run->arguments, "region");
    run->region = region && *region ? region : "global";
    run->project = choose_project(run);
    if (!run->project)
        return build_complain("no project: name it with --project, GOOGLE_CLOUD_PROJECT, or an "
                              "image of Artifact Registry (--to REGION-docker.pkg.dev/PROJECT/…)");
    if (!is_project(run->project))
        return command_refuse(run->arguments->command, "--project %.60s is no project's name",
                              run->project);
    if (run->region[strspn(run->region, "abcdefghijklmnopqrstuvwxyz0123456789-")])
        return command_refuse(run->arguments->command, "--region %.60s is no region", run->region);
    return 0;
}

static void watch_interrupts(struct build_run *run) {
    const struct sigaction action = {.sa_handler = on_interrupt};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    run->cancel = (struct cancel){.stop = &interrupted};
}

/* The Google credentials of the upstream that the first image belongs to. NULL: there are none. */
static struct credential_source *configured_source(const struct build_run *run) {
    struct image_name name;
    if (!run->config || !run->to[0] || !image_name_parse(text_of(run->to[0]), &name, NULL))
        return NULL;
    for (size_t i = 0; i < run->config->upstream_count; i++) {
        const struct upstream_settings *upstream = &run->config->upstreams[i];
        if (text_matches_glob(upstream->host, text_of(name.host)) && upstream->credentials &&
            strcmp(credential_source_name(upstream->credentials), "google") == 0)
            return credential_source_keep(upstream->credentials);
    }
    return NULL;
}

/* The exit status. */
static int load_config(struct build_run *run) {
    const struct config_flags flags = {.file = arguments_string(run->arguments, "config")};
    cleanup_buffer struct buffer problems = {0};
    if (!flags.file)
        return 0;
    run->config = config_load(&flags, environ, &problems);
    if (run->config)
        return 0;
    fputs(problems.bytes ? problems.bytes : "tarn build: out of memory\n", stderr);
    return 1;
}

static int open_api(struct build_run *run) {
    static const struct google_settings search;
    struct error error = {0};
    run->client = client_new();
    run->source = configured_source(run);
    if (!run->source)
        run->source = google_credential_source(&search);
    if (!run->client || !run->source)
        return build_complain("out of memory");
    credential_source_set_client(run->source, run->client);
    run->api = api_new(run->client, run->source, &run->cancel, &error);
    return run->api ? 0 : build_complain("%s", error.text);
}

/* Every --to with its tag. The exit status. */
static int read_images(struct build_run *run) {
    size_t count = 0;
    const char *own = arguments_flag(run->arguments, "skaffold") ? getenv("IMAGE") : NULL;
    while (run->images[count])
        count++;
    if (own && *own) {
        const char **more = reallocarray(run->images, count + 2, sizeof own);
        if (!more)
            return build_complain("out of memory");
        run->images = more;
        run->images[count++] = own;
        run->images[count] = NULL;
    }
    run->to = calloc(count + 1, sizeof *run->to);
    for (size_t i = 0; run->to && i < count; i++) {
        char image[1024];
        struct error error = {0};
        if (!message_image(run->images[i], image, sizeof image, &error))
            return command_refuse(run->arguments->command, "--to %s", error.text);
        if (!(run->to[i] = strdup(image)))
            return build_complain("out of memory");
    }
    return run->to ? 0 : build_complain("out of memory");
}

bool build_run_disk_size(const struct build_run *run, int64_t *gigabytes, struct error *error) {
    static const char *const units[] = {"", "GB", "G", "GiB", "Gi", NULL};
    const char *text = arguments_string(run->arguments, "disk-size");
    uint64_t number;
    if (!text)
        return true;
    size_t length = strspn(text, "0123456789");
    bool sound =
        text_to_u64((struct text){text, length}, &number) && number > 0 && number <= 1000000;
    for (size_t i = 0; sound && units[i]; i++) {
        if (strcmp(text + length, units[i]) == 0) {
            *gigabytes = (int64_t)number;
            return true;
        }
    }
    return error_set(error, ERROR_INVALID, "--disk-size %.40s: a number of gigabytes is wanted",
                     text);
}

int build_run_begin(struct build_run *run, const struct arguments *arguments) {
    *run = (struct build_run){.arguments = arguments};
    run->json = arguments_flag(arguments, "json") || !isatty(STDOUT_FILENO);
    run->platform = arguments_string(arguments, "platform");
    secret_forbid_core_dumps();
    log_configure(LOG_ERROR, LOG_TEXT); /* what goes wrong is told in one sentence at the end */
    if (!build_run_list(run, "to", &run->images) ||
        !build_run_list(run, "build-arg", &run->build_args) ||
        !build_run_list(run, "substitution", &run->substitutions) ||
        !build_run_list(run, "secret", &run->secrets) ||
        !build_run_list(run, "build-tag", &run->tags))
        return build_complain("out of memory");
    watch_interrupts(run);
    return read_images(run);
}

int build_run_open(struct build_run *run) {
    int status = check_place(run);
    if (!status)
        status = load_config(run);
    return status ? status : open_api(run);
}

void build_run_end(struct build_run *run) {
    api_free(run->api);
    credential_source_free(run->source);
    config_free(run->config); /* NULL is fine */
    client_free(run->client);
    for (size_t i = 0; run->to && run->to[i]; i++)
        free(run->to[i]);
    free(run->to);
    free(run->images);
    free(run->build_args);
    free(run->substitutions);
    free(run->secrets);
    free(run->tags);
    free(run->project);
}

struct cloudbuild build_run_cloudbuild(const struct build_run *run) {
    return (struct cloudbuild){.api = run->api, .project = run->project, .region = run->region};
}
