/* Signatures: the vectors that AWS publishes for the S3 API, and what cannot be signed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "auth/aws/sigv4.h"
#include "base/cleanup.h"

/* "Examples: Signature calculations" of the S3 API's reference. */
static const struct sigv4_request published = {
    .method = "GET",
    .host = "examplebucket.s3.amazonaws.com",
    .path = "/test.txt",
    .payload_hash = SIGV4_EMPTY_HASH,
    .region = "us-east-1",
    .service = "s3",
    .key_id = "AKIAIOSFODNN7EXAMPLE",
    .secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    .time_s = 1369353600, /* 20130524T000000Z */
};

static void assert_signature(const struct sigv4_request *request, const char *expected) {
    cleanup_sigv4_fields struct sigv4_fields fields = {0};
    struct error error = {0};
    if (!sigv4_sign(request, &fields, &error))
        fail_msg("%s", error.text);
    const char *signature = strstr(fields.authorization.bytes, "Signature=");
    assert_non_null(signature);
    assert_string_equal(signature + strlen("Signature="), expected);
}

static void test_a_get_with_a_range(void **state) {
    (void)state;
    struct sigv4_request request = published;
    const struct sigv4_pair headers[] = {{"Range", "bytes=0-9"}};
    request.headers = headers;
    request.header_count = 1;
    assert_signature(&request, "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");

    cleanup_sigv4_fields struct sigv4_fields fields = {0};
    assert_true(sigv4_sign(&request, &fields, NULL));
    assert_string_equal(fields.lines[0], "x-amz-date: 20130524T000000Z");
    assert_string_equal(fields.lines[1], "x-amz-content-sha256: " SIGV4_EMPTY_HASH);
    assert_string_equal(
        fields.lines[2],
        "Authorization: AWS4-HMAC-SHA256 "
        "Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
        "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, "
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
    assert_null(fields.lines[3]);
}

static void test_a_put(void **state) {
    (void)state;
    struct sigv4_request request = published;
    const struct sigv4_pair headers[] = {{"x-amz-storage-class", "  REDUCED_REDUNDANCY "},
                                         {"Date", "Fri,  24 May \t2013 00:00:00 GMT"}};
    request.method = "PUT";
    request.path = "/test$file.text";
    request.headers = headers;
    request.header_count = 2;
    request.payload_hash = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
    assert_signature(&request, "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
}

static void test_queries(void **state) {
    (void)state;
    struct sigv4_request request = published;
    const struct sigv4_pair lifecycle[] = {{"lifecycle", NULL}};
    const struct sigv4_pair list[] = {{"prefix", "J"}, {"max-keys", "2"}};
    request.path = "/";
    request.query = lifecycle;
    request.query_count = 1;
    assert_signature(&request, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
    request.query = list;
    request.query_count = 2;
    assert_signature(&request, "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
    cleanup_buffer struct buffer target = {0};
    assert_true(sigv4_target(&request, &target, NULL));
    assert_string_equal(target.bytes, "/?max-keys=2&prefix=J");
}

static void test_a_presigned_url(void **state) {
    (void)state;
    struct sigv4_request request = published;
    cleanup_buffer struct buffer target = {0};
    request.payload_hash = SIGV4_UNSIGNED;
    assert_true(sigv4_presign(&request, 86400, &target, NULL));
    assert_string_equal(target.bytes,
                        "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
                        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2F"
                        "aws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400"
                        "&X-Amz-SignedHeaders=host&X-Amz-Signature="
                        "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404");
}

static void test_names_come_in_their_own_order_not_in_that_of_their_lines(void **state) {
    (void)state;
    struct sigv4_request request = published;
    cleanup_sigv4_fields struct sigv4_fields fields = {0};
    cleanup_buffer struct buffer target = {0};
    const struct sigv4_pair headers[] = {{"x-amz-copy-source-if-none-match", "*"},
                                         {"X-Amz-Copy-Source", "/b/k"}};
    const struct sigv4_pair query[] = {{"a-b", "1"}, {"a", "2"}, {"a", "1"}, {"A", "/ +~"}};
    request.headers = headers;
    request.header_count = 2;
    request.query = query;
    request.query_count = 4;
    assert_true(sigv4_sign(&request, &fields, NULL));
    assert_non_null(strstr(fields.authorization.bytes,
                           "SignedHeaders=host;x-amz-content-sha256;x-amz-copy-source;"
                           "x-amz-copy-source-if-none-match;x-amz-date,"));
    assert_true(sigv4_target(&request, &target, NULL));
    assert_string_equal(target.bytes, "/test.txt?A=%2F%20%2B~&a=1&a=2&a-b=1");
}

static void test_a_session_token_is_sent_and_signed(void **state) {
    (void)state;
    struct sigv4_request request = published;
    cleanup_sigv4_fields struct sigv4_fields fields = {0};
    cleanup_buffer struct buffer target = {0};
    request.session_token = "to/ken+";
    assert_true(sigv4_sign(&request, &fields, NULL));
    assert_string_equal(fields.lines[2], "x-amz-security-token: to/ken+");
    assert_non_null(strstr(fields.lines[3], ";x-amz-security-token,"));
    assert_true(sigv4_presign(&request, 60, &target, NULL));
    assert_non_null(strstr(target.bytes, "&X-Amz-Security-Token=to%2Fken%2B&"));
}

static void test_the_hash_of_the_payload_is_a_field_of_s3_only(void **state) {
    (void)state;
    struct sigv4_request request = published;
    cleanup_sigv4_fields struct sigv4_fields fields = {0};
    request.service = "sts";
    assert_true(sigv4_sign(&request, &fields, NULL));
    assert_non_null(strstr(fields.lines[1], "/us-east-1/sts/aws4_request, "
                                            "SignedHeaders=host;x-amz-date, "));
    assert_null(fields.lines[2]);
}

static void test_what_cannot_be_signed_is_an_error(void **state) {
    (void)state;
    struct sigv4_request request = published;
    cleanup_sigv4_fields struct sigv4_fields fields = {0};
    cleanup_buffer struct buffer target = {0};
    struct error error = {0};
    const struct sigv4_pair broken[] = {{"range", "bytes=0-9\r\nx-amz-acl: public-read"}};
    const struct sigv4_pair twice[] = {{"Range", "bytes=0-9"}, {"range", "bytes=0-9"}};
    const struct sigv4_pair own[] = {{"Host", "other"}};
    struct sigv4_pair many[SIGV4_QUERY_LIMIT + 1];
    for (size_t i = 0; i < SIGV4_QUERY_LIMIT + 1; i++)
        many[i] = (struct sigv4_pair){"a", "b"};

    request.headers = broken;
    request.header_count = 1;
    assert_false(sigv4_sign(&request, &fields, &error));
    assert_int_equal(error.kind, ERROR_INVALID);
    request.headers = twice;
    request.header_count = 2;
    assert_false(sigv4_sign(&request, &fields, &error));
    assert_int_equal(error.kind, ERROR_INVALID);
    request.headers = own;
    request.header_count = 1;
    assert_false(sigv4_sign(&request, &fields, &error));
    request.headers = many;
    request.header_count = SIGV4_HEADER_LIMIT + 1;
    assert_false(sigv4_sign(&request, &fields, &error));
    request = published;
    request.query = many;
    request.query_count = SIGV4_QUERY_LIMIT + 1;
    assert_false(sigv4_sign(&request, &fields, &error));
    assert_false(sigv4_target(&request, &target, &error));
    assert_false(sigv4_presign(&published, 0, &target, &error));
    assert_false(sigv4_presign(&published, SIGV4_EXPIRES_LIMIT_S + 1, &target, &error));
    request = published;
    request.time_s = -1;
    assert_false(sigv4_sign(&request, &fields, &error));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_get_with_a_range),
        cmocka_unit_test(test_a_put),
        cmocka_unit_test(test_queries),
        cmocka_unit_test(test_a_presigned_url),
        cmocka_unit_test(test_names_come_in_their_own_order_not_in_that_of_their_lines),
        cmocka_unit_test(test_a_session_token_is_sent_and_signed),
        cmocka_unit_test(test_the_hash_of_the_payload_is_a_field_of_s3_only),
        cmocka_unit_test(test_what_cannot_be_signed_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
