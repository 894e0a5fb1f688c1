/* The puller pod: what it says, and what its status says. */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "base/json.h"
#include "keep/pod.h"

#define OURS                                                                                       \
    "\"metadata\":{\"name\":\"p\",\"uid\":\"u\",\"labels\":{\"app.kubernetes.io/"                  \
    "component\":\"puller\","                                                                      \
    "\"app.kubernetes.io/managed-by\":\"tarn-keep\",\"tarn/keep\":\"k\"}}"
#define CONTAINER(id, state)                                                                       \
    "\"containerStatuses\":[{\"imageID\":\"" id "\",\"state\":{" state "}}]"
#define WAITING(reason) "\"waiting\":{\"reason\":\"" reason "\",\"message\":\"why\"}"
#define ENDED(reason)   "\"terminated\":{\"reason\":\"" reason "\",\"exitCode\":1}"
#define ID              "docker.io/other@sha256:abc"

static const struct {
    const char *status;
    enum keep_verdict verdict;
    const char *reason, *pulled;
} lines[] = {
    {"", KEEP_PULLING, "", ""},
    {"\"phase\":\"Pending\"", KEEP_PULLING, "", ""},
    {"\"phase\":\"Pending\"," CONTAINER("", WAITING("ContainerCreating")), KEEP_PULLING, "", ""},
    {"\"phase\":\"Succeeded\"," CONTAINER(ID, ENDED("Completed")), KEEP_PULLED, "", "sha256:abc"},
    {"\"phase\":\"Succeeded\"", KEEP_PULLED, "", ""},
    {"\"phase\":\"Failed\"," CONTAINER(ID, ENDED("StartError")), KEEP_PULLED, "StartError",
     "sha256:abc"},
    {"\"phase\":\"Failed\"," CONTAINER(ID, ENDED("Error")), KEEP_PULLED, "Error", "sha256:abc"},
    {"\"phase\":\"Running\"," CONTAINER(ID, "\"running\":{}"), KEEP_PULLED, "", "sha256:abc"},
    {"\"phase\":\"Pending\"," CONTAINER("", WAITING("CreateContainerConfigError")), KEEP_PULLED,
     "CreateContainerConfigError", ""},
    {"\"phase\":\"Pending\"," CONTAINER("", WAITING("CreateContainerError")), KEEP_PULLED,
     "CreateContainerError", ""},
    {"\"phase\":\"Pending\"," CONTAINER("", WAITING("RunContainerError")), KEEP_PULLED,
     "RunContainerError", ""},
    {"\"phase\":\"Pending\"," CONTAINER("", WAITING("ErrImagePull")), KEEP_REFUSED, "ErrImagePull",
     ""},
    {"\"phase\":\"Pending\"," CONTAINER("", WAITING("ImagePullBackOff")), KEEP_REFUSED,
     "ImagePullBackOff", ""},
    {"\"phase\":\"Pending\"," CONTAINER("", WAITING("InvalidImageName")), KEEP_REFUSED,
     "InvalidImageName", ""},
    {"\"phase\":\"Pending\"," CONTAINER("", WAITING("ImageInspectError")), KEEP_REFUSED,
     "ImageInspectError", ""},
    {"\"phase\":\"Pending\"," CONTAINER("", WAITING("ErrImageNeverPull")), KEEP_REFUSED,
     "ErrImageNeverPull", ""},
    {"\"phase\":\"Pending\"," CONTAINER("", WAITING("RegistryUnavailable")), KEEP_REFUSED,
     "RegistryUnavailable", ""},
    {"\"phase\":\"Pending\"," CONTAINER("", WAITING("SignatureValidationFailed")), KEEP_REFUSED,
     "SignatureValidationFailed", ""},
    {"\"phase\":\"Pending\",\"containerStatuses\":[{\"name\":\"istio\",\"imageID\":\"x@sha256:1\","
     "\"state\":{\"running\":{}}},{\"name\":\"pull\",\"imageID\":\"\",\"state\":{" WAITING(
         "ErrImagePull") "}}]",
     KEEP_REFUSED, "ErrImagePull", ""},
    {"\"phase\":\"Running\",\"containerStatuses\":[{\"name\":\"istio\",\"imageID\":\"x@sha256:1\","
     "\"state\":{\"running\":{}}},{\"name\":\"pull\",\"imageID\":\"" ID
     "\",\"state\":{" ENDED("Completed") "}}]",
     KEEP_PULLED, "", "sha256:abc"},
    {"\"phase\":\"Running\",\"containerStatuses\":[{\"name\":\"istio\",\"imageID\":\"x@sha256:1\","
     "\"state\":{\"running\":{}}},{\"name\":\"other\",\"state\":{}}]",
     KEEP_PULLING, "", ""},
    {"\"phase\":\"Failed\",\"reason\":\"OutOfpods\"", KEEP_NODE_FAILED, "OutOfpods", ""},
    {"\"phase\":\"Failed\",\"reason\":\"OutOfcpu\"", KEEP_NODE_FAILED, "OutOfcpu", ""},
    {"\"phase\":\"Failed\",\"reason\":\"TaintToleration\"", KEEP_NODE_FAILED, "TaintToleration",
     ""},
    {"\"phase\":\"Failed\"", KEEP_NODE_FAILED, "Failed", ""},
    {"\"phase\":\"Failed\",\"reason\":\"DeadlineExceeded\"," CONTAINER(
         "", ENDED("ContainerStatusUnknown")),
     KEEP_TIMED_OUT, "DeadlineExceeded", ""},
    {"\"phase\":\"Failed\",\"reason\":\"DeadlineExceeded\"", KEEP_TIMED_OUT, "DeadlineExceeded",
     ""},
};

static void test_every_status_has_its_verdict(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        char text[1024];
        struct keep_pod pod;
        snprintf(text, sizeof text, "{" OURS ",\"status\":{%s}}", lines[i].status);
        cleanup_json json_t *json = bounded_json_load(text, strlen(text), NULL);
        assert_non_null(json);
        assert_true(keep_pod_read(json, &pod));
        if (pod.verdict != lines[i].verdict)
            fail_msg("%s: %d", lines[i].status, pod.verdict);
        assert_string_equal(pod.reason, lines[i].reason);
        assert_string_equal(pod.pulled, lines[i].pulled);
        if (pod.verdict == KEEP_REFUSED)
            assert_string_equal(pod.message, "why");
    }
}

static void test_a_strangers_pod_is_not_ours(void **state) {
    (void)state;
    static const char *const strangers[] = {
        "{}",
        "{\"metadata\":{\"name\":\"p\",\"uid\":\"u\",\"labels\":{\"tarn/keep\":\"k\"}}}",
        "{\"metadata\":{\"name\":\"p\",\"uid\":\"u\",\"labels\":{\"app.kubernetes.io/component\":"
        "\"puller\",\"app.kubernetes.io/managed-by\":\"Helm\",\"tarn/keep\":\"k\"}}}",
        "{\"metadata\":{\"name\":\"p\",\"labels\":{\"app.kubernetes.io/component\":\"puller\","
        "\"app.kubernetes.io/managed-by\":\"tarn-keep\",\"tarn/keep\":\"k\"}}}",
    };
    for (size_t i = 0; i < sizeof strangers / sizeof *strangers; i++) {
        struct keep_pod pod;
        cleanup_json json_t *json = bounded_json_load(strangers[i], strlen(strangers[i]), NULL);
        assert_false(keep_pod_read(json, &pod));
    }
}

static void test_the_name_is_valid_whatever_the_tag(void **state) {
    (void)state;
    static const char *const names[][3] = {
        {"w_2024_10", NULL, "keep-w-2024-10-"},
        {"MiXeD.Case__x", NULL, "keep-mixed-case-x-"},
        {"_._", NULL, "keep-"},
        {"v1.0.", NULL, "keep-v1-0-"},
        {NULL, "sha256:0123456789abcdef", "keep-0123456789ab-"},
        {"", "", "keep-"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char prefix[KEEP_POD_PREFIX_SIZE];
        keep_pod_prefix(names[i][0], names[i][1], prefix);
        assert_string_equal(prefix, names[i][2]);
    }
    char tag[129], prefix[KEEP_POD_PREFIX_SIZE];
    memset(tag, 'A', sizeof tag);
    tag[128] = '\0';
    keep_pod_prefix(tag, NULL, prefix);
    assert_int_equal(strlen(prefix), KEEP_POD_PREFIX_SIZE - 1);
    assert_int_equal(prefix[strlen(prefix) - 1], '-');
}

static void check_pod(const struct keep_pod_wish *wish, const char *expected) {
    struct error error = {0};
    cleanup_buffer struct buffer text = {0};
    assert_true(keep_pod_write(wish, &text));
    cleanup_json json_t *pod = bounded_json_load(text.bytes, text.length, &error);
    cleanup_json json_t *wanted = bounded_json_load(expected, strlen(expected), &error);
    assert_non_null(pod);
    if (!wanted)
        fail_msg("%s", error.text);
    if (!json_equal(pod, wanted))
        fail_msg("%s", text.bytes);
}

#define CONTAINERS(image, policy)                                                                  \
    "\"containers\":[{\"name\":\"pull\",\"image\":\"" image "\",\"imagePullPolicy\":\"" policy     \
    "\",\"command\":[\"/bin/true\"],\"workingDir\":\"/\",\"resources\":{\"requests\":{\"cpu\":"    \
    "\"1m\",\"memory\":\"16Mi\"},\"limits\":{\"cpu\":\"1m\",\"memory\":\"16Mi\"}},"                \
    "\"securityContext\":{\"allowPrivilegeEscalation\":false,\"readOnlyRootFilesystem\":true,"     \
    "\"capabilities\":{\"drop\":[\"ALL\"]},\"runAsNonRoot\":true,\"runAsUser\":65532}}]"
#define SPEC                                                                                       \
    "\"nodeName\":\"n1\",\"restartPolicy\":\"Never\",\"activeDeadlineSeconds\":1200,"              \
    "\"terminationGracePeriodSeconds\":1,\"automountServiceAccountToken\":false,"                  \
    "\"enableServiceLinks\":false,\"securityContext\":{\"runAsNonRoot\":true,\"runAsUser\":65532," \
    "\"runAsGroup\":65532,\"seccompProfile\":{\"type\":\"RuntimeDefault\"}},"
#define LABELS                                                                                     \
    "\"app.kubernetes.io/name\":\"tarn\",\"app.kubernetes.io/component\":\"puller\","              \
    "\"app.kubernetes.io/managed-by\":\"tarn-keep\",\"tarn/keep\":\"labs\""
#define ANNOTATIONS(image)                                                                         \
    "\"tarn/image\":\"" image "\",\"tarn/digest\":\"sha256:1\","                                   \
    "\"cluster-autoscaler.kubernetes.io/safe-to-evict\":\"true\","                                 \
    "\"sidecar.istio.io/inject\":\"false\",\"linkerd.io/inject\":\"disabled\""

static void test_the_pod_has_every_field(void **state) {
    (void)state;
    struct keep_toleration toleration = {"only", "Equal", "labs", "NoSchedule", false, 0};
    struct keep_pair label = {"team", "x"}, annotation = {"tarn/image", "never"};
    struct keep_nodes nodes = {.tolerations = &toleration, .toleration_count = 1};
    struct keep_pull pull = keep_pull_default();
    struct keep_pod_wish wish = {.keep = "labs",
                                 .nodes = &nodes,
                                 .pull = &pull,
                                 .node = "n1",
                                 .name = "h/app",
                                 .tag = "v1_0",
                                 .digest = "sha256:1",
                                 .always = true,
                                 .namespace = "tarn",
                                 .owner_name = "me",
                                 .owner_uid = "uid"};
    pull.secret = "s";
    pull.service_account = "a";
    pull.priority_class = "c";
    pull.pod_labels = &label;
    pull.pod_annotations = &annotation;
    pull.pod_label_count = pull.pod_annotation_count = 1;
    check_pod(
        &wish,
        "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"generateName\":\"keep-v1-0-\","
        "\"namespace\":\"tarn\",\"labels\":{\"team\":\"x\"," LABELS
        "},\"annotations\":{" ANNOTATIONS(
            "h/app:v1_0") "},\"ownerReferences\":[{\"apiVersion\":\"v1\",\"kind\":"
                          "\"Pod\",\"name\":\"me\",\"uid\":\"uid\"}]},\"spec\":{" SPEC
                          "\"tolerations\":[{\"key\":\"only\",\"operator\":\"Equal\",\"value\":"
                          "\"labs\","
                          "\"effect\":\"NoSchedule\"}],\"imagePullSecrets\":[{\"name\":\"s\"}],"
                          "\"serviceAccountName\":\"a\",\"priorityClassName\":\"c\"," CONTAINERS(
                              "h/app:v1_0", "Always") "}}");
    pull = keep_pull_default();
    pull.by = KEEP_PULL_BY_DIGEST;
    nodes.toleration_count = 0;
    wish.owner_uid = NULL;
    wish.always = false;
    check_pod(
        &wish,
        "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"generateName\":\"keep-v1-0-\","
        "\"namespace\":\"tarn\",\"labels\":{" LABELS "},\"annotations\":{" ANNOTATIONS(
            "h/app:v1_0@sha256:1") "}},\"spec\":{" SPEC
                                   "\"tolerations\":[]," CONTAINERS("h/app:v1_0@sha256:1",
                                                                    "IfNotPresent") "}}");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_status_has_its_verdict),
        cmocka_unit_test(test_a_strangers_pod_is_not_ours),
        cmocka_unit_test(test_the_name_is_valid_whatever_the_tag),
        cmocka_unit_test(test_the_pod_has_every_field),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
