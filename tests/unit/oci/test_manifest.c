/* Manifests and indexes: what they refer to, and which are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>
#include "base/buffer.h"
#include "oci/manifest.h"

#define HEX(digit)                                                                                 \
    digit digit digit digit digit digit digit digit digit digit digit digit digit digit digit      \
        digit digit digit digit digit digit digit digit digit digit digit digit digit digit digit  \
            digit digit
#define SHA256(digit) "sha256:" HEX(digit) HEX(digit)
#define SHA512(digit) "sha512:" HEX(digit) HEX(digit) HEX(digit) HEX(digit)

/* A descriptor's JSON: media type, digest, size. */
#define DESCRIPTOR(type, digest, size)                                                             \
    "{\"mediaType\":\"" type "\",\"digest\":\"" digest "\",\"size\":" size "}"
#define CONFIG "\"config\":" DESCRIPTOR("c/c", SHA256("0"), "1")

static struct manifest manifest;
static struct error error;

static bool parse_string(const char *json) {
    error_clear(&error);
    return manifest_parse(json, strlen(json), &manifest, &error);
}

static void assert_parses(const char *json) {
    if (!parse_string(json))
        fail_msg("%s: %s", error.text, json);
}

static void assert_refused(const char *json, const char *says) {
    if (parse_string(json))
        fail_msg("accepted: %s", json);
    assert_int_equal(error.kind, ERROR_INVALID);
    if (!strstr(error.text, says))
        fail_msg("\"%s\" does not say: %s", error.text, says);
    assert_null(manifest.descriptors);
    assert_int_equal(manifest.count, 0);
}

static void assert_descriptor(size_t index, enum descriptor_role role, const char *digest,
                              uint64_t size) {
    char string[DIGEST_STRING_SIZE];
    assert_true(index < manifest.count);
    assert_int_equal(manifest.descriptors[index].role, role);
    assert_string_equal(digest_format(&manifest.descriptors[index].digest, string), digest);
    assert_int_equal(manifest.descriptors[index].size, size);
}

static void test_an_oci_manifest_refers_to_config_layers_and_subject(void **state) {
    (void)state;
    assert_parses("{\"schemaVersion\":2,\"mediaType\":\"" MEDIA_OCI_MANIFEST "\"," CONFIG
                  ",\"layers\":[" DESCRIPTOR("l/gzip", SHA256("1"), "12345678901") "," DESCRIPTOR(
                      "l/zstd", SHA512("2"),
                      "0") "],"
                           "\"subject\":" DESCRIPTOR("s/s", SHA256("3"),
                                                     "7") ","
                                                          "\"annotations\":{\"a\":\"b\\u0000c\"}}");
    assert_string_equal(manifest.media_type, MEDIA_OCI_MANIFEST);
    assert_false(manifest.is_index);
    assert_int_equal(manifest.count, 4);
    assert_descriptor(0, DESCRIPTOR_CONFIG, SHA256("0"), 1);
    assert_descriptor(1, DESCRIPTOR_LAYER, SHA256("1"), 12345678901);
    assert_descriptor(2, DESCRIPTOR_LAYER, SHA512("2"), 0);
    assert_descriptor(3, DESCRIPTOR_SUBJECT, SHA256("3"), 7);
    assert_string_equal(manifest.descriptors[1].media_type, "l/gzip");
    manifest_finish(&manifest);
}

static void test_an_index_refers_to_manifests_and_their_platforms(void **state) {
    (void)state;
    assert_parses(
        "{\"schemaVersion\":2,\"mediaType\":\"" MEDIA_OCI_INDEX "\",\"manifests\":["
        "{\"mediaType\":\"m\",\"size\":5,\"digest\":\"" SHA256(
            "a") "\",\"platform\":"
                 "{\"os\":\"linux\",\"architecture\":\"arm\",\"variant\":\"v7\"}}," DESCRIPTOR(
                     "m", SHA256("b"), "6") "]}");
    assert_true(manifest.is_index);
    assert_int_equal(manifest.count, 2);
    assert_descriptor(0, DESCRIPTOR_MANIFEST, SHA256("a"), 5);
    assert_string_equal(manifest.descriptors[0].os, "linux");
    assert_string_equal(manifest.descriptors[0].architecture, "arm");
    assert_string_equal(manifest.descriptors[0].variant, "v7");
    assert_descriptor(1, DESCRIPTOR_MANIFEST, SHA256("b"), 6);
    assert_string_equal(manifest.descriptors[1].os, "");
    manifest_finish(&manifest);
}

static void test_dockers_manifests_and_lists_are_read(void **state) {
    (void)state;
    assert_parses("{\"schemaVersion\":2,\"mediaType\":\"" MEDIA_DOCKER_MANIFEST "\"," CONFIG
                  ",\"layers\":[]}");
    assert_false(manifest.is_index);
    assert_int_equal(manifest.count, 1);
    manifest_finish(&manifest);
    assert_parses("{\"schemaVersion\":2,\"mediaType\":\"" MEDIA_DOCKER_LIST
                  "\",\"manifests\":[" DESCRIPTOR("m", SHA256("b"), "6") "]}");
    assert_true(manifest.is_index);
    assert_int_equal(manifest.count, 1);
    manifest_finish(&manifest);
}

static void test_artifact_manifests_have_blobs_and_no_schema_version(void **state) {
    (void)state;
    assert_parses("{\"mediaType\":\"application/vnd.oci.artifact.manifest.v1+json\","
                  "\"artifactType\":\"x/y\",\"blobs\":[" DESCRIPTOR(
                      "b", SHA256("1"), "2") "],"
                                             "\"subject\":" DESCRIPTOR("s", SHA256("3"), "4") "}");
    assert_false(manifest.is_index);
    assert_int_equal(manifest.count, 2);
    assert_descriptor(0, DESCRIPTOR_LAYER, SHA256("1"), 2);
    assert_descriptor(1, DESCRIPTOR_SUBJECT, SHA256("3"), 4);
    manifest_finish(&manifest);
}

static void test_without_a_media_type_the_members_say_what_it_is(void **state) {
    (void)state;
    assert_parses("{\"schemaVersion\":2," CONFIG ",\"layers\":[]}");
    assert_false(manifest.is_index);
    assert_string_equal(manifest.media_type, "");
    manifest_finish(&manifest);
    assert_parses("{\"schemaVersion\":2,\"manifests\":[]}");
    assert_true(manifest.is_index);
    manifest_finish(&manifest);
}

static void test_lists_that_go_wrote_as_null_are_empty(void **state) {
    (void)state;
    assert_parses("{\"schemaVersion\":2,\"manifests\":null}");
    assert_true(manifest.is_index);
    assert_int_equal(manifest.count, 0);
    manifest_finish(&manifest);
    assert_parses("{\"schemaVersion\":2," CONFIG ",\"layers\":null,\"subject\":null}");
    assert_false(manifest.is_index);
    assert_int_equal(manifest.count, 1);
    manifest_finish(&manifest);
}

static void test_what_could_be_two_things_is_refused(void **state) {
    (void)state;
    static const char *const says = "as a manifest and as an index";
    assert_refused("{\"schemaVersion\":2," CONFIG ",\"layers\":[],\"manifests\":[]}", says);
    assert_refused("{\"schemaVersion\":2,\"mediaType\":\"" MEDIA_OCI_INDEX "\"," CONFIG "}", says);
    assert_refused("{\"mediaType\":\"" MEDIA_OCI_MANIFEST "\",\"manifests\":[]}", says);
}

static void test_foreign_layers_with_urls_are_left_out(void **state) {
    (void)state;
    static const char windows[] =
        "{\"mediaType\":\"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip\","
        "\"size\":9,\"digest\":\"" SHA256("f") "\",\"urls\":[\"https://example.com/x\"]}";
    static const char mirrored[] =
        "{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar+gzip\","
        "\"size\":9,\"digest\":\"" SHA256("e") "\",\"urls\":[\"https://example.com/x\"]}";
    static const char here[] =
        "{\"mediaType\":\"application/vnd.oci.image.layer.nondistributable.v1.tar\","
        "\"size\":9,\"digest\":\"" SHA256("d") "\",\"urls\":[]}";
    char json[2000];
    snprintf(json, sizeof json, "{\"schemaVersion\":2,\"layers\":[%s,%s,%s]}", windows, mirrored,
             here);
    assert_parses(json);
    assert_int_equal(manifest.count, 2);
    assert_descriptor(0, DESCRIPTOR_LAYER, SHA256("e"), 9);
    assert_descriptor(1, DESCRIPTOR_LAYER, SHA256("d"), 9);
    manifest_finish(&manifest);
}

static void test_digests_of_unknown_algorithms_are_left_out(void **state) {
    (void)state;
    assert_parses("{\"layers\":[" DESCRIPTOR("l", "sha384:abc=_-9", "1") "," DESCRIPTOR(
        "l", "multihash+base58:QmRZ", "1") "," DESCRIPTOR("l", SHA256("1"), "1") "]}");
    assert_int_equal(manifest.count, 1);
    assert_descriptor(0, DESCRIPTOR_LAYER, SHA256("1"), 1);
    manifest_finish(&manifest);
}

static void test_a_fault_is_named_with_its_place(void **state) {
    (void)state;
    assert_refused("", "not JSON");
    assert_refused("{\"layers\":[}", "line 1, column");
    assert_refused("{\"layers\":[]} x", "not JSON");
    assert_refused("{\"a\":\"\xff\"}", "not JSON");
    assert_refused("[]", "not a JSON object");
    assert_refused("{}", "neither config");
    assert_refused("{\"schemaVersion\":1,\"fsLayers\":[]}", "schema 1");
    assert_refused("{\"schemaVersion\":\"2\",\"layers\":[]}", "schemaVersion");
    assert_refused("{\"mediaType\":2,\"layers\":[]}", "mediaType");
    assert_refused("{\"layers\":{}}", "layers is not a list");
    assert_refused("{\"manifests\":\"x\"}", "manifests is not a list");
    assert_refused("{\"config\":[]}", "config is not an object");
    assert_refused("{\"layers\":[null]}", "layers[0] is not an object");
    assert_refused("{\"layers\":[{\"size\":1}]}", "layers[0].digest");
    assert_refused("{\"layers\":[{\"size\":1,\"digest\":7}]}", "layers[0].digest");
    assert_refused("{\"layers\":[" DESCRIPTOR("l", SHA256("1"),
                                              "1") "," DESCRIPTOR("l", SHA256("1"), "-1") "]}",
                   "layers[1].size");
    assert_refused("{\"layers\":[" DESCRIPTOR("l", SHA256("1"), "1.5") "]}", "layers[0].size");
    assert_refused("{\"layers\":[" DESCRIPTOR("l", SHA256("1"), "\"1\"") "]}", "layers[0].size");
    assert_refused("{\"layers\":[" DESCRIPTOR("l", SHA256("1"), "99999999999999999999") "]}",
                   "not JSON");
    assert_refused("{\"config\":{\"digest\":\"" SHA256("1") "\"}}", "config.size");
    assert_refused("{\"config\":{\"digest\":\"" SHA256("1") "\",\"size\":1,\"mediaType\":[]}}",
                   "config.mediaType");
    assert_refused("{\"manifests\":[{\"digest\":\"" SHA256("1") "\",\"size\":1,\"platform\":7}]}",
                   "manifests[0].platform");
    assert_refused("{\"manifests\":[{\"digest\":\"" SHA256("1") "\",\"size\":1,\"platform\":"
                                                                "{\"os\":7}}]}",
                   "manifests[0].platform");
}

static void test_malformed_digests_are_refused(void **state) {
    (void)state;
    static const char *const says = "layers[0].digest is malformed";
    assert_refused("{\"layers\":[" DESCRIPTOR("l", "sha256:abc", "1") "]}", says);
    assert_refused("{\"layers\":[" DESCRIPTOR("l", "sha256:../../../etc", "1") "]}", says);
    assert_refused("{\"layers\":[" DESCRIPTOR("l", "", "1") "]}", says);
    assert_refused("{\"layers\":[" DESCRIPTOR("l", "sha384", "1") "]}", says);
    assert_refused("{\"layers\":[" DESCRIPTOR("l", "sha384:", "1") "]}", says);
    assert_refused("{\"layers\":[" DESCRIPTOR("l", ":abc", "1") "]}", says);
    assert_refused("{\"layers\":[" DESCRIPTOR("l", "a++b:abc", "1") "]}", says);
    assert_refused("{\"layers\":[" DESCRIPTOR("l", "a+:abc", "1") "]}", says);
    assert_refused("{\"layers\":[" DESCRIPTOR("l", "SHA256:abc", "1") "]}", says);
    assert_refused("{\"layers\":[" DESCRIPTOR("l", "sha384:a/b", "1") "]}", says);
    assert_refused("{\"layers\":[" DESCRIPTOR("l", SHA256("1") "\\u0000", "1") "]}", says);
}

static void test_texts_too_long_for_their_field_count_as_unsaid(void **state) {
    (void)state;
    assert_parses(
        "{\"manifests\":[{\"mediaType\":\"" SHA512("1") "\",\"size\":1,\"digest\":\"" SHA256(
            "1") "\",\"platform\":{\"os\":\"" HEX("a") "\",\"architecture\":\"x\"}}]}");
    assert_string_equal(manifest.descriptors[0].media_type, "");
    assert_string_equal(manifest.descriptors[0].os, "");
    assert_string_equal(manifest.descriptors[0].architecture, "x");
    manifest_finish(&manifest);
}

static void test_hostile_sizes_are_bounded(void **state) {
    (void)state;
    cleanup_buffer struct buffer json = {0};
    for (size_t i = 0; i < 1000000; i++)
        buffer_append_string(&json, "[");
    assert_refused(json.bytes, "levels deep");

    buffer_clear(&json);
    buffer_append_string(&json, "{\"x\":\"[[[[[[[[ \\\" {{{{{{{{\",\"layers\":[]}");
    assert_parses(json.bytes);
    manifest_finish(&manifest);

    buffer_clear(&json);
    buffer_append_string(&json, "{\"x\":[{}");
    for (size_t i = 0; i < 1000000; i++)
        buffer_append_string(&json, ",{}");
    buffer_append_string(&json, "]}");
    assert_refused(json.bytes, "values");

    buffer_clear(&json);
    buffer_append_string(&json, "{\"layers\":[1");
    for (size_t i = 0; i < MANIFEST_DESCRIPTOR_LIMIT; i++)
        buffer_append_string(&json, ",1");
    buffer_append_string(&json, "]}");
    assert_refused(json.bytes, "refers to more than");

    buffer_clear(&json);
    buffer_append_string(&json, "{\"layers\":[]");
    assert_true(buffer_reserve(&json, MANIFEST_SIZE_LIMIT));
    memset(json.bytes + json.length, ' ', MANIFEST_SIZE_LIMIT);
    json.bytes[MANIFEST_SIZE_LIMIT - 1] = '}';
    assert_true(manifest_parse(json.bytes, MANIFEST_SIZE_LIMIT, &manifest, &error));
    manifest_finish(&manifest);
    assert_false(manifest_parse(json.bytes, MANIFEST_SIZE_LIMIT + 1, &manifest, &error));
    assert_non_null(strstr(error.text, "limit"));
}

static void test_an_error_may_be_ignored(void **state) {
    (void)state;
    assert_false(manifest_parse("x", 1, &manifest, NULL));
    assert_false(manifest_parse(NULL, 0, &manifest, NULL));
    manifest_finish(&manifest);
    manifest_finish(&manifest);
}

static void test_a_media_type_is_printable_and_has_two_names(void **state) {
    (void)state;
    static const char *const good[] = {
        MEDIA_OCI_MANIFEST, MEDIA_UNKNOWN, "text/html", "application/json; charset=utf-8", "a/b",
        "x/y ;p=\"q r\""};
    static const char *const bad[] = {"",
                                      "application",
                                      "/json",
                                      "application/",
                                      "application/\xe9+json",
                                      "application/json; v=\xe9",
                                      "application/a\tb",
                                      "application/json\n",
                                      "application/a b",
                                      "+a/b",
                                      "a/b/c",
                                      "\x1b[0m/json"};
    char longest[129];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(manifest_is_media_type(text_of(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(manifest_is_media_type(text_of(bad[i])));
    assert_false(manifest_is_media_type((struct text){"a/b\0c", 5}));
    memset(longest, 'a', sizeof longest);
    longest[3] = '/';
    assert_true(manifest_is_media_type((struct text){longest, 127}));
    assert_false(manifest_is_media_type((struct text){longest, 128}));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_oci_manifest_refers_to_config_layers_and_subject),
        cmocka_unit_test(test_an_index_refers_to_manifests_and_their_platforms),
        cmocka_unit_test(test_dockers_manifests_and_lists_are_read),
        cmocka_unit_test(test_artifact_manifests_have_blobs_and_no_schema_version),
        cmocka_unit_test(test_without_a_media_type_the_members_say_what_it_is),
        cmocka_unit_test(test_lists_that_go_wrote_as_null_are_empty),
        cmocka_unit_test(test_what_could_be_two_things_is_refused),
        cmocka_unit_test(test_foreign_layers_with_urls_are_left_out),
        cmocka_unit_test(test_digests_of_unknown_algorithms_are_left_out),
        cmocka_unit_test(test_a_fault_is_named_with_its_place),
        cmocka_unit_test(test_malformed_digests_are_refused),
        cmocka_unit_test(test_texts_too_long_for_their_field_count_as_unsaid),
        cmocka_unit_test(test_hostile_sizes_are_bounded),
        cmocka_unit_test(test_a_media_type_is_printable_and_has_two_names),
        cmocka_unit_test(test_an_error_may_be_ignored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
