/* Who may read what: a request is allowed when any rule matches it, and else not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "registry/rules.h"

static const char *const alice[] = {"alice", NULL};
static const char *const several[] = {"bob", "alice", NULL};
static const char *const team[] = {"team/**", NULL};
static const char *const two[] = {"library/*", "public/app", NULL};

/* Whether one rule, alone, lets `user` read HOST/PATH. */
static bool allows(const struct rule *rule, const char *user, const char *host, const char *path) {
    struct repository_name name;
    assert_true(repository_name_parse(text_of(host), text_of(path), &name));
    struct rules *rules = rules_new(rule, 1);
    assert_non_null(rules);
    bool allowed = rules_allow(rules, user, &name);
    rules_free(rules);
    return allowed;
}

static void test_a_rule_is_for_its_users(void **state) {
    (void)state;
    const struct rule one = {.users = alice}, more = {.users = several};
    assert_true(allows(&one, "alice", "ghcr.io", "org/app"));
    assert_false(allows(&one, "bob", "ghcr.io", "org/app"));
    assert_false(allows(&one, "alic", "ghcr.io", "org/app"));
    assert_false(allows(&one, "alice2", "ghcr.io", "org/app"));
    assert_false(allows(&one, "Alice", "ghcr.io", "org/app"));
    assert_false(allows(&one, "", "ghcr.io", "org/app"));
    assert_true(allows(&more, "alice", "ghcr.io", "org/app"));
    assert_true(allows(&more, "bob", "ghcr.io", "org/app"));
}

static void test_an_anonymous_rule_is_for_everybody(void **state) {
    (void)state;
    const struct rule rule = {.anonymous = true};
    assert_true(allows(&rule, "", "ghcr.io", "org/app"));
    assert_true(allows(&rule, "alice", "ghcr.io", "org/app"));
}

static void test_what_is_missing_in_a_rule_means_all(void **state) {
    (void)state;
    const struct rule host = {.anonymous = true, .upstream = "*.pkg.dev"};
    assert_true(allows(&host, "", "europe-docker.pkg.dev", "a/b/c"));
    assert_false(allows(&host, "", "ghcr.io", "a/b/c"));
    assert_false(allows(&host, "", "pkg.dev", "a/b/c"));
    const struct rule paths = {.anonymous = true, .repositories = two};
    assert_true(allows(&paths, "", "docker.io", "library/alpine"));
    assert_true(allows(&paths, "", "quay.io", "public/app"));
    assert_false(allows(&paths, "", "quay.io", "public/app2"));
    assert_false(allows(&paths, "", "docker.io", "library/alpine/more"));
    const struct rule all = {.anonymous = true, .upstream = "*"};
    assert_true(allows(&all, "", "registry.example:5000", "a"));
}

static void test_a_rule_matches_by_all_that_it_says(void **state) {
    (void)state;
    const struct rule rule = {.users = alice, .upstream = "ghcr.io", .repositories = team};
    assert_true(allows(&rule, "alice", "ghcr.io", "team/app"));
    assert_false(allows(&rule, "bob", "ghcr.io", "team/app"));
    assert_false(allows(&rule, "alice", "quay.io", "team/app"));
    assert_false(allows(&rule, "alice", "ghcr.io", "other/app"));
    assert_false(allows(&rule, "alice", "ghcr.io", "team"));
}

static void test_any_rule_is_enough_and_none_is_not(void **state) {
    (void)state;
    const struct rule list[] = {{.anonymous = true, .upstream = "docker.io"},
                                {.users = alice, .repositories = team}};
    struct repository_name team_app, other;
    repository_name_parse(text_of("ghcr.io"), text_of("team/app"), &team_app);
    repository_name_parse(text_of("ghcr.io"), text_of("other"), &other);
    struct rules *rules = rules_new(list, 2), *none = rules_new(list, 0);
    assert_non_null(rules);
    assert_true(rules_allow(rules, "alice", &team_app));
    assert_false(rules_allow(rules, "", &team_app));
    assert_true(rules_allow_somebody(rules, &team_app));
    assert_false(rules_allow(rules, "alice", &other));
    assert_false(rules_allow_somebody(rules, &other));
    assert_true(rules_allow_anonymous(rules));
    assert_false(rules_allow(none, "alice", &team_app));
    assert_false(rules_allow_anonymous(none));
    rules_free(rules);
    rules_free(none);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_rule_is_for_its_users),
        cmocka_unit_test(test_an_anonymous_rule_is_for_everybody),
        cmocka_unit_test(test_what_is_missing_in_a_rule_means_all),
        cmocka_unit_test(test_a_rule_matches_by_all_that_it_says),
        cmocka_unit_test(test_any_rule_is_enough_and_none_is_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
