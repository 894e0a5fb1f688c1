/* The challenges that registries send. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "client/challenge.h"
#include "client/content_range.h"

static struct challenge read_one(const char *value) {
    struct challenge challenge = {0};
    challenge_read(text_of(value), &challenge);
    return challenge;
}

static void check_bearer(const char *value, const char *realm, const char *service,
                         const char *scope) {
    struct challenge challenge = read_one(value);
    assert_int_equal(challenge.scheme, CHALLENGE_BEARER);
    assert_string_equal(challenge.realm, realm);
    assert_string_equal(challenge.service, service);
    assert_string_equal(challenge.scope, scope);
}

static void test_bearer_with_and_without_service_and_scope(void **state) {
    (void)state;
    check_bearer("Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\","
                 "scope=\"repository:samalba/my-app:pull,push\"",
                 "https://auth.docker.io/token", "registry.docker.io",
                 "repository:samalba/my-app:pull,push");
    check_bearer("Bearer realm=\"https://us-docker.pkg.dev/v2/token\"",
                 "https://us-docker.pkg.dev/v2/token", "", "");
    check_bearer("Bearer realm=\"https://gcr.io/v2/token\",service=gcr.io",
                 "https://gcr.io/v2/token", "gcr.io", "");
}

static void test_spaces_case_and_unquoted_values(void **state) {
    (void)state;
    check_bearer("bEaReR  REALM = \"https://a/t\" ,\t Service=x , scope=repository:a/b:pull",
                 "https://a/t", "x", "repository:a/b:pull");
    check_bearer("Bearer realm=https://a/t?x=y,service=b", "https://a/t?x=y", "b", "");
    check_bearer("Bearer realm=\"https://a/\\\"q\\\"\",error=\"invalid_token\"", "https://a/\"q\"",
                 "", "");
}

static void test_bearer_wins_over_basic_wherever_it_stands(void **state) {
    (void)state;
    check_bearer("Basic realm=\"x\", Bearer realm=\"https://a/t\",service=\"s\"", "https://a/t",
                 "s", "");
    check_bearer("Bearer realm=\"https://a/t\", Basic realm=\"x\"", "https://a/t", "", "");
    check_bearer("Negotiate YWJj==, Bearer realm=\"https://a/t\"", "https://a/t", "", "");
    check_bearer(
        "Digest realm=\"d, Bearer realm=\\\"no\\\"\", nonce=\"1\", Bearer realm=\"https://a/t\"",
        "https://a/t", "", "");
    struct challenge challenge = read_one("Basic realm=\"one\"");
    challenge_read(text_of("Bearer realm=\"https://a/t\""), &challenge);
    challenge_read(text_of("Bearer realm=\"https://b/t\""), &challenge);
    assert_int_equal(challenge.scheme, CHALLENGE_BEARER);
    assert_string_equal(challenge.realm, "https://a/t");
}

static void test_what_is_no_challenge_is_none(void **state) {
    (void)state;
    static const char *const none[] = {
        "",
        ",",
        ",,, ",
        "Bearer",
        "Bearer service=\"x\"",
        "Negotiate",
        "realm=\"x\"",
        "\"Bearer\"",
        "Bearer realm=\"\"",
        "Bearer realm=\"https://a\x01\"",
        "@@@",
        "=",
        "=,=\"",
        "Bearer =\"x\"",
    };
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        assert_int_equal(read_one(none[i]).scheme, CHALLENGE_NONE);
    assert_int_equal(read_one("basic").scheme, CHALLENGE_BASIC);
}

static void test_values_that_do_not_fit_are_left_out(void **state) {
    (void)state;
    char value[4096] = "Bearer realm=\"https://a/t\",service=\"";
    size_t length = strlen(value);
    memset(value + length, 's', 2000);
    strcpy(value + length + 2000, "\",scope=\"x\"");
    check_bearer(value, "https://a/t", "", "x");
    strcpy(value, "Bearer realm=\"https://");
    length = strlen(value);
    memset(value + length, 'r', 3000);
    strcpy(value + length + 3000, "\"");
    assert_int_equal(read_one(value).scheme, CHALLENGE_NONE);
}

static void test_content_range(void **state) {
    (void)state;
    struct content_range range;
    assert_true(content_range_parse(text_of("bytes 0-0/1"), &range));
    assert_true(range.satisfied && range.has_total && range.total == 1);
    assert_true(content_range_parse(text_of(" Bytes 5-9/* "), &range));
    assert_false(range.has_total);
    assert_true(content_range_fits(&range, 5, 9, 0));
    assert_true(content_range_fits(&range, 5, UINT64_MAX, 0));
    assert_false(content_range_fits(&range, 5, 8, 0));
    assert_false(content_range_fits(&range, 4, 9, 0));
    assert_true(content_range_fits(&range, 0, 0, 5));
    assert_false(content_range_fits(&range, 0, 0, 4));
    assert_true(content_range_parse(text_of("bytes */10"), &range));
    assert_false(range.satisfied);
    assert_true(content_range_parse(text_of("bytes 0-9/10"), &range));
    assert_true(content_range_fits(&range, 0, 0, 20)); /* a suffix longer than the whole */
    assert_false(content_range_fits(&range, 0, 0, 5));
    static const char *const wrong[] = {"",
                                        "bytes",
                                        "bytes 1-0/5",
                                        "bytes 0-5/5",
                                        "bytes a-b/c",
                                        "bytes 0-1",
                                        "bytes -1/5",
                                        "bytes */*",
                                        "items 0-1/5",
                                        "bytes 0-1/-5",
                                        "bytes 0-18446744073709551615/*"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_false(content_range_parse(text_of(wrong[i]), &range));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bearer_with_and_without_service_and_scope),
        cmocka_unit_test(test_spaces_case_and_unquoted_values),
        cmocka_unit_test(test_bearer_wins_over_basic_wherever_it_stands),
        cmocka_unit_test(test_what_is_no_challenge_is_none),
        cmocka_unit_test(test_values_that_do_not_fit_are_left_out),
        cmocka_unit_test(test_content_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
