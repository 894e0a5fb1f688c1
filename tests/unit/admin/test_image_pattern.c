/* Patterns of images, as ls and rm take them. */
#include "admin/image_pattern.h"
#include "store_root.h"

static void test_names(void **state) {
    (void)state;
    static const struct {
        const char *text, *repository, *tag;
    } good[] = {
        {"docker.io/alpine:3", "docker.io/library/alpine", "3"},
        {"index.docker.io/alpine", "docker.io/library/alpine", ""},
        {"registry-1.docker.io/org/app:1", "docker.io/org/app", "1"},
        {"docker.io/**", "docker.io/**", ""},
        {"docker.io/al*", "docker.io/library/al*", ""},
        {"GHCR.io:443/org/app:v1.*", "ghcr.io/org/app", "v1.*"},
        {"localhost:5000/a/b", "localhost:5000/a/b", ""},
        {"*.pkg.dev/p/**:latest", "*.pkg.dev/p/**", "latest"},
        {"[::1]:5000/a", "[::1]:5000/a", ""},
        {"**", "**", ""},
    };
    static const char *const bad[] = {
        "",       "alpine",    "alpine:3",           "/a",        "a.test/",
        "a.test", "a.test/A",  "a.test//b",          "a.test/..", "a.test/b:",
        "a b/c",  "a.test/b@", "a.test/b@sha256:00", "***"};
    struct image_pattern name;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct error error = {0};
        if (!image_pattern_parse(text_of(good[i].text), &name, &error))
            fail_msg("%s", error.text);
        assert_string_equal(name.repository, good[i].repository);
        assert_string_equal(name.tag, good[i].tag);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct error error = {0};
        if (image_pattern_parse(text_of(bad[i]), &name, &error))
            fail_msg("%s is taken", bad[i]);
        assert_int_equal(error.kind, ERROR_INVALID);
    }
}

static bool matches(const struct image_pattern *pattern, const char *host, const char *path) {
    struct repository_name repository;
    assert_true(repository_name_parse(text_of(host), text_of(path), &repository));
    return image_pattern_matches_repository(pattern, &repository);
}

static void test_a_pattern_matches_what_it_means(void **state) {
    (void)state;
    struct image_pattern name;
    struct digest digest = digest_of_text("a"), other = digest_of_text("b");
    char text[256], formatted[DIGEST_STRING_SIZE];
    assert_true(image_pattern_parse(text_of("a.test/org/*:v?"), &name, NULL));
    assert_true(matches(&name, "a.test", "org/app"));
    assert_false(matches(&name, "b.test", "org/app"));
    assert_false(matches(&name, "a.test", "org/app/x"));
    assert_true(image_pattern_matches_tag(&name, "v1", &digest));
    assert_false(image_pattern_matches_tag(&name, "v10", &digest));
    assert_false(image_pattern_is_whole(&name));
    snprintf(text, sizeof text, "a.test/org/app:v1@%s", digest_format(&digest, formatted));
    assert_true(image_pattern_parse(text_of(text), &name, NULL));
    assert_true(image_pattern_matches_tag(&name, "any", &digest));
    assert_false(image_pattern_matches_tag(&name, "v1", &other));
    assert_true(image_pattern_parse(text_of("a.test/org/app"), &name, NULL));
    assert_true(image_pattern_is_whole(&name));
    assert_false(image_pattern_matches_tag(&name, "v1", &digest));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_a_pattern_matches_what_it_means),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
