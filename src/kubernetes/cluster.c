/* Which cluster is meant. */
#include "kubernetes/cluster.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/cleanup.h"
#include "base/file.h"
#include "base/secret.h"

enum {
    FILES_LIMIT = 32,     /* of $KUBECONFIG */
    FILE_LIMIT = 1 << 20, /* bytes of one */
    NAMESPACE_LIMIT = 63, /* RFC 1123 label */
};

void cluster_wipe(struct cluster *cluster) {
    kubeconfig_wipe(&cluster->config);
    *cluster = (struct cluster){0};
}

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "out of memory");
}

/* ---- kubeconfig files ---- */

struct files {
    struct kubeconfig_file at[FILES_LIMIT];
    size_t count;
};

static void files_wipe(struct files *files) {
    for (size_t i = 0; i < files->count; i++) {
        char *bytes = (char *)files->at[i].bytes.at;
        secret_free(&bytes);
        free((char *)files->at[i].path);
    }
}

#define cleanup_files __attribute__((cleanup(files_wipe)))

/* Reads one file behind the others. False with ERROR_NOT_FOUND: it is not there. */
static bool add_file(struct files *files, struct text path, struct error *error) {
    size_t length = 0;
    cleanup_free char *name = text_dup(path);
    if (!name)
        return no_memory(error);
    if (files->count == FILES_LIMIT)
        return error_set(error, ERROR_INVALID, "more than %d files", FILES_LIMIT);
    char *bytes = file_read_small(name, FILE_LIMIT, FILE_REGULAR | FILE_TEXT, &length, NULL, error);
    if (!bytes)
        return error_wrap(error, "kubeconfig %.300s", name);
    files->at[files->count++] = (struct kubeconfig_file){take(name), {bytes, length}};
    return true;
}

/* Makes a cluster of the files that were read. `where` names them. */
static bool take_files(const struct files *files, const char *where, struct cluster *out,
                       struct error *error) {
    if (!kubeconfig_read(files->at, files->count, &out->config, error))
        return error_wrap(error, "kubeconfig");
    if (!out->config.namespace && !(out->config.namespace = strdup("default")))
        return no_memory(error);
    snprintf(out->from, sizeof out->from, "%.400s, context %.150s", where, out->config.context);
    return true;
}

static bool read_named(const char *path, struct cluster *out, struct error *error) {
    cleanup_files struct files files = {0};
    char where[440];
    snprintf(where, sizeof where, "kubeconfig %.400s", path);
    return add_file(&files, text_of(path), error) && take_files(&files, where, out, error);
}

/* The files of $KUBECONFIG; those that are not there are left out, as kubectl does. */
static bool read_variable(const char *list, struct cluster *out, struct error *error) {
    cleanup_files struct files files = {0};
    char where[440];
    for (struct text rest = text_of(list); rest.at;) {
        struct text path = text_cut(rest, ':', &rest);
        if (path.length && !add_file(&files, path, error) && error->kind != ERROR_NOT_FOUND)
            return false;
    }
    if (files.count == 0)
        return error_set(error, ERROR_NOT_FOUND, "KUBECONFIG names no file that is there: %.300s",
                         list);
    snprintf(where, sizeof where, "KUBECONFIG %.400s", list);
    return take_files(&files, where, out, error);
}

/* ---- in a pod ---- */

/* Whether the environment and the account's folder say that this is a pod. */
static bool is_in_pod(const char *folder) {
    char path[PATH_MAX];
    const char *host = getenv("KUBERNETES_SERVICE_HOST"), *port = getenv("KUBERNETES_SERVICE_PORT");
    snprintf(path, sizeof path, "%s/token", folder);
    return host && *host && port && *port && access(path, F_OK) == 0;
}

static char *path_in(const char *folder, const char *name) {
    char path[PATH_MAX];
    return snprintf(path, sizeof path, "%s/%s", folder, name) < (int)sizeof path ? strdup(path)
                                                                                 : NULL;
}

/* The namespace of the pod; "default" when the file is not there. NULL: out of memory. */
static char *read_namespace(const char *folder) {
    cleanup_free char *path = path_in(folder, "namespace");
    size_t length = 0;
    cleanup_free char *bytes = path ? file_read_small(path, NAMESPACE_LIMIT + 2,
                                                      FILE_REGULAR | FILE_TEXT, &length, NULL, NULL)
                                    : NULL;
    size_t used = bytes ? strspn(bytes, "abcdefghijklmnopqrstuvwxyz0123456789-") : 0;
    return used ? text_dup((struct text){bytes, used}) : strdup("default");
}

static bool read_pod(const char *folder, struct cluster *out, struct error *error) {
    const char *host = getenv("KUBERNETES_SERVICE_HOST"), *port = getenv("KUBERNETES_SERVICE_PORT");
    struct kubeconfig *config = &out->config;
    struct error why;
    char url[400];
    snprintf(url, sizeof url, strchr(host, ':') ? "https://[%s]:%s" : "https://%s:%s", host, port);
    if (!kubeconfig_check_server(url, &why))
        return error_set(error, ERROR_INVALID,
                         "KUBERNETES_SERVICE_HOST and _PORT make no server: %s", why.text);
    config->server = strdup(url);
    config->token_file = path_in(folder, "token");
    config->authority_file = path_in(folder, "ca.crt");
    config->namespace = read_namespace(folder);
    if (!config->server || !config->token_file || !config->authority_file || !config->namespace)
        return no_memory(error);
    snprintf(out->from, sizeof out->from, "the service account of this pod");
    return true;
}

/* ---- the search ---- */

static bool find(const char *folder, struct cluster *out, struct error *error) {
    const char *list = getenv("KUBECONFIG"), *home = getenv("HOME");
    char path[PATH_MAX] = "";
    if (list && *list)
        return read_variable(list, out, error);
    if (is_in_pod(folder))
        return read_pod(folder, out, error);
    if (home && *home)
        snprintf(path, sizeof path, "%s/.kube/config", home);
    if (*path && (read_named(path, out, error) || error->kind != ERROR_NOT_FOUND))
        return out->config.server != NULL;
    return error_set(error, ERROR_NOT_FOUND,
                     "no cluster is known: no --kubeconfig (keep.kubeconfig), KUBECONFIG is not "
                     "set, this is no pod with a service account (KUBERNETES_SERVICE_HOST and "
                     "%.200s/token), and there is no %.200s",
                     folder, *path ? path : "~/.kube/config (HOME is not set)");
}

bool cluster_find(const char *kubeconfig, const char *account_folder, struct cluster *out,
                  struct error *error) {
    struct error unwanted;
    *out = (struct cluster){0};
    if (!error)
        error = &unwanted;
    error_clear(error);
    bool ok = kubeconfig && *kubeconfig
                  ? read_named(kubeconfig, out, error)
                  : find(account_folder ? account_folder : CLUSTER_ACCOUNT_FOLDER, out, error);
    if (!ok)
        cluster_wipe(out);
    return ok;
}
