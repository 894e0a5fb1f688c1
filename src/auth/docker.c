/* Docker's config.json and credential helpers as sources. */
#include "auth/credential.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include "auth/docker_config.h"
#include "auth/program.h"
#include "auth/shown.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/secret.h"

enum { HELPER_TIMEOUT_MS = 15000 };

/* What a helper without a credential prints; Docker compares with exactly this text. */
#define NOT_FOUND "credentials not found in native keychain"

enum { PROGRAM_SIZE = sizeof "docker-credential-" + DOCKER_HELPER_NAME_SIZE };

/* The program of a helper, which `name` is itself if it is an absolute path. */
static const char *helper_program(const char *name, char out[static PROGRAM_SIZE]) {
    if (*name == '/')
        return name;
    snprintf(out, PROGRAM_SIZE, "docker-credential-%s", name);
    return out;
}

/* The helper's program without its folders, which are no business of clients. */
static const char *helper_shown(const char *name, char out[static PROGRAM_SIZE]) {
    const char *program = helper_program(name, out), *slash = strrchr(program, '/');
    return slash ? slash + 1 : program;
}

/* Runs the helper's `get` once. *found is false when the helper has nothing for this server. */
static bool ask_helper(const char *name, const char *server, bool *found, struct credential *out,
                       struct error *error) {
    char buffer[PROGRAM_SIZE];
    const char *program = helper_program(name, buffer);
    cleanup_program_result struct program_result result = {0};
    *found = false;
    if (!program_run((const char *const[]){program, "get", NULL}, server, HELPER_TIMEOUT_MS,
                     &result, error))
        return false;
    struct text said = {result.out.bytes, result.out.length};
    while (said.length && strchr(" \t\r\n", said.at[said.length - 1]))
        said.length--;
    if (result.exit_status == 0) {
        *found = true;
        return docker_config_read_helper(said.at, said.length, out, error) ||
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

/* Docker stores the entry of Docker Hub under a URL, other writers store it under a host name. */
static bool ask_helper_for(const char *name, const char *host, struct credential *out,
                           struct error *error) {
    bool found = false, hub = docker_config_is_hub(host);
    if (!ask_helper(name, hub ? DOCKER_HUB_KEY : host, &found, out, error))
        return false;
    if (!found && hub && !ask_helper(name, "docker.io", &found, out, error))
        return false;
    char buffer[PROGRAM_SIZE];
    if (found && out->kind != CREDENTIAL_ANONYMOUS)
        snprintf(out->from, sizeof out->from, "%.100s", helper_shown(name, buffer));
    return true;
}

static bool helper_get(void *context, const char *host, bool renew, struct credential *out,
                       struct error *error) {
    (void)renew; /* the helper is asked each time */
    return ask_helper_for(context, host, out, error);
}

static bool helper_may_run(const void *context) {
    (void)context;
    return true;
}

struct credential_source *credential_source_helper(const char *name) {
    char label[sizeof "helper " + PROGRAM_SIZE], buffer[PROGRAM_SIZE];
    bool is_path = *name == '/';
    const struct credential_source_kind kind = {.name = label,
                                                .by_host = true,
                                                .may_hang = true,
                                                .get = helper_get,
                                                .free_context = free,
                                                .may_run = helper_may_run};
    if (!is_path && !docker_config_is_helper_name(name))
        return NULL;
    char *copy = strdup(name);
    if (!copy)
        return NULL;
    snprintf(label, sizeof label, "helper %.60s", is_path ? helper_shown(name, buffer) : name);
    return credential_source_new(&kind, copy);
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

/* The whole file, to be wiped. NULL: *missing, where no file is no error, or the error is set. */
static char *read_config(const char *path, size_t *length, bool *missing, struct error *error) {
    struct error reason = {0};
    char *bytes = file_read_small(path, DOCKER_CONFIG_LIMIT, FILE_REGULAR, length, NULL, &reason);
    *missing = !bytes && reason.kind == ERROR_NOT_FOUND;
    if (!bytes && !*missing && error)
        *error = reason;
    return bytes;
}

/* Frees what read_config() returned, which holds secrets. */
static void wipe_config(char *bytes, size_t length) {
    if (bytes)
        explicit_bzero(bytes, length);
    free(bytes);
}

/* Looks `host` up in one config; *out stays anonymous when there is no entry. */
static bool look_up(const void *bytes, size_t length, const char *origin, const char *host,
                    struct credential *out, struct error *error) {
    cleanup_docker_config_entry struct docker_config_entry entry = {0};
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
        snprintf(out->from, sizeof out->from, "docker config");
    return true;
}

static bool docker_get(void *context, const char *host, bool renew, struct credential *out,
                       struct error *error) {
    const struct docker *docker = context;
    const char *inherited = getenv("DOCKER_AUTH_CONFIG");
    char path[PATH_MAX], origin[sizeof out->from];
    bool missing;
    size_t length;
    (void)renew; /* the config is read each time */
    if (!docker->file && inherited && *inherited) {
        if (!look_up(inherited, strlen(inherited), "DOCKER_AUTH_CONFIG", host, out, error))
            return false;
        if (out->kind != CREDENTIAL_ANONYMOUS)
            return true;
    }
    if (!config_path(docker, path, sizeof path))
        return true;
    snprintf(origin, sizeof origin, "docker config %.140s", shown_value(path));
    char *bytes = read_config(path, &length, &missing, error);
    if (!bytes)
        return missing || error_wrap(error, "%s", origin);
    bool ok = look_up(bytes, length, origin, host, out, error);
    wipe_config(bytes, length);
    return ok;
}

/* What cannot be read is get()'s to report. */
static void docker_get_namespaces(void *context, const char *host,
                                  struct credential_namespaces *out) {
    const struct docker *docker = context;
    const char *inherited = getenv("DOCKER_AUTH_CONFIG");
    char path[PATH_MAX];
    bool missing;
    size_t length;
    if (!docker->file && inherited && *inherited)
        docker_config_find_namespaces(inherited, strlen(inherited), host, out);
    if (!config_path(docker, path, sizeof path))
        return;
    char *bytes = read_config(path, &length, &missing, NULL);
    if (bytes)
        docker_config_find_namespaces(bytes, length, host, out);
    wipe_config(bytes, length);
}

/* A config that exists but cannot be read now counts as one with a helper, because it may be
 * readable later. */
static bool docker_may_run(const void *context) {
    const struct docker *docker = context;
    const char *inherited = getenv("DOCKER_AUTH_CONFIG");
    char path[PATH_MAX];
    bool missing;
    size_t length;
    if (!docker->file && inherited && *inherited &&
        docker_config_has_helpers(inherited, strlen(inherited)))
        return true;
    if (!config_path(docker, path, sizeof path))
        return false;
    char *bytes = read_config(path, &length, &missing, NULL);
    if (!bytes)
        return !missing;
    bool has_helpers = docker_config_has_helpers(bytes, length);
    wipe_config(bytes, length);
    return has_helpers;
}

struct credential_source *credential_source_docker(const char *file) {
    static const struct credential_source_kind kind = {.name = "docker",
                                                       .by_host = true,
                                                       .may_hang = true,
                                                       .get = docker_get,
                                                       .get_namespaces = docker_get_namespaces,
                                                       .free_context = docker_free,
                                                       .may_run = docker_may_run};
    struct docker *docker = calloc(1, sizeof *docker);
    if (docker && file && !(docker->file = strdup(file))) {
        free(docker);
        return NULL;
    }
    return docker ? credential_source_new(&kind, docker) : NULL;
}
