/* Docker's config.json and credential helpers as sources. */
#include "auth/credential.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include "auth/docker_config.h"
#include "auth/program.h"
#include "auth/source.h"
#include "base/cleanup.h"

enum { HELPER_TIMEOUT_MS = 15000 };

/* Docker compares what a failing helper prints with exactly this. */
#define NOT_FOUND "credentials not found in native keychain"

/* One `get`. *found is false when the helper has nothing for this server. */
static bool ask_helper(const char *name, const char *server, bool *found, struct credential *out,
                       struct error *error) {
    char program[sizeof "docker-credential-" + DOCKER_HELPER_NAME_SIZE];
    __attribute__((cleanup(program_result_finish))) struct program_result result = {0};
    snprintf(program, sizeof program, "docker-credential-%s", name);
    *found = false;
    if (!program_run((const char *const[]){program, "get", NULL}, server, HELPER_TIMEOUT_MS,
                     &result, error))
        return false;
    struct text said = {result.out.bytes, result.out.length};
    while (said.length && strchr(" \t\r\n", said.at[said.length - 1]))
        said.length--;
    if (result.exit_status == 0) {
        *found = true;
        return docker_helper_read(said.at, said.length, out, error) ||
               error_wrap(error, "%s get %s", program, server);
    }
    if (text_is(said, NOT_FOUND))
        return true;
    if (said.length == 0)
        said = text_of(result.complaint);
    if (said.length > 200)
        said.length = 200;
    return error_set(error, ERROR_UNAVAILABLE, "%s get %s: exit status %d: %.*s", program, server,
                     result.exit_status, TEXT_PRINT(said));
}

/* Docker Hub's entry is stored by Docker under a URL, by others under its name. */
static bool ask_helper_for(const char *name, const char *host, struct credential *out,
                           struct error *error) {
    bool found = false, hub = docker_host_is_hub(host);
    if (!ask_helper(name, hub ? DOCKER_HUB_KEY : host, &found, out, error))
        return false;
    if (!found && hub && !ask_helper(name, "docker.io", &found, out, error))
        return false;
    if (found && out->kind != CREDENTIAL_ANONYMOUS)
        snprintf(out->from, sizeof out->from, "docker-credential-%s", name);
    return true;
}

static bool helper_get(void *context, const char *host, bool renew, struct credential *out,
                       struct error *error) {
    (void)renew; /* a helper is asked anew each time */
    return ask_helper_for(context, host, out, error);
}

static bool helper_may_run(const void *context) {
    (void)context;
    return true;
}

struct credential_source *credential_source_helper(const char *name) {
    char label[sizeof "helper " + DOCKER_HELPER_NAME_SIZE];
    if (!docker_helper_name_ok(name))
        return NULL;
    char *copy = strdup(name);
    if (!copy)
        return NULL;
    snprintf(label, sizeof label, "helper %s", name);
    struct credential_source *source = source_new_named(label, true, helper_get, free, copy);
    if (source)
        credential_source_may_run(source, helper_may_run);
    return source;
}

/* ---- config.json ---- */

struct docker {
    char *file; /* owned; NULL: Docker's own places */
};

static void docker_free(void *context) {
    struct docker *docker = context;
    free(docker->file);
    free(docker);
}

/* False: there is no such place (no HOME). */
static bool config_path(const struct docker *docker, char *out, size_t size) {
    const char *folder = getenv("DOCKER_CONFIG"), *home = getenv("HOME");
    int length;
    if (docker->file)
        length = snprintf(out, size, "%s", docker->file);
    else if (folder && *folder)
        length = snprintf(out, size, "%s/config.json", folder);
    else if (home && *home)
        length = snprintf(out, size, "%s/.docker/config.json", home);
    else
        return false;
    return length > 0 && (size_t)length < size;
}

/* *missing: there is no such file, which is no error unless the configuration names it. */
static bool read_config(const char *path, struct buffer *out, bool *missing, struct error *error) {
    *missing = false;
    FILE *file = fopen(path, "re");
    if (!file) {
        *missing = errno == ENOENT || errno == ENOTDIR;
        return *missing || error_set_errno(error, errno, "open");
    }
    char bytes[4096];
    size_t got;
    while ((got = fread(bytes, 1, sizeof bytes, file)) > 0 && buffer_append(out, bytes, got))
        ;
    bool failed = ferror(file);
    int reason = errno;
    fclose(file);
    explicit_bzero(bytes, sizeof bytes);
    if (failed)
        return error_set_errno(error, reason, "read");
    return !out->failed ||
           error_set(error, ERROR_INVALID, "it is longer than %zu bytes", out->limit);
}

static void wipe_buffer(struct buffer *buffer) {
    if (buffer->bytes)
        explicit_bzero(buffer->bytes, buffer->capacity);
    buffer_finish(buffer);
}

/* What one config says; *out stays anonymous when it says nothing. */
static bool look_up(const void *bytes, size_t length, const char *origin, const char *host,
                    struct credential *out, struct error *error) {
    __attribute__((cleanup(docker_entry_finish))) struct docker_entry entry = {0};
    if (!docker_config_find(bytes, length, host, &entry, error))
        return error_wrap(error, "%s", origin);
    if (entry.helper[0]) {
        if (!ask_helper_for(entry.helper, host, out, error))
            return error_wrap(error, "%s", origin);
        if (out->kind != CREDENTIAL_ANONYMOUS || entry.helper_decides)
            return true;
    }
    *out = entry.credential;
    entry.credential = (struct credential){0};
    if (out->kind != CREDENTIAL_ANONYMOUS)
        snprintf(out->from, sizeof out->from, "%s", origin);
    return true;
}

static bool docker_get(void *context, const char *host, bool renew, struct credential *out,
                       struct error *error) {
    const struct docker *docker = context;
    const char *inherited = getenv("DOCKER_AUTH_CONFIG");
    char path[PATH_MAX], origin[sizeof out->from];
    bool missing;
    (void)renew; /* read anew each time */
    if (!docker->file && inherited && *inherited) {
        if (!look_up(inherited, strlen(inherited), "DOCKER_AUTH_CONFIG", host, out, error))
            return false;
        if (out->kind != CREDENTIAL_ANONYMOUS)
            return true;
    }
    if (!config_path(docker, path, sizeof path))
        return true;
    snprintf(origin, sizeof origin, "docker config %.140s", path);
    __attribute__((cleanup(wipe_buffer))) struct buffer bytes = {.limit = DOCKER_CONFIG_LIMIT};
    if (!read_config(path, &bytes, &missing, error))
        return error_wrap(error, "%s", origin);
    if (missing)
        return true;
    return look_up(bytes.bytes, bytes.length, origin, host, out, error);
}

/* What is there but cannot be read now may name one later. */
static bool docker_may_run(const void *context) {
    const struct docker *docker = context;
    const char *inherited = getenv("DOCKER_AUTH_CONFIG");
    char path[PATH_MAX];
    bool missing;
    if (!docker->file && inherited && *inherited &&
        docker_config_has_helpers(inherited, strlen(inherited)))
        return true;
    if (!config_path(docker, path, sizeof path))
        return false;
    __attribute__((cleanup(wipe_buffer))) struct buffer bytes = {.limit = DOCKER_CONFIG_LIMIT};
    if (!read_config(path, &bytes, &missing, NULL))
        return true;
    return !missing && docker_config_has_helpers(bytes.bytes, bytes.length);
}

struct credential_source *credential_source_docker(const char *file) {
    struct docker *docker = calloc(1, sizeof *docker);
    if (docker && file && !(docker->file = strdup(file))) {
        free(docker);
        return NULL;
    }
    if (!docker)
        return NULL;
    struct credential_source *source =
        source_new_named("docker", true, docker_get, docker_free, docker);
    if (source)
        credential_source_may_run(source, docker_may_run);
    return source;
}
