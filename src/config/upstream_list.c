/* The list of upstreams: the file's or the built-in one, changed by flags and variables. */
#include "config/upstream_list.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include "config/credentials.h"
#include "config/hosts.h"
#include "config/map.h"
#include "config/rule_list.h"
#include "config/value.h"
#include "oci/reference.h"

/* The upstreams of a tarn that is not configured. Their credentials are the default ones. */
static const char *const built_in[] = {
    "docker.io", /* the default */
    "ghcr.io",
    "quay.io",
    "registry.k8s.io",
    "gcr.io",
    "*.gcr.io",
    "*.pkg.dev",
    "docker.*.rep.pkg.dev",
    "public.ecr.aws",
    "mcr.microsoft.com",
    "registry.gitlab.com",
    "nvcr.io",
    "registry.access.redhat.com",
    "docker.elastic.co",
    "cgr.dev",
};
enum { BUILT_IN = sizeof built_in / sizeof *built_in };

/* What tarn keep asks besides: it is told hosts by machines that nobody knows beforehand. Docker
 * Hub and Google's stand first, because they have URLs and credentials of their own. A host without
 * a dot and an IP address are left out, because these are places of this network, and whoever may
 * POST a machine could have tarn ask them. */
static const char *const others[] = {
    "docker.io", "gcr.io", "*.gcr.io", "*.pkg.dev", "docker.*.rep.pkg.dev",
    "*.*",       "*.*.*",  "*.*.*.*",  "*.*.*.*.*", "*.*.*.*.*.*",
};
enum { OTHERS = sizeof others / sizeof *others };

/* One upstream while the list is read. The config gets only the settings. */
struct entry {
    struct upstream_settings settings;
    bool has_credentials;
    size_t index; /* in the file's list */
};

struct entries {
    struct entry *at;
    size_t count; /* `at` has place for the largest possible number */
};

static struct entry *entry_add(const struct config_reader *reader, struct entries *entries) {
    struct entry *entry = &entries->at[entries->count++];
    entry->settings = reader->loaded->defaults;
    return entry;
}

const char *config_canonical_host(struct config_reader *reader, const char *host) {
    static const char *const hub[] = {"index.docker.io", "registry-1.docker.io",
                                      "registry.hub.docker.com"};
    for (size_t i = 0; i < sizeof hub / sizeof *hub; i++) {
        if (strcasecmp(host, hub[i]) == 0)
            return "docker.io";
    }
    char lower[HOST_LIMIT + 1];
    size_t length = 0;
    for (; host[length] && length < HOST_LIMIT; length++)
        lower[length] = (char)tolower((unsigned char)host[length]);
    return config_keep_text(reader, (struct text){lower, length});
}

static bool is_of(const struct entry *entry, const char *host) {
    return entry->settings.host && strcmp(entry->settings.host, host) == 0;
}

/* The first entry of the host; there are several when they serve different repositories. */
static struct entry *entry_find(const struct entries *entries, const char *host) {
    for (size_t i = 0; i < entries->count; i++) {
        if (is_of(&entries->at[i], host))
            return &entries->at[i];
    }
    return NULL;
}

/* The first entry of the host that serves the same repositories as `entry`. */
static const struct entry *entry_find_same(const struct entries *entries, const char *host,
                                           const struct entry *entry) {
    for (size_t i = 0; i < entries->count; i++) {
        if (is_of(&entries->at[i], host) &&
            upstream_settings_same_repositories(&entries->at[i].settings, &entry->settings))
            return &entries->at[i];
    }
    return NULL;
}

/* ---- the file's list ---- */

/* Whether `node` is a mapping. */
static bool check_keys(struct config_reader *reader, const struct yaml_node *node,
                       const char *path) {
    const char *known[OPTION_LIMIT];
    size_t count = 0;
    for (; count < config_upstream_option_count; count++)
        known[count] = config_upstream_options[count].key;
    known[count++] = "credentials";
    known[count] = NULL;
    return config_read_map(reader, node, path, known);
}

static void read_settings(struct config_reader *reader, struct entry *entry,
                          const struct yaml_node *node, const char *path) {
    char key_path[KEY_PATH_SIZE];
    for (size_t i = 0; i < config_upstream_option_count; i++) {
        const struct config_option *option = &config_upstream_options[i];
        const struct yaml_node *value = yaml_node_get(node, option->key);
        snprintf(key_path, sizeof key_path, "%.100s.%s", path, option->key);
        if (value)
            config_read_value(reader, option, &entry->settings, value, key_path);
    }
    const struct yaml_node *credentials = yaml_node_get(node, "credentials");
    snprintf(key_path, sizeof key_path, "%.100s.credentials", path);
    if (credentials) {
        entry->has_credentials = true;
        entry->settings.credentials = config_read_credentials(reader, credentials, key_path);
    }
}

/* Makes the entry's host canonical. False: it has none. */
static bool set_host(struct config_reader *reader, const struct entries *entries,
                     struct entry *entry, const struct yaml_node *node, const char *path) {
    const struct yaml_node *host = yaml_node_get(node, "host");
    if (!host) {
        config_problem_add(&reader->problems, node->place, path,
                           "host is missing; write for example host: ghcr.io");
        return false;
    }
    const char *given = entry->settings.host;
    entry->settings.host = NULL; /* so that this entry is not found */
    const char *canonical = given ? config_canonical_host(reader, given) : NULL;
    if (!canonical)
        return false;
    char key_path[KEY_PATH_SIZE];
    snprintf(key_path, sizeof key_path, "%.100s.host", path);
    const struct entry *earlier = entry_find_same(entries, canonical, entry);
    if (earlier)
        config_problem_add(
            &reader->problems, host->place, key_path,
            "\"%s\" appears twice; first as upstreams[%zu] (entries of one host must "
            "differ in repositories)",
            canonical, earlier->index);
    entry->settings.host = canonical;
    return true;
}

/* Checks that the last entry, which has `default: true`, can be the default. */
static void check_default(struct config_reader *reader, const struct entries *entries,
                          const struct yaml_node *node, const char *path) {
    const struct yaml_node *flag = yaml_node_get(node, "default");
    size_t last = entries->count - 1;
    char key_path[KEY_PATH_SIZE];
    snprintf(key_path, sizeof key_path, "%.100s.default", path);
    if (strchr(entries->at[last].settings.host, '*'))
        config_problem_add(&reader->problems, flag->place, key_path,
                           "a pattern cannot be the default; add an entry for one host");
    for (size_t i = 0; i < last; i++) {
        if (entries->at[i].settings.is_default &&
            !is_of(&entries->at[i], entries->at[last].settings.host)) {
            config_problem_add(&reader->problems, flag->place, key_path,
                               "upstreams[%zu] is the default already; only one upstream can be",
                               entries->at[i].index);
            return;
        }
    }
}

/* Whether what the entry says of pushes can be. */
static void check_push(struct config_reader *reader, const struct upstream_settings *settings,
                       const struct yaml_node *node, const char *path) {
    const struct yaml_node *push = yaml_node_get(node, "push");
    const struct yaml_node *allows = yaml_node_get(node, "delete");
    char key_path[KEY_PATH_SIZE];
    snprintf(key_path, sizeof key_path, "%.100s.delete", path);
    if (allows && settings->allows_delete && !settings->push)
        config_problem_add(&reader->problems, allows->place, key_path,
                           "delete: true needs push: true beside it");
    snprintf(key_path, sizeof key_path, "%.100s.push", path);
    if (push && settings->push && !config_somebody_can_log_in(&reader->loaded->config))
        config_problem_add(&reader->problems, push->place, key_path,
                           "nobody can log in, so nobody could push; set clients.htpasswd, "
                           "clients.token or clients.ca");
}

static void read_entry(struct config_reader *reader, struct entries *entries,
                       const struct yaml_node *node, size_t index) {
    char path[KEY_PATH_SIZE];
    snprintf(path, sizeof path, "upstreams[%zu]", index);
    if (!check_keys(reader, node, path))
        return;
    struct entry *entry = entry_add(reader, entries);
    entry->index = index;
    read_settings(reader, entry, node, path);
    check_push(reader, &entry->settings, node, path);
    if (set_host(reader, entries, entry, node, path) && entry->settings.is_default)
        check_default(reader, entries, node, path);
}

static void read_entries(struct config_reader *reader, struct entries *entries,
                         const struct yaml_node *node) {
    size_t index = 0;
    for (const struct yaml_node *item = node->first; item; item = item->next)
        read_entry(reader, entries, item, index++);
}

/* ---- --upstream and --default-upstream ---- */

static void add_upstream(struct config_reader *reader, struct entries *entries, const char *given) {
    struct text url, host = text_cut(text_of(given), '=', &url);
    const char *name = config_keep_text(reader, host);
    const char *canonical = name ? config_canonical_host(reader, name) : NULL;
    if (!canonical)
        return;
    struct entry *entry = entry_find(entries, canonical);
    if (!entry) {
        entry = entry_add(reader, entries);
        entry->settings.host = canonical;
    }
    const char *address = url.at ? config_keep_text(reader, url) : NULL;
    for (size_t i = 0; address && i < entries->count; i++) {
        if (is_of(&entries->at[i], canonical))
            entries->at[i].settings.url = address;
    }
}

/* Adds entries for the host with the settings of the first pattern that matches it; of as many
 * entries as the pattern has. NULL: no pattern matches. */
static struct entry *add_matched(struct entries *entries, const char *host) {
    const char *pattern = NULL;
    struct entry *first = NULL;
    for (size_t i = 0, count = entries->count; i < count; i++) {
        const char *listed = entries->at[i].settings.host;
        bool matches = listed && strchr(listed, '*') && config_host_matches(listed, host);
        if (!matches || (pattern && strcmp(listed, pattern) != 0))
            continue;
        pattern = listed;
        struct entry *entry = &entries->at[entries->count++];
        *entry = entries->at[i];
        entry->settings.host = host;
        first = first ? first : entry;
    }
    return first;
}

/* Makes the upstream for the host `given` the default. A host that only a pattern matches gets
 * entries of its own with the pattern's settings; any other unknown host gets one with the
 * defaults. */
static void choose_default(struct config_reader *reader, struct entries *entries,
                           const char *given) {
    const char *host = config_canonical_host(reader, given);
    if (!host)
        return;
    for (size_t i = 0; i < entries->count; i++)
        entries->at[i].settings.is_default = false;
    struct entry *entry = entry_find(entries, host);
    if (!entry)
        entry = add_matched(entries, host);
    if (!entry)
        entry = entry_add(reader, entries);
    entry->settings.host = host;
    entry->settings.is_default = true;
}

/* ---- what the configuration gets ---- */

static void set_upstreams(struct config_reader *reader, const struct entries *entries) {
    struct config *config = &reader->loaded->config;
    config->upstreams = config_keep(reader, entries->count * sizeof *config->upstreams);
    if (!config->upstreams)
        return;
    for (size_t i = 0; i < entries->count; i++) {
        struct entry *entry = &entries->at[i];
        if (entry->settings.host && !entry->has_credentials)
            entry->settings.credentials =
                config_default_credentials(reader, entry->settings.host, entry->settings.url, NULL);
        else if (entry->settings.host)
            config_warn_of_credentials(reader, &entry->settings);
        config->upstreams[config->upstream_count++] = entry->settings;
    }
}

static void set_keep_upstreams(struct config_reader *reader, const struct entries *entries) {
    struct config *config = &reader->loaded->config;
    const char *docker_file = config->keep.docker_config;
    if (!docker_file && access(KEEP_DEFAULT_DOCKER_CONFIG, R_OK) == 0)
        docker_file = KEEP_DEFAULT_DOCKER_CONFIG;
    config->keep_upstreams =
        config_keep(reader, (entries->count + OTHERS) * sizeof *config->keep_upstreams);
    if (!config->keep_upstreams)
        return;
    for (size_t i = 0; i < entries->count; i++) {
        struct upstream_settings settings = entries->at[i].settings;
        if (settings.host && !entries->at[i].has_credentials)
            settings.credentials =
                config_default_credentials(reader, settings.host, settings.url, docker_file);
        config->keep_upstreams[config->keep_upstream_count++] = settings;
    }
    for (size_t i = 0; i < OTHERS; i++) {
        if (entry_find(entries, others[i]))
            continue;
        struct upstream_settings settings = reader->loaded->defaults;
        settings.host = others[i];
        settings.credentials = config_default_credentials(reader, others[i], NULL, docker_file);
        config->keep_upstreams[config->keep_upstream_count++] = settings;
    }
}

void config_read_upstreams(struct config_reader *reader, const struct yaml_node *node) {
    struct config_loaded *loaded = reader->loaded;
    if (node && node->kind != YAML_LIST) {
        config_problem_add(&reader->problems, node->place, "upstreams",
                           "expected a list; write for example - host: ghcr.io");
        return;
    }
    size_t more = 0;
    while (loaded->more_upstreams && loaded->more_upstreams[more])
        more++;
    size_t capacity = 2 * ((node ? node->count : BUILT_IN) + more) + 1; /* see add_matched() */
    struct entries entries = {config_keep(reader, capacity * sizeof *entries.at), 0};
    if (!entries.at)
        return;

    if (node) {
        read_entries(reader, &entries, node);
    } else {
        for (size_t i = 0; i < BUILT_IN; i++)
            entry_add(reader, &entries)->settings.host = built_in[i];
        entries.at[0].settings.is_default = true;
    }
    for (size_t i = 0; i < more; i++)
        add_upstream(reader, &entries, loaded->more_upstreams[i]);
    if (loaded->default_upstream)
        choose_default(reader, &entries, loaded->default_upstream);

    set_upstreams(reader, &entries);
    set_keep_upstreams(reader, &entries);
}
