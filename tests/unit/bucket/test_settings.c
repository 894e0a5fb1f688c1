/* What may be configured, and where requests then go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include "bucket/endpoint.h"
#include "bucket/settings.h"

static void test_a_url_names_kind_bucket_and_prefix(void **state) {
    (void)state;
    struct bucket_address address;
    char label[BUCKET_LABEL_SIZE];
    assert_true(bucket_address_parse("s3://my-cache/a/b_C.d", &address, NULL));
    assert_int_equal(address.kind, BUCKET_S3);
    assert_string_equal(address.name, "my-cache");
    assert_string_equal(address.prefix, "a/b_C.d");
    assert_string_equal(bucket_address_write(&address, label), "s3://my-cache/a/b_C.d");
    assert_true(bucket_address_parse("gs://my_cache", &address, NULL));
    assert_int_equal(address.kind, BUCKET_GOOGLE);
    assert_string_equal(address.prefix, "");
    assert_string_equal(bucket_address_write(&address, label), "gs://my_cache");
}

static void test_a_wrong_url_is_refused(void **state) {
    (void)state;
    static const char *const wrong[] = {
        "",
        "cache",
        "s3:cache",
        "http://cache",
        "S3://cache",
        "s3://",
        "s3:///x",
        "s3://ab",
        "s3://Cache",
        "s3://my_cache",
        "s3://-cache",
        "s3://cache-",
        "s3://.cache",
        "gs://_cache",
        "s3://cache/",
        "s3://cache/a/",
        "s3://cache//a",
        "s3://cache/a//b",
        "s3://cache/.",
        "s3://cache/..",
        "s3://cache/a/../b",
        "s3://cache/a b",
        "s3://cache/a?b",
        "s3://cache/\xc3\xa4",
        "s3://cache/a%20b",
        "s3://user@cache",
        "s3://cache:9000",
        "s3://aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct bucket_address address;
        struct error error = {0};
        if (bucket_address_parse(wrong[i], &address, &error))
            fail_msg("%s was accepted", wrong[i]);
        assert_int_equal(error.kind, ERROR_INVALID);
        assert_int_equal(address.kind, BUCKET_NONE);
    }
}

static struct bucket_settings settings_for(const char *url) {
    struct bucket_settings settings = bucket_settings_default();
    assert_true(bucket_address_parse(url, &settings.address, NULL));
    return settings;
}

static void expect_wrong(const struct bucket_settings *settings, const char *wrong) {
    struct error error = {0};
    const char *key = "";
    assert_false(bucket_settings_check(settings, &key, &error));
    assert_string_equal(key, wrong);
    assert_int_equal(error.kind, ERROR_INVALID);
}

static void test_settings_that_do_not_fit_together_are_named(void **state) {
    (void)state;
    static const char *const endpoints[] = {"s3.example",
                                            "ftp://s3.example",
                                            "https://user@s3.example",
                                            "https://user:p@s3.example",
                                            "https://s3.example/path",
                                            "https://s3.example?x",
                                            "https://s3.example/#x",
                                            "https://"};
    const char *key;
    struct bucket_settings settings = settings_for("s3://cache");
    assert_true(bucket_settings_check(&settings, &key, NULL));
    for (size_t i = 0; i < sizeof endpoints / sizeof *endpoints; i++) {
        settings.endpoint = endpoints[i];
        expect_wrong(&settings, "endpoint");
    }
    settings.endpoint = "http://s3.example:9000";
    assert_true(bucket_settings_check(&settings, &key, NULL));
    settings.region = "Here/there";
    expect_wrong(&settings, "region");
    settings = settings_for("s3://cache");
    settings.part_size = BUCKET_PART_SIZE_LEAST - 1;
    expect_wrong(&settings, "part_size");
    settings.part_size = BUCKET_PART_SIZE_MOST + 1;
    expect_wrong(&settings, "part_size");
    settings = settings_for("s3://cache");
    settings.kms_key = "arn:aws:kms:x";
    expect_wrong(&settings, "kms_key");
    settings.encryption = "AES256";
    expect_wrong(&settings, "kms_key");
    settings.encryption = "none";
    expect_wrong(&settings, "encryption");
    settings.encryption = "aws:kms";
    assert_true(bucket_settings_check(&settings, &key, NULL));
    settings.storage_class = "A\r\nB";
    expect_wrong(&settings, "storage_class");
}

static void test_a_google_token_goes_in_clear_to_this_machine_only(void **state) {
    (void)state;
    const char *key;
    struct bucket_settings settings = settings_for("gs://cache");
    settings.endpoint = "http://storage.example";
    expect_wrong(&settings, "endpoint");
    settings.endpoint = "http://127.0.0.1:9000";
    assert_true(bucket_settings_check(&settings, &key, NULL));
    settings.endpoint = "http://localhost:9000";
    assert_true(bucket_settings_check(&settings, &key, NULL));
    settings.endpoint = "http://storage.example";
    settings.credentials = BUCKET_CREDENTIALS_KEY;
    assert_true(bucket_settings_check(&settings, &key, NULL));
}

/* The host, and whether the bucket's name is in the path. */
static void expect_host(const struct bucket_settings *settings, const char *region, const char *url,
                        bool in_path) {
    struct bucket_endpoint endpoint;
    char out[BUCKET_ENDPOINT_URL_SIZE];
    bucket_endpoint_make(settings, region, &endpoint);
    assert_string_equal(bucket_endpoint_url(&endpoint, out), url);
    assert_int_equal(endpoint.in_path, in_path);
}

static void test_each_bucket_has_its_host(void **state) {
    (void)state;
    struct bucket_settings settings = settings_for("s3://cache");
    expect_host(&settings, "eu-central-1", "https://cache.s3.eu-central-1.amazonaws.com", false);
    expect_host(&settings, "cn-north-1", "https://cache.s3.cn-north-1.amazonaws.com.cn", false);
    settings.path_style = BUCKET_STYLE_PATH;
    expect_host(&settings, "eu-central-1", "https://s3.eu-central-1.amazonaws.com", true);
    settings = settings_for("s3://my.cache"); /* would not fit the certificate */
    expect_host(&settings, "eu-central-1", "https://s3.eu-central-1.amazonaws.com", true);
    settings = settings_for("s3://cache");
    settings.endpoint = "http://S3.example:9000";
    expect_host(&settings, "x", "http://s3.example:9000", true);
    settings.path_style = BUCKET_STYLE_HOST;
    expect_host(&settings, "x", "http://cache.s3.example:9000", false);
    settings = settings_for("gs://cache");
    expect_host(&settings, "auto", "https://storage.googleapis.com", true);
    settings.path_style = BUCKET_STYLE_HOST;
    expect_host(&settings, "auto", "https://cache.storage.googleapis.com", false);
}

static void test_every_difference_makes_another_bucket(void **state) {
    (void)state;
    struct bucket_settings a = settings_for("s3://cache/a"), b = settings_for("s3://cache/a");
    assert_true(bucket_settings_equal(&a, &b));
    b.credentials = BUCKET_CREDENTIALS_AWS; /* is the default */
    assert_true(bucket_settings_equal(&a, &b));
    b.patience_ms++;
    assert_false(bucket_settings_equal(&a, &b));
    b = settings_for("s3://cache/b");
    assert_false(bucket_settings_equal(&a, &b));
    b = a;
    b.endpoint = "https://s3.example";
    assert_false(bucket_settings_equal(&a, &b));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_url_names_kind_bucket_and_prefix),
        cmocka_unit_test(test_a_wrong_url_is_refused),
        cmocka_unit_test(test_settings_that_do_not_fit_together_are_named),
        cmocka_unit_test(test_a_google_token_goes_in_clear_to_this_machine_only),
        cmocka_unit_test(test_each_bucket_has_its_host),
        cmocka_unit_test(test_every_difference_makes_another_bucket),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
