/* Lists of referrers, filtered by artifact type. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "base/json.h"
#include "oci/manifest.h"
#include "oci/referrers.h"

#define SBOM                                                                                       \
    "{\"digest\":\"x\",\"artifactType\":\"a/sbom\",\"annotations\":{\"k\":\"v\"},\"own\":1.5}"
#define SIGNATURE "{\"digest\":\"y\",\"artifactType\":\"a/signature\"}"
#define UNTYPED   "{\"digest\":\"z\"}"
#define HEAD      "{\"schemaVersion\":2,\"mediaType\":\"" MEDIA_OCI_INDEX "\",\"manifests\":["
#define TAIL      "],\"annotations\":{\"o\":\"p\"}}"
#define INDEX     HEAD SBOM "," SIGNATURE "," UNTYPED ",7," SBOM TAIL

static bool filter(const char *index, const char *artifact_type, struct buffer *out, bool *filtered,
                   struct error *error) {
    return referrers_filter(index, strlen(index), artifact_type, out, filtered, error);
}

static void test_without_a_filter_the_index_stays_byte_for_byte(void **state) {
    (void)state;
    static const char *const none[] = {NULL, ""};
    for (size_t i = 0; i < 2; i++) {
        cleanup_buffer struct buffer out = {0};
        bool filtered = true;
        assert_true(filter("\n " INDEX " \n", none[i], &out, &filtered, NULL));
        assert_false(filtered);
        assert_string_equal(out.bytes, "\n " INDEX " \n");
    }
}

static void test_only_entries_of_the_asked_type_are_listed(void **state) {
    (void)state;
    cleanup_buffer struct buffer out = {0};
    bool filtered = false;
    assert_true(filter(INDEX, "a/sbom", &out, &filtered, NULL));
    assert_true(filtered);
    assert_string_equal(out.bytes, HEAD SBOM "," SBOM TAIL);
    buffer_clear(&out);
    assert_true(filter(INDEX, "a/sb", &out, &filtered, NULL));
    assert_true(filtered);
    assert_string_equal(out.bytes, HEAD TAIL);
}

static void test_an_index_that_go_wrote_with_null_is_empty(void **state) {
    (void)state;
    cleanup_buffer struct buffer out = {0};
    bool filtered;
    assert_true(filter("{\"manifests\":null}", "a/sbom", &out, &filtered, NULL));
    assert_string_equal(out.bytes, "{\"manifests\":[]}");
}

static void test_what_is_no_index_is_refused(void **state) {
    (void)state;
    static const char *const bodies[] = {
        "",
        "[]",
        "{}",
        "{\"manifests\":{}}",
        "<html>",
        HEAD,
        "{\"mediaType\":\"" MEDIA_OCI_MANIFEST "\",\"manifests\":[]}",
    };
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        cleanup_buffer struct buffer out = {0};
        struct error error = {0};
        bool filtered = true;
        assert_false(filter(bodies[i], i % 2 ? NULL : "a/sbom", &out, &filtered, &error));
        assert_int_equal(error.kind, ERROR_INVALID);
        assert_false(filtered);
        assert_int_equal(out.length, 0);
    }
}

static bool is_index(const char *text) {
    cleanup_json json_t *json = json_loads(text, JSON_DECODE_ANY, NULL);
    return referrers_is_index(json);
}

static void test_only_an_oci_index_is_a_list_of_referrers(void **state) {
    (void)state;
    static const char *const others[] = {
        "<html>",
        "7",
        "[]",
        "{}",
        "{\"manifests\":{}}",
        "{\"errors\":[]}",
        "{\"mediaType\":\"" MEDIA_DOCKER_LIST "\",\"manifests\":[]}",
        "{\"mediaType\":\"" MEDIA_OCI_MANIFEST "\",\"manifests\":[]}",
        "{\"mediaType\":\"" MEDIA_OCI_INDEX "\",\"manifests\":[],\"config\":{}}",
        "{\"manifests\":[],\"layers\":[]}",
    };
    assert_true(is_index(INDEX));
    assert_true(is_index("{\"manifests\":[]}"));
    assert_true(is_index("{\"schemaVersion\":2,\"manifests\":null}"));
    assert_true(is_index("{\"mediaType\":\"" MEDIA_OCI_INDEX "\"}"));
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        if (is_index(others[i]))
            fail_msg("%s", others[i]);
    }
}

static void test_running_out_of_room_is_said(void **state) {
    (void)state;
    cleanup_buffer struct buffer out = {.limit = 20};
    struct error error = {0};
    bool filtered;
    assert_false(filter(INDEX, "a/sbom", &out, &filtered, &error));
    assert_int_equal(error.kind, ERROR_MEMORY);
    buffer_clear(&out);
    assert_false(filter(INDEX, NULL, &out, &filtered, &error));
    assert_int_equal(error.kind, ERROR_MEMORY);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_a_filter_the_index_stays_byte_for_byte),
        cmocka_unit_test(test_only_entries_of_the_asked_type_are_listed),
        cmocka_unit_test(test_an_index_that_go_wrote_with_null_is_empty),
        cmocka_unit_test(test_what_is_no_index_is_refused),
        cmocka_unit_test(test_only_an_oci_index_is_a_list_of_referrers),
        cmocka_unit_test(test_running_out_of_room_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
