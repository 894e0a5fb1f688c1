/* Which node pulls which image when, and what is known of it afterwards. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include "base/json.h"
#include "keep/plan.h"

#define MINUTE INT64_C(60000)
#define HOUR   (60 * MINUTE)
#define A      "sha256:aaaa"
#define B      "sha256:bbbb"
#define C      "sha256:cccc"

struct bench {
    struct keep_plan *plan;
    struct keep_spec spec;
    const struct keep_spec *specs[1];
    struct keep_actions actions;
    struct keep_now now;
    unsigned uids;
};

static void open_bench(struct bench *bench) {
    *bench = (struct bench){.plan = keep_plan_new(), .now = {.ms = HOUR, .wall_s = 1700000000}};
    assert_non_null(bench->plan);
    bench->spec = (struct keep_spec){.name = "labs", .pull = keep_pull_default()};
    bench->specs[0] = &bench->spec;
    assert_true(keep_plan_set_keeps(bench->plan, bench->specs, 1, bench->now));
}

static void close_bench(struct bench *bench) {
    keep_actions_finish(&bench->actions);
    keep_plan_free(bench->plan);
}

static void pass(struct bench *bench, int64_t ms) {
    bench->now.ms += ms;
    bench->now.wall_s += ms / 1000;
}

static void wants(struct bench *bench, const struct keep_image *images, size_t count) {
    assert_true(keep_plan_set_images(bench->plan, "labs", images, count, bench->now));
}

static const struct keep_image image_a = {.name = "h/app", .tag = "v1", .digest = A, .size = 100};
static const struct keep_image image_b = {.name = "h/app", .tag = "v2", .digest = B, .size = 100};

static void node_of(struct bench *bench, const char *name, const char *more, const char *images) {
    char text[16384];
    struct error error = {0};
    snprintf(
        text, sizeof text,
        "{\"metadata\":{\"name\":\"%s\",\"uid\":\"uid-%s\"},\"status\":{\"conditions\":[{\"type\":"
        "\"Ready\",\"status\":\"True\"}],\"nodeInfo\":{\"architecture\":\"amd64\",\"bootID\":\"%"
        "s\"},"
        "\"capacity\":{\"ephemeral-storage\":\"1000\"},\"images\":[%s]}}",
        name, name, more, images);
    cleanup_json json_t *json = bounded_json_load(text, strlen(text), &error);
    if (!json)
        fail_msg("%s: %s", text, error.text);
    assert_true(keep_plan_set_node(bench->plan, json, bench->now, &error));
}
#define NODE(bench, name, images) node_of(bench, name, "boot", images)
#define LISTED(names, size)       "{\"names\":[" names "],\"sizeBytes\":" size "}"
#define LIST_A                    LISTED("\"h/app@" A "\",\"h/app:v1\"", "100")

static size_t step(struct bench *bench) {
    assert_true(keep_plan_step(bench->plan, bench->now, true, SIZE_MAX, &bench->actions));
    return bench->actions.count;
}

/* The only action, which is to create a pod of this image on this node. */
static uint64_t expect_create(struct bench *bench, const char *node, const char *tag) {
    if (step(bench) != 1)
        fail_msg("%zu actions, not one", bench->actions.count);
    const struct keep_action *action = &bench->actions.list[0];
    assert_int_equal(action->kind, KEEP_CREATE);
    assert_string_equal(action->wish.node, node);
    assert_string_equal(action->wish.tag, tag);
    return action->id;
}

/* What the API tells of the pod. */
static void pod_of(struct bench *bench, const char *uid, const char *node, const char *image,
                   const char *digest, const char *status) {
    char text[4096];
    struct error error = {0};
    snprintf(text, sizeof text,
             "{\"metadata\":{\"name\":\"pod-%s\",\"uid\":\"%s\",\"labels\":{\"app.kubernetes.io/"
             "component\":\"puller\",\"app.kubernetes.io/managed-by\":\"tarn-keep\",\"tarn/keep\":"
             "\"labs\"},\"annotations\":{\"tarn/image\":\"%s\",\"tarn/digest\":\"%s\"}},\"spec\":{"
             "\"nodeName\":\"%s\"},\"status\":{%s}}",
             uid, uid, image, digest, node, status);
    cleanup_json json_t *json = bounded_json_load(text, strlen(text), &error);
    if (!json)
        fail_msg("%s: %s", text, error.text);
    assert_true(keep_plan_set_pod(bench->plan, json, bench->now));
}
#define DONE(digest)                                                                               \
    "\"phase\":\"Succeeded\",\"containerStatuses\":[{\"imageID\":\"h/app@" digest "\"}]"
#define WAITING(reason)                                                                            \
    "\"phase\":\"Pending\",\"containerStatuses\":[{\"state\":{\"waiting\":{\"reason\":\"" reason   \
    "\",\"message\":\"no such tag\"}}}]"

static struct keep_cell_view cell(struct bench *bench, size_t image, size_t node) {
    struct keep_cell_view view;
    keep_plan_cell(bench->plan, 0, image, node, bench->now, &view);
    return view;
}
#define CHECK_STATE(bench, image, node, expected)                                                  \
    assert_string_equal(keep_state_name(cell(bench, image, node).state), expected)

/* A bench on which the pod u1 pulls v1 on n1. */
static void open_pulling(struct bench *bench) {
    open_bench(bench);
    wants(bench, &image_a, 1);
    NODE(bench, "n1", "");
    keep_plan_created(bench->plan, expect_create(bench, "n1", "v1"), "p", "u1", bench->now);
}

/* Pulls v1 on n1 to its end; the pod is gone afterwards. */
static void pull_a(struct bench *bench) {
    char uid[16];
    uint64_t id = expect_create(bench, "n1", "v1");
    snprintf(uid, sizeof uid, "p%u", ++bench->uids);
    keep_plan_created(bench->plan, id, "pod", uid, bench->now);
    pod_of(bench, uid, "n1", "h/app:v1", A, DONE(A));
    assert_int_equal(step(bench), 2);
    keep_plan_deleted(bench->plan, uid, true, bench->now);
}

static void test_a_missing_image_is_pulled_and_then_kept(void **state) {
    (void)state;
    struct bench bench;
    open_bench(&bench);
    NODE(&bench, "n1", "");
    assert_int_equal(step(&bench), 0);
    wants(&bench, &image_a, 1);
    CHECK_STATE(&bench, 0, 0, "pending");
    uint64_t id = expect_create(&bench, "n1", "v1");
    assert_string_equal(bench.actions.list[0].wish.name, "h/app");
    assert_true(bench.actions.list[0].wish.always);
    assert_int_equal(step(&bench), 0);
    keep_plan_created(bench.plan, id, "keep-v1-x", "u1", bench.now);
    pod_of(&bench, "u1", "n1", "h/app:v1", A, WAITING("ContainerCreating"));
    CHECK_STATE(&bench, 0, 0, "pulling");
    assert_int_equal(step(&bench), 0);
    pass(&bench, 5000);
    pod_of(&bench, "u1", "n1", "h/app:v1", A, DONE(A));
    CHECK_STATE(&bench, 0, 0, "kept");
    assert_int_equal(step(&bench), 2);
    assert_int_equal(bench.actions.list[0].kind, KEEP_DELETE);
    assert_string_equal(bench.actions.list[0].uid, "u1");
    assert_int_equal(bench.actions.list[1].kind, KEEP_ENDED);
    assert_int_equal(bench.actions.list[1].outcome, KEEP_OUTCOME_KEPT);
    assert_int_equal(bench.actions.list[1].took_ms, 5000);
    keep_plan_deleted(bench.plan, "u1", true, bench.now);
    keep_plan_remove_pod(bench.plan, "u1", bench.now);
    assert_int_equal(step(&bench), 0);
    pass(&bench, 30000);
    NODE(&bench, "n1", ""); /* the list is late */
    assert_int_equal(step(&bench), 0);
    NODE(&bench, "n1", LIST_A);
    assert_int_equal(cell(&bench, 0, 0).bytes, 100);
    assert_int_equal(step(&bench), 0);
    close_bench(&bench);
}

static void test_an_image_is_there_when_its_digest_and_its_tag_are_listed(void **state) {
    (void)state;
    static const struct {
        const char *images;
        bool by_digest, there, always;
    } cases[] = {
        {LIST_A, false, true, false},
        {LISTED("\"h/app:v1\",\"h/app@" A "\"", "1"), false, true, false},
        {LISTED("\"other/name@" A "\"", "1"), false, false, true},
        {LISTED("\"other/name@" A "\"", "1"), true, true, false},
        {LISTED("\"h/app@" B "\",\"h/app:v1\"", "1"), false, false, true},
        {LISTED("\"h/app@" B "\",\"h/app:v1\"", "1"), true, false, false},
        {LISTED("\"h/app:v1\"", "1"), false, false, true},
        {LISTED("\"a@" A "\",\"b@" A "\",\"c@" A "\",\"d@" A "\",\"h/app@" A "\"", "1"), false,
         true, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bench bench;
        open_bench(&bench);
        bench.spec.pull.by = cases[i].by_digest ? KEEP_PULL_BY_DIGEST : KEEP_PULL_BY_TAG;
        wants(&bench, &image_a, 1);
        NODE(&bench, "n1", cases[i].images);
        if ((step(&bench) == 0) != cases[i].there)
            fail_msg("case %zu: %zu actions", i, bench.actions.count);
        if (!cases[i].there)
            assert_int_equal(bench.actions.list[0].wish.always, cases[i].always);
        close_bench(&bench);
    }
}

static void test_the_same_digest_twice_is_one_pull(void **state) {
    (void)state;
    struct bench bench;
    open_bench(&bench);
    const struct keep_image images[] = {
        image_a, {.name = "h/app", .tag = "latest", .digest = A}, image_b};
    wants(&bench, images, 3);
    assert_int_equal(keep_plan_image_count(bench.plan, 0), 2);
    bench.spec.pull.node_limit = 9;
    NODE(&bench, "n1", "");
    assert_int_equal(step(&bench), 2);
    close_bench(&bench);
}

static void test_no_more_pods_than_the_limits_and_the_first_image_first(void **state) {
    (void)state;
    struct bench bench;
    open_bench(&bench);
    const struct keep_image images[] = {image_a, image_b};
    bench.spec.pull.nodes_at_once = 3;
    wants(&bench, images, 2);
    for (int i = 0; i < 5; i++) {
        char name[8];
        snprintf(name, sizeof name, "n%d", i);
        NODE(&bench, name, i == 0 ? LIST_A : "");
    }
    assert_int_equal(step(&bench), 3);
    uint64_t first = bench.actions.list[0].id;
    for (size_t i = 0; i < 3; i++) {
        assert_string_equal(bench.actions.list[i].wish.tag, "v1");
        assert_string_equal(bench.actions.list[i].wish.node, i == 0 ? "n1" : i == 1 ? "n2" : "n3");
    }
    assert_int_equal(step(&bench), 0);
    keep_plan_created(bench.plan, first, "p", "u", bench.now);
    pod_of(&bench, "u", "n1", "h/app:v1", A, DONE(A));
    assert_int_equal(step(&bench), 2); /* the pod still counts */
    keep_plan_deleted(bench.plan, "u", true, bench.now);
    assert_string_equal(step(&bench) == 1 ? bench.actions.list[0].wish.node : "", "n4");
    close_bench(&bench);
}

static void test_a_node_that_is_not_eligible_gets_no_pod(void **state) {
    (void)state;
    struct bench bench;
    open_bench(&bench);
    struct keep_pair label = {"pool", "user"};
    bench.spec.nodes = (struct keep_nodes){.labels = &label, .label_count = 1};
    wants(&bench, &image_a, 1);
    NODE(&bench, "n1", "");
    assert_int_equal(step(&bench), 0);
    close_bench(&bench);
}

static void test_an_image_without_the_nodes_platform_is_skipped(void **state) {
    (void)state;
    struct bench bench;
    open_bench(&bench);
    const char *const arm[] = {"linux/arm64/v8", "windows/amd64"}, *const both[] = {"linux/arm64",
                                                                                    "linux/amd64"};
    struct keep_image image = image_a;
    image.platforms = arm;
    image.platform_count = 2;
    wants(&bench, &image, 1);
    NODE(&bench, "n1", "");
    assert_int_equal(step(&bench), 0);
    CHECK_STATE(&bench, 0, 0, "skipped");
    assert_string_equal(cell(&bench, 0, 0).reason, "the image has no platform linux/amd64");
    image.platforms = both;
    wants(&bench, &image, 1);
    expect_create(&bench, "n1", "v1");
    close_bench(&bench);
}

static void test_images_beyond_the_nodes_disk_are_skipped(void **state) {
    (void)state;
    struct bench bench;
    open_bench(&bench);
    bench.spec.pull.node_limit = 9;
    const struct keep_image images[] = {
        {.name = "h/a", .tag = "1", .digest = A, .size = 400},
        {.name = "h/b", .tag = "2", .digest = B, .size = 201},
        {.name = "h/c", .tag = "3", .digest = C, .size = 200},
    };
    wants(&bench, images, 3);
    NODE(&bench, "n1", "");
    assert_int_equal(step(&bench), 2);
    assert_string_equal(bench.actions.list[0].wish.tag, "1");
    assert_string_equal(bench.actions.list[1].wish.tag, "3");
    CHECK_STATE(&bench, 1, 0, "skipped");
    assert_string_equal(cell(&bench, 1, 0).reason, "no room (needs 201 B of 1000 B x 60%)");
    close_bench(&bench);
}

/* A list of `count` images besides, each of `size` bytes. */
static void list_of(char *out, size_t size_out, const char *first, int count, int size) {
    size_t length = (size_t)snprintf(out, size_out, "%s", first);
    for (int i = 0; i < count; i++)
        length += (size_t)snprintf(out + length, size_out - length,
                                   "%s{\"names\":[\"x%d@sha256:x%d\"],\"sizeBytes\":%d}",
                                   length ? "," : "", i, i, size);
}

static void test_a_whole_list_without_the_image_says_that_it_is_gone(void **state) {
    (void)state;
    struct bench bench;
    char list[8192];
    open_bench(&bench);
    wants(&bench, &image_a, 1);
    list_of(list, sizeof list, LIST_A, 29, 200);
    NODE(&bench, "n1", list);
    assert_int_equal(step(&bench), 0);
    list_of(list, sizeof list, "", 30, 200); /* as long as ever, and all are larger: unknown */
    NODE(&bench, "n1", list);
    CHECK_STATE(&bench, 0, 0, "kept");
    assert_int_equal(step(&bench), 0);
    list_of(list, sizeof list, "", 29, 200); /* shorter than it once was: whole */
    NODE(&bench, "n1", list);
    CHECK_STATE(&bench, 0, 0, "pending");
    close_bench(&bench);
}

static void test_a_list_with_a_smaller_image_says_that_it_is_gone(void **state) {
    (void)state;
    struct bench bench;
    char list[8192];
    open_bench(&bench);
    wants(&bench, &image_a, 1);
    list_of(list, sizeof list, LIST_A, 29, 99);
    NODE(&bench, "n1", list);
    list_of(list, sizeof list, "", 30, 99);
    NODE(&bench, "n1", list);
    CHECK_STATE(&bench, 0, 0, "pending");
    expect_create(&bench, "n1", "v1");
    close_bench(&bench);
}

static void test_an_image_that_fell_off_the_list_is_asked_for_again_after_six_hours(void **state) {
    (void)state;
    struct bench bench;
    char list[8192];
    open_bench(&bench);
    wants(&bench, &image_a, 1);
    list_of(list, sizeof list, "", 30, 200);
    NODE(&bench, "n1", list);
    pull_a(&bench); /* nothing was known */
    for (int i = 0; i < 5; i++) {
        pass(&bench, HOUR);
        NODE(&bench, "n1", list);
        CHECK_STATE(&bench, 0, 0, "kept");
        assert_int_equal(step(&bench), 0);
    }
    pass(&bench, HOUR + 1);
    CHECK_STATE(&bench, 0, 0, "kept");
    pull_a(&bench);
    CHECK_STATE(&bench, 0, 0, "kept");
    pass(&bench, HOUR);
    NODE(&bench, "n1", list);
    assert_int_equal(step(&bench), 0);
    close_bench(&bench);
}

static void test_an_image_that_goes_twice_within_a_day_is_left_alone_for_six_hours(void **state) {
    (void)state;
    struct bench bench;
    open_bench(&bench);
    wants(&bench, &image_a, 1);
    NODE(&bench, "n1", LIST_A);
    pass(&bench, HOUR);
    NODE(&bench, "n1", "");
    pull_a(&bench);
    NODE(&bench, "n1", LIST_A);
    pass(&bench, HOUR);
    assert_int_equal(keep_plan_evictions(bench.plan, 0), 0);
    NODE(&bench, "n1", "");
    CHECK_STATE(&bench, 0, 0, "skipped");
    assert_string_equal(cell(&bench, 0, 0).reason, "evicted by the node");
    assert_int_equal(cell(&bench, 0, 0).retry_s, bench.now.wall_s + 6 * 3600);
    assert_int_equal(keep_plan_evictions(bench.plan, 0), 1);
    assert_int_equal(step(&bench), 0);
    pass(&bench, 6 * HOUR);
    assert_int_equal(step(&bench), 1);
    close_bench(&bench);
}

static void test_an_image_that_was_listed_before_its_pull_ended_may_go_at_once(void **state) {
    (void)state;
    struct bench bench;
    open_bench(&bench);
    wants(&bench, &image_a, 1);
    NODE(&bench, "n1", "");
    keep_plan_created(bench.plan, expect_create(&bench, "n1", "v1"), "p", "u", bench.now);
    NODE(&bench, "n1", LIST_A);
    pod_of(&bench, "u", "n1", "h/app:v1", A, DONE(A));
    step(&bench);
    keep_plan_deleted(bench.plan, "u", true, bench.now);
    NODE(&bench, "n1", "");
    expect_create(&bench, "n1", "v1");
    close_bench(&bench);
}

static void test_after_a_reboot_only_the_list_counts(void **state) {
    (void)state;
    struct bench bench;
    open_bench(&bench);
    wants(&bench, &image_a, 1);
    NODE(&bench, "n1", "");
    pull_a(&bench);
    CHECK_STATE(&bench, 0, 0, "kept");
    node_of(&bench, "n1", "another boot", "");
    CHECK_STATE(&bench, 0, 0, "pending");
    assert_int_equal(keep_plan_evictions(bench.plan, 0), 0);
    close_bench(&bench);
}

static void test_the_digest_of_a_child_counts_once_a_pull_has_told_it(void **state) {
    (void)state;
    struct bench bench;
    open_bench(&bench);
    wants(&bench, &image_a, 1);
    NODE(&bench, "n1", "");
    keep_plan_created(bench.plan, expect_create(&bench, "n1", "v1"), "p", "u", bench.now);
    pod_of(&bench, "u", "n1", "h/app:v1", A, DONE(C));
    step(&bench);
    keep_plan_deleted(bench.plan, "u", true, bench.now);
    pass(&bench, HOUR);
    NODE(&bench, "n1", LISTED("\"h/app@" C "\",\"h/app:v1\"", "90"));
    CHECK_STATE(&bench, 0, 0, "kept");
    assert_int_equal(step(&bench), 0);
    NODE(&bench, "n1", "");
    CHECK_STATE(&bench, 0, 0, "pending");
    close_bench(&bench);
}

static void fail_once(struct bench *bench, const char *node, const char *status) {
    char uid[16];
    snprintf(uid, sizeof uid, "p%u", ++bench->uids);
    keep_plan_created(bench->plan, expect_create(bench, node, "v1"), "p", uid, bench->now);
    pod_of(bench, uid, node, "h/app:v1", A, status);
    assert_int_equal(step(bench), 2);
    keep_plan_deleted(bench->plan, uid, true, bench->now);
    keep_plan_remove_pod(bench->plan, uid, bench->now);
}

static void test_the_child_of_an_index_counts_for_its_architecture(void **state) {
    (void)state;
    const struct keep_child children[] = {{"arm64", B}, {"amd64", C}};
    struct keep_image image = image_a;
    image.children = children;
    image.child_count = 2;
    struct bench bench;
    open_bench(&bench);
    wants(&bench, &image, 1);
    NODE(&bench, "n1", LISTED("\"h/app@" C "\",\"h/app:v1\"", "90"));
    CHECK_STATE(&bench, 0, 0, "kept");
    NODE(&bench, "n2", LISTED("\"h/app@" B "\",\"h/app:v1\"", "90"));
    expect_create(&bench, "n2", "v1");
    close_bench(&bench);
}

static void test_failures_are_repeated_ever_later(void **state) {
    (void)state;
    struct bench bench;
    open_bench(&bench);
    wants(&bench, &image_a, 1);
    NODE(&bench, "n1", "");
    int64_t expected = MINUTE;
    for (unsigned i = 1; i <= 9; i++) {
        fail_once(&bench, "n1", WAITING("ErrImagePull"));
        CHECK_STATE(&bench, 0, 0, "failed");
        struct keep_cell_view view = cell(&bench, 0, 0);
        assert_string_equal(view.reason, "ErrImagePull: no such tag");
        assert_int_equal(view.attempts, i);
        pass(&bench, expected * 4 / 5 - 1);
        assert_int_equal(step(&bench), 0);
        assert_true(bench.actions.wake_ms <= bench.now.ms + expected * 2 / 5 + 1);
        pass(&bench, expected * 2 / 5 + 1);
        CHECK_STATE(&bench, 0, 0, "pending");
        expected = expected * 2 > HOUR ? HOUR : expected * 2;
    }
    close_bench(&bench);
}

static void test_three_equal_refusals_stop_the_other_nodes_until_the_next_refresh(void **state) {
    (void)state;
    struct bench bench;
    open_bench(&bench);
    wants(&bench, &image_a, 1);
    NODE(&bench, "n1", "");
    NODE(&bench, "n2", LIST_A);
    NODE(&bench, "n3", LIST_A);
    NODE(&bench, "n4", LIST_A);
    fail_once(&bench, "n1", WAITING("ErrImagePull"));
    NODE(&bench, "n2", "");
    fail_once(&bench, "n2", WAITING("ImagePullBackOff"));
    NODE(&bench, "n3", "");
    fail_once(&bench, "n3", WAITING("ErrImagePull"));
    NODE(&bench, "n4", "");
    pass(&bench, 2 * HOUR);
    assert_int_equal(step(&bench), 0);
    CHECK_STATE(&bench, 0, 3, "failed");
    assert_non_null(strstr(cell(&bench, 0, 3).reason, "no such tag"));
    wants(&bench, &image_a, 1);
    CHECK_STATE(&bench, 0, 3, "pending");
    assert_int_equal(step(&bench), 4);
    close_bench(&bench);
}

static void test_a_nodes_refusals_stop_no_other_node(void **state) {
    (void)state;
    struct bench bench;
    open_bench(&bench);
    wants(&bench, &image_a, 1);
    for (int i = 1; i <= 4; i++) {
        char name[8];
        snprintf(name, sizeof name, "n%d", i);
        NODE(&bench, name, "");
        fail_once(&bench, name, "\"phase\":\"Failed\",\"reason\":\"OutOfpods\"");
        assert_string_equal(cell(&bench, 0, (size_t)i - 1).reason, "OutOfpods");
    }
    close_bench(&bench);
}

static void test_a_pull_that_takes_too_long_fails(void **state) {
    (void)state;
    struct bench bench;
    open_bench(&bench);
    wants(&bench, &image_a, 1);
    NODE(&bench, "n1", "");
    fail_once(&bench, "n1", "\"phase\":\"Failed\",\"reason\":\"DeadlineExceeded\"");
    assert_int_equal(cell(&bench, 0, 0).state, KEEP_FAILED);
    pass(&bench, 2 * MINUTE);
    keep_plan_created(bench.plan, expect_create(&bench, "n1", "v1"), "p", "u", bench.now);
    pass(&bench, 20 * MINUTE);
    assert_int_equal(step(&bench), 0);
    assert_int_equal(bench.actions.wake_ms, bench.now.ms + KEEP_TIMEOUT_GRACE_MS);
    pass(&bench, KEEP_TIMEOUT_GRACE_MS);
    assert_int_equal(step(&bench), 2);
    assert_int_equal(bench.actions.list[0].kind, KEEP_DELETE);
    assert_int_equal(bench.actions.list[1].outcome, KEEP_OUTCOME_TIMEOUT);
    CHECK_STATE(&bench, 0, 0, "failed");
    close_bench(&bench);
}

static void test_a_pod_that_somebody_deletes_is_made_again(void **state) {
    (void)state;
    struct bench bench;
    open_pulling(&bench);
    keep_plan_remove_pod(bench.plan, "u1", bench.now);
    CHECK_STATE(&bench, 0, 0, "pending");
    keep_plan_created(bench.plan, expect_create(&bench, "n1", "v1"), "p", "u2", bench.now);
    keep_plan_remove_pod(bench.plan, "u2", bench.now);
    CHECK_STATE(&bench, 0, 0, "pending");
    assert_int_equal(step(&bench), 0); /* the second time it waits */
    pass(&bench, 2 * MINUTE);
    expect_create(&bench, "n1", "v1");
    close_bench(&bench);
}

static void test_pods_of_an_earlier_process_are_taken_up_or_deleted(void **state) {
    (void)state;
    struct bench bench;
    open_bench(&bench);
    pod_of(&bench, "u1", "n1", "h/app:v1", A, "\"phase\":\"Pending\"");
    pod_of(&bench, "u2", "n1", "h/app:v2", B, "\"phase\":\"Pending\"");
    pod_of(&bench, "u3", "n1", "h/app:v1", A, "\"phase\":\"Pending\"");
    pod_of(&bench, "u4", "gone", "h/app:v1", A, "\"phase\":\"Pending\"");
    assert_int_equal(step(&bench), 0); /* what is wanted is not known yet */
    NODE(&bench, "n1", "");
    assert_int_equal(step(&bench), 0);
    wants(&bench, &image_a, 1);
    assert_int_equal(step(&bench), 3);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(bench.actions.list[i].kind, KEEP_DELETE);
    size_t kept = 0;
    for (size_t i = 0; i < 3; i++)
        kept += strcmp(bench.actions.list[i].uid, "u2") != 0;
    assert_int_equal(kept, 2);
    CHECK_STATE(&bench, 0, 0, "pulling");
    assert_int_equal(step(&bench), 0);
    close_bench(&bench);
}

static void test_a_pull_that_ended_before_its_image_was_known_counts(void **state) {
    (void)state;
    struct bench bench;
    open_bench(&bench);
    pod_of(&bench, "u1", "n1", "h/app:v1", A, DONE(A));
    NODE(&bench, "n1", "");
    assert_int_equal(step(&bench), 0);
    wants(&bench, &image_a, 1);
    CHECK_STATE(&bench, 0, 0, "kept");
    assert_int_equal(step(&bench), 2);
    assert_int_equal(bench.actions.list[0].kind, KEEP_DELETE);
    close_bench(&bench);
}

static void test_an_event_before_the_response_makes_no_second_pod(void **state) {
    (void)state;
    struct bench bench;
    open_bench(&bench);
    wants(&bench, &image_a, 1);
    NODE(&bench, "n1", "");
    uint64_t id = expect_create(&bench, "n1", "v1");
    pod_of(&bench, "u1", "n1", "h/app:v1", A, DONE(A));
    keep_plan_created(bench.plan, id, "pod-u1", "u1", bench.now);
    assert_int_equal(step(&bench), 2);
    keep_plan_deleted(bench.plan, "u1", true, bench.now);
    CHECK_STATE(&bench, 0, 0, "kept");
    assert_int_equal(step(&bench), 0);
    close_bench(&bench);
}

static void test_a_pod_whose_creation_nobody_answered_is_taken_up_when_it_shows(void **state) {
    (void)state;
    struct bench bench;
    open_bench(&bench);
    wants(&bench, &image_a, 1);
    NODE(&bench, "n1", "");
    keep_plan_not_created(bench.plan, expect_create(&bench, "n1", "v1"),
                          &(struct keep_failure){KEEP_FAILURE_UNKNOWN, "timeout", 0}, bench.now);
    CHECK_STATE(&bench, 0, 0, "pending");
    assert_int_equal(step(&bench), 0);
    pod_of(&bench, "u1", "n1", "h/app:v1", A, "\"phase\":\"Pending\"");
    CHECK_STATE(&bench, 0, 0, "pulling");
    pass(&bench, 5 * MINUTE);
    assert_int_equal(step(&bench), 0);
    close_bench(&bench);
}

static void test_a_refused_creation_is_repeated_later(void **state) {
    (void)state;
    struct bench bench;
    open_bench(&bench);
    wants(&bench, &image_a, 1);
    NODE(&bench, "n1", "");
    keep_plan_not_created(bench.plan, expect_create(&bench, "n1", "v1"),
                          &(struct keep_failure){KEEP_FAILURE_REFUSED, "exceeded quota", 0},
                          bench.now);
    CHECK_STATE(&bench, 0, 0, "failed");
    assert_string_equal(cell(&bench, 0, 0).reason, "exceeded quota");
    assert_int_equal(step(&bench), 0);
    pass(&bench, 2 * MINUTE);
    expect_create(&bench, "n1", "v1");
    close_bench(&bench);
}

static void test_what_was_not_sent_is_tried_again_at_once(void **state) {
    (void)state;
    struct bench bench;
    open_bench(&bench);
    wants(&bench, &image_a, 1);
    NODE(&bench, "n1", "");
    for (int i = 0; i < 3; i++)
        keep_plan_not_created(bench.plan, expect_create(&bench, "n1", "v1"),
                              &(struct keep_failure){.why = "does not lead"}, bench.now);
    CHECK_STATE(&bench, 0, 0, "pending");
    close_bench(&bench);
}

/* How long the keep creates nothing after this failure of the pod that the last step creates. */
static int64_t pause_after(struct bench *bench, struct keep_failure failure) {
    int64_t began = bench->now.ms;
    assert_int_equal(bench->actions.list[0].kind, KEEP_CREATE);
    keep_plan_not_created(bench->plan, bench->actions.list[0].id, &failure, bench->now);
    while (step(bench) == 0)
        pass(bench, bench->actions.wake_ms - bench->now.ms);
    return bench->now.ms - began;
}

static void test_a_server_in_trouble_is_asked_ever_later(void **state) {
    (void)state;
    struct bench bench;
    struct keep_failure failure = {KEEP_FAILURE_UNKNOWN, "503", 0};
    open_bench(&bench);
    bench.spec.pull.nodes_at_once = 1;
    wants(&bench, &image_a, 1);
    for (int i = 0; i < 40; i++) {
        char name[16];
        snprintf(name, sizeof name, "n%d", i);
        NODE(&bench, name, "");
    }
    assert_int_equal(step(&bench), 1);
    for (int64_t pause = 1000; pause < 64000; pause *= 2) {
        int64_t wanted = pause < 30000 ? pause : 30000;
        assert_in_range(pause_after(&bench, failure), wanted * 4 / 5, wanted * 6 / 5 + 1);
    }
    failure.pause_ms = 45000;
    assert_int_equal(pause_after(&bench, failure), 45000);
    keep_plan_created(bench.plan, bench.actions.list[0].id, "pod", "u1", bench.now);
    pod_of(&bench, "u1", bench.actions.list[0].wish.node, "h/app:v1", A, DONE(A));
    step(&bench); /* deletes it */
    keep_plan_deleted(bench.plan, "u1", true, bench.now);
    assert_int_equal(step(&bench), 1);
    failure.pause_ms = 0;
    assert_in_range(pause_after(&bench, failure), 800, 1201);
    close_bench(&bench);
}

static void test_a_keep_whose_pods_are_refused_stops_no_other_keep(void **state) {
    (void)state;
    struct bench bench;
    struct keep_spec other = {.name = "other", .pull = keep_pull_default()};
    open_bench(&bench);
    const struct keep_spec *const specs[] = {&bench.spec, &other};
    assert_true(keep_plan_set_keeps(bench.plan, specs, 2, bench.now));
    wants(&bench, &image_a, 1);
    NODE(&bench, "n1", "");
    NODE(&bench, "n2", "");
    assert_int_equal(step(&bench), 2);
    for (size_t i = 0; i < 2; i++)
        keep_plan_not_created(bench.plan, bench.actions.list[i].id,
                              &(struct keep_failure){KEEP_FAILURE_REFUSED, "no account", 0},
                              bench.now);
    assert_true(keep_plan_set_images(bench.plan, "other", &image_b, 1, bench.now));
    assert_int_equal(step(&bench), 2);
    assert_string_equal(bench.actions.list[0].wish.keep, "other");
    close_bench(&bench);
}

static void test_what_is_wanted_no_more_is_ended(void **state) {
    (void)state;
    struct bench bench;
    open_pulling(&bench);
    wants(&bench, &image_b, 1);
    assert_int_equal(step(&bench), 1);
    assert_int_equal(bench.actions.list[0].kind, KEEP_DELETE);
    keep_plan_deleted(bench.plan, "u1", true, bench.now);
    keep_plan_remove_pod(bench.plan, "u1", bench.now);
    keep_plan_created(bench.plan, expect_create(&bench, "n1", "v2"), "p", "u2", bench.now);
    assert_true(keep_plan_set_keeps(bench.plan, NULL, 0, bench.now));
    assert_int_equal(step(&bench), 1);
    assert_string_equal(bench.actions.list[0].uid, "u2");
    close_bench(&bench);
}

static void test_a_changed_keep_ends_its_pulls_and_begins_anew_with_its_list(void **state) {
    (void)state;
    struct bench bench;
    open_pulling(&bench);
    struct keep_spec same = bench.spec;
    const struct keep_spec *specs[] = {&same};
    assert_true(keep_plan_set_keeps(bench.plan, specs, 1, bench.now));
    assert_int_equal(step(&bench), 0);
    struct keep_spec other = bench.spec;
    other.pull.secret = "secret";
    other.pull.node_limit = 2;
    specs[0] = &other;
    assert_true(keep_plan_set_keeps(bench.plan, specs, 1, bench.now));
    assert_int_equal(step(&bench), 1);
    assert_int_equal(bench.actions.list[0].kind, KEEP_DELETE);
    assert_string_equal(bench.actions.list[0].uid, "u1");
    keep_plan_deleted(bench.plan, "u1", true, bench.now);
    /* The kubelet still pulls: the pod is there until it agrees. */
    wants(&bench, &image_a, 1);
    NODE(&bench, "n2", "");
    keep_plan_created(bench.plan, expect_create(&bench, "n2", "v1"), "p", "u2", bench.now);
    CHECK_STATE(&bench, 0, 0, "pulling");
    keep_plan_remove_pod(bench.plan, "u1", bench.now);
    assert_int_equal(step(&bench), 1);
    assert_string_equal(bench.actions.list[0].wish.node, "n1");
    assert_string_equal(bench.actions.list[0].wish.pull->secret, "secret");
    assert_string_equal(cell(&bench, 0, 0).reason, "");
    close_bench(&bench);
}

static void test_the_pull_of_a_changed_keep_that_ends_in_time_counts(void **state) {
    (void)state;
    struct bench bench;
    open_pulling(&bench);
    struct keep_spec other = bench.spec;
    other.pull.disk_percent = 0;
    const struct keep_spec *specs[] = {&other};
    assert_true(keep_plan_set_keeps(bench.plan, specs, 1, bench.now));
    step(&bench);
    pod_of(&bench, "u1", "n1", "h/app:v1", A, DONE(A));
    step(&bench);
    keep_plan_remove_pod(bench.plan, "u1", bench.now);
    wants(&bench, &image_a, 1);
    CHECK_STATE(&bench, 0, 0, "kept");
    assert_int_equal(step(&bench), 0);
    close_bench(&bench);
}

static void test_who_may_not_act_only_watches(void **state) {
    (void)state;
    struct bench bench;
    open_bench(&bench);
    wants(&bench, &image_a, 1);
    NODE(&bench, "n1", "");
    pod_of(&bench, "u9", "n9", "h/app:v9", C, DONE(C));
    assert_true(keep_plan_step(bench.plan, bench.now, false, SIZE_MAX, &bench.actions));
    assert_int_equal(bench.actions.count, 0);
    assert_int_equal(step(&bench), 2);
    close_bench(&bench);
}

static void test_a_node_that_is_gone_is_forgotten_with_its_pulls(void **state) {
    (void)state;
    struct bench bench;
    open_bench(&bench);
    wants(&bench, &image_a, 1);
    NODE(&bench, "n1", "");
    NODE(&bench, "n2", LIST_A);
    keep_plan_created(bench.plan, expect_create(&bench, "n1", "v1"), "p", "u1", bench.now);
    keep_plan_remove_node(bench.plan, "uid-n1");
    assert_int_equal(keep_plan_node_count(bench.plan), 1);
    assert_int_equal(step(&bench), 1);
    assert_string_equal(bench.actions.list[0].uid, "u1");
    keep_plan_remove_pod(bench.plan, "u1", bench.now);
    NODE(&bench, "n1", ""); /* another node of that name */
    CHECK_STATE(&bench, 0, 1, "pending");
    expect_create(&bench, "n1", "v1");
    close_bench(&bench);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_missing_image_is_pulled_and_then_kept),
        cmocka_unit_test(test_an_image_is_there_when_its_digest_and_its_tag_are_listed),
        cmocka_unit_test(test_the_same_digest_twice_is_one_pull),
        cmocka_unit_test(test_no_more_pods_than_the_limits_and_the_first_image_first),
        cmocka_unit_test(test_a_node_that_is_not_eligible_gets_no_pod),
        cmocka_unit_test(test_an_image_without_the_nodes_platform_is_skipped),
        cmocka_unit_test(test_images_beyond_the_nodes_disk_are_skipped),
        cmocka_unit_test(test_a_whole_list_without_the_image_says_that_it_is_gone),
        cmocka_unit_test(test_a_list_with_a_smaller_image_says_that_it_is_gone),
        cmocka_unit_test(test_an_image_that_fell_off_the_list_is_asked_for_again_after_six_hours),
        cmocka_unit_test(test_an_image_that_goes_twice_within_a_day_is_left_alone_for_six_hours),
        cmocka_unit_test(test_an_image_that_was_listed_before_its_pull_ended_may_go_at_once),
        cmocka_unit_test(test_after_a_reboot_only_the_list_counts),
        cmocka_unit_test(test_the_digest_of_a_child_counts_once_a_pull_has_told_it),
        cmocka_unit_test(test_the_child_of_an_index_counts_for_its_architecture),
        cmocka_unit_test(test_failures_are_repeated_ever_later),
        cmocka_unit_test(test_three_equal_refusals_stop_the_other_nodes_until_the_next_refresh),
        cmocka_unit_test(test_a_nodes_refusals_stop_no_other_node),
        cmocka_unit_test(test_a_pull_that_takes_too_long_fails),
        cmocka_unit_test(test_a_pod_that_somebody_deletes_is_made_again),
        cmocka_unit_test(test_pods_of_an_earlier_process_are_taken_up_or_deleted),
        cmocka_unit_test(test_a_pull_that_ended_before_its_image_was_known_counts),
        cmocka_unit_test(test_an_event_before_the_response_makes_no_second_pod),
        cmocka_unit_test(test_a_pod_whose_creation_nobody_answered_is_taken_up_when_it_shows),
        cmocka_unit_test(test_a_refused_creation_is_repeated_later),
        cmocka_unit_test(test_what_was_not_sent_is_tried_again_at_once),
        cmocka_unit_test(test_a_server_in_trouble_is_asked_ever_later),
        cmocka_unit_test(test_a_keep_whose_pods_are_refused_stops_no_other_keep),
        cmocka_unit_test(test_what_is_wanted_no_more_is_ended),
        cmocka_unit_test(test_a_changed_keep_ends_its_pulls_and_begins_anew_with_its_list),
        cmocka_unit_test(test_the_pull_of_a_changed_keep_that_ends_in_time_counts),
        cmocka_unit_test(test_who_may_not_act_only_watches),
        cmocka_unit_test(test_a_node_that_is_gone_is_forgotten_with_its_pulls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
