/* A copy of an upstream's settings has memory of its own, and each change of a setting is one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include "upstream/upstream_private.h"

static char host[] = "h", url[] = "https://u", prefix[] = "p", ca[] = "/ca";
static char fallback[] = "https://f", repository[] = "r", token_host[] = "t", redirect_host[] = "d";
static const char *fallbacks[] = {fallback, NULL}, *repositories[] = {repository, NULL};
static const char *token_hosts[] = {token_host, NULL}, *redirect_hosts[] = {redirect_host, NULL};
static char *const texts[] = {host,     url,        prefix,     ca,
                              fallback, repository, token_host, redirect_host};

static struct upstream_settings settings(void) {
    struct upstream_settings all = upstream_settings_default();
    all.host = host;
    all.url = url;
    all.prefix = prefix;
    all.ca_file = ca;
    all.fallbacks = fallbacks;
    all.repositories = repositories;
    all.token_hosts = token_hosts;
    all.redirect_hosts = redirect_hosts;
    return all;
}

/* Each text is changed in place: the copy must not follow, and is then no longer equal. */
static void test_a_copy_shares_no_text(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        const struct upstream_settings original = settings();
        struct upstream_settings copy;
        void *memory = upstream_settings_copy(&original, &copy);
        assert_non_null(memory);
        assert_true(upstream_settings_equal(&original, &copy));
        const char before = texts[i][0];
        texts[i][0] = 'X';
        if (upstream_settings_equal(&original, &copy))
            fail_msg("text %zu is shared, or its change is none", i);
        texts[i][0] = before;
        assert_true(upstream_settings_equal(&original, &copy));
        free(memory);
    }
}

/* Every byte of the struct but those of texts, lists and the source belongs to a setting or to
 * padding: a changed number or switch is a change. */
static void test_a_change_of_a_number_is_one(void **state) {
    (void)state;
    static const size_t numbers[] = {
        offsetof(struct upstream_settings, tag_ttl_ms),
        offsetof(struct upstream_settings, link_ttl_ms),
        offsetof(struct upstream_settings, connect_timeout_ms),
        offsetof(struct upstream_settings, stall_timeout_ms),
        offsetof(struct upstream_settings, first_byte_timeout_ms),
        offsetof(struct upstream_settings, push_patience_ms),
        offsetof(struct upstream_settings, connections),
        offsetof(struct upstream_settings, max_connections),
    };
    static const size_t switches[] = {
        offsetof(struct upstream_settings, is_default),
        offsetof(struct upstream_settings, keep_deleted),
        offsetof(struct upstream_settings, range_fill),
        offsetof(struct upstream_settings, prefetch),
        offsetof(struct upstream_settings, push),
        offsetof(struct upstream_settings, allows_delete),
    };
    const struct upstream_settings original = settings();
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        struct upstream_settings other = settings();
        ((char *)&other)[numbers[i]] ^= 1;
        if (upstream_settings_equal(&original, &other))
            fail_msg("number %zu", i);
    }
    for (size_t i = 0; i < sizeof switches / sizeof *switches; i++) {
        struct upstream_settings other = settings();
        bool *value = (bool *)((char *)&other + switches[i]);
        *value = !*value;
        if (upstream_settings_equal(&original, &other))
            fail_msg("switch %zu", i);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_copy_shares_no_text),
        cmocka_unit_test(test_a_change_of_a_number_is_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
