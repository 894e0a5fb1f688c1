/* The CNCF registry's configuration, translated into tarn's. */
#include "config/distribution.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "config/checks.h"
#include "config/distribution_environment.h"
#include "config/distribution_storage.h"
#include "config/hosts.h"
#include "config/inputs.h"
#include "config/map.h"
#include "config/translation.h"
#include "config/words.h"

#define DEFAULT_TTL "168h" /* registry/proxy/proxyregistry.go: repositoryTTL */

bool distribution_is(const struct yaml_node *root) {
    return root->kind == YAML_MAP && yaml_node_get(root, "version") != NULL;
}

static void translate_log(struct translation *translation) {
    static const char *const levels[] = {"error", "warn", "info", "debug", NULL};
    static const char *const formats[] = {"text", "json", "logstash", NULL};
    const char *name =
        translation_find(translation, "log.level") ? "log.level" : "loglevel"; /* deprecated */
    const char *level = translation_read_word(translation, name, levels);
    const char *format = translation_read_word(translation, "log.formatter", formats);
    bool disabled;
    if (level)
        translation_put(translation, translation->own, "log.level",
                        translation_find(translation, name), level);
    if (format)
        translation_put(translation, translation->own, "log.format",
                        translation_find(translation, "log.formatter"),
                        strcmp(format, "text") == 0 ? "text" : "json");
    if (translation_read_boolean(translation, "log.accesslog.disabled", &disabled))
        translation_put(translation, translation->own, "log.requests",
                        translation_find(translation, "log.accesslog.disabled"),
                        disabled ? "false" : "true");
}

/* The keys of tokens come in a JWK set, which version 3 knows, or in certificates. */
static void translate_token(struct translation *translation) {
    const struct yaml_node *token = translation_find(translation, "auth.token"),
                           *redirect = translation_find(translation, "auth.token.autoredirect"),
                           *bundle = translation_find(translation, "auth.token.rootcertbundle");
    bool redirects;
    if (!token)
        return;
    if (!translation_find(translation, "auth.token.jwks"))
        translation_add_problem(translation, token, "auth.token",
                                "jwks is missing; tarn reads the keys of tokens from a JWK set, "
                                "not from certificates");
    else if (bundle)
        translation_warn_ignored(translation, bundle, "auth.token.rootcertbundle",
                                 "the keys are in jwks");
    if (translation_read_boolean(translation, "auth.token.autoredirect", &redirects) && redirects)
        translation_add_problem(translation, redirect, "auth.token.autoredirect",
                                "tarn cannot derive the realm from the request; remove the key and "
                                "set auth.token.realm to the URL of the token service");
    translation_pass(translation, "auth.token.realm");
    translation_pass(translation, "auth.token.service");
    translation_pass(translation, "auth.token.issuer");
    translation_pass(translation, "auth.token.jwks");
}

static void translate_auth(struct translation *translation) {
    const struct yaml_node *auth = translation_find(translation, "auth"),
                           *chosen = translation_find(translation, "auth.htpasswd");
    /* What tarn does not know would let everybody read. */
    for (const struct yaml_node *node = auth && auth->kind == YAML_MAP ? auth->first : NULL; node;
         node = node->next) {
        char path[KEY_PATH_SIZE];
        config_path_join("auth", node->key, path);
        if (distribution_key_find(path) == distribution_key_count)
            translation_add_problem(translation, node, path,
                                    "tarn does not know it; use auth.htpasswd");
    }
    if (chosen && !translation_find(translation, "auth.htpasswd.path"))
        translation_add_problem(translation, chosen, "auth.htpasswd",
                                "path is missing; it names the file of the users who may read");
    translation_pass(translation, "auth.htpasswd.path");
    translation_pass(translation, "auth.htpasswd.realm");
    translate_token(translation);
}

/* The CNCF registry takes no connection without a certificate; tarn then refuses the requests. With
 * a login besides, it wants both, and tarn would be content with one. */
static void translate_client_certificates(struct translation *translation) {
    static const char *const modes[] = {"require-and-verify-client-cert", "request-client-cert",
                                        "verify-client-cert-if-given", "require-any-client-cert",
                                        NULL};
    const struct yaml_node *files = translation_find(translation, "http.tls.clientcas"),
                           *one = files && files->kind == YAML_LIST ? files->first : files;
    const char *mode = translation_read_word(translation, "http.tls.clientauth", modes);
    if (!one)
        return;
    if (mode == modes[1] || mode == modes[2])
        translation_warn_ignored(translation, files, "http.tls.clientcas",
                                 "clients need no certificate");
    else if (mode == modes[3])
        translation_add_problem(translation, translation_find(translation, "http.tls.clientauth"),
                                "http.tls.clientauth",
                                "tarn takes no certificate without checking it; write "
                                "require-and-verify-client-cert");
    else if (files->kind == YAML_LIST && files->count > 1)
        translation_add_problem(translation, files, "http.tls.clientcas",
                                "tarn reads one file; put all authorities into it");
    else if (translation_find(translation, "auth.htpasswd") ||
             translation_find(translation, "auth.token"))
        translation_add_problem(translation, files, "http.tls.clientcas",
                                "there is auth as well, and tarn would let clients in by either; "
                                "remove one of them");
    else
        translation_put(translation, translation->own, "clients.ca", one, one->text);
}

static void translate_tls(struct translation *translation) {
    static const char *const versions[] = {"tls1.0", "tls1.1", "tls1.2", "tls1.3", NULL};
    const char *minimum = translation_read_word(translation, "http.tls.minimumtls", versions);
    const struct yaml_node *node = translation_find(translation, "http.tls.minimumtls");
    translation_pass(translation, "http.tls.certificate");
    translation_pass(translation, "http.tls.key");
    translate_client_certificates(translation);
    if (minimum == versions[2] || minimum == versions[3])
        translation_put(translation, translation->own, "tls.minimum", node,
                        minimum + strlen("tls"));
    else if (minimum)
        translation_warn_ignored(translation, node, "http.tls.minimumtls",
                                 "tarn speaks TLS 1.2 and later only");
}

/* Adds "name: value" to a list, unless tarn sends that field itself. */
static void add_field(struct translation *translation, struct yaml_node *list, const char *name,
                      const struct yaml_node *value) {
    cleanup_buffer struct buffer field = {0};
    char shown[KEY_PATH_SIZE];
    config_path_join("http.headers", name, shown);
    if (translation_refuse_kind(translation, value, YAML_SCALAR, shown, "a string"))
        return;
    if (strcasecmp(name, "X-Content-Type-Options") == 0 && strcmp(value->text, "nosniff") == 0)
        return;
    if (config_is_own_field(text_of(name))) {
        translation_warn_at(translation, &value->place, shown, "tarn sets this field itself");
        return;
    }
    struct yaml_node *item = buffer_printf(&field, "%s: %s", name, value->text)
                                 ? yaml_node_new_scalar(value->place, text_of(field.bytes))
                                 : NULL;
    if (item)
        yaml_node_append(list, item);
    else
        translation->reader->no_memory = true;
}

static void translate_headers(struct translation *translation) {
    const struct yaml_node *fields = translation_find(translation, "http.headers");
    struct yaml_node *list = fields ? yaml_node_new_list(fields->place) : NULL;
    if (!fields)
        return;
    for (const struct yaml_node *field = fields->first; list && field; field = field->next) {
        if (!config_is_first(translation->reader, fields, field, "http.headers"))
            continue;
        if (field->kind != YAML_LIST)
            add_field(translation, list, field->key, field);
        for (const struct yaml_node *value = field->first; field->kind == YAML_LIST && value;
             value = value->next)
            add_field(translation, list, field->key, value);
    }
    if (list && list->count == 0)
        yaml_node_free(list);
    else if (!list || !yaml_node_put(translation->own, "headers", list))
        translation->reader->no_memory = true;
}

/* The debug server serves the metrics and the health, and profiles of the program. */
static void translate_debug(struct translation *translation) {
    const struct yaml_node *path = translation_find(translation, "http.debug.prometheus.path");
    bool enabled;
    translation_pass(translation, "http.debug.addr");
    translation_read_boolean(translation, "http.debug.prometheus.enabled",
                             &enabled); /* tarn's always are */
    if (path && strcmp(path->text, "/metrics") != 0)
        translation_warn_ignored(translation, path, "http.debug.prometheus.path",
                                 "tarn's metrics are at /metrics");
}

/* Clients on this machine may ask for tarn by the name in `host`. The prefix has a slash at its
 * end. */
static void translate_names(struct translation *translation) {
    const struct yaml_node *host = translation_find(translation, "http.host"),
                           *prefix = translation_find(translation, "http.prefix");
    struct text name, path;
    char copy[300];
    if (host && config_url_split(host->text, &name, &path) && text_copy(name, copy, sizeof copy))
        translation_put(translation, translation->own, "server_names", host, copy);
    else if (host)
        translation_add_problem(translation, host, "http.host",
                                "is not a URL; write for example https://cache.example");
    struct text beginning = text_of(prefix ? prefix->text : "");
    while (beginning.length && beginning.at[beginning.length - 1] == '/')
        beginning.length--;
    if (beginning.length && text_copy(beginning, copy, sizeof copy))
        translation_put(translation, translation->own, "path_prefix", prefix, copy);
}

static void translate_http(struct translation *translation) {
    const struct yaml_node *net = translation_find(translation, "http.net");
    int64_t ms;
    if (net && strcmp(net->text, "tcp") != 0)
        translation_add_problem(
            translation, net, "http.net",
            "tarn serves over tcp only; remove the key, and set http.addr to an address "
            "such as :5000");
    else if (translation_find(translation, "http.addr"))
        translation_pass(translation, "http.addr");
    else
        config_warn(translation->reader, "%.200s: http.addr is missing: tarn uses its default",
                    translation->start.source);
    if (translation_read_time(translation, "http.draintimeout", &ms) && ms > 0)
        translation_put_time(translation, "grace",
                             translation_find(translation, "http.draintimeout"), ms);
    translate_tls(translation);
    translate_headers(translation);
    translate_debug(translation);
    translate_names(translation);
}

/* ---- proxy ---- */

/* Writes the absolute path of a program that is named as for execvp(). False: there is none. */
static bool find_program(const struct translation *translation, const char *command,
                         char out[static PATH_MAX]) {
    if (strchr(command, '/'))
        return realpath(command, out) != NULL;
    struct text folder, rest = text_of(config_variable(translation->environment, "PATH"));
    while (rest.at) {
        folder = text_cut(rest, ':', &rest);
        cleanup_buffer struct buffer path = {0};
        if (folder.length && buffer_printf(&path, "%.*s/%s", TEXT_PRINT(folder), command) &&
            access(path.bytes, X_OK) == 0 && realpath(path.bytes, out))
            return true;
    }
    return false;
}

static void translate_helper(struct translation *translation, const struct yaml_node *command) {
    char program[PATH_MAX], quoted[QUOTE_SIZE];
    if (find_program(translation, command->text, program))
        translation_put(translation, translation->upstream, "credentials.helper", command, program);
    else
        config_problem_add(&translation->reader->problems, command->place, "proxy.exec.command",
                           "there is no program %s; write the path of a credential helper",
                           config_quote(command->text, quoted));
}

/* Who has no credentials in the CNCF registry's file uses none: Docker's are not asked. */
static void translate_credentials(struct translation *translation) {
    const struct yaml_node *username = translation_find(translation, "proxy.username"),
                           *password = translation_find(translation, "proxy.password"),
                           *exec = translation_find(translation, "proxy.exec"),
                           *command = translation_find(translation, "proxy.exec.command");
    if (exec && !command)
        translation_add_problem(translation, exec, "proxy.exec",
                                "command is missing; it names a program that prints credentials");
    const char *why =
        command ? "proxy.exec has priority" : "the one is of no use without the other";
    if (username && (command || !password))
        translation_warn_ignored(translation, username, "proxy.username", why);
    if (password && (command || !username))
        translation_warn_ignored(translation, password, "proxy.password", why);
    if (command) {
        translate_helper(translation, command);
    } else if (username && password) {
        translation_put(translation, translation->upstream, "credentials.username", username,
                        username->text);
        translation_put(translation, translation->upstream, "credentials.password", password,
                        password->text);
    } else {
        translation_put(translation, translation->upstream, "credentials", NULL, "anonymous");
    }
}

/* The one upstream. The CNCF registry asks for each tag again, keeps no 404, and does not know
 * `ns`. */
static void translate_upstream(struct translation *translation, const struct yaml_node *url) {
    const struct yaml_node *prefix = translation_find(translation, "proxy.remotenamespace");
    struct yaml_node *list = yaml_node_new_list(url->place);
    struct yaml_node *upstream = list ? yaml_node_new_map(url->place) : NULL;
    struct text host, path;
    char name[300];
    if (!upstream || !yaml_node_put(translation->own, "upstreams", list)) {
        translation->reader->no_memory = true;
        return;
    }
    yaml_node_append(list, upstream);
    translation->upstream = upstream;
    config_url_split(url->text, &host, &path);
    text_copy(host, name, sizeof name);
    translation_put(translation, upstream, "host", url, name);
    translation_put(translation, upstream, "url", url, url->text);
    translation_put(translation, upstream, "default", url, "true");
    if (prefix)
        translation_put(translation, upstream, "prefix", prefix, prefix->text);
    translate_credentials(translation);
    translation_put(translation, translation->own, "tag_ttl", url, "0");
    translation_put(translation, translation->own, "negative_ttl", url, "0");
    translation_put(translation, translation->own, "ignore_ns", url, "true");
}

static void translate_ttl(struct translation *translation) {
    const struct yaml_node *ttl = translation_find(translation, "proxy.ttl");
    int64_t ms;
    if (!ttl) {
        translation_put(translation, translation->own, "max_age", NULL, DEFAULT_TTL);
        return;
    }
    if (!translation_read_time(translation, "proxy.ttl", &ms))
        return;
    if (ms > 0 && ms < 1000)
        config_warn(translation->reader,
                    "proxy.ttl is less than a second, so that nothing stays in the cache; a number "
                    "without a unit is of nanoseconds");
    translation_put_time(translation, "max_age", ttl, ms > 0 ? ms : 0);
}

static void translate_proxy(struct translation *translation) {
    const struct yaml_node *proxy = translation_find(translation, "proxy"),
                           *url = translation_find(translation, "proxy.remoteurl");
    char why[400];
    if (!url)
        translation_add_problem(
            translation, proxy, "proxy.remoteurl",
            "is missing, so this is a registry that keeps images of its own; tarn is a "
            "cache and serves only files with a proxy, for example proxy: {remoteurl: "
            "https://registry-1.docker.io}");
    else if (!config_check_url(url->text, why, sizeof why))
        translation_add_problem(translation, url, "proxy.remoteurl", why);
    else
        translate_upstream(translation, url);
    translate_ttl(translation);
}

/* ---- all of it ---- */

/* The names that the file has for tarn's keys. Where there are several, the one that is set is
 * first. */
static void make_aliases(const struct translation *translation, struct config_alias *aliases) {
    size_t count = 0;
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < distribution_key_count; i++) {
            bool is_set = translation->found[i] != NULL;
            if (distribution_keys[i].own && is_set == (round == 0))
                aliases[count++] =
                    (struct config_alias){distribution_keys[i].own, distribution_keys[i].name};
        }
    }
}

static bool check_version(struct translation *translation, const struct yaml_node *root) {
    const struct yaml_node *version = yaml_node_get(root, "version");
    char quoted[QUOTE_SIZE];
    if (translation_refuse_kind(translation, version, YAML_SCALAR, "version", "0.1"))
        return false;
    if (strcmp(version->text, "0.1") == 0)
        return true;
    config_problem_add(&translation->reader->problems, version->place, "version",
                       "%s is not a version that tarn knows; a file of the CNCF registry has "
                       "version: 0.1, and a file of tarn's own has no version",
                       config_quote(version->text, quoted));
    return false;
}

struct yaml_node *distribution_translate(struct config_reader *reader, struct yaml_node *root,
                                         char *const *environment) {
    struct translation translation = {
        .reader = reader, .environment = environment, .start = root->place};
    translation.own = yaml_node_new_map(root->place);
    struct config_alias *aliases =
        config_keep(reader, (distribution_key_count + 1) * sizeof *aliases);
    reader->is_distribution = true;
    if (!translation.own || !aliases) {
        yaml_node_free(translation.own);
        reader->no_memory = true;
        return NULL;
    }
    if (!check_version(&translation, root))
        return translation.own;
    distribution_read_environment(reader, root, environment);
    translation_read_section(&translation, root, "");
    make_aliases(&translation, aliases);
    reader->loaded->aliases = reader->problems.aliases = aliases;
    translate_log(&translation);
    distribution_translate_storage(&translation);
    translate_auth(&translation);
    translate_http(&translation);
    translate_proxy(&translation);
    return translation.own;
}
