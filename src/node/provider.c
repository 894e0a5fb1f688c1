/* Writes the kubelet's credential provider and its configuration to a node. */
#include "node/provider.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/buffer.h"
#include "base/cleanup.h"
#include "node/launcher.h"
#include "node/program.h"
#include "node/tree.h"
#include "oci/digest.h"

enum { ENTRIES_LIMIT = 10000 };

#define FIRST_LINE                                                                                 \
    "# Written by \"tarn kubelet-credential-provider install\", which replaces it; do not edit "   \
    "it.\n"
#define SECOND_LINE "# tarn-provider "

/* What is to be written, and what is there. */
struct job {
    const struct provider_settings *settings;
    struct tree tree;
    struct program program;
    char launcher_path[PATH_MAX];
    char *launcher_now; /* owned; NULL: there is none */
    size_t launcher_now_length;
    char folder_now[PROGRAM_FOLDER_SIZE]; /* that the launcher leads to; "": none */
    struct buffer launcher;
    char *config_now; /* owned; NULL: there is none */
    size_t config_now_length;
    struct buffer config;
};

static void job_finish(struct job *job) {
    free(job->launcher_now);
    free(job->config_now);
    buffer_finish(&job->launcher);
    buffer_finish(&job->config);
    program_finish(&job->program);
    tree_close(&job->tree);
}

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "out of memory");
}

/* Reads a file that may be missing. False: it is there and cannot be read. */
static bool read_if_there(const struct tree *tree, const char *path, enum tree_link link,
                          char **bytes, size_t *length, struct error *error) {
    struct error why;
    *bytes = tree_read(tree, path, link, length, NULL, &why);
    if (*bytes || why.kind == ERROR_NOT_FOUND)
        return true;
    *error = why;
    return false;
}

/* ---- the launcher ---- */

/* Where the slot of a launcher begins; NULL: the bytes are no launcher that was installed. */
static const char *find_slot(const char *bytes, size_t length) {
    const char *marker = memmem(bytes, length, LAUNCHER_MARKER, strlen(LAUNCHER_MARKER));
    if (!marker || (size_t)(bytes + length - marker) < LAUNCHER_SLOT_SIZE)
        return NULL;
    return marker + strlen(LAUNCHER_MARKER);
}

static bool render_launcher(struct job *job, struct error *error) {
    const size_t room = LAUNCHER_SLOT_SIZE - strlen(LAUNCHER_MARKER);
    if (launcher_length == 0)
        return error_set(error, ERROR_INVALID,
                         "this tarn is for a processor that the launcher is not written for");
    if (!buffer_append(&job->launcher, launcher_bytes, launcher_length))
        return no_memory(error);
    char *slot = (char *)find_slot(job->launcher.bytes, job->launcher.length);
    int length = slot ? snprintf(slot, room, "%s/%s", job->program.folder, job->program.loader) : 0;
    return (length > 0 && (size_t)length < room) ||
           error_set(error, ERROR_INVALID, "the name of the loader, %s, is too long",
                     job->program.loader);
}

/* Finds out which folder the installed launcher leads to. */
static bool read_launcher(struct job *job, struct error *error) {
    const char *path = job->launcher_path;
    if (!read_if_there(&job->tree, path, TREE_NO_FOLLOW, &job->launcher_now,
                       &job->launcher_now_length, error))
        return error_wrap(error, "the file is not one that tarn installed; remove it first");
    if (!job->launcher_now)
        return true;
    const char *slot = find_slot(job->launcher_now, job->launcher_now_length);
    size_t length = slot ? strcspn(slot, "/") : 0;
    if (length >= sizeof job->folder_now)
        length = 0;
    text_copy((struct text){slot, length}, job->folder_now, sizeof job->folder_now);
    return program_is_folder(job->folder_now) ||
           error_set(error, ERROR_INVALID,
                     "%s%s: the file is not one that tarn installed; remove it first, or choose "
                     "another folder by --bin-dir",
                     job->tree.folder, path);
}

/* ---- the configuration ---- */

/* A string of YAML in quotes, which JSON's escapes suit. */
static void append_quoted(struct buffer *out, const char *before, const char *value,
                          const char *after) {
    buffer_printf(out, "%s\"", before);
    buffer_append_json(out, text_of(value));
    buffer_printf(out, "\"%s", after);
}

static void append_images(struct buffer *out, const struct provider_settings *settings) {
    static const char *const google[] = {"gcr.io", "*.gcr.io", "*-docker.pkg.dev",
                                         "docker.*.rep.pkg.dev"};
    const char *const *images = settings->image_count ? settings->images : google;
    size_t count = settings->image_count ? settings->image_count : sizeof google / sizeof *google;
    buffer_append_string(out, "    matchImages:\n");
    for (size_t i = 0; i < count; i++)
        append_quoted(out, "      - ", images[i], "\n");
}

static void append_body(struct buffer *out, const struct provider_settings *settings) {
    buffer_append_string(out, "apiVersion: kubelet.config.k8s.io/v1\n"
                              "kind: CredentialProviderConfig\n"
                              "providers:\n"
                              "  - name: \"tarn\"\n"
                              "    apiVersion: \"credentialprovider.kubelet.k8s.io/v1\"\n"
                              "    args: [\"kubelet-credential-provider\"]\n");
    append_images(out, settings);
    buffer_append_string(out, "    defaultCacheDuration: \"0s\"\n");
    if (settings->credentials)
        append_quoted(out,
                      "    env:\n"
                      "      - name: \"GOOGLE_APPLICATION_CREDENTIALS\"\n"
                      "        value: ",
                      settings->credentials, "\n");
    if (settings->pod_audience)
        append_quoted(out,
                      "    tokenAttributes:\n"
                      "      serviceAccountTokenAudience: ",
                      settings->pod_audience,
                      "\n"
                      "      cacheType: \"ServiceAccount\"\n"
                      "      requireServiceAccount: false\n"
                      "      optionalServiceAccountAnnotationKeys:\n"
                      "        - \"iam.gke.io/enable-wi-image-pull\"\n");
}

static bool render_config(struct job *job, struct error *error) {
    cleanup_buffer struct buffer body = {0};
    char digest[DIGEST_STRING_SIZE];
    append_body(&body, job->settings);
    if (body.failed || !digest_format_text((struct text){body.bytes, body.length}, digest))
        return no_memory(error);
    buffer_printf(&job->config, FIRST_LINE SECOND_LINE "%s\n", digest);
    return buffer_append(&job->config, body.bytes, body.length) || no_memory(error);
}

/* Refuses a configuration that is not as tarn wrote it. */
static bool read_config(struct job *job, struct error *error) {
    const char *path = job->settings->config;
    char digest[DIGEST_STRING_SIZE];
    if (!read_if_there(&job->tree, path, TREE_NO_FOLLOW, &job->config_now, &job->config_now_length,
                       error))
        return false;
    struct text rest = {job->config_now, job->config_now_length};
    if (!rest.at)
        return true;
    bool is_ours = text_starts(rest, FIRST_LINE SECOND_LINE);
    if (is_ours) {
        struct text line = text_cut(text_from(rest, strlen(FIRST_LINE SECOND_LINE)), '\n', &rest);
        if (!digest_format_text(rest, digest))
            return no_memory(error);
        is_ours = text_is(line, digest);
    }
    return is_ours ||
           error_set(
               error, ERROR_INVALID,
               "%s%s: tarn did not write it, or somebody edited it; add the provider there by "
               "hand (deploy/kubelet), or choose another file by --config",
               job->tree.folder, path);
}

/* ---- doing it ---- */

static bool is_same(const char *now, size_t length, const struct buffer *wanted) {
    return now && length == wanted->length && memcmp(now, wanted->bytes, length) == 0;
}

/* Deletes folders of earlier versions, but for the one that counted until now. */
static void delete_old(const struct job *job) {
    const char *parent = job->settings->bin_dir;
    char path[PATH_MAX];
    cleanup_directory DIR *entries = tree_open_entries(&job->tree, parent, NULL);
    size_t seen = 0;
    for (struct dirent *entry; entries && (entry = readdir(entries)) && seen < ENTRIES_LIMIT;
         seen++) {
        if (program_is_folder(entry->d_name) && strcmp(entry->d_name, job->program.folder) != 0 &&
            strcmp(entry->d_name, job->folder_now) != 0 &&
            snprintf(path, sizeof path, "%s/%s", parent, entry->d_name) < (int)sizeof path)
            tree_delete_all(&job->tree, path);
    }
}

static bool write_program(struct job *job, struct provider_result *result, struct error *error) {
    const struct stat mode = {.st_mode = 0755, .st_uid = geteuid(), .st_gid = getegid()};
    if (!program_write(&job->program, &job->tree, job->settings->bin_dir, error))
        return false;
    if (is_same(job->launcher_now, job->launcher_now_length, &job->launcher))
        return true;
    if (!tree_write(&job->tree, job->launcher_path, TREE_NO_FOLLOW,
                    (struct text){job->launcher.bytes, job->launcher.length}, &mode, error))
        return false;
    result->wrote_program = true;
    delete_old(job);
    return true;
}

static bool write_config(const struct job *job, struct provider_result *result,
                         struct error *error) {
    if (is_same(job->config_now, job->config_now_length, &job->config))
        return true;
    result->wrote_config =
        tree_write(&job->tree, job->settings->config, TREE_NO_FOLLOW,
                   (struct text){job->config.bytes, job->config.length}, NULL, error);
    return result->wrote_config;
}

/* Looks at everything, and then does everything. */
static bool run(struct job *job, struct provider_result *result, struct error *error) {
    const struct provider_settings *settings = job->settings;
    if (snprintf(job->launcher_path, sizeof job->launcher_path, "%s/tarn", settings->bin_dir) >=
        (int)sizeof job->launcher_path)
        return error_set(error, ERROR_INVALID, "%s: the name is too long", settings->bin_dir);
    if (!tree_open(&job->tree, settings->folder, error) || !tree_lock(&job->tree, error))
        return false;
    tree_clean(&job->tree, job->launcher_path);
    tree_clean(&job->tree, settings->config);
    return program_find(&job->program, error) && render_launcher(job, error) &&
           render_config(job, error) && read_launcher(job, error) && read_config(job, error) &&
           write_program(job, result, error) && write_config(job, result, error);
}

bool provider_install(const struct provider_settings *settings, struct provider_result *result,
                      struct error *error) {
    *result = (struct provider_result){0};
    struct job *job = calloc(1, sizeof *job);
    if (!job)
        return no_memory(error);
    job->settings = settings;
    job->tree.fd = -1;
    bool ok = run(job, result, error);
    job_finish(job);
    free(job);
    return ok;
}
