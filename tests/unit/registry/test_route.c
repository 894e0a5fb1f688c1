/* Turning a path into the resource that is requested. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <string.h>
#include <cmocka.h>
#include "registry/route.h"

#define HEX "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static struct route parse(const char *path) {
    struct route route;
    route_parse(text_of(path), &route);
    return route;
}

static void test_fixed_paths(void **state) {
    (void)state;
    assert_int_equal(parse("/").kind, ROUTE_PAGE);
    assert_int_equal(parse("/v2").kind, ROUTE_API);
    assert_int_equal(parse("/v2/").kind, ROUTE_API);
    assert_int_equal(parse("/v2/_catalog").kind, ROUTE_CATALOG);
    assert_int_equal(parse("/livez").kind, ROUTE_LIVE);
    assert_int_equal(parse("/metrics").kind, ROUTE_METRICS);
    assert_int_equal(parse("/v1/").kind, ROUTE_NONE);
    assert_int_equal(parse("/v2/app").kind, ROUTE_NONE);
    assert_int_equal(parse("/v2/app/nothing/here").kind, ROUTE_NONE);
    assert_int_equal(parse("/v2/manifests/latest").kind, ROUTE_NONE);
}

static void test_manifests_by_tag_and_digest(void **state) {
    (void)state;
    struct route route = parse("/v2/a/b/manifests/v1.0");
    assert_int_equal(route.kind, ROUTE_MANIFEST);
    assert_string_equal(route.name, "a/b");
    assert_string_equal(route.reference.tag, "v1.0");
    assert_int_equal(route.fault, ROUTE_FINE);
    route = parse("/v2/a/manifests/sha256:" HEX);
    assert_true(route.reference.is_digest);
    assert_int_equal(route.fault, ROUTE_FINE);
    route = parse("/v2/a/manifests/sha256%3A" HEX);
    assert_true(route.reference.is_digest);
}

static void test_names_may_hold_the_words_of_routes(void **state) {
    (void)state;
    struct route route = parse("/v2/a/manifests/b/manifests/v1");
    assert_string_equal(route.name, "a/manifests/b");
    route = parse("/v2/a/blobs/tags/list");
    assert_int_equal(route.kind, ROUTE_TAGS);
    assert_string_equal(route.name, "a/blobs");
}

static void test_a_host_in_front_stays_in_the_name(void **state) {
    (void)state;
    assert_string_equal(parse("/v2/ghcr.io/org/app/manifests/1.2").name, "ghcr.io/org/app");
    assert_string_equal(parse("/v2/localhost:5001/app/tags/list").name, "localhost:5001/app");
}

static void test_a_host_before_the_api_is_the_upstream(void **state) {
    (void)state;
    struct route route = parse("/ghcr.io/v2/org/app/manifests/1.2");
    assert_int_equal(route.kind, ROUTE_MANIFEST);
    assert_string_equal(route.host, "ghcr.io");
    assert_string_equal(route.name, "org/app");
    assert_string_equal(parse("/127.0.0.1%3A5001/v2/app/tags/list").host, "127.0.0.1:5001");
    assert_int_equal(parse("/ghcr.io/v2/").kind, ROUTE_API);
    assert_int_equal(parse("/ghcr.io/v2").kind, ROUTE_API);
    assert_int_equal(parse("/ghcr.io/v2/_catalog").kind, ROUTE_CATALOG);
    assert_int_equal(parse("/v2/ghcr.io/_catalog").kind, ROUTE_CATALOG);
    assert_string_equal(parse("/v2/ghcr.io/_catalog").host, "ghcr.io");
    assert_int_equal(parse("/v2/ghcr.io/org/_catalog").kind, ROUTE_NONE);
    assert_string_equal(parse("/v2/v2/app/manifests/1").name, "v2/app");
    assert_string_equal(parse("/v2/ghcr.io/v2/app/manifests/1").name, "ghcr.io/v2/app");
    static const char *const none[] = {"/ghcr.io/", "/ghcr.io/v1/",       "/ghcr.io/v2app",
                                       "/a b/v2/",  "//v2/a/manifests/1", "/a/b/v2/a/manifests/1"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        assert_int_equal(parse(none[i]).kind, ROUTE_NONE);
}

static void is_faulty(const char *path, enum route_fault fault, const char *malformed) {
    struct route route = parse(path);
    assert_int_equal(route.fault, fault);
    assert_string_equal(route.malformed, malformed);
}

static void test_bad_references_are_kept_as_given(void **state) {
    (void)state;
    is_faulty("/v2/a/manifests/.bad", ROUTE_BAD_TAG, ".bad");
    is_faulty("/v2/a/manifests/a%20b", ROUTE_BAD_TAG, "a b");
    is_faulty("/v2/a/manifests/a%zz", ROUTE_BAD_TAG, "a%zz");
    is_faulty("/v2/a/manifests/sha256:short", ROUTE_BAD_DIGEST, "sha256:short");
    is_faulty("/v2/a/blobs/latest", ROUTE_BAD_DIGEST, "latest");
    is_faulty("/v2/a/referrers/sha256:zz", ROUTE_BAD_DIGEST, "sha256:zz");
    is_faulty("/v2/a%zz/manifests/v1", ROUTE_BAD_NAME, "");
}

static void test_a_long_reference_is_malformed_and_cut(void **state) {
    (void)state;
    char path[8000] = "/v2/a/manifests/";
    size_t start = strlen(path);
    for (size_t length = 129; start + length < sizeof path; length = length * 3 / 2) {
        memset(path + start, 'b', length);
        struct route route = parse(path);
        assert_int_equal(route.fault, ROUTE_BAD_TAG);
        assert_string_equal(route.name, "a");
        assert_true(strlen(route.malformed) >= 129 &&
                    strlen(route.malformed) < sizeof route.malformed);
    }
}

static void test_a_long_name_is_malformed(void **state) {
    (void)state;
    char longer[3000] = "/v2/";
    memset(longer + 4, 'a', 2500);
    strcpy(longer + 2504, "/manifests/v1");
    assert_int_equal(parse(longer).fault, ROUTE_BAD_NAME);
    longer[600] = '\0';
    strcpy(longer + 600, "/manifests/v1");
    assert_int_equal(parse(longer).fault, ROUTE_BAD_NAME);
}

static void test_uploads_are_recognised(void **state) {
    (void)state;
    assert_int_equal(parse("/v2/a/blobs/uploads/").kind, ROUTE_UPLOAD);
    assert_int_equal(parse("/v2/a/blobs/uploads/some-id").kind, ROUTE_UPLOAD);
}

static void test_images(void **state) {
    (void)state;
    struct route route = parse("/tarn/v1/images/ghcr.io/org/app");
    assert_int_equal(route.kind, ROUTE_IMAGES);
    assert_int_equal(route.fault, ROUTE_FINE);
    assert_string_equal(route.name, "ghcr.io/org/app");
    assert_string_equal(parse("/tarn/v1/images/localhost%3A5000/app").name, "localhost:5000/app");
    assert_string_equal(parse("/tarn/v1/images/").name, "");
    assert_int_equal(parse("/tarn/v1/images/a%00b").fault, ROUTE_BAD_NAME);
    assert_int_equal(parse("/tarn/v1/images").kind, ROUTE_NONE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_images),
        cmocka_unit_test(test_fixed_paths),
        cmocka_unit_test(test_manifests_by_tag_and_digest),
        cmocka_unit_test(test_names_may_hold_the_words_of_routes),
        cmocka_unit_test(test_a_host_in_front_stays_in_the_name),
        cmocka_unit_test(test_a_host_before_the_api_is_the_upstream),
        cmocka_unit_test(test_bad_references_are_kept_as_given),
        cmocka_unit_test(test_a_long_reference_is_malformed_and_cut),
        cmocka_unit_test(test_a_long_name_is_malformed),
        cmocka_unit_test(test_uploads_are_recognised),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
