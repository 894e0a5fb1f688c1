/* Names of Artifact Registry, from what people pull to what its REST API calls it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include "catalog/artifact_name.h"

static bool parse(const char *whole, struct artifact_name *name) {
    struct text path, host = text_cut(text_of(whole), '/', &path);
    return artifact_name_parse(host, path, name);
}

static void test_a_name_and_what_the_api_calls_it(void **state) {
    (void)state;
    static const struct {
        const char *name, *parent, *image;
    } names[] = {
        {"us-docker.pkg.dev/p/r/app", "projects/p/locations/us/repositories/r", "app"},
        {"us-docker.pkg.dev/p/r/a/b/c", "projects/p/locations/us/repositories/r", "a/b/c"},
        {"us-docker.pkg.dev/p/r", "projects/p/locations/us/repositories/r", ""},
        {"us-docker.pkg.dev/p/gcr.io/app", "projects/p/locations/us/repositories/gcr.io", "app"},
        {"europe-west4-docker.pkg.dev/p/r/app", "projects/p/locations/europe-west4/repositories/r",
         "app"},
        {"docker.us.rep.pkg.dev/p/r/app", "projects/p/locations/us/repositories/r", "app"},
        {"us-docker.pkg.dev/example.com/p/r/app",
         "projects/example.com:p/locations/us/repositories/r", "app"},
        {"us-docker.pkg.dev/example.com:p/r/app",
         "projects/example.com:p/locations/us/repositories/r", "app"},
        {"gcr.io/p/app", "projects/p/locations/us/repositories/gcr.io", "app"},
        {"gcr.io/p", "projects/p/locations/us/repositories/gcr.io", ""},
        {"us.gcr.io/p/a/b", "projects/p/locations/us/repositories/us.gcr.io", "a/b"},
        {"eu.gcr.io/example.com/p/a",
         "projects/example.com:p/locations/europe/repositories/eu.gcr.io", "a"},
        {"asia.gcr.io/p/a", "projects/p/locations/asia/repositories/asia.gcr.io", "a"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct artifact_name name;
        cleanup_buffer struct buffer parent = {0};
        if (!parse(names[i].name, &name))
            fail_msg("%s", names[i].name);
        artifact_name_append_parent(&name, &parent);
        assert_string_equal(parent.bytes, names[i].parent);
        assert_string_equal(name.image, names[i].image);
    }
}

static void test_what_is_no_name_of_artifact_registry(void **state) {
    (void)state;
    static const char *const names[] = {"docker.io/p/r/app",
                                        "-docker.pkg.dev/p/r/app",
                                        "a.b-docker.pkg.dev/p/r/app",
                                        "docker.rep.pkg.dev/p/r",
                                        "docker..rep.pkg.dev/p/r",
                                        "marketplace.gcr.io/p/app",
                                        "xgcr.io/p/app",
                                        "gcr.io.example/p/app",
                                        "us-docker.pkg.dev.example/p/r/a",
                                        "us-docker.pkg.dev/p",
                                        "us-docker.pkg.dev/",
                                        "us-docker.pkg.dev/p//app",
                                        "us-docker.pkg.dev/p/r/",
                                        "us-docker.pkg.dev//r/app",
                                        "us-docker.pkg.dev/example.com",
                                        "us-docker.pkg.dev/a.b/p",
                                        "gcr.io/",
                                        "gcr.io/example.com/",
                                        "US-docker.pkg.dev/p/r/app",
                                        "us_x-docker.pkg.dev/p/r/app"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct artifact_name name;
        if (parse(names[i], &name))
            fail_msg("%s", names[i]);
    }
}

static void test_two_names_of_one_repository(void **state) {
    (void)state;
    struct artifact_name a, b;
    assert_true(parse("gcr.io/p/app", &a));
    assert_true(parse("us-docker.pkg.dev/p/gcr.io/app", &b));
    assert_true(artifact_name_same_repository(&a, &b));
    assert_true(parse("us.gcr.io/p/app", &b));
    assert_false(artifact_name_same_repository(&a, &b));
    assert_true(parse("gcr.io/q/app", &b));
    assert_false(artifact_name_same_repository(&a, &b));
    assert_true(parse("europe-docker.pkg.dev/p/gcr.io/app", &b));
    assert_false(artifact_name_same_repository(&a, &b));
}

static void test_a_slash_of_an_image_is_escaped_in_the_filter(void **state) {
    (void)state;
    struct artifact_name name;
    cleanup_buffer struct buffer filter = {0};
    assert_true(parse("us-docker.pkg.dev/example.com/p/r/a/b", &name));
    assert_true(artifact_name_append_filter(&name, &filter));
    assert_string_equal(filter.bytes,
                        "name=\"projects/example.com:p/locations/us/repositories/r/dockerImages/"
                        "a%2Fb@*\"");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_name_and_what_the_api_calls_it),
        cmocka_unit_test(test_what_is_no_name_of_artifact_registry),
        cmocka_unit_test(test_two_names_of_one_repository),
        cmocka_unit_test(test_a_slash_of_an_image_is_escaped_in_the_filter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
