/* The section `bucket`: its settings, its credentials, and each mistake with its place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include "config/bench.h"

static void test_without_a_url_there_is_no_bucket(void **state) {
    struct bench *bench = *state;
    assert_int_equal(load(bench, "")->bucket.address.kind, BUCKET_NONE);
    assert_int_equal(load(bench, "bucket: {}\n")->bucket.address.kind, BUCKET_NONE);
}

static void test_every_key_is_read(void **state) {
    struct bench *bench = *state;
    const char *ca = write_file(bench, "ca.pem", "x");
    char text[700];
    snprintf(text, sizeof text,
             "bucket:\n  url: s3://my-cache/a/b\n  endpoint: https://s3.example:9000\n"
             "  region: eu-central-1\n  path_style: false\n  ca: %s\n  connections: 3\n"
             "  uploads: 2\n  part_size: 8MiB\n  patience: 2s\n  read_only: true\n"
             "  retention: 7d\n  max_size: 5TiB\n  storage_class: STANDARD_IA\n"
             "  encryption: aws:kms\n  kms_key: arn:aws:kms:x\n  credentials: anonymous\n",
             ca);
    const struct bucket_settings *bucket = &load(bench, text)->bucket;
    assert_int_equal(bucket->address.kind, BUCKET_S3);
    assert_string_equal(bucket->address.name, "my-cache");
    assert_string_equal(bucket->address.prefix, "a/b");
    assert_string_equal(bucket->endpoint, "https://s3.example:9000");
    assert_string_equal(bucket->region, "eu-central-1");
    assert_int_equal(bucket->path_style, BUCKET_STYLE_HOST);
    assert_string_equal(bucket->ca_file, ca);
    assert_int_equal(bucket->connections, 3);
    assert_int_equal(bucket->uploads, 2);
    assert_int_equal(bucket->part_size, 8 << 20);
    assert_int_equal(bucket->patience_ms, 2000);
    assert_true(bucket->read_only);
    assert_int_equal(bucket->retention_ms, 7ll * 86400000);
    assert_int_equal(bucket->max_size, 5ull << 40);
    assert_string_equal(bucket->storage_class, "STANDARD_IA");
    assert_string_equal(bucket->encryption, "aws:kms");
    assert_string_equal(bucket->kms_key, "arn:aws:kms:x");
    assert_int_equal(bucket->credentials, BUCKET_CREDENTIALS_ANONYMOUS);
}

static void test_defaults_are_those_of_the_bucket(void **state) {
    struct bench *bench = *state;
    const struct bucket_settings *bucket = &load(bench, "bucket: {url: 'gs://abc'}\n")->bucket;
    struct bucket_settings standard = bucket_settings_default();
    standard.address = bucket->address;
    assert_true(bucket_settings_equal(bucket, &standard));
    assert_int_equal(bucket_settings_credentials(bucket), BUCKET_CREDENTIALS_GOOGLE);
}

static void test_flags_override_variables_and_these_the_file(void **state) {
    struct bench *bench = *state;
    static const char *const environment[] = {"HOME=/h", "TARN_BUCKET_URL=s3://variable",
                                              "TARN_BUCKET_PATH_STYLE=true",
                                              "TARN_BUCKET_CREDENTIALS=google", NULL};
    bench->environment = environment;
    give_flags(bench, "--bucket-path-style=false", "--bucket-read-only");
    const struct bucket_settings *bucket =
        &load(bench, "bucket: {url: 's3://file', region: here, credentials: {aws: {}}}\n")->bucket;
    assert_string_equal(bucket->address.name, "variable");
    assert_string_equal(bucket->region, "here");
    assert_int_equal(bucket->path_style, BUCKET_STYLE_HOST);
    assert_true(bucket->read_only);
    assert_int_equal(bucket->credentials, BUCKET_CREDENTIALS_GOOGLE);
}

static void test_credentials_have_five_forms(void **state) {
    struct bench *bench = *state;
    const char *file = write_file(bench, "secret", "s");
    const struct bucket_settings *bucket =
        &load(bench, "bucket: {url: 's3://abc', credentials: aws}\n")->bucket;
    assert_int_equal(bucket->credentials, BUCKET_CREDENTIALS_AWS);
    bucket = &load(bench, "bucket: {url: 's3://abc', credentials: "
                          "{aws: {profile: tarn, file: /not/there}}}\n")
                  ->bucket;
    assert_int_equal(bucket->credentials, BUCKET_CREDENTIALS_AWS);
    assert_string_equal(bucket->aws_profile, "tarn");
    assert_string_equal(bucket->aws_file, "/not/there");
    bucket = &load(bench, "bucket: {url: 'gs://abc', credentials: {google: {metadata: m.example, "
                          "impersonate: a@b}}}\n")
                  ->bucket;
    assert_int_equal(bucket->credentials, BUCKET_CREDENTIALS_GOOGLE);
    assert_string_equal(bucket->google.metadata, "m.example");
    assert_string_equal(bucket->google.impersonate, "a@b");
    char text[200];
    snprintf(text, sizeof text,
             "bucket: {url: 's3://abc', credentials: {key_id: AKID, secret_file: %s}}\n", file);
    bucket = &load(bench, text)->bucket;
    assert_int_equal(bucket->credentials, BUCKET_CREDENTIALS_KEY);
    assert_string_equal(bucket->key_id, "AKID");
    assert_string_equal(bucket->secret_file, file);
}

static void test_each_mistake_is_reported_with_line_and_column(void **state) {
    struct bench *bench = *state;
    static const struct {
        const char *text, *problems;
    } cases[] = {
        {"bucket: {url: 'https://abc'}\n",
         "f.yaml:1:15: bucket.url: \"https://abc\": must be s3://NAME, s3://NAME/PREFIX, gs://NAME "
         "or gs://NAME/PREFIX\n"},
        {"bucket: {url: 's3://key:secret@abc'}\n",
         "f.yaml:1:15: bucket.url: the bucket's name may have a-z, 0-9, '.' and '-' only\n"},
        {"bucket:\n  url: s3://ABC\n",
         "f.yaml:2:8: bucket.url: \"s3://ABC\": the bucket's name may have a-z, 0-9, '.' and '-' "
         "only\n"},
        {"bucket:\n  url: s3://abc/a//b\n",
         "f.yaml:2:8: bucket.url: \"s3://abc/a//b\": the prefix must not have an empty, '.' or "
         "'..' part\n"},
        {"bucket: {url: 's3://abc', part_size: 4MiB}\n",
         "f.yaml:1:38: bucket.part_size: \"4MiB\" is too small; the minimum is 5MiB\n"},
        {"bucket: {url: 's3://abc', part_size: 1GiB}\n",
         "f.yaml:1:38: bucket.part_size: \"1GiB\" is too large; the maximum is 512MiB\n"},
        {"bucket: {url: 's3://abc', kms_key: k}\n",
         "f.yaml:1:36: bucket.kms_key: needs encryption: aws:kms\n"},
        {"bucket: {url: 's3://abc', path_style: yes}\n",
         "f.yaml:1:39: bucket.path_style: \"yes\" is not one of auto, true, false\n"},
        {"bucket:\n  url: s3://abc\n  colour: red\n", NULL},
        {"bucket:\n  region: here\n", "f.yaml:2:11: bucket.region: there is no bucket without "
                                      "bucket.url; write for example s3://my-cache/tarn\n"},
        {"bucket: {url: 's3://abc', credentials: {key_id: k}}\n",
         "f.yaml:1:40: bucket.credentials.secret_file: is missing; it names a file with the secret "
         "of the key\n"},
        {"bucket: {url: 's3://abc', credentials: {key_id: k, secret_file: /not/there}}\n",
         "f.yaml:1:65: bucket.credentials.secret_file: \"/not/there\" cannot be read: No such file "
         "or directory\n"},
        {"bucket: {url: 's3://abc', credentials: {key_id: k, aws: {}}}\n",
         "f.yaml:1:40: bucket.credentials: expected exactly one of aws, google, or key_id with "
         "secret_file\n"},
        {"bucket: {url: 's3://abc', credentials: {aws: {profil: x}}}\n",
         "f.yaml:1:47: bucket.credentials.aws.profil: unknown key \"profil\"; did you mean "
         "profile?\n"},
        /* all at once, in the order of their places */
        {"bucket:\n  url: gs://ab\n  endpoint: http://s3.example/x\n  encryption: rot13\n"
         "  region: 'a b'\n",
         "f.yaml:2:8: bucket.url: \"gs://ab\": the bucket's name must have 3 to 63 characters\n"
         "f.yaml:3:13: bucket.endpoint: must end after the host or the port: a prefix belongs in "
         "url\n"
         "f.yaml:4:15: bucket.encryption: must be AES256, aws:kms or aws:kms:dsse\n"
         "f.yaml:5:11: bucket.region: must be the name of a region, of a-z, 0-9 and '-', as "
         "eu-central-1\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (cases[i].problems)
            assert_refused(bench, cases[i].text, cases[i].problems);
        else
            assert_null(try_load(bench, cases[i].text));
    }
}

static void test_a_google_token_goes_over_http_to_this_machine_only(void **state) {
    struct bench *bench = *state;
    assert_refused(bench, "bucket: {url: 'gs://abc', endpoint: 'http://s3.example'}\n",
                   "f.yaml:1:37: bucket.endpoint: must be https: a Google token is sent over http "
                   "to this machine only\n");
    assert_non_null(try_load(bench, "bucket: {url: 'gs://abc', endpoint: 'http://127.0.0.1:1'}\n"));
    assert_non_null(try_load(bench, "bucket: {url: 's3://abc', endpoint: 'http://s3.example'}\n"));
}

static void test_a_mistake_in_a_flag_names_the_flag(void **state) {
    struct bench *bench = *state;
    give_flags(bench, "--bucket-url=s3://abc", "--bucket-endpoint=ftp://x",
               "--bucket-credentials=sso");
    assert_null(try_load(bench, ""));
    assert_non_null(strstr(bench->problems.bytes, "--bucket-endpoint: must be https://"));
    assert_non_null(strstr(bench->problems.bytes, "--bucket-credentials: \"sso\" is not one of"));
}

static void test_programs_are_told_of(void **state) {
    struct bench *bench = *state;
    const char *file = write_file(bench, "keys", "[default]\ncredential_process = /bin/true\n");
    char text[300];
    snprintf(text, sizeof text,
             "upstreams: [{host: a.example, credentials: anonymous, default: true}]\n"
             "bucket: {url: 's3://abc', credentials: {aws: {file: %s}}}\n",
             file);
    assert_string_equal(config_program_source(CONFIG_OF_SERVE, load(bench, text)), "bucket");
    assert_null(config_program_source(
        CONFIG_OF_SERVE,
        load(bench, "upstreams: [{host: a.example, credentials: anonymous, default: true}]\n"
                    "bucket: {url: 's3://abc', credentials: anonymous}\n")));
    assert_string_equal(
        config_program_source(
            CONFIG_OF_SERVE,
            load(bench, "upstreams: [{host: a.example, credentials: anonymous, default: true}]\n"
                        "bucket: {url: 'gs://abc', credentials: {google: {gcloud: true}}}\n")),
        "bucket");
}

static void test_the_bucket_cannot_change_while_tarn_runs(void **state) {
    struct bench *bench = *state;
    static const struct {
        const char *now, *next, *problem;
    } cases[] = {
        {"bucket: {url: 's3://abc'}\n", "bucket: {url: 's3://abd'}\n",
         "f.yaml:1:15: bucket.url: cannot change from \"s3://abc\" to \"s3://abd\" while tarn "
         "runs; "
         "restart tarn, or change it back\n"},
        {"", "bucket: {url: 's3://abc'}\n",
         "f.yaml:1:15: bucket.url: cannot change from \"\" to \"s3://abc\" while tarn runs; "
         "restart "
         "tarn, or change it back\n"},
        {"bucket: {url: 's3://abc', credentials: {aws: {profile: a}}}\n",
         "bucket: {url: 's3://abc', credentials: {aws: {profile: b}}}\n",
         "f.yaml:1:40: bucket.credentials: cannot change while tarn runs; restart tarn, or change "
         "it back\n"},
        {"bucket: {url: 's3://abc', uploads: 2}\n", "bucket: {uploads: 2, url: 's3://abc'}\n", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        load(bench, cases[i].now);
        struct config *before = bench->config;
        bench->config = NULL;
        load(bench, cases[i].next);
        buffer_clear(&bench->problems);
        assert_int_equal(
            config_check_change(CONFIG_OF_SERVE, before, bench->config, &bench->problems),
            *cases[i].problem == '\0');
        config_free(before);
        assert_string_equal(bench->problems.length ? bench->problems.bytes : "", cases[i].problem);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_bench(test_without_a_url_there_is_no_bucket),
        with_bench(test_every_key_is_read),
        with_bench(test_defaults_are_those_of_the_bucket),
        with_bench(test_flags_override_variables_and_these_the_file),
        with_bench(test_credentials_have_five_forms),
        with_bench(test_each_mistake_is_reported_with_line_and_column),
        with_bench(test_a_google_token_goes_over_http_to_this_machine_only),
        with_bench(test_a_mistake_in_a_flag_names_the_flag),
        with_bench(test_programs_are_told_of),
        with_bench(test_the_bucket_cannot_change_while_tarn_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
