/* The list of rules: who may read what. */
#include "config/rule_list.h"

#include <stdio.h>
#include "config/checks.h"
#include "config/files.h"
#include "config/map.h"
#include "config/upstream_list.h"
#include "config/value.h"

enum { RULE_USERS, RULE_ANONYMOUS, RULE_PUSH, RULE_UPSTREAM, RULE_REPOSITORIES, RULE_KEYS };

static const struct config_option rule_options[RULE_KEYS] = {
    [RULE_USERS] = {.key = "users",
                    .type = CONFIG_LIST,
                    .offset = offsetof(struct rule, users),
                    .least = 1,
                    .check = config_check_user},
    [RULE_ANONYMOUS] = {.key = "anonymous",
                        .type = CONFIG_BOOLEAN,
                        .offset = offsetof(struct rule, anonymous)},
    [RULE_PUSH] = {.key = "push", .type = CONFIG_BOOLEAN, .offset = offsetof(struct rule, push)},
    [RULE_UPSTREAM] = {.key = "upstream",
                       .type = CONFIG_STRING,
                       .offset = offsetof(struct rule, upstream),
                       .check = config_check_host_glob},
    [RULE_REPOSITORIES] = {.key = "repositories",
                           .type = CONFIG_LIST,
                           .offset = offsetof(struct rule, repositories),
                           .least = 1,
                           .check = config_check_glob},
};

const struct yaml_node *config_find_rules(const struct yaml_node *root) {
    const struct yaml_node *clients =
        root->kind == YAML_MAP ? yaml_node_get(root, "clients") : NULL;
    return clients && clients->kind == YAML_MAP ? yaml_node_get(clients, "rules") : NULL;
}

bool config_somebody_can_log_in(const struct config *config) {
    return config->clients_htpasswd || config->clients_ca || config->clients_token.jwks;
}

/* Whether the rule says for whom it is. */
static void check_for_whom(struct config_reader *reader, const struct yaml_node *entry,
                           const struct rule *rule, const char *path) {
    const struct yaml_node *users = yaml_node_get(entry, "users");
    const struct yaml_node *anonymous = yaml_node_get(entry, "anonymous");
    const struct yaml_node *push = yaml_node_get(entry, "push");
    char key_path[KEY_PATH_SIZE];
    snprintf(key_path, sizeof key_path, "%.100s.push", path);
    if (push && rule->push && rule->anonymous)
        config_problem_add(&reader->problems, push->place, key_path,
                           "push: true is for clients that log in; name them under users, and "
                           "leave anonymous out");
    snprintf(key_path, sizeof key_path, "%.100s.users", path);
    if (!users && (!anonymous || !rule->anonymous))
        config_problem_add(&reader->problems, entry->place, path,
                           "users is missing; write for example users: [alice], or anonymous: true "
                           "for everybody");
    else if (users && rule->anonymous)
        config_problem_add(&reader->problems, users->place, key_path,
                           "anonymous: true is for everybody, also for users; leave one of the two "
                           "out");
    else if (users && !config_somebody_can_log_in(&reader->loaded->config))
        config_problem_add(
            &reader->problems, users->place, key_path,
            "nobody can log in; set clients.htpasswd, clients.token or clients.ca, or "
            "write anonymous: true in place of users");
}

/* Warns of users of the rules that the file of passwords does not have, if there is no other login:
 * such a name is a slip, or is added to the file later. */
static void warn_of_users(struct config_reader *reader) {
    const struct config *config = &reader->loaded->config;
    struct htpasswd htpasswd;
    char hash[HTPASSWD_HASH_SIZE];
    if (config->clients_ca || config->clients_token.jwks || !config->clients_htpasswd ||
        !config_read_htpasswd(config->clients_htpasswd, &htpasswd, NULL))
        return;
    for (size_t i = 0; i < config->rule_count; i++) {
        const char *const *user = config->rules[i].users;
        for (; user && *user; user++) {
            if (!htpasswd_find(&htpasswd, *user, 0, hash))
                config_warn(reader, "clients.rules[%zu] is for %.80s, whom %s does not have", i,
                            *user, config->clients_htpasswd);
        }
    }
    htpasswd_finish(&htpasswd);
}

static void read_rule(struct config_reader *reader, const struct yaml_node *entry,
                      struct rule *rule, const char *path) {
    char key_path[KEY_PATH_SIZE];
    for (size_t i = 0; i < RULE_KEYS; i++) {
        const struct yaml_node *value = yaml_node_get(entry, rule_options[i].key);
        snprintf(key_path, sizeof key_path, "%.100s.%s", path, rule_options[i].key);
        if (value)
            config_read_value(reader, &rule_options[i], rule, value, key_path);
    }
    if (rule->upstream)
        rule->upstream = config_canonical_host(reader, rule->upstream);
    check_for_whom(reader, entry, rule, path);
}

void config_read_rules(struct config_reader *reader, const struct yaml_node *node) {
    const char *known[RULE_KEYS + 1] = {0};
    struct config *config = &reader->loaded->config;
    for (size_t i = 0; i < RULE_KEYS; i++)
        known[i] = rule_options[i].key;
    if (node->kind != YAML_LIST || !node->first) {
        config_problem_add(&reader->problems, node->place, "clients.rules",
                           "%s; write for example - {users: [alice], repositories: [\"team/**\"]}, "
                           "or leave rules out, and whoever logs in may read all",
                           node->kind == YAML_LIST ? "without a rule nobody could read anything"
                                                   : "expected a list");
        return;
    }
    config->rules = config_keep(reader, (node->count + 1) * sizeof *config->rules);
    size_t index = 0;
    for (const struct yaml_node *entry = node->first; config->rules && entry;
         entry = entry->next, index++) {
        char path[KEY_PATH_SIZE];
        snprintf(path, sizeof path, "clients.rules[%zu]", index);
        if (config_read_map(reader, entry, path, known))
            read_rule(reader, entry, &config->rules[config->rule_count++], path);
    }
    if (reader->problems.count == 0)
        warn_of_users(reader);
}
