/* Signatures between replicas: RFC 9421's own example, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include "base/base64.h"
#include "replica/signature.h"

#define FIRST  "0123456789abcdef0123456789abcdef"
#define SECOND "fedcba9876543210fedcba9876543210"

enum { NOW_S = 1700000000 };

static const struct signed_request request = {
    .method = {"GET", 3},
    .path = {"/v2/ghcr.io/app/manifests/1", 27},
    .query = {"ns=ghcr.io", 10},
    .ask = {"fetch", 5},
};

static struct secrets *read_secrets(const char *text) {
    struct error error = {0};
    struct secrets *secrets = secrets_parse(text_of(text), &error);
    if (!secrets)
        print_message("%s\n", error.text);
    assert_non_null(secrets);
    return secrets;
}

static void test_the_mac_is_that_of_the_rfc(void **state) {
    (void)state;
    /* RFC 9421, B.1.5 and B.2.5 */
    static const char base[] =
        "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n"
        "\"@authority\": example.com\n"
        "\"content-type\": application/json\n"
        "\"@signature-params\": (\"date\" \"@authority\" \"content-type\");created=1618884473"
        ";keyid=\"test-shared-secret\"";
    size_t length;
    char mac[MAC_SIZE];
    char *key = base64_decode(text_of("uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJ"
                                      "PBtbmHhIDi6pcl8jsasjlTMtDQ=="),
                              &length);
    assert_non_null(key);
    assert_true(signature_mac(key, length, text_of(base), mac));
    assert_string_equal(mac, "pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=");
    free(key);
}

struct fields {
    char input[SIGNATURE_INPUT_SIZE], signature[SIGNATURE_SIZE];
};

static struct fields sign_at(const struct secrets *secrets, int64_t now_s) {
    struct fields fields;
    assert_true(signature_make(secrets, &request, now_s, fields.input, fields.signature));
    return fields;
}

static bool is_good(const struct secrets *secrets, const struct signed_request *what,
                    const struct fields *fields, int64_t now_s) {
    return signature_is_good(secrets, what, text_of(fields->input), text_of(fields->signature),
                             now_s);
}

/* By another hand: hmac.new(key, base, "sha256") of Python. */
static void test_a_request_is_signed_in_the_one_form(void **state) {
    (void)state;
    struct secrets *secrets = read_secrets(FIRST "\n");
    const struct fields fields = sign_at(secrets, NOW_S);
    assert_string_equal(fields.input,
                        "tarn=(\"@method\" \"@path\" \"@query\" \"tarn-ask\");created=1700000000"
                        ";keyid=\"3eb1bd43\";alg=\"hmac-sha256\"");
    assert_string_equal(fields.signature, "tarn=:7atro7AARR21FZfygexo4hqS4Iz9fdsIkUxjk4/8BAk=:");
    secrets_free(secrets);
}

static void test_a_signature_is_good_for_a_minute_either_way(void **state) {
    (void)state;
    struct secrets *secrets = read_secrets(FIRST);
    const struct fields fields = sign_at(secrets, NOW_S);
    assert_true(is_good(secrets, &request, &fields, NOW_S));
    assert_true(is_good(secrets, &request, &fields, NOW_S + 60));
    assert_true(is_good(secrets, &request, &fields, NOW_S - 60));
    assert_false(is_good(secrets, &request, &fields, NOW_S + 61));
    assert_false(is_good(secrets, &request, &fields, NOW_S - 61));
    secrets_free(secrets);
}

static void test_what_is_signed_cannot_be_changed(void **state) {
    (void)state;
    struct secrets *secrets = read_secrets(FIRST);
    const struct fields fields = sign_at(secrets, NOW_S);
    struct signed_request changed[8];
    size_t count = 0;
    for (size_t i = 0; i < 8; i++)
        changed[i] = request;
    changed[count++].method = text_of("HEAD");
    changed[count++].path = text_of("/v2/ghcr.io/app/manifests/2");
    changed[count++].query = text_of("ns=docker.io");
    changed[count++].query = text_of("");
    changed[count++].ask = text_of("arriving");
    changed[count++].ask = text_of("fetch; bucket=absent");
    changed[count].path =
        text_of("/v2/ghcr.io/app/manifests/1?ns=ghcr.io"); /* moved, not changed */
    changed[count++].query = text_of("");
    changed[count++].ask = (struct text){0};
    for (size_t i = 0; i < count; i++)
        assert_false(is_good(secrets, &changed[i], &fields, NOW_S));
    secrets_free(secrets);
}

/* Each byte of both fields counts. */
static void test_another_form_is_no_signature(void **state) {
    (void)state;
    struct secrets *secrets = read_secrets(FIRST);
    const struct fields right = sign_at(secrets, NOW_S);
    const size_t inputs = strlen(right.input), signatures = strlen(right.signature);
    for (size_t i = 0; i < inputs + signatures; i++) {
        struct fields wrong = right;
        (i < inputs ? &wrong.input[i] : &wrong.signature[i - inputs])[0] ^= 1;
        assert_false(is_good(secrets, &request, &wrong, NOW_S));
    }
    for (size_t i = 0; i <= inputs; i++)
        assert_true(signature_is_good(secrets, &request, (struct text){right.input, i},
                                      text_of(right.signature), NOW_S) == (i == inputs));
    for (size_t i = 0; i <= signatures; i++)
        assert_true(signature_is_good(secrets, &request, text_of(right.input),
                                      (struct text){right.signature, i},
                                      NOW_S) == (i == signatures));
    assert_false(
        signature_is_good(secrets, &request, (struct text){0}, text_of(right.signature), NOW_S));
    assert_false(
        signature_is_good(secrets, &request, text_of(right.input), (struct text){0}, NOW_S));
    char longer[SIGNATURE_INPUT_SIZE + 16];
    snprintf(longer, sizeof longer, "%s;expires=9", right.input);
    assert_false(
        signature_is_good(secrets, &request, text_of(longer), text_of(right.signature), NOW_S));
    secrets_free(secrets);
}

static void test_a_secret_is_exchanged_while_replicas_run(void **state) {
    (void)state;
    struct secrets *before = read_secrets(FIRST "\n");
    struct secrets *both = read_secrets(SECOND "\n" FIRST "\n");
    struct secrets *after = read_secrets(SECOND "\r\n");
    const struct fields old = sign_at(before, NOW_S), new = sign_at(both, NOW_S);
    assert_true(is_good(both, &request, &old, NOW_S));
    assert_true(is_good(both, &request, &new, NOW_S));
    assert_true(is_good(after, &request, &new, NOW_S));
    assert_false(is_good(after, &request, &old, NOW_S));
    assert_false(is_good(before, &request, &new, NOW_S));
    secrets_free(before);
    secrets_free(both);
    secrets_free(after);
}

static void test_a_file_without_good_secrets_is_refused(void **state) {
    (void)state;
    char *many = malloc(SECRET_MOST * 2);
    assert_non_null(many);
    static const struct {
        const char *text, *why;
    } cases[] = {
        {"", "empty"},
        {"\n\n", "empty"},
        {"short\n", "line 1 has 5 bytes"},
        {FIRST "\nshort\n", "line 2 has 5 bytes"},
        {"0123456789abcdef0123456789abcde\n", "line 1 has 31 bytes"},
        {FIRST "\n\n" SECOND "\n", "line 2 has 0 bytes"},
        {FIRST "\n" FIRST "\n" FIRST "\n" FIRST "\n" FIRST "\n" FIRST "\n" FIRST "\n" FIRST
               "\n" FIRST,
         "more than 8 lines"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error error = {0};
        assert_null(secrets_parse(text_of(cases[i].text), &error));
        if (!strstr(error.text, cases[i].why))
            print_message("%s\n", error.text);
        assert_non_null(strstr(error.text, cases[i].why));
        assert_null(strstr(error.text, "0123456789")); /* an error holds no secret */
    }
    struct error error = {0};
    memset(many, 'x', SECRET_MOST * 2);
    assert_null(secrets_parse((struct text){many, SECRET_MOST + 1}, &error));
    struct secrets *longest = secrets_parse((struct text){many, SECRET_MOST}, &error);
    assert_non_null(longest);
    secrets_free(longest);
    free(many);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_mac_is_that_of_the_rfc),
        cmocka_unit_test(test_a_request_is_signed_in_the_one_form),
        cmocka_unit_test(test_a_signature_is_good_for_a_minute_either_way),
        cmocka_unit_test(test_what_is_signed_cannot_be_changed),
        cmocka_unit_test(test_another_form_is_no_signature),
        cmocka_unit_test(test_a_secret_is_exchanged_while_replicas_run),
        cmocka_unit_test(test_a_file_without_good_secrets_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
