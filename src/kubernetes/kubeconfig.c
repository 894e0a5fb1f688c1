/* Kubeconfig files: from the YAML trees to one cluster and one user. */
#include "kubernetes/kubeconfig.h"

#include <stdlib.h>
#include <string.h>
#include "base/base64.h"
#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/secret.h"
#include "base/yaml_tree.h"
#include "client/address.h"
#include "client/origin.h"
#include "kubernetes/yaml_json.h"

enum { FILE_LIMIT = 32, NAME_SHOWN = 80 };

/* The files as trees. */
struct kubeconfig_trees {
    struct yaml_node *roots[FILE_LIMIT]; /* NULL: an empty file */
    const char *paths[FILE_LIMIT];
    size_t count;
};

/* An entry of `clusters`, `users` or `contexts`, and where it is. */
struct entry {
    const struct yaml_node *map; /* what stands below `cluster`, `user` or `context` */
    const char *path;            /* of its file */
    const char *list, *name;     /* for errors */
};

/* ---- life ---- */

static void wipe_list(char ***list) {
    for (char **at = *list; at && *at; at++)
        secret_free(at);
    free(*list);
    *list = NULL;
}

void kubeconfig_wipe(struct kubeconfig *config) {
    char **const members[] = {&config->context,
                              &config->user,
                              &config->namespace,
                              &config->server,
                              &config->authority_file,
                              &config->authority_data,
                              &config->server_name,
                              &config->proxy,
                              &config->token,
                              &config->token_file,
                              &config->certificate_file,
                              &config->certificate_data,
                              &config->key_file,
                              &config->key_data,
                              &config->username,
                              &config->password,
                              &config->exec.command,
                              &config->exec.version,
                              &config->exec.hint};
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        secret_free(members[i]);
    wipe_list(&config->exec.arguments);
    wipe_list(&config->exec.variables);
    if (config->exec.cluster_options)
        secret_json_free(&config->exec.cluster_options);
    *config = (struct kubeconfig){0};
}

static void trees_free(struct kubeconfig_trees *trees) {
    for (size_t i = 0; i < trees->count; i++)
        yaml_node_free(trees->roots[i]);
}

#define cleanup_trees __attribute__((cleanup(trees_free)))

/* ---- values ---- */

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "out of memory");
}

/* "FILE:LINE: users[NAME]: key: WHY". */
static bool refuse(const struct entry *entry, const struct yaml_node *at, const char *key,
                   const char *why, struct error *error) {
    return error_set(error, ERROR_INVALID, "%.200s:%u: %s[%.80s]: %s%s%s", entry->path,
                     (at ? at : entry->map)->place.line, entry->list, entry->name, key,
                     *key ? ": " : "", why);
}

/* The value of a key; NULL when it is absent or null. */
static const struct yaml_node *get(const struct yaml_node *map, const char *key) {
    const struct yaml_node *value = map && map->kind == YAML_MAP ? yaml_node_get(map, key) : NULL;
    return !value || yaml_node_is_null(value) ? NULL : value;
}

/* Copies a string; an absent one stays NULL. */
static bool read_text(const struct entry *entry, const char *key, char **out, struct error *error) {
    const struct yaml_node *value = get(entry->map, key);
    if (!value)
        return true;
    if (value->kind != YAML_SCALAR)
        return refuse(entry, value, key, "expected a single value", error);
    *out = strdup(value->text);
    return *out || no_memory(error);
}

static bool read_bool(const struct entry *entry, const char *key, bool *out, struct error *error) {
    const struct yaml_node *value = get(entry->map, key);
    if (!value)
        return true;
    *out = value->kind == YAML_SCALAR && strcmp(value->text, "true") == 0;
    if (!*out && (value->kind != YAML_SCALAR || strcmp(value->text, "false") != 0))
        return refuse(entry, value, key, "expected true or false", error);
    return true;
}

/* `path` itself when it is absolute, else below the folder of `file`. NULL: out of memory. */
static char *resolve(const char *file, const char *path) {
    cleanup_buffer struct buffer joined = {0};
    const char *slash = strrchr(file, '/');
    if (*path != '/' && slash)
        buffer_append(&joined, file, (size_t)(slash - file) + 1);
    buffer_append_string(&joined, path);
    return joined.failed ? NULL : take(joined.bytes);
}

/* Copies a path. */
static bool read_path(const struct entry *entry, const char *key, char **out, struct error *error) {
    cleanup_free char *written = NULL;
    if (!read_text(entry, key, &written, error))
        return false;
    if (!written)
        return true;
    *out = resolve(entry->path, written);
    return *out || no_memory(error);
}

/* Decodes a value of base64, which may be broken into lines. */
static bool read_data(const struct entry *entry, const char *key, char **out, struct error *error) {
    cleanup_secret char *written = NULL;
    size_t length = 0, kept = 0;
    if (!read_text(entry, key, &written, error))
        return false;
    if (!written)
        return true;
    for (const char *c = written; *c; c++) {
        if (!strchr(" \t\r\n", *c))
            written[kept++] = *c;
    }
    *out = base64_decode((struct text){written, kept}, &length);
    if (!*out || length == 0 || strlen(*out) != length)
        return refuse(entry, get(entry->map, key), key, "is not base64 of a PEM file", error);
    return true;
}

/* ---- which cluster and user ---- */

/* Whether `item` of a list has this name. */
static bool is_named(const struct yaml_node *item, const char *name) {
    const struct yaml_node *own = get(item, "name");
    return own && own->kind == YAML_SCALAR && strcmp(own->text, name) == 0;
}

/* The first entry of that name in all files. */
static bool find_entry(const struct kubeconfig_trees *trees, const char *list, const char *member,
                       const char *name, struct entry *out, struct error *error) {
    for (size_t i = 0; i < trees->count; i++) {
        const struct yaml_node *items = get(trees->roots[i], list);
        for (const struct yaml_node *item = items ? items->first : NULL; item; item = item->next) {
            if (!is_named(item, name))
                continue;
            *out = (struct entry){get(item, member), trees->paths[i], list, name};
            if (out->map && out->map->kind == YAML_MAP)
                return true;
            out->map = item;
            return refuse(out, NULL, member, "expected a mapping (key: value)", error);
        }
    }
    return error_set(error, ERROR_INVALID, "%.200s: there is no %.80s in `%s`", trees->paths[0],
                     name, list);
}

/* The first current-context of all files; NULL: there is none. */
static const char *find_context(const struct kubeconfig_trees *trees) {
    for (size_t i = 0; i < trees->count; i++) {
        const struct yaml_node *context = get(trees->roots[i], "current-context");
        if (context && context->kind == YAML_SCALAR && *context->text)
            return context->text;
    }
    return NULL;
}

/* ---- a cluster ---- */

bool kubeconfig_check_server(const char *server, struct error *error) {
    struct origin origin;
    if (!origin_parse(server, &origin))
        return error_set(error, ERROR_INVALID,
                         "expected a URL such as https://10.0.0.1:6443, without a user in it");
    if (strpbrk(server, "?# \t"))
        return error_set(error, ERROR_INVALID, "a server's URL has no query");
    if (!origin.https && address_classify_host(origin.host) != ADDRESS_LOOPBACK)
        return error_set(error, ERROR_INVALID,
                         "http is for this machine only (127.0.0.1, ::1, localhost), because a "
                         "credential is sent; write https://");
    return true;
}

/* What the cluster gives to programs that print credentials (client.authentication.k8s.io/exec). */
static bool read_cluster_options(const struct entry *entry, struct kubeconfig *out,
                                 struct error *error) {
    const struct yaml_node *list = get(entry->map, "extensions");
    for (const struct yaml_node *item = list ? list->first : NULL; item; item = item->next) {
        const struct yaml_node *extension = get(item, "extension");
        if (!is_named(item, "client.authentication.k8s.io/exec") || !extension)
            continue;
        out->exec.cluster_options = yaml_json_of(extension);
        return out->exec.cluster_options || no_memory(error);
    }
    return true;
}

static bool read_cluster(const struct entry *entry, struct kubeconfig *out, struct error *error) {
    struct error why;
    if (!read_text(entry, "server", &out->server, error) ||
        !read_path(entry, "certificate-authority", &out->authority_file, error) ||
        !read_data(entry, "certificate-authority-data", &out->authority_data, error) ||
        !read_text(entry, "tls-server-name", &out->server_name, error) ||
        !read_bool(entry, "insecure-skip-tls-verify", &out->insecure, error) ||
        !read_text(entry, "proxy-url", &out->proxy, error) ||
        !read_cluster_options(entry, out, error))
        return false;
    if (!out->server)
        return refuse(entry, NULL, "server", "is missing", error);
    for (size_t length = strlen(out->server); length && out->server[length - 1] == '/'; length--)
        out->server[length - 1] = '\0';
    if (!kubeconfig_check_server(out->server, &why))
        return refuse(entry, get(entry->map, "server"), "server", why.text, error);
    if (out->insecure && (out->authority_file || out->authority_data))
        return refuse(entry, get(entry->map, "insecure-skip-tls-verify"),
                      "insecure-skip-tls-verify",
                      "a certificate-authority is given as well; leave one of them out", error);
    return true;
}

/* ---- a user ---- */

/* Items of a list as a NULL-terminated list of strings, `first` (may be NULL) in front. */
static bool read_arguments(const struct entry *entry, const char *first, char ***out,
                           struct error *error) {
    const struct yaml_node *list = get(entry->map, "args");
    size_t count = 0;
    if (list && list->kind != YAML_LIST)
        return refuse(entry, list, "args", "expected a list", error);
    *out = calloc((list ? list->count : 0) + 2, sizeof **out);
    if (!*out || !((*out)[count++] = strdup(first)))
        return no_memory(error);
    for (const struct yaml_node *item = list ? list->first : NULL; item; item = item->next) {
        if (item->kind != YAML_SCALAR)
            return refuse(entry, item, "args", "expected single values", error);
        if (!((*out)[count++] = strdup(item->text)))
            return no_memory(error);
    }
    return true;
}

static bool read_variables(const struct entry *entry, char ***out, struct error *error) {
    const struct yaml_node *list = get(entry->map, "env");
    size_t count = 0;
    if (list && list->kind != YAML_LIST)
        return refuse(entry, list, "env", "expected a list", error);
    *out = calloc((list ? list->count : 0) + 1, sizeof **out);
    if (!*out)
        return no_memory(error);
    for (const struct yaml_node *item = list ? list->first : NULL; item; item = item->next) {
        const struct yaml_node *name = get(item, "name");
        const struct yaml_node *value =
            item->kind == YAML_MAP ? yaml_node_get(item, "value") : NULL;
        if (!name || name->kind != YAML_SCALAR || !*name->text || strchr(name->text, '=') ||
            (value && value->kind != YAML_SCALAR))
            return refuse(entry, item, "env", "expected items with `name` and `value`", error);
        cleanup_buffer struct buffer line = {0};
        if (!buffer_printf(&line, "%s=%s", name->text, value ? value->text : ""))
            return no_memory(error);
        (*out)[count++] = take(line.bytes);
    }
    return true;
}

#define EXEC_GROUP "client.authentication.k8s.io/"

/* Version and mode of a program. */
static bool check_exec(const struct entry *entry, const struct kubeconfig_exec *exec,
                       struct error *error) {
    const struct yaml_node *mode = get(entry->map, "interactiveMode");
    if (!exec->command || !*exec->command)
        return refuse(entry, NULL, "command", "is missing", error);
    if (!exec->version || (strcmp(exec->version, EXEC_GROUP "v1") != 0 &&
                           strcmp(exec->version, EXEC_GROUP "v1beta1") != 0))
        return refuse(entry, get(entry->map, "apiVersion"), "apiVersion",
                      "expected " EXEC_GROUP "v1 or " EXEC_GROUP "v1beta1", error);
    if (!mode)
        return true;
    if (mode->kind == YAML_SCALAR && strcmp(mode->text, "Always") == 0)
        return refuse(entry, mode, "interactiveMode",
                      "Always wants a terminal, and tarn has none; choose another credential",
                      error);
    if (mode->kind != YAML_SCALAR ||
        (strcmp(mode->text, "Never") != 0 && strcmp(mode->text, "IfAvailable") != 0))
        return refuse(entry, mode, "interactiveMode", "expected Never, IfAvailable or Always",
                      error);
    return true;
}

static bool read_exec(const struct entry *user, struct kubeconfig_exec *out, struct error *error) {
    struct entry entry = *user;
    cleanup_free char *command = NULL;
    entry.map = get(user->map, "exec");
    if (!entry.map)
        return true;
    if (entry.map->kind != YAML_MAP)
        return refuse(user, entry.map, "exec", "expected a mapping (key: value)", error);
    if (!read_text(&entry, "command", &command, error) ||
        !read_text(&entry, "apiVersion", &out->version, error) ||
        !read_text(&entry, "installHint", &out->hint, error) ||
        !read_bool(&entry, "provideClusterInfo", &out->wants_cluster, error))
        return false;
    /* A name without a slash is searched on PATH. */
    out->command = !command               ? NULL
                   : strchr(command, '/') ? resolve(entry.path, command)
                                          : strdup(command);
    if (command && !out->command)
        return no_memory(error);
    return check_exec(&entry, out, error) &&
           read_arguments(&entry, out->command, &out->arguments, error) &&
           read_variables(&entry, &out->variables, error);
}

/* What tarn does not do, and what to write instead. */
static bool refuse_others(const struct entry *entry, struct error *error) {
    static const char *const impersonating[] = {"as", "as-uid", "as-groups", "as-user-extra"};
    const struct yaml_node *provider = get(entry->map, "auth-provider");
    if (provider) {
        const struct yaml_node *name = get(provider, "name");
        bool google = name && name->kind == YAML_SCALAR && strcmp(name->text, "gcp") == 0;
        return refuse(entry, provider, "auth-provider",
                      google ? "Kubernetes 1.26 removed it; write `exec` with the command "
                               "gke-gcloud-auth-plugin instead (gcloud container clusters "
                               "get-credentials does)"
                             : "Kubernetes removed it; write `exec` with a program that prints "
                               "the credential instead (for OpenID Connect: kubelogin), or "
                               "`tokenFile`",
                      error);
    }
    for (size_t i = 0; i < sizeof impersonating / sizeof *impersonating; i++) {
        const struct yaml_node *as = get(entry->map, impersonating[i]);
        if (as)
            return refuse(entry, as, impersonating[i],
                          "acting as another user is not supported; give tarn a user of its own",
                          error);
    }
    return true;
}

/* What belongs together is complete, and one way to show who one is is enough. */
static bool check_user(const struct entry *entry, const struct kubeconfig *user,
                       struct error *error) {
    bool certificate = user->certificate_file || user->certificate_data;
    bool key = user->key_file || user->key_data;
    bool token = user->token || user->token_file;
    if (certificate != key)
        return refuse(entry, NULL, certificate ? "client-key" : "client-certificate",
                      "is missing: a certificate and its key belong together", error);
    if ((token != 0) + (user->username != NULL) + (user->exec.command != NULL) > 1)
        return refuse(entry, NULL, "", "has several of token, username and exec; leave one", error);
    if (!user->username != !user->password)
        return refuse(entry, NULL, user->username ? "password" : "username", "is missing", error);
    return true;
}

static bool read_user(const struct entry *entry, struct kubeconfig *out, struct error *error) {
    return refuse_others(entry, error) && read_text(entry, "token", &out->token, error) &&
           read_path(entry, "tokenFile", &out->token_file, error) &&
           read_path(entry, "client-certificate", &out->certificate_file, error) &&
           read_data(entry, "client-certificate-data", &out->certificate_data, error) &&
           read_path(entry, "client-key", &out->key_file, error) &&
           read_data(entry, "client-key-data", &out->key_data, error) &&
           read_text(entry, "username", &out->username, error) &&
           read_text(entry, "password", &out->password, error) &&
           read_exec(entry, &out->exec, error) && check_user(entry, out, error);
}

/* ---- all together ---- */

static bool read_trees(const struct kubeconfig_file *files, size_t count,
                       struct kubeconfig_trees *trees, struct error *error) {
    if (count > FILE_LIMIT)
        return error_set(error, ERROR_INVALID, "more than %d kubeconfig files", FILE_LIMIT);
    for (; trees->count < count; trees->count++) {
        const struct kubeconfig_file *file = &files[trees->count];
        struct yaml_problem problem;
        trees->paths[trees->count] = file->path;
        if (!yaml_read(file->bytes, file->path, &problem, &trees->roots[trees->count]))
            return error_set(error, ERROR_INVALID, "%.200s:%u: %s", file->path, problem.place.line,
                             problem.text);
        const struct yaml_node *root = trees->roots[trees->count];
        if (root && root->kind != YAML_MAP) {
            trees->count++;
            return error_set(error, ERROR_INVALID,
                             "%.200s: not a kubeconfig: expected a mapping (key: value)",
                             file->path);
        }
    }
    return true;
}

/* The name that a context gives to its cluster or user. */
static bool read_name(const struct entry *context, const char *key, char **out,
                      struct error *error) {
    if (!read_text(context, key, out, error))
        return false;
    return *out || refuse(context, NULL, key, "is missing", error);
}

static bool read_all(const struct kubeconfig_trees *trees, struct kubeconfig *out,
                     struct error *error) {
    struct entry context, cluster, user;
    cleanup_free char *cluster_name = NULL;
    const char *name = find_context(trees);
    if (!name)
        return error_set(error, ERROR_INVALID,
                         "%.200s: it has no current-context; set one with kubectl config "
                         "use-context NAME",
                         trees->count ? trees->paths[0] : "no kubeconfig file");
    out->context = strdup(name);
    if (!out->context)
        return no_memory(error);
    return find_entry(trees, "contexts", "context", name, &context, error) &&
           read_text(&context, "namespace", &out->namespace, error) &&
           read_name(&context, "cluster", &cluster_name, error) &&
           read_name(&context, "user", &out->user, error) &&
           find_entry(trees, "clusters", "cluster", cluster_name, &cluster, error) &&
           read_cluster(&cluster, out, error) &&
           find_entry(trees, "users", "user", out->user, &user, error) &&
           read_user(&user, out, error);
}

bool kubeconfig_read(const struct kubeconfig_file *files, size_t count, struct kubeconfig *out,
                     struct error *error) {
    cleanup_trees struct kubeconfig_trees trees = {0};
    *out = (struct kubeconfig){0};
    if (read_trees(files, count, &trees, error) && read_all(&trees, out, error))
        return true;
    kubeconfig_wipe(out);
    return false;
}
