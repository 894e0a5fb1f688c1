/* Installs tarn as the mirror of a node's container engines, and removes it. */
#include "node/mirror.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "client/origin.h"
#include "node/docker.h"
#include "node/plan.h"
#include "node/render.h"

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "out of memory");
}

bool mirror_url(const char *url, char *out, size_t size, struct error *error) {
    struct origin origin;
    char host[ORIGIN_HOST_SIZE];
    if (!origin_parse(url, &origin))
        return error_set(error, ERROR_INVALID,
                         "is no http or https URL without a user; write for example "
                         "http://127.0.0.1:5000");
    const char *path = strstr(url, "://");
    path = path ? path + 3 + strcspn(path + 3, "/?#") : "";
    if (path[strspn(path, "/")] != '\0')
        return error_set(error, ERROR_INVALID,
                         "has a path or a query, which container engines do not all take; write "
                         "for example http://127.0.0.1:5000");
    int length =
        snprintf(out, size, "%s://%s", origin.https ? "https" : "http", origin_host(&origin, host));
    return (length > 0 && (size_t)length < size) ||
           error_set(error, ERROR_INVALID, "is longer than %zu bytes", size - 1);
}

/* ---- containerd ---- */

static bool is_folder(const struct plan *plan, const char *path) {
    int fd = tree_open_folder(&plan->tree, path, NULL);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* The folder of the registry. containerd looks for host_port_ first and then for host:port, and
 * takes the first one that is there. */
static void find_folder(const struct plan *plan, const char *host, char *out, size_t size) {
    const char *colon = strrchr(host, ':');
    if (colon && colon != host) {
        snprintf(out, size, "%s/%.*s_%s_", plan->settings->certs_dir, (int)(colon - host), host,
                 colon + 1);
        if (is_folder(plan, out))
            return;
    }
    snprintf(out, size, "%s/%s", plan->settings->certs_dir, host);
}

/* Whether the folder has certificates in Docker's form. */
static bool has_certificates(const struct plan *plan, const char *folder) {
    cleanup_directory DIR *entries = tree_open_entries(&plan->tree, folder, NULL);
    bool found = false;
    for (struct dirent *entry; entries && !found && (entry = readdir(entries));) {
        struct text name = text_of(entry->d_name);
        found = text_ends(name, ".crt") || text_ends(name, ".cert") || text_ends(name, ".key");
    }
    return found;
}

static bool want_hosts_toml(struct plan *plan, const struct mirror_registry *registry,
                            struct error *error) {
    cleanup_buffer struct buffer body = {0};
    char folder[PATH_MAX / 2], path[PATH_MAX];
    find_folder(plan, registry ? registry->host : "_default", folder, sizeof folder);
    snprintf(path, sizeof path, "%s/hosts.toml", folder);
    if (!render_hosts_toml(plan->settings, registry, &body))
        return no_memory(error);
    if (!plan_want(plan, MIRROR_CONTAINERD, path, &body, error))
        return false;
    if (has_certificates(plan, folder))
        plan_forbid(plan, path,
                    "its folder has certificates, which containerd uses only while there is no "
                    "hosts.toml");
    return true;
}

static bool want_containerd(struct plan *plan, struct error *error) {
    const struct mirror_settings *settings = plan->settings;
    for (size_t i = 0; i < settings->registry_count; i++) {
        if (!want_hosts_toml(plan, &settings->registries[i], error))
            return false;
    }
    return !settings->has_default || want_hosts_toml(plan, NULL, error);
}

/* ---- the others ---- */

/* A copy of the authorities of tarn's certificate, where Docker and Podman look for it. */
static bool want_ca(struct plan *plan, enum mirror_engine engine, const char *folder,
                    struct error *error) {
    const struct mirror_settings *settings = plan->settings;
    cleanup_buffer struct buffer body = {0};
    char path[PATH_MAX];
    size_t length = 0;
    const char *host = strstr(settings->url, "://");
    if (!settings->ca_file || !host)
        return true;
    cleanup_free char *bytes =
        tree_read(&plan->tree, settings->ca_file, TREE_FOLLOW, &length, NULL, error);
    if (!bytes)
        return false;
    snprintf(path, sizeof path, "%s/%s/ca.crt", folder, host + 3);
    return (buffer_append(&body, bytes, length) || no_memory(error)) &&
           plan_want(plan, engine, path, &body, error);
}

static bool want_containers(struct plan *plan, struct error *error) {
    cleanup_buffer struct buffer body = {0};
    if (plan->settings->registry_count == 0)
        return true;
    if (!render_registries_conf(plan->settings, &body))
        return no_memory(error);
    return plan_want(plan, MIRROR_CONTAINERS, MIRROR_CONTAINERS_FILE, &body, error) &&
           want_ca(plan, MIRROR_CONTAINERS, "/etc/containers/certs.d", error);
}

static bool want_all(struct plan *plan, struct docker *docker, struct error *error) {
    const struct mirror_settings *settings = plan->settings;
    unsigned engines = settings->engines;
    if ((engines & MIRROR_CONTAINERD) && !want_containerd(plan, error))
        return false;
    if ((engines & MIRROR_CONTAINERS) && !want_containers(plan, error))
        return false;
    if (!(engines & MIRROR_DOCKER))
        return true;
    if (!settings->has_docker)
        return docker_plan_remove(docker, plan, error);
    return want_ca(plan, MIRROR_DOCKER, "/etc/docker/certs.d", error) &&
           docker_plan_install(docker, plan, error);
}

/* ---- what is not wanted any more ---- */

/* Whether the path belongs to a registry of the settings. */
static bool is_listed(const struct plan *plan, const char *path) {
    const struct mirror_settings *settings = plan->settings;
    char folder[PATH_MAX / 2], listed[PATH_MAX];
    for (size_t i = 0; i <= settings->registry_count; i++) {
        if (i == settings->registry_count && !settings->has_default)
            return false;
        const char *host = i < settings->registry_count ? settings->registries[i].host : "_default";
        find_folder(plan, host, folder, sizeof folder);
        snprintf(listed, sizeof listed, "%s/hosts.toml", folder);
        if (strcmp(path, listed) == 0)
            return true;
    }
    return false;
}

/* Whether the file would be deleted if only the listed registries are to lose their mirror. The
 * file of registries.conf.d goes when no registry is left in it, and a copy of authorities goes
 * with the last file that needs it. */
static bool goes_with_listed(const struct plan *plan, const struct plan_file *file,
                             bool containers_stay) {
    if (file->engine == MIRROR_CONTAINERD)
        return is_listed(plan, file->path);
    return file->engine == MIRROR_DOCKER ? plan->settings->has_docker : !containers_stay;
}

/* Takes the listed registries out of the file of registries.conf.d. *stay: others are left. */
static bool shorten_containers(struct plan *plan, bool *stay, struct error *error) {
    cleanup_buffer struct buffer body = {0};
    *stay = false;
    for (size_t i = 0; i < plan->count; i++) {
        const struct plan_file *file = &plan->files[i];
        if (strcmp(file->path, MIRROR_CONTAINERS_FILE) != 0 || file->state != PLAN_OURS)
            continue;
        if (!render_without_listed(plan->settings, (struct text){file->bytes, file->length}, &body))
            return no_memory(error);
        *stay = body.length > 0;
        return !*stay || !(plan->settings->engines & MIRROR_CONTAINERS) ||
               plan_want(plan, MIRROR_CONTAINERS, MIRROR_CONTAINERS_FILE, &body, error);
    }
    return true;
}

/* Marks for deletion what tarn wrote for this URL and is not wanted any more. */
static bool unwant(struct plan *plan, bool only_listed, struct error *error) {
    const struct mirror_settings *settings = plan->settings;
    bool containers_stay = false;
    if (only_listed && !shorten_containers(plan, &containers_stay, error))
        return false;
    for (size_t i = 0; i < plan->count; i++) {
        struct plan_file *file = &plan->files[i];
        file->is_unwanted = !file->is_wanted && (settings->engines & file->engine) &&
                            (!settings->url || strcmp(file->mark.url, settings->url) == 0) &&
                            (!only_listed || goes_with_listed(plan, file, containers_stay));
    }
    return true;
}

/* ---- the two functions ---- */

static bool fail_refused(const struct plan *plan, const char *consequence, struct error *error) {
    return !plan->was_refused || plan->settings->skip_refused ||
           error_set(error, ERROR_INVALID, "%s", consequence);
}

bool mirror_install(const struct mirror_settings *settings, struct error *error) {
    cleanup_plan struct plan plan = {.tree.fd = -1};
    cleanup_docker struct docker docker = {0};
    if (!plan_open(&plan, settings, error) || !docker_open(&docker, &plan, error) ||
        !want_all(&plan, &docker, error))
        return false;
    if (!unwant(&plan, false, error))
        return false;
    plan_check(&plan);
    if (!fail_refused(&plan, "nothing was changed", error))
        return false;
    bool ok = plan_apply(&plan, error) &&
              ((settings->engines & MIRROR_DOCKER) == 0 || docker_apply(&docker, &plan, error));
    plan_delete_folders(&plan);
    return ok;
}

bool mirror_remove(const struct mirror_settings *settings, struct error *error) {
    cleanup_plan struct plan plan = {.tree.fd = -1};
    cleanup_docker struct docker docker = {0};
    if (!plan_open(&plan, settings, error) || !docker_open(&docker, &plan, error))
        return false;
    bool docker_is_meant =
        (settings->engines & MIRROR_DOCKER) && (settings->has_docker || !settings->only_listed);
    if (!unwant(&plan, settings->only_listed, error) ||
        (docker_is_meant && !docker_plan_remove(&docker, &plan, error)))
        return false;
    plan_check(&plan);
    bool ok = plan_apply(&plan, error) && (!docker_is_meant || docker_apply(&docker, &plan, error));
    plan_delete_folders(&plan);
    return ok && fail_refused(&plan, "not all could be removed", error);
}
