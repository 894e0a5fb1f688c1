/* Programs that print a credential: what they are told, how they run, what they print. */
#include "kubernetes/exec_credential.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "auth/google/google.h"
#include "auth/program.h"
#include "base/base64.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/secret.h"

enum { TIMEOUT_MS = 60000 };

#define GKE_PROGRAM "gke-gcloud-auth-plugin"

void exec_credential_wipe(struct exec_credential *credential) {
    secret_free(&credential->token);
    secret_free(&credential->certificate);
    secret_free(&credential->key);
    *credential = (struct exec_credential){0};
}

/* ---- what it prints ---- */

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "out of memory");
}

/* Copies a string of the status, if it is there. */
static bool copy_text(const json_t *status, const char *name, char **out, struct error *error) {
    const json_t *value = json_object_get(status, name);
    if (!value || json_is_null(value))
        return true;
    if (!json_is_string(value) || json_string_length(value) != strlen(json_string_value(value)))
        return error_set(error, ERROR_INVALID, "status.%s is no text", name);
    if (!*json_string_value(value))
        return true;
    *out = strdup(json_string_value(value));
    return *out || no_memory(error);
}

static bool read_end(const json_t *status, struct exec_credential *out, struct error *error) {
    const json_t *end = json_object_get(status, "expirationTimestamp");
    out->expires_s = INT64_MAX;
    if (!end || json_is_null(end))
        return true;
    return (json_is_string(end) && clock_parse_rfc3339(json_string_value(end), &out->expires_s)) ||
           error_set(error, ERROR_INVALID,
                     "status.expirationTimestamp is no time (RFC 3339: 2026-01-02T15:04:05Z)");
}

static bool read_status(const json_t *status, struct exec_credential *out, struct error *error) {
    if (!json_is_object(status))
        return error_set(error, ERROR_INVALID, "the ExecCredential has no status");
    if (!copy_text(status, "token", &out->token, error) ||
        !copy_text(status, "clientCertificateData", &out->certificate, error) ||
        !copy_text(status, "clientKeyData", &out->key, error) || !read_end(status, out, error))
        return false;
    if (!out->certificate != !out->key)
        return error_set(error, ERROR_INVALID,
                         "status has one of clientCertificateData and clientKeyData alone");
    return out->token || out->certificate ||
           error_set(error, ERROR_INVALID, "status has neither a token nor a certificate");
}

bool exec_credential_read(struct text printed, const char *version, struct exec_credential *out,
                          struct error *error) {
    *out = (struct exec_credential){0};
    cleanup_secret_json json_t *json = bounded_json_load(printed.at, printed.length, NULL);
    const char *kind = json_string_value(json_object_get(json, "kind"));
    const char *own = json_string_value(json_object_get(json, "apiVersion"));
    if (!kind || strcmp(kind, "ExecCredential") != 0)
        return error_set(error, ERROR_INVALID, "it printed no ExecCredential (JSON)");
    if (!own || strcmp(own, version) != 0)
        return error_set(error, ERROR_INVALID,
                         "the apiVersion of its ExecCredential is not %s, as the kubeconfig says",
                         version);
    if (read_status(json_object_get(json, "status"), out, error))
        return true;
    exec_credential_wipe(out);
    return false;
}

/* ---- what it is told ---- */

/* spec.cluster of KUBERNETES_EXEC_INFO; NULL: out of memory. */
static json_t *describe_cluster(const struct kubeconfig *config, struct text authority) {
    json_t *cluster = json_object();
    int failed = json_object_set_new(cluster, "server", json_string(config->server));
    if (config->server_name)
        failed |= json_object_set_new(cluster, "tls-server-name", json_string(config->server_name));
    if (config->insecure)
        failed |= json_object_set_new(cluster, "insecure-skip-tls-verify", json_true());
    if (authority.length) {
        cleanup_free char *data = base64_encode(authority.at, authority.length);
        failed |=
            !data || json_object_set_new(cluster, "certificate-authority-data", json_string(data));
    }
    if (config->proxy)
        failed |= json_object_set_new(cluster, "proxy-url", json_string(config->proxy));
    if (config->exec.cluster_options)
        failed |= json_object_set(cluster, "config", config->exec.cluster_options);
    if (!failed)
        return cluster;
    json_decref(cluster);
    return NULL;
}

/* "KUBERNETES_EXEC_INFO=…". */
static bool describe(const struct kubeconfig *config, struct text authority, struct buffer *out) {
    cleanup_json json_t *cluster = NULL;
    if (config->exec.wants_cluster && !(cluster = describe_cluster(config, authority)))
        return false;
    buffer_printf(out,
                  "KUBERNETES_EXEC_INFO={\"apiVersion\":\"%s\",\"kind\":\"ExecCredential\","
                  "\"spec\":{\"interactive\":false",
                  config->exec.version);
    if (cluster) {
        buffer_append_string(out, ",\"cluster\":");
        bounded_json_dump(cluster, JSON_COMPACT, out);
    }
    return buffer_append_string(out, "}}");
}

/* ---- running it ---- */

/* Whether a program can be started: at its path, or somewhere on PATH. */
static bool is_there(const char *command) {
    char path[PATH_MAX];
    const char *list = getenv("PATH");
    if (strchr(command, '/'))
        return access(command, X_OK) == 0;
    for (struct text folders = text_of(list ? list : "/bin:/usr/bin"); folders.at;) {
        struct text folder = text_cut(folders, ':', &folders);
        if (snprintf(path, sizeof path, "%.*s/%s", TEXT_PRINT(folder), command) <
                (int)sizeof path &&
            access(path, X_OK) == 0)
            return true;
    }
    return false;
}

static bool is_gke(const char *command) {
    const char *slash = strrchr(command, '/');
    return strcmp(slash ? slash + 1 : command, GKE_PROGRAM) == 0;
}

/* The token that gke-gcloud-auth-plugin would print: one of Google's for this machine. */
static bool ask_google(struct client *client, struct exec_credential *out, struct error *error) {
    cleanup_google_token struct google_token token = {0};
    if (!google_token_fetch(&(struct google_question){.client = client}, &token, error))
        return error_wrap(error, GKE_PROGRAM " is not here, and tarn's own Google credentials");
    if (!token.secret)
        return error_set(error, ERROR_UNAVAILABLE,
                         GKE_PROGRAM " is not here, and tarn finds no Google credentials of its "
                                     "own (tarn whoami says where it looks)");
    out->token = take(token.secret);
    out->expires_s = clock_wall_s() + (token.expires_ms - clock_ms()) / 1000;
    return true;
}

/* Runs the program, which is there, or is reported as missing. */
static bool run(const struct kubeconfig *config, const struct buffer *info,
                struct exec_credential *out, struct error *error) {
    const struct kubeconfig_exec *exec = &config->exec;
    cleanup_program_result struct program_result result = {0};
    size_t count = 0;
    while (exec->variables[count])
        count++;
    cleanup_free const char **variables = calloc(count + 2, sizeof *variables);
    if (!variables)
        return no_memory(error);
    for (size_t i = 0; i < count; i++)
        variables[i] = exec->variables[i];
    variables[count] = info->bytes;
    if (!program_run_in((const char *const *)exec->arguments, variables, "", TIMEOUT_MS, &result,
                        error))
        return false;
    if (result.exit_status != 0)
        return error_set(error, ERROR_DENIED, "%s: exit status %d%s%s", exec->command,
                         result.exit_status, result.complaint[0] ? ": " : "", result.complaint);
    return exec_credential_read((struct text){result.out.bytes, result.out.length}, exec->version,
                                out, error) ||
           error_wrap(error, "%s", exec->command);
}

bool exec_credential_run(struct client *client, const struct kubeconfig *config,
                         struct text authority, struct exec_credential *out, struct error *error) {
    const struct kubeconfig_exec *exec = &config->exec;
    cleanup_buffer struct buffer info = {0};
    *out = (struct exec_credential){0};
    if (!is_there(exec->command)) {
        if (is_gke(exec->command))
            return ask_google(client, out, error);
        return error_set(error, ERROR_UNAVAILABLE, "%.200s: no such program%s%.200s", exec->command,
                         exec->hint ? ": " : " (the kubeconfig's `exec` names it)",
                         exec->hint ? exec->hint : "");
    }
    if (!describe(config, authority, &info))
        return no_memory(error);
    return run(config, &info, out, error);
}
