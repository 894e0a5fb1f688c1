/* Which nodes are a keep's, and how a Node is read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "base/json.h"
#include "keep/node.h"

static struct keep_names names;

static struct keep_node *read_node(const char *text) {
    struct error error = {0};
    cleanup_json json_t *json = bounded_json_load(text, strlen(text), &error);
    if (!json)
        fail_msg("%s: %s", text, error.text);
    return keep_node_read(json, &names, &error);
}

#define READY           "\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}]"
#define META(labels)    "\"metadata\":{\"name\":\"n\",\"uid\":\"u\",\"labels\":{" labels "}}"
#define TAINTED(taints) "{" META("") ",\"spec\":{\"taints\":[" taints "]},\"status\":{" READY "}}"

static struct keep_toleration tolerations[] = {
    {.key = "only", .op = "Equal", .value = "labs", .effect = "NoSchedule"},
    {.key = "any", .op = "Exists"},
    {.key = "soon", .op = "Exists", .effect = "NoExecute", .has_seconds = true, .seconds = 300},
};
static struct keep_pair labels[] = {{"k1", "v1"}};

static const struct {
    const char *json;
    enum keep_eligibility eligibility;
    const char *comment;
} cases[] = {
    {"{" META("") ",\"status\":{" READY "}}", KEEP_NODE_ELIGIBLE, ""},
    {"{" META("") ",\"spec\":{\"unschedulable\":true},\"status\":{" READY "}}",
     KEEP_NODE_INELIGIBLE, "Node is cordoned"},
    {"{" META("") ",\"status\":{}}", KEEP_NODE_INELIGIBLE, "Node is not Ready"},
    {"{" META("") ",\"status\":{\"conditions\":[{\"type\":\"Ready\",\"status\":\"Unknown\"}]}}",
     KEEP_NODE_INELIGIBLE, "Node is not Ready"},
    {"{\"metadata\":{\"name\":\"n\",\"uid\":\"u\",\"deletionTimestamp\":\"2026-01-01T00:00:00Z\"},"
     "\"status\":{" READY "}}",
     KEEP_NODE_INELIGIBLE, "Node is being deleted"},
    {"{" META("") ",\"status\":{\"nodeInfo\":{\"operatingSystem\":\"windows\"}," READY "}}",
     KEEP_NODE_INELIGIBLE, "Node runs windows, not linux"},
    {"{" META("") ",\"status\":{\"conditions\":[{\"type\":\"DiskPressure\",\"status\":\"True\"},"
                  "{\"type\":\"Ready\",\"status\":\"True\"}]}}",
     KEEP_NODE_INELIGIBLE, "Node has DiskPressure"},
    {TAINTED("{\"key\":\"only\",\"value\":\"labs\",\"effect\":\"NoSchedule\"}"), KEEP_NODE_ELIGIBLE,
     ""},
    {TAINTED("{\"key\":\"only\",\"value\":\"others\",\"effect\":\"NoSchedule\"}"),
     KEEP_NODE_INELIGIBLE, "Node is tainted (NoSchedule, only = others)"},
    {TAINTED("{\"key\":\"only\",\"value\":\"labs\",\"effect\":\"NoExecute\"}"),
     KEEP_NODE_INELIGIBLE, "Node is tainted (NoExecute, only = labs)"},
    {TAINTED("{\"key\":\"any\",\"effect\":\"NoExecute\"}"), KEEP_NODE_ELIGIBLE, ""},
    {TAINTED("{\"key\":\"soon\",\"effect\":\"NoExecute\"}"), KEEP_NODE_INELIGIBLE,
     "Node is tainted (NoExecute, soon)"},
    {TAINTED("{\"key\":\"other\",\"value\":\"x\",\"effect\":\"PreferNoSchedule\"}"),
     KEEP_NODE_ELIGIBLE, ""},
    {TAINTED("{\"key\":\"any\",\"effect\":\"NoSchedule\"},"
             "{\"key\":\"other\",\"value\":\"x\",\"effect\":\"NoSchedule\"}"),
     KEEP_NODE_INELIGIBLE, "Node is tainted (NoSchedule, other = x)"},
};

static void test_a_node_is_eligible_or_says_why_not(void **state) {
    (void)state;
    const struct keep_nodes wanted = {.tolerations = tolerations, .toleration_count = 3};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char comment[KEEP_COMMENT_SIZE];
        struct keep_node *node = read_node(cases[i].json);
        assert_non_null(node);
        enum keep_eligibility eligibility = keep_node_eligible(node, &wanted, comment);
        assert_string_equal(comment, cases[i].comment);
        assert_int_equal(eligibility, cases[i].eligibility);
        keep_node_free(node, &names);
    }
}

static void test_a_toleration_of_everything_tolerates_everything(void **state) {
    (void)state;
    struct keep_toleration all = {.op = "Exists"}, equal_nothing = {.op = "Equal"};
    const struct keep_taint taint = {"a", "b", "NoExecute"};
    struct keep_nodes wanted = {.tolerations = &all, .toleration_count = 1};
    assert_false(keep_node_taint_counts(&taint, &wanted));
    wanted.tolerations = &equal_nothing;
    assert_true(keep_node_taint_counts(&taint, &wanted));
    all.has_seconds = true;
    wanted.tolerations = &all;
    assert_true(keep_node_taint_counts(&taint, &wanted));
}

/* cachemachine's mock cluster: of four nodes, one counts. */
static void test_of_the_mock_cluster_one_node_counts(void **state) {
    (void)state;
    static const char *const cluster[] = {
        "{" META("\"k1\":\"v1\"") ",\"status\":{" READY "}}",
        "{" META("\"k2\":\"v2\"") ",\"status\":{" READY "}}",
        "{" META("\"k1\":\"v1\"") ",\"spec\":{\"unschedulable\":true},\"status\":{" READY "}}",
        "{" META(
            "\"k1\":\"v1\"") ",\"spec\":{\"taints\":[{\"key\":\"t\",\"effect\":\"NoSchedule\"}]},"
                             "\"status\":{" READY "}}",
    };
    const struct keep_nodes wanted = {.labels = labels, .label_count = 1};
    static const enum keep_eligibility expected[] = {KEEP_NODE_ELIGIBLE, KEEP_NODE_OTHER,
                                                     KEEP_NODE_INELIGIBLE, KEEP_NODE_INELIGIBLE};
    for (size_t i = 0; i < 4; i++) {
        char comment[KEEP_COMMENT_SIZE];
        struct keep_node *node = read_node(cluster[i]);
        assert_int_equal(keep_node_eligible(node, &wanted, comment), expected[i]);
        keep_node_free(node, &names);
    }
}

static void test_images_are_found_by_digest_and_by_name(void **state) {
    (void)state;
    struct keep_node *node = read_node("{" META(
        "") ",\"status\":{\"capacity\":{\"ephemeral-storage\":\"98868448Ki\"},\"nodeInfo\":{"
            "\"bootID\":\"b\",\"architecture\":\"amd64\"},\"images\":["
            "{\"names\":[\"h/a@sha256:1\",\"h/a:v1\",\"h/b:v2\"],\"sizeBytes\":20},"
            "{\"names\":[\"<none>@<none>\",\"<none>:<none>\"],\"sizeBytes\":10},"
            "{\"names\":null},{\"names\":[\"h/c@sha256:2\",7]}]}}");
    assert_non_null(node);
    assert_int_equal(node->image_count, 4);
    assert_int_equal(node->name_count, 4);
    assert_int_equal(node->storage, UINT64_C(98868448) << 10);
    assert_string_equal(node->boot_id, "b");
    const struct keep_node_image *image =
        keep_node_find(node, keep_names_key(&names, text_of("sha256:1")));
    assert_ptr_equal(image, &node->images[0]);
    assert_int_equal(image->size, 20);
    assert_ptr_equal(keep_node_find_name(node, keep_names_key(&names, text_of("h/b:v2"))), image);
    assert_ptr_equal(keep_node_find(node, keep_names_key(&names, text_of("sha256:2"))),
                     &node->images[3]);
    assert_null(keep_node_find(node, keep_names_key(&names, text_of("sha256:3"))));
    assert_null(keep_node_find_name(node, keep_names_key(&names, text_of("h/a:v2"))));
    keep_node_free(node, &names);
    assert_int_equal(names.count, 0);
}

static void test_equal_names_are_kept_once(void **state) {
    (void)state;
    static struct keep_name *used[3000];
    char text[32];
    for (size_t i = 0; i < 3000; i++) {
        snprintf(text, sizeof text, "name-%zu", i % 1000);
        used[i] = keep_names_use(&names, text_of(text));
        assert_non_null(used[i]);
        assert_string_equal(used[i]->text, text);
    }
    assert_int_equal(names.count, 1000);
    assert_ptr_equal(used[5], used[1005]);
    for (size_t i = 0; i < 2000; i++)
        keep_names_drop(&names, used[i]);
    assert_int_equal(names.count, 1000);
    for (size_t i = 2000; i < 3000; i++) {
        snprintf(text, sizeof text, "name-%zu", i % 1000);
        assert_string_equal(used[i]->text, text);
        keep_names_drop(&names, used[i]);
    }
    assert_int_equal(names.count, 0);
}

static void test_a_node_without_a_name_is_refused(void **state) {
    (void)state;
    assert_null(read_node("{\"metadata\":{\"uid\":\"u\"}}"));
    assert_null(read_node("{\"metadata\":{\"name\":\"n\"}}"));
    assert_null(read_node("{}"));
    assert_null(read_node("[]"));
    struct keep_node *node =
        read_node("{" META("\"a\":1") ",\"status\":{\"images\":{},\"conditions\":7}}");
    assert_non_null(node);
    assert_int_equal(node->label_count, 0);
    keep_node_free(node, &names);
}

static void test_quantities_are_read(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int64_t value; /* -1: none */
    } quantities[] = {
        {"0", 0},
        {"123", 123},
        {"1Ki", 1024},
        {"120G", 120000000000},
        {"1.5Gi", 1610612736},
        {"1e3", 1000},
        {"2E3", 2000},
        {"500m", 0},
        {"1500m", 1},
        {"", -1},
        {"x", -1},
        {"1X", -1},
        {"-1", -1},
        {"1e", -1},
        {"9E", INT64_C(9000000000000000000)},
        {"10E", -1},
        {"1Ei", INT64_C(1) << 60},
        {"1e999", -1},
        {"0x10", -1},
        {"1 Ki", -1},
    };
    for (size_t i = 0; i < sizeof quantities / sizeof *quantities; i++) {
        uint64_t value = 0;
        bool valid = keep_node_quantity(quantities[i].text, &value);
        if (valid != (quantities[i].value >= 0) ||
            (valid && value != (uint64_t)quantities[i].value))
            fail_msg("%s: %d, %llu", quantities[i].text, valid, (unsigned long long)value);
    }
}

static int set_up(void **state) {
    (void)state;
    keep_names_init(&names);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    keep_names_finish(&names);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_node_is_eligible_or_says_why_not),
        cmocka_unit_test(test_a_toleration_of_everything_tolerates_everything),
        cmocka_unit_test(test_of_the_mock_cluster_one_node_counts),
        cmocka_unit_test(test_images_are_found_by_digest_and_by_name),
        cmocka_unit_test(test_equal_names_are_kept_once),
        cmocka_unit_test(test_a_node_without_a_name_is_refused),
        cmocka_unit_test(test_quantities_are_read),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
