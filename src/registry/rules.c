/* Matches repositories against rules. */
#include "registry/rules.h"

#include <stdlib.h>
#include <string.h>
#include "base/text.h"

struct rules {
    size_t count;
    struct rule *at;
};

static void free_list(const char *const *list) {
    for (size_t i = 0; list && list[i]; i++)
        free((char *)list[i]);
    free((char **)list);
}

/* Copies a list to *out. False: out of memory; *out can be freed all the same. */
static bool copy_list(const char *const *list, const char *const **out) {
    size_t count = 0;
    *out = NULL;
    if (!list)
        return true;
    while (list[count])
        count++;
    const char **copy = calloc(count + 1, sizeof *copy);
    *out = copy;
    for (size_t i = 0; copy && i < count; i++)
        if (!(copy[i] = strdup(list[i])))
            return false;
    return copy != NULL;
}

static bool copy_rule(const struct rule *rule, struct rule *out) {
    *out = (struct rule){.anonymous = rule->anonymous, .push = rule->push};
    if (rule->upstream && !(out->upstream = strdup(rule->upstream)))
        return false;
    return copy_list(rule->users, &out->users) && copy_list(rule->repositories, &out->repositories);
}

struct rules *rules_new(const struct rule *rules, size_t count) {
    struct rules *copy = calloc(1, sizeof *copy);
    if (!copy)
        return NULL;
    copy->at = calloc(count + 1, sizeof *copy->at);
    bool copied = copy->at != NULL;
    for (; copied && copy->count < count; copy->count++)
        copied = copy_rule(&rules[copy->count], &copy->at[copy->count]);
    if (copied)
        return copy;
    rules_free(copy);
    return NULL;
}

void rules_free(struct rules *rules) {
    if (!rules)
        return;
    for (size_t i = 0; rules->at && i < rules->count; i++) {
        free_list(rules->at[i].users);
        free((char *)rules->at[i].upstream);
        free_list(rules->at[i].repositories);
    }
    free(rules->at);
    free(rules);
}

static bool is_for(const struct rule *rule, const char *user) {
    if (rule->anonymous)
        return true;
    for (size_t i = 0; *user && rule->users && rule->users[i]; i++)
        if (strcmp(rule->users[i], user) == 0)
            return true;
    return false;
}

static bool covers(const struct rule *rule, const struct repository_name *repository) {
    if (rule->upstream && !text_matches_glob(rule->upstream, text_of(repository->host)))
        return false;
    if (!rule->repositories)
        return true;
    for (size_t i = 0; rule->repositories[i]; i++)
        if (text_matches_glob(rule->repositories[i], text_of(repository->path)))
            return true;
    return false;
}

bool rules_allow(const struct rules *rules, const char *user,
                 const struct repository_name *repository) {
    for (size_t i = 0; i < rules->count; i++)
        if (is_for(&rules->at[i], user) && covers(&rules->at[i], repository))
            return true;
    return false;
}

bool rules_allow_push(const struct rules *rules, const char *user,
                      const struct repository_name *repository) {
    for (size_t i = 0; *user && i < rules->count; i++)
        if (rules->at[i].push && is_for(&rules->at[i], user) && covers(&rules->at[i], repository))
            return true;
    return false;
}

bool rules_allow_somebody(const struct rules *rules, const struct repository_name *repository) {
    for (size_t i = 0; i < rules->count; i++)
        if (covers(&rules->at[i], repository))
            return true;
    return false;
}

bool rules_allow_anonymous(const struct rules *rules) {
    for (size_t i = 0; i < rules->count; i++)
        if (rules->at[i].anonymous)
            return true;
    return false;
}
