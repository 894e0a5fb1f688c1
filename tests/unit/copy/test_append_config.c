/* The config and the manifest of an image that gets more layers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/cleanup.h"
#include "base/json.h"
#include "copy/append_config.h"
#include "oci/manifest.h"

#define A "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define C "sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"

static void set(struct buffer *buffer, const char *text) {
    buffer_clear(buffer);
    assert_true(buffer_append_string(buffer, text));
}

static struct append_layer new_layer(void) {
    struct append_layer layer = {.result = {.size = 42}, .history = (char *)"tarn append --add /m"};
    assert_true(digest_parse(text_of(B), &layer.result.digest));
    assert_true(digest_parse(text_of(C), &layer.result.diff_id));
    return layer;
}

/* The config after the changes, with one base layer and one new one. */
static void assert_changed(const char *base, size_t base_layers,
                           const struct append_changes *changes, const char *expected) {
    cleanup_buffer struct buffer bytes = {0}, out = {0};
    struct error error = {0};
    const struct append_layer layer = new_layer();
    set(&bytes, base);
    cleanup_json json_t *config = append_config_read(&bytes, base_layers, &error);
    if (!config)
        fail_msg("%s", error.text);
    assert_true(append_config_change(config, changes, &layer, 1, 1700000000));
    assert_true(bounded_json_dump(config, JSON_COMPACT, &out));
    assert_string_equal(out.bytes, expected);
}

#define BASE(own, history)                                                                         \
    "{\"architecture\":\"arm64\",\"x\":1," own "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":"     \
    "[\"" A "\"]}" history "}"
#define CHANGED(own, history)                                                                      \
    "{\"architecture\":\"arm64\",\"x\":1," own "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":"     \
    "[\"" A "\",\"" C "\"]}" history
#define CREATED "\"created\":\"2023-11-14T22:13:20Z\""
#define ENTRY   "{" CREATED ",\"created_by\":\"tarn append --add /m\"}"

static void test_what_is_not_changed_stays(void **state) {
    (void)state;
    const struct append_changes none = {0};
    assert_changed(BASE("\"config\":{\"Env\":[\"A=1\"],\"Cmd\":[\"x\"]},",
                        ",\"history\":[{\"empty_layer\":true},{\"created_by\":\"b\"}]"),
                   1, &none,
                   CHANGED("\"config\":{\"Env\":[\"A=1\"],\"Cmd\":[\"x\"]},",
                           ",\"history\":[{\"empty_layer\":true},{\"created_by\":\"b\"}," ENTRY
                           "]," CREATED "}"));
}

/* Readers count the entries that made layers, so a base that tells nothing gets them. */
static void test_each_layer_has_a_history(void **state) {
    (void)state;
    const struct append_changes none = {0};
    assert_changed(BASE("\"config\":null,", ""), 1, &none,
                   CHANGED("\"config\":{},",
                           "," CREATED ",\"history\":[{\"created_by\":\"unknown\"}," ENTRY "]}"));
}

static void test_variables_are_replaced_in_their_place(void **state) {
    (void)state;
    const char *const env[] = {"B=new", "AA=x", "C=1=2", "B=newer", "E="};
    const struct append_changes changes = {.env = env, .env_count = 5};
    assert_changed(BASE("\"config\":{\"Env\":[\"A=1\",\"B=2\",\"AAA=3\",\"B=4\",\"D\"]},",
                        ",\"history\":[{}]"),
                   1, &changes,
                   CHANGED("\"config\":{\"Env\":[\"A=1\",\"B=newer\",\"AAA=3\",\"D\",\"AA=x\","
                           "\"C=1=2\",\"E=\"]},",
                           ",\"history\":[{}," ENTRY "]," CREATED "}"));
}

static void test_an_entrypoint_clears_the_cmd(void **state) {
    (void)state;
    const struct append_changes changes = {.entrypoint = "[\"/bin/a\",\"b c\"]"};
    assert_changed(
        BASE("\"config\":{\"Cmd\":[\"x\"],\"Entrypoint\":[\"y\"]},", ",\"history\":[{}]"), 1,
        &changes,
        CHANGED("\"config\":{\"Entrypoint\":[\"/bin/a\",\"b c\"]},",
                ",\"history\":[{}," ENTRY "]," CREATED "}"));
}

static void test_all_the_rest_of_the_config(void **state) {
    (void)state;
    const char *const labels[] = {"k=v", "org.x=a=b"};
    const struct append_changes changes = {.entrypoint = "/init",
                                           .cmd = "-v --all",
                                           .user = "1000:1000",
                                           .workdir = "/srv",
                                           .labels = labels,
                                           .label_count = 2};
    assert_changed(BASE("\"config\":{\"Labels\":{\"k\":\"old\"}},", ",\"history\":[{}]"), 1,
                   &changes,
                   CHANGED("\"config\":{\"Labels\":{\"k\":\"v\",\"org.x\":\"a=b\"},"
                           "\"Entrypoint\":[\"/init\"],\"Cmd\":[\"-v --all\"],"
                           "\"User\":\"1000:1000\",\"WorkingDir\":\"/srv\"},",
                           ",\"history\":[{}," ENTRY "]," CREATED "}"));
}

static void test_an_empty_word_takes_away(void **state) {
    (void)state;
    const struct append_changes changes = {.entrypoint = "", .cmd = "[]"};
    assert_changed(
        BASE("\"config\":{\"Cmd\":[\"x\"],\"Entrypoint\":[\"y\"]},", ",\"history\":[{}]"), 1,
        &changes, CHANGED("\"config\":{},", ",\"history\":[{}," ENTRY "]," CREATED "}"));
}

static void test_words(void **state) {
    (void)state;
    static const char *const bad[] = {"[", "[1]", "[\"a\",null]", " [\"a\"", "[\"a\"] x", "[[]]"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_null(append_words(bad[i]));
    cleanup_json json_t *one = append_words("a [b]");
    assert_int_equal(json_array_size(one), 1);
    assert_string_equal(json_string_value(json_array_get(one, 0)), "a [b]");
    assert_true(append_is_pair("A=") && append_is_pair("A=b=c"));
    assert_false(append_is_pair("A") || append_is_pair("=b") || append_is_pair(""));
}

static void test_configs_that_cannot_be_added_to(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",
        "[]",
        "{}",
        "{\"rootfs\":[]}",
        "{\"rootfs\":{\"diff_ids\":[]}}",
        "{\"rootfs\":{\"diff_ids\":[1]}}",
        "{\"rootfs\":{\"diff_ids\":[\"a\",\"b\"]}}",
        "{\"rootfs\":{\"diff_ids\":[\"a\"]},\"history\":{}}",
        "{\"rootfs\":{\"diff_ids\":[\"a\"]},\"config\":[]}",
        "{\"rootfs\":{\"diff_ids\":[\"a\"]},\"config\":{\"Env\":\"A=b\"}}",
        "{\"rootfs\":{\"diff_ids\":[\"a\"]},\"config\":{\"Labels\":[\"A=b\"]}}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cleanup_buffer struct buffer bytes = {0};
        struct error error = {0};
        set(&bytes, bad[i]);
        assert_null(append_config_read(&bytes, 1, &error));
        assert_int_equal(error.kind, ERROR_INVALID);
    }
}

static void test_scratch_is_for_a_platform(void **state) {
    (void)state;
    cleanup_buffer struct buffer out = {0};
    const struct copy_platform platform = {"linux", "arm", "v7"};
    cleanup_json json_t *config = append_config_scratch(&platform);
    assert_true(bounded_json_dump(config, JSON_COMPACT, &out));
    assert_string_equal(out.bytes, "{\"architecture\":\"arm\",\"os\":\"linux\",\"config\":{},"
                                   "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[]},"
                                   "\"history\":[],\"variant\":\"v7\"}");
}

/* ---- manifests ---- */

#define DOCKER_LAYER "application/vnd.docker.image.rootfs.diff.tar"
#define OCI_LAYER    "application/vnd.oci.image.layer.v1.tar"
#define MANIFEST(config, layers)                                                                   \
    "{\"schemaVersion\":2,\"config\":{\"mediaType\":\"" config "\",\"size\":2,\"digest\":\"" A     \
    "\"},\"layers\":[" layers "]}"
#define LAYER(type)                                                                                \
    "{\"mediaType\":\"" type "\",\"size\":7,\"digest\":\"" A "\",\"annotations\":{}}"

static void assert_manifest(const char *base_type, const char *base, enum compress_kind kind,
                            const char *type, const char *layers) {
    cleanup_buffer struct buffer out = {0}, expected = {0};
    struct copy_manifest manifest = {0};
    struct append_base read = {0};
    struct error error = {0};
    struct digest config;
    const char *new_type;
    const struct append_layer layer = new_layer();
    assert_true(digest_parse(text_of(C), &config));
    set(&manifest.bytes, base);
    snprintf(manifest.media_type, sizeof manifest.media_type, "%s", base_type);
    if (!append_base_read(&manifest, &read, &error))
        fail_msg("%s", error.text);
    assert_true(append_manifest(&read, &layer, 1, kind, &config, 99, &out, &new_type));
    assert_string_equal(new_type, type);
    const bool is_docker = strcmp(type, MEDIA_DOCKER_MANIFEST) == 0;
    buffer_printf(&expected,
                  "{\"schemaVersion\":2,\"mediaType\":\"%s\",\"config\":{\"mediaType\":\"%s\","
                  "\"size\":99,\"digest\":\"" C "\"},\"layers\":[%s]}",
                  type, is_docker ? APPEND_CONFIG_DOCKER : APPEND_CONFIG_OCI, layers);
    assert_string_equal(out.bytes, expected.bytes);
    append_base_finish(&read);
    copy_manifest_finish(&manifest);
}

#define NEW(type) "{\"mediaType\":\"" type "\",\"size\":42,\"digest\":\"" B "\"}"

static void test_media_types_are_those_of_the_base(void **state) {
    (void)state;
    assert_manifest(MEDIA_OCI_MANIFEST, MANIFEST(APPEND_CONFIG_OCI, LAYER(OCI_LAYER "+gzip")),
                    COMPRESS_GZIP, MEDIA_OCI_MANIFEST,
                    LAYER(OCI_LAYER "+gzip") "," NEW(OCI_LAYER "+gzip"));
    assert_manifest(MEDIA_OCI_MANIFEST, MANIFEST(APPEND_CONFIG_OCI, ""), COMPRESS_NONE,
                    MEDIA_OCI_MANIFEST, NEW(OCI_LAYER));
    assert_manifest(MEDIA_DOCKER_MANIFEST,
                    MANIFEST(APPEND_CONFIG_DOCKER, LAYER(DOCKER_LAYER ".gzip")), COMPRESS_GZIP,
                    MEDIA_DOCKER_MANIFEST,
                    LAYER(DOCKER_LAYER ".gzip") "," NEW(DOCKER_LAYER ".gzip"));
    assert_manifest(MEDIA_DOCKER_MANIFEST,
                    MANIFEST(APPEND_CONFIG_DOCKER, LAYER(DOCKER_LAYER ".gzip")), COMPRESS_NONE,
                    MEDIA_DOCKER_MANIFEST, LAYER(DOCKER_LAYER ".gzip") "," NEW(DOCKER_LAYER));
    /* Docker's kind has no zstd, so the image becomes OCI's, with all its layers. */
    assert_manifest(MEDIA_DOCKER_MANIFEST,
                    MANIFEST(APPEND_CONFIG_DOCKER, LAYER(DOCKER_LAYER ".gzip")), COMPRESS_ZSTD,
                    MEDIA_OCI_MANIFEST, LAYER(OCI_LAYER "+gzip") "," NEW(OCI_LAYER "+zstd"));
}

static void test_manifests_that_are_no_base(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        enum error_kind kind;
    } bad[] = {
        {"", ERROR_INVALID},
        {"[]", ERROR_INVALID},
        {"{\"schemaVersion\":1,\"fsLayers\":[]}", ERROR_UNSUPPORTED},
        {"{\"schemaVersion\":2,\"manifests\":[]}", ERROR_INVALID},
        {MANIFEST("application/vnd.cncf.helm.config.v1+json", ""), ERROR_UNSUPPORTED},
        {MANIFEST(APPEND_CONFIG_OCI, "1"), ERROR_INVALID},
        {MANIFEST(APPEND_CONFIG_OCI, "{\"digest\":\"" A "\"}"), ERROR_INVALID},
        {MANIFEST(APPEND_CONFIG_OCI, "{\"digest\":\"" A "\",\"size\":-1}"), ERROR_INVALID},
        {MANIFEST(APPEND_CONFIG_OCI, "{\"digest\":\"blake3:00\",\"size\":1}"), ERROR_UNSUPPORTED},
        {"{\"schemaVersion\":2,\"config\":{\"mediaType\":\"" APPEND_CONFIG_OCI "\"}}",
         ERROR_INVALID},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct copy_manifest manifest = {0};
        struct append_base base;
        struct error error = {0};
        set(&manifest.bytes, bad[i].bytes);
        assert_false(append_base_read(&manifest, &base, &error));
        assert_int_equal(error.kind, bad[i].kind);
        copy_manifest_finish(&manifest);
    }
}

/* The bytes of a foreign layer are not at the registry, so nobody copies them. */
static void test_foreign_layers_are_not_copied(void **state) {
    (void)state;
    struct digest digest;
    uint64_t size;
    cleanup_json json_t *foreign =
        json_pack("{s:s, s:I, s:s, s:[s]}", "mediaType",
                  "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "size",
                  (json_int_t)5, "digest", A, "urls", "https://example.com/");
    assert_false(append_base_layer(foreign, &digest, &size));
    json_object_set_new(foreign, "mediaType", json_string(OCI_LAYER));
    assert_true(append_base_layer(foreign, &digest, &size));
    assert_int_equal(size, 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_not_changed_stays),
        cmocka_unit_test(test_each_layer_has_a_history),
        cmocka_unit_test(test_variables_are_replaced_in_their_place),
        cmocka_unit_test(test_an_entrypoint_clears_the_cmd),
        cmocka_unit_test(test_all_the_rest_of_the_config),
        cmocka_unit_test(test_an_empty_word_takes_away),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_configs_that_cannot_be_added_to),
        cmocka_unit_test(test_scratch_is_for_a_platform),
        cmocka_unit_test(test_media_types_are_those_of_the_base),
        cmocka_unit_test(test_manifests_that_are_no_base),
        cmocka_unit_test(test_foreign_layers_are_not_copied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
