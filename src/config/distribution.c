/* The CNCF registry's configuration, translated into tarn's. */
#include "config/distribution.h"

#include <ctype.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "config/checks.h"
#include "config/distribution_environment.h"
#include "config/distribution_keys.h"
#include "config/go_duration.h"
#include "config/hosts.h"
#include "config/inputs.h"
#include "config/map.h"
#include "config/words.h"

#define DEFAULT_ROOT "/var/lib/registry" /* registry/storage/driver/filesystem/driver.go */
#define DEFAULT_TTL  "168h"              /* registry/proxy/proxyregistry.go: repositoryTTL */

struct translation {
    struct config_reader *reader;
    char *const *environment;
    struct config_place start;                               /* of the file */
    const struct config_node *found[DISTRIBUTION_KEY_LIMIT]; /* the key's value; NULL: not set */
    struct config_node *own;                                 /* tarn's tree */
    struct config_node *upstream;                            /* in it; NULL until there is one */
};

bool distribution_is(const struct config_node *root) {
    return root->kind == NODE_MAP && config_map_get(root, "version") != NULL;
}

/* ---- reading: which keys are set ---- */

static void add_problem(struct translation *translation, const struct config_node *node,
                        const char *path, const char *why) {
    config_problem_add(&translation->reader->problems, node ? node->place : translation->start,
                       path, "%s", why);
}

/* `shown` is the key as it is to be printed. */
static void warn_ignored(struct translation *translation, const struct config_node *node,
                         const char *shown, const char *why) {
    const struct config_place *place = &node->key_place;
    if (place->line)
        config_warn(translation->reader, "%.200s:%u: %s is ignored: %s", place->source, place->line,
                    shown, why);
    else
        config_warn(translation->reader, "%.100s: %s is ignored: %s", place->source, shown, why);
}

/* Whether a value of the wrong kind was refused. */
static bool is_wrong(struct translation *translation, const struct config_node *node,
                     enum config_node_kind kind, const char *path, const char *wanted) {
    if (node->kind == kind)
        return false;
    config_problem_add(&translation->reader->problems, node->place, path, "expected %s, found %s",
                       wanted, config_node_kind_words(node));
    return true;
}

static void read_section(struct translation *translation, const struct config_node *map,
                         const char *path);

static void read_key(struct translation *translation, const struct config_node *node, size_t at) {
    const struct distribution_key *key = &distribution_keys[at];
    if (key->kind == DISTRIBUTION_IGNORED) {
        warn_ignored(translation, node, key->name, key->why);
        return;
    }
    translation->found[at] = node; /* `auth: {htpasswd: }` chooses htpasswd, too */
    if (config_node_is_null(node)) {
        if (key->kind != DISTRIBUTION_SECTION)
            translation->found[at] = NULL;
        return;
    }
    switch (key->kind) {
    case DISTRIBUTION_CHOSEN:
    case DISTRIBUTION_SECTION:
        if (!is_wrong(translation, node, NODE_MAP, key->name, "a mapping (key: value)"))
            read_section(translation, node, key->name);
        return;
    case DISTRIBUTION_TEXT:
    case DISTRIBUTION_BOOLEAN:
    case DISTRIBUTION_TIME:
        if (is_wrong(translation, node, NODE_SCALAR, key->name, "a single value"))
            translation->found[at] = NULL;
        return;
    case DISTRIBUTION_REFUSED:
        add_problem(translation, node, key->name, key->why);
        return;
    case DISTRIBUTION_IGNORED:
        return;
    }
}

/* `storage: filesystem`: the name of what was chosen, without any of its keys. */
static bool read_word(struct translation *translation, const struct config_node *node, size_t at) {
    char path[KEY_PATH_SIZE];
    if (distribution_keys[at].kind != DISTRIBUTION_CHOSEN || node->kind != NODE_SCALAR ||
        config_node_is_null(node))
        return false;
    config_path_join(distribution_keys[at].name, node->text, path);
    size_t chosen = distribution_key_find(path);
    if (chosen == distribution_key_count)
        warn_ignored(translation, node, path, "tarn does not know it");
    else if (distribution_keys[chosen].kind == DISTRIBUTION_SECTION)
        translation->found[chosen] = node;
    else
        read_key(translation, node, chosen);
    return true;
}

static void read_section(struct translation *translation, const struct config_node *map,
                         const char *path) {
    for (const struct config_node *node = map->first; node; node = node->next) {
        char joined[KEY_PATH_SIZE], quoted[QUOTE_SIZE];
        config_path_join(path, node->key, joined);
        size_t at = distribution_key_find(joined);
        if (at == distribution_key_count)
            warn_ignored(translation, node, config_quote(joined, quoted), "tarn does not know it");
        else if (config_is_first(translation->reader, map, node, path) &&
                 !read_word(translation, node, at))
            read_key(translation, node, at);
    }
}

/* ---- what was read ---- */

static const struct config_node *find(const struct translation *translation, const char *name) {
    return translation->found[distribution_key_find(name)];
}

/* yaml.v2 takes YAML 1.1's words. */
static bool read_boolean(struct translation *translation, const char *name, bool *out) {
    static const char *const yes[] = {"true", "y", "yes", "on", NULL};
    static const char *const no[] = {"false", "n", "no", "off", NULL};
    const struct config_node *node = find(translation, name);
    char word[8] = "", quoted[QUOTE_SIZE];
    if (!node)
        return false;
    for (size_t i = 0; node->text[i] && i < sizeof word - 1; i++)
        word[i] = (char)tolower((unsigned char)node->text[i]);
    *out = config_is_word(word, yes);
    if (*out || config_is_word(word, no))
        return true;
    config_problem_add(&translation->reader->problems, node->place, name,
                       "%s is neither true nor false", config_quote(node->text, quoted));
    return false;
}

static bool read_time(struct translation *translation, const char *name, int64_t *ms) {
    const struct config_node *node = find(translation, name);
    char quoted[QUOTE_SIZE];
    if (!node)
        return false;
    if (go_duration_parse(text_of(node->text), ms))
        return true;
    config_problem_add(&translation->reader->problems, node->place, name,
                       "%s is not a duration; write for example 90s, 24h, or 0",
                       config_quote(node->text, quoted));
    return false;
}

/* Whether the value is one of `words`, which are in small letters, as all of it must be if
 * `exactly`. */
static const char *read_word_of(struct translation *translation, const char *name,
                                const char *const *words) {
    const struct config_node *node = find(translation, name);
    char quoted[QUOTE_SIZE];
    if (!node)
        return NULL;
    for (size_t i = 0; words[i]; i++) {
        if (text_is_nocase(text_of(node->text), words[i]))
            return words[i];
    }
    cleanup_buffer struct buffer list = {0};
    for (size_t i = 0; words[i]; i++)
        buffer_printf(&list, "%s%s", i ? ", " : "", words[i]);
    config_problem_add(&translation->reader->problems, node->place, name, "%s is not one of %s",
                       config_quote(node->text, quoted), list.bytes ? list.bytes : "");
    return NULL;
}

/* ---- writing tarn's tree ---- */

/* Puts the text at `key` ("log.level") below `map`, with the place of `from` (NULL: the file's). */
static void put(struct translation *translation, struct config_node *map, const char *key,
                const struct config_node *from, const char *value) {
    const struct config_place place = from ? from->place : translation->start;
    struct text rest = text_of(key);
    for (;;) {
        char word[64];
        text_copy(text_cut(rest, '.', &rest), word, sizeof word);
        struct config_node *child = NULL;
        for (struct config_node *node = map->first; node && !child; node = node->next)
            child = strcmp(node->key, word) == 0 ? node : NULL;
        if (!child || !rest.at) {
            child = rest.at ? config_node_new_map(place)
                            : config_node_new_scalar(place, text_of(value));
            if (!child || !config_node_put(map, word, child)) {
                translation->reader->no_memory = true;
                return;
            }
        }
        if (!rest.at)
            return;
        map = child;
    }
}

/* Passes the text of a key on as it is. */
static void pass(struct translation *translation, const char *name) {
    const struct config_node *node = find(translation, name);
    if (node)
        put(translation, translation->own, distribution_keys[distribution_key_find(name)].own, node,
            node->text);
}

static void put_time(struct translation *translation, const char *key,
                     const struct config_node *from, int64_t ms) {
    char text[40];
    snprintf(text, sizeof text, "%" PRId64 "%s", ms % 1000 ? ms : ms / 1000,
             ms % 1000 ? "ms" : "s");
    put(translation, translation->own, key, from, ms ? text : "0");
}

static void translate_log(struct translation *translation) {
    static const char *const levels[] = {"error", "warn", "info", "debug", NULL};
    static const char *const formats[] = {"text", "json", "logstash", NULL};
    const char *name = find(translation, "log.level") ? "log.level" : "loglevel"; /* deprecated */
    const char *level = read_word_of(translation, name, levels);
    const char *format = read_word_of(translation, "log.formatter", formats);
    bool disabled;
    if (level)
        put(translation, translation->own, "log.level", find(translation, name), level);
    if (format)
        put(translation, translation->own, "log.format", find(translation, "log.formatter"),
            strcmp(format, "text") == 0 ? "text" : "json");
    if (read_boolean(translation, "log.accesslog.disabled", &disabled))
        put(translation, translation->own, "log.requests",
            find(translation, "log.accesslog.disabled"), disabled ? "false" : "true");
}

static void translate_storage(struct translation *translation) {
    const struct config_node *filesystem = find(translation, "storage.filesystem");
    pass(translation, "storage.filesystem.rootdirectory");
    if (filesystem && !find(translation, "storage.filesystem.rootdirectory"))
        put(translation, translation->own, "root", filesystem, DEFAULT_ROOT);
}

static void translate_auth(struct translation *translation) {
    const struct config_node *auth = find(translation, "auth"),
                             *chosen = find(translation, "auth.htpasswd");
    /* What tarn does not know would let everybody read. */
    for (const struct config_node *node = auth && auth->kind == NODE_MAP ? auth->first : NULL; node;
         node = node->next) {
        char path[KEY_PATH_SIZE];
        config_path_join("auth", node->key, path);
        if (distribution_key_find(path) == distribution_key_count)
            add_problem(translation, node, path, "tarn does not know it; use auth.htpasswd");
    }
    if (chosen && !find(translation, "auth.htpasswd.path"))
        add_problem(translation, chosen, "auth.htpasswd",
                    "path is missing; it names the file of the users who may read");
    pass(translation, "auth.htpasswd.path");
}

static void translate_tls(struct translation *translation) {
    static const char *const versions[] = {"tls1.0", "tls1.1", "tls1.2", "tls1.3", NULL};
    const char *minimum = read_word_of(translation, "http.tls.minimumtls", versions);
    const struct config_node *node = find(translation, "http.tls.minimumtls");
    pass(translation, "http.tls.certificate");
    pass(translation, "http.tls.key");
    if (minimum && strcmp(minimum, "tls1.3") == 0)
        add_problem(translation, node, "http.tls.minimumtls",
                    "tarn speaks TLS 1.2 too; set tls1.2 if that may be");
    else if (minimum)
        warn_ignored(translation, node, "http.tls.minimumtls",
                     "tarn speaks TLS 1.2 and later only");
}

static void translate_http(struct translation *translation) {
    const struct config_node *net = find(translation, "http.net");
    int64_t ms;
    if (net && strcmp(net->text, "tcp") != 0)
        add_problem(translation, net, "http.net",
                    "tarn serves over tcp only; remove the key, and set http.addr to an address "
                    "such as :5000");
    else if (find(translation, "http.addr"))
        pass(translation, "http.addr");
    else
        config_warn(translation->reader, "%.200s: http.addr is missing: tarn uses its default",
                    translation->start.source);
    if (read_time(translation, "http.draintimeout", &ms) && ms > 0)
        put_time(translation, "grace", find(translation, "http.draintimeout"), ms);
    translate_tls(translation);
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

static void translate_helper(struct translation *translation, const struct config_node *command) {
    char program[PATH_MAX], quoted[QUOTE_SIZE];
    if (find_program(translation, command->text, program))
        put(translation, translation->upstream, "credentials.helper", command, program);
    else
        config_problem_add(&translation->reader->problems, command->place, "proxy.exec.command",
                           "there is no program %s; write the path of a credential helper",
                           config_quote(command->text, quoted));
}

/* Who has no credentials in the CNCF registry's file uses none: Docker's are not asked. */
static void translate_credentials(struct translation *translation) {
    const struct config_node *username = find(translation, "proxy.username"),
                             *password = find(translation, "proxy.password"),
                             *exec = find(translation, "proxy.exec"),
                             *command = find(translation, "proxy.exec.command");
    if (exec && !command)
        add_problem(translation, exec, "proxy.exec",
                    "command is missing; it names a program that prints credentials");
    const char *why =
        command ? "proxy.exec has priority" : "the one is of no use without the other";
    if (username && (command || !password))
        warn_ignored(translation, username, "proxy.username", why);
    if (password && (command || !username))
        warn_ignored(translation, password, "proxy.password", why);
    if (command) {
        translate_helper(translation, command);
    } else if (username && password) {
        put(translation, translation->upstream, "credentials.username", username, username->text);
        put(translation, translation->upstream, "credentials.password", password, password->text);
    } else {
        put(translation, translation->upstream, "credentials", NULL, "anonymous");
    }
}

/* The one upstream. The CNCF registry asks for each tag again, keeps no 404, and does not know
 * `ns`. */
static void translate_upstream(struct translation *translation, const struct config_node *url) {
    const struct config_node *prefix = find(translation, "proxy.remotenamespace");
    struct config_node *list = config_node_new_list(url->place);
    struct config_node *upstream = list ? config_node_new_map(url->place) : NULL;
    struct text host, path;
    char name[300];
    if (!upstream || !config_node_put(translation->own, "upstreams", list)) {
        translation->reader->no_memory = true;
        return;
    }
    config_node_append(list, upstream);
    translation->upstream = upstream;
    config_url_split(url->text, &host, &path);
    text_copy(host, name, sizeof name);
    put(translation, upstream, "host", url, name);
    put(translation, upstream, "url", url, url->text);
    put(translation, upstream, "default", url, "true");
    if (prefix)
        put(translation, upstream, "prefix", prefix, prefix->text);
    translate_credentials(translation);
    put(translation, translation->own, "tag_ttl", url, "0");
    put(translation, translation->own, "negative_ttl", url, "0");
    put(translation, translation->own, "ignore_ns", url, "true");
}

static void translate_proxy(struct translation *translation) {
    const struct config_node *proxy = find(translation, "proxy"),
                             *url = find(translation, "proxy.remoteurl");
    char why[400];
    int64_t ms;
    if (!url)
        add_problem(translation, proxy, "proxy.remoteurl",
                    "is missing, so this is a registry that keeps images of its own; tarn is a "
                    "cache and serves only files with a proxy, for example proxy: {remoteurl: "
                    "https://registry-1.docker.io}");
    else if (!config_check_url(url->text, why, sizeof why))
        add_problem(translation, url, "proxy.remoteurl", why);
    else
        translate_upstream(translation, url);
    if (!find(translation, "proxy.ttl"))
        put(translation, translation->own, "max_age", NULL, DEFAULT_TTL);
    else if (read_time(translation, "proxy.ttl", &ms))
        put_time(translation, "max_age", find(translation, "proxy.ttl"), ms > 0 ? ms : 0);
}

/* ---- all of it ---- */

/* The names that the file has for tarn's keys. */
static const struct config_alias *make_aliases(struct config_reader *reader) {
    struct config_alias *aliases =
        config_keep(reader, (distribution_key_count + 1) * sizeof *aliases);
    size_t count = 0;
    for (size_t i = 0; aliases && i < distribution_key_count; i++) {
        if (distribution_keys[i].own)
            aliases[count++] =
                (struct config_alias){distribution_keys[i].own, distribution_keys[i].name};
    }
    return aliases;
}

static bool check_version(struct translation *translation, const struct config_node *root) {
    const struct config_node *version = config_map_get(root, "version");
    char quoted[QUOTE_SIZE];
    if (is_wrong(translation, version, NODE_SCALAR, "version", "0.1"))
        return false;
    if (strcmp(version->text, "0.1") == 0)
        return true;
    config_problem_add(&translation->reader->problems, version->place, "version",
                       "%s is not a version that tarn knows; a file of the CNCF registry has "
                       "version: 0.1, and a file of tarn's own has no version",
                       config_quote(version->text, quoted));
    return false;
}

struct config_node *distribution_translate(struct config_reader *reader, struct config_node *root,
                                           char *const *environment) {
    struct translation translation = {
        .reader = reader, .environment = environment, .start = root->place};
    translation.own = config_node_new_map(root->place);
    reader->problems.aliases = make_aliases(reader);
    reader->is_distribution = true;
    if (!translation.own || !reader->problems.aliases) {
        config_node_free(translation.own);
        reader->no_memory = true;
        return NULL;
    }
    if (!check_version(&translation, root))
        return translation.own;
    distribution_read_environment(reader, root, environment);
    read_section(&translation, root, "");
    translate_log(&translation);
    translate_storage(&translation);
    translate_auth(&translation);
    translate_http(&translation);
    translate_proxy(&translation);
    return translation.own;
}
