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
    assert_null(route.bad);
    route = parse("/v2/a/manifests/sha256:" HEX);
    assert_true(route.reference.is_digest);
    assert_null(route.bad);
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

static void test_bad_references_carry_their_code(void **state) {
    (void)state;
    assert_string_equal(parse("/v2/a/manifests/.bad").bad, "TAG_INVALID");
    assert_string_equal(parse("/v2/a/manifests/sha256:short").bad, "DIGEST_INVALID");
    assert_string_equal(parse("/v2/a/blobs/latest").bad, "DIGEST_INVALID");
    assert_string_equal(parse("/v2/a/referrers/sha256:zz").bad, "DIGEST_INVALID");
    assert_string_equal(parse("/v2/a%zz/manifests/v1").bad, "NAME_INVALID");
    char longer[2000] = "/v2/";
    memset(longer + 4, 'a', 1500);
    strcpy(longer + 1504, "/manifests/v1");
    assert_string_equal(parse(longer).bad, "NAME_INVALID");
}

static void test_uploads_are_recognised(void **state) {
    (void)state;
    assert_int_equal(parse("/v2/a/blobs/uploads/").kind, ROUTE_UPLOAD);
    assert_int_equal(parse("/v2/a/blobs/uploads/some-id").kind, ROUTE_UPLOAD);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fixed_paths),
        cmocka_unit_test(test_manifests_by_tag_and_digest),
        cmocka_unit_test(test_names_may_hold_the_words_of_routes),
        cmocka_unit_test(test_a_host_in_front_stays_in_the_name),
        cmocka_unit_test(test_bad_references_carry_their_code),
        cmocka_unit_test(test_uploads_are_recognised),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
