/* The Docker API as a source of images, against an upstream that the test scripts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/lock.h"
#include "catalog/source.h"
#include "oci/manifest.h"

/* ---- the upstream ---- */

enum { ANSWERS = 16 };

struct answer {
    const char *path; /* "tags", "tags PAGE", "HEAD TAG", "GET TAG-or-digest" */
    const char *body;
    const char *next;   /* of tags */
    const char *digest; /* Docker-Content-Digest */
    const char *type;
    enum error_kind fail;
};

struct upstream {
    struct upstream_settings settings;
    struct answer answers[ANSWERS];
    struct lock asked_lock;
    char asked[8192]; /* each path with a newline */
    unsigned now, most;
    unsigned count; /* of heads, for a tag without an answer of its own */
    bool all_heads; /* every tag has the digest of its own name */
    unsigned limit; /* heads before the upstream asks to slow down; 0: none */
};

const struct upstream_settings *upstream_settings(const struct upstream *upstream) {
    return &upstream->settings;
}

unsigned upstream_places(const struct upstream *upstream) {
    (void)upstream;
    return 1;
}

void upstream_target_finish(struct upstream_target *target) {
    (void)target;
}

enum head_refusal upstream_judge_head(const struct error *error) {
    return error->status == 405 ? HEAD_NOT_OFFERED : HEAD_FAILED;
}

bool upstream_refuses_head(struct upstream *upstream, const struct upstream_request *request) {
    (void)upstream, (void)request;
    return false;
}

void upstream_note_head(struct upstream *upstream, const struct upstream_request *request,
                        const struct error *refusal) {
    (void)upstream, (void)request, (void)refusal;
}

static void note(struct upstream *upstream, const char *path) {
    size_t used = strlen(upstream->asked);
    snprintf(upstream->asked + used, sizeof upstream->asked - used, "%s\n", path);
    upstream->count += strncmp(path, "HEAD", 4) == 0;
}

static const struct answer *find(const struct upstream *upstream, const char *path) {
    for (size_t i = 0; i < ANSWERS && upstream->answers[i].path; i++) {
        if (strcmp(upstream->answers[i].path, path) == 0)
            return &upstream->answers[i];
    }
    return NULL;
}

static bool refuse(struct error *error, enum error_kind kind) {
    error_set(error, kind, "upstream test: %s", error_kind_name(kind));
    error->status = kind == ERROR_UNSUPPORTED ? 405 : kind == ERROR_NOT_FOUND ? 404 : 0;
    if (kind == ERROR_UNSUPPORTED)
        error->kind = ERROR_UNAVAILABLE;
    return false;
}

static bool send_head(const char *tag, const struct upstream_sink *sink, struct error *error) {
    struct upstream_head head = {.status = 200, .has_digest = true};
    assert_true(digest_of(DIGEST_SHA256, tag, strlen(tag), &head.digest));
    return sink->on_head(sink->context, &head, error);
}

static bool send(const struct answer *answer, const struct upstream_sink *sink, bool head_only,
                 struct error *error) {
    struct upstream_head head = {.status = 200};
    if (answer->fail)
        return refuse(error, answer->fail);
    snprintf(head.next, sizeof head.next, "%s", answer->next ? answer->next : "");
    snprintf(head.content_type, sizeof head.content_type, "%s", answer->type ? answer->type : "");
    head.has_digest = answer->digest && digest_parse(text_of(answer->digest), &head.digest);
    return sink->on_head(sink->context, &head, error) &&
           (head_only || sink->on_bytes(sink->context, answer->body, strlen(answer->body), error));
}

bool upstream_perform(struct upstream *upstream, const struct upstream_request *request,
                      const struct upstream_sink *sink, struct error *error) {
    char path[400];
    if (request->what == UPSTREAM_TAGS)
        snprintf(path, sizeof path, "tags%s%s%s%s", request->page ? " " : "",
                 request->page ? request->page : "", request->last ? " behind " : "",
                 request->last ? request->last : "");
    else
        snprintf(path, sizeof path, "%s %s", request->head_only ? "HEAD" : "GET",
                 request->reference);
    lock_acquire(&upstream->asked_lock);
    note(upstream, path);
    upstream->now++;
    if (upstream->most < upstream->now)
        upstream->most = upstream->now;
    bool is_over = upstream->limit && request->head_only && upstream->count > upstream->limit;
    lock_release(&upstream->asked_lock);
    const struct answer *answer = find(upstream, path);
    bool ok = is_over  ? refuse(error, ERROR_RATE_LIMITED)
              : answer ? send(answer, sink, request->head_only, error)
              : upstream->all_heads && request->head_only
                  ? send_head(request->reference, sink, error)
                  : refuse(error, ERROR_NOT_FOUND);
    lock_acquire(&upstream->asked_lock);
    upstream->now--;
    lock_release(&upstream->asked_lock);
    return ok;
}

/* ---- a test ---- */

struct bench {
    struct upstream upstream;
    struct catalog_question question;
    struct catalog_list list;
    struct error error;
};

static int set_up(void **state) {
    struct bench *bench = calloc(1, sizeof *bench);
    assert_non_null(bench);
    lock_init(&bench->upstream.asked_lock);
    bench->question.repository.upstream = &bench->upstream;
    bench->question.digest_of = docker_digest_by_head;
    bench->question.jobs = 1;
    assert_true(repository_name_parse(text_of("test"), text_of("org/app"),
                                      &bench->question.repository.name));
    *state = bench;
    return 0;
}

static int tear_down(void **state) {
    struct bench *bench = *state;
    catalog_list_finish(&bench->list);
    lock_finish(&bench->upstream.asked_lock);
    free(bench);
    return 0;
}

static enum catalog_outcome list(struct bench *bench) {
    enum catalog_outcome outcome =
        docker_list_images(&bench->question, &bench->list, &bench->error);
    catalog_list_seal(&bench->list);
    return outcome;
}

#define A "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define C "sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"

/* The image with this digest; fails when there is none. */
static const struct catalog_image *image(const struct bench *bench, const char *text) {
    struct digest digest;
    assert_true(digest_parse(text_of(text), &digest));
    for (size_t i = 0; i < bench->list.count; i++) {
        if (digest_equal(&bench->list.images[i].digest, &digest))
            return &bench->list.images[i];
    }
    fail_msg("there is no image %s", text);
    return NULL;
}

/* The image as JSON. */
static void assert_image(const struct catalog_image *found, const char *json) {
    struct buffer text = {0};
    catalog_image_append_json(found, &text);
    assert_string_equal(text.bytes, json);
    buffer_finish(&text);
}

static void test_tags_of_one_digest_are_one_image(void **state) {
    struct bench *bench = *state;
    bench->upstream.answers[0] = (struct answer){
        "tags", .body = "{\"name\":\"org/app\",\"tags\":[\"v2\",\"latest\",\"v1\"]}"};
    bench->upstream.answers[1] = (struct answer){"HEAD latest", .digest = A};
    bench->upstream.answers[2] = (struct answer){"HEAD v1", .digest = B};
    bench->upstream.answers[3] = (struct answer){"HEAD v2", .digest = A};
    assert_int_equal(list(bench), CATALOG_COMPLETE);
    assert_int_equal(bench->list.count, 2);
    assert_image(image(bench, A),
                 "{\"repository\":\"test/org/app\",\"digest\":\"" A
                 "\",\"tags\":[\"latest\",\"v2\"],\"uploaded\":null,\"created\":null,\"size\":null,"
                 "\"media_type\":null,\"platforms\":null,\"artifact_type\":null}");
    assert_string_equal(bench->upstream.asked, "tags\nHEAD latest\nHEAD v1\nHEAD v2\n");
}

static void test_no_digest_costs_no_further_request(void **state) {
    struct bench *bench = *state;
    bench->question.no_digests = true;
    bench->question.digest_of = NULL;
    bench->upstream.answers[0] =
        (struct answer){"tags", .body = "{\"tags\":[\"a\",\"b\"]}", .next = "/2"};
    bench->upstream.answers[1] = (struct answer){"tags /2", .body = "{\"tags\":[\"b\",\"c\"]}"};
    assert_int_equal(list(bench), CATALOG_COMPLETE);
    assert_int_equal(bench->list.count, 3);
    assert_string_equal(bench->upstream.asked, "tags\ntags /2\n");
    assert_int_equal(bench->list.images[0].digest.algorithm, 0);
}

static void test_googles_addition_tells_all_in_one_request(void **state) {
    struct bench *bench = *state;
    bench->upstream.answers[0] = (struct answer){
        "tags", .body = "{\"name\":\"org/app\",\"child\":[\"below\"],\"tags\":[\"v1\",\"latest\"],"
                        "\"manifest\":{\"" A "\":{\"imageSizeBytes\":\"12345\",\"layerId\":\"\","
                        "\"mediaType\":\"" MEDIA_DOCKER_MANIFEST "\",\"tag\":[\"latest\",\"v1\"],"
                        "\"timeCreatedMs\":\"0\",\"timeUploadedMs\":\"1618000000123\"},"
                        "\"" B
                        "\":{\"tag\":[],\"timeUploadedMs\":\"junk\",\"imageSizeBytes\":\"-1\"}}}"};
    assert_int_equal(list(bench), CATALOG_COMPLETE);
    assert_int_equal(bench->list.count, 2);
    assert_image(image(bench, A),
                 "{\"repository\":\"test/org/app\",\"digest\":\"" A
                 "\",\"tags\":[\"latest\",\"v1\"],\"uploaded\":\"2021-04-09T20:26:40.123Z\","
                 "\"created\":null,\"size\":12345,\"media_type\":\"" MEDIA_DOCKER_MANIFEST
                 "\",\"platforms\":null,\"artifact_type\":null}");
    assert_int_equal(image(bench, B)->tag_count, 0);
    assert_int_equal(image(bench, B)->size, CATALOG_UNTOLD);
    assert_int_equal(image(bench, B)->uploaded_us, CATALOG_UNTOLD);
    assert_string_equal(bench->upstream.asked, "tags\n");
}

static void test_a_tag_that_the_addition_leaves_out_is_asked_for(void **state) {
    struct bench *bench = *state;
    bench->upstream.answers[0] = (struct answer){
        "tags", .body = "{\"tags\":[\"v1\",\"v2\"],\"manifest\":{\"" A "\":{\"tag\":[\"v1\"]}}}"};
    bench->upstream.answers[1] = (struct answer){"HEAD v2", .digest = A};
    assert_int_equal(list(bench), CATALOG_COMPLETE);
    assert_int_equal(bench->list.count, 1);
    assert_int_equal(image(bench, A)->tag_count, 2);
    assert_string_equal(bench->upstream.asked, "tags\nHEAD v2\n");
}

static void test_a_tag_that_is_gone_meanwhile_is_left_out(void **state) {
    struct bench *bench = *state;
    bench->upstream.answers[0] = (struct answer){"tags", .body = "{\"tags\":[\"v1\",\"v2\"]}"};
    bench->upstream.answers[1] = (struct answer){"HEAD v2", .digest = A};
    assert_int_equal(list(bench), CATALOG_COMPLETE);
    assert_int_equal(bench->list.count, 1);
    assert_int_equal(image(bench, A)->tag_count, 1);
}

static void test_a_failure_leaves_no_list(void **state) {
    static const struct {
        struct answer answer;
        const char *why;
    } cases[] = {
        {{"tags", .fail = ERROR_NOT_FOUND}, "not_found"},
        {{"tags", .body = "<html>", .next = ""}, "is malformed"},
        {{"tags", .body = "[]"}, "is malformed"},
        {{"tags", .body = "{\"tags\":\"v1\"}"}, "is malformed"},
        {{"tags", .body = "{\"tags\":[1]}"}, "a tag that is no string"},
        {{"tags", .body = "{\"tags\":[],\"manifest\":{\"sha256:12\":{}}}"}, "malformed"},
        {{"tags", .body = "{\"tags\":[],\"manifest\":{\"" A "\":[]}}"}, "malformed"},
        {{"tags", .body = "{\"tags\":[],\"manifest\":{\"" A "\":{\"tag\":[{}]}}}"}, "no string"},
        {{"tags", .body = "{\"tags\":[\"a\"]}"}, "timeout"},
    };
    struct bench *bench = *state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bench->upstream.answers[0] = cases[i].answer;
        bench->upstream.answers[1] = (struct answer){"HEAD a", .fail = ERROR_TIMEOUT};
        assert_int_equal(list(bench), CATALOG_FAILED);
        assert_non_null(strstr(bench->error.text, cases[i].why));
        assert_int_equal(strncmp(bench->error.text, "upstream test: ", 15), 0);
        catalog_list_finish(&bench->list);
    }
}

static void test_a_page_that_repeats_is_an_error(void **state) {
    struct bench *bench = *state;
    bench->question.no_digests = true;
    /* The same link again, and, with new links, the same page again. */
    static const struct answer loops[][3] = {
        {{"tags", .body = "{\"tags\":[\"a\"]}", .next = "/2"},
         {"tags /2", .body = "{\"tags\":[\"b\"]}", .next = "/2"}},
        {{"tags", .body = "{\"tags\":[\"a\"]}", .next = "/2"},
         {"tags /2", .body = "{\"tags\":[\"a\"]}", .next = "/3"},
         {"tags /3", .body = "{\"tags\":[\"c\"]}"}},
        {{"tags", .body = "{\"tags\":[\"a\"]}", .next = "/2"},
         {"tags /2", .body = "{\"tags\":[\"b\"]}", .next = "/3"},
         {"tags /3", .body = "{\"tags\":[\"c\"]}", .next = "/2"}},
    };
    for (size_t i = 0; i < sizeof loops / sizeof *loops; i++) {
        memcpy(bench->upstream.answers, loops[i], sizeof loops[i]);
        assert_int_equal(list(bench), CATALOG_FAILED);
        assert_non_null(strstr(bench->error.text, "has a page that repeats"));
        catalog_list_finish(&bench->list);
    }
}

static void test_a_page_without_tags_may_be_followed_by_others(void **state) {
    struct bench *bench = *state;
    bench->question.no_digests = true;
    bench->upstream.answers[0] = (struct answer){"tags", .body = "{\"tags\":[]}", .next = "/2"};
    bench->upstream.answers[1] = (struct answer){"tags /2", .body = "{\"tags\":[]}", .next = "/3"};
    bench->upstream.answers[2] = (struct answer){"tags /3", .body = "{\"tags\":[\"a\"]}"};
    assert_int_equal(list(bench), CATALOG_COMPLETE);
    assert_int_equal(bench->list.count, 1);
}

static void test_an_empty_repository_is_a_whole_list(void **state) {
    static const char *const bodies[] = {"{\"name\":\"org/app\",\"tags\":null}",
                                         "{\"name\":\"org/app\",\"tags\":[]}",
                                         "{\"name\":\"org/app\"}"};
    struct bench *bench = *state;
    for (size_t i = 0; i < 3; i++) {
        bench->upstream.answers[0] = (struct answer){"tags", .body = bodies[i]};
        assert_int_equal(list(bench), CATALOG_COMPLETE);
        assert_int_equal(bench->list.count, 0);
    }
}

/* "{"tags":["t000",...]}" */
static char *many_tags(unsigned count) {
    struct buffer body = {0};
    buffer_append_string(&body, "{\"tags\":[");
    for (unsigned i = 0; i < count; i++)
        buffer_printf(&body, "%s\"t%03u\"", i ? "," : "", i);
    buffer_append_string(&body, "]}");
    assert_false(body.failed);
    return body.bytes;
}

static void test_a_rate_limit_stops_the_rest_and_keeps_what_is_known(void **state) {
    struct bench *bench = *state;
    char *body = many_tags(100);
    bench->upstream.answers[0] = (struct answer){"tags", .body = body};
    bench->upstream.all_heads = true;
    bench->upstream.limit = 10;
    bench->question.jobs = 4;
    assert_int_equal(list(bench), CATALOG_PARTIAL);
    assert_int_equal(bench->error.kind, ERROR_RATE_LIMITED);
    assert_int_equal(bench->list.count, 10);
    assert_in_range(bench->upstream.count, 11, 14);
    free(body);
}

static void test_a_rate_limit_on_the_first_page_leaves_nothing(void **state) {
    struct bench *bench = *state;
    bench->upstream.answers[0] = (struct answer){"tags", .fail = ERROR_RATE_LIMITED};
    assert_int_equal(list(bench), CATALOG_FAILED);
    assert_int_equal(bench->error.kind, ERROR_RATE_LIMITED);
}

static void test_a_rate_limit_between_pages_keeps_the_names_that_came(void **state) {
    struct bench *bench = *state;
    bench->question.no_digests = true;
    bench->upstream.answers[0] =
        (struct answer){"tags", .body = "{\"tags\":[\"a\"]}", .next = "/2"};
    bench->upstream.answers[1] = (struct answer){"tags /2", .fail = ERROR_RATE_LIMITED};
    assert_int_equal(list(bench), CATALOG_PARTIAL);
    assert_int_equal(bench->list.count, 1);
}

static void test_no_more_than_eight_digests_are_asked_for_at_once(void **state) {
    struct bench *bench = *state;
    char *body = many_tags(300);
    bench->upstream.answers[0] = (struct answer){"tags", .body = body};
    bench->upstream.all_heads = true;
    bench->question.jobs = 0;
    assert_int_equal(list(bench), CATALOG_COMPLETE);
    assert_int_equal(bench->list.count, 300);
    assert_in_range(bench->upstream.most, 1, 8);
    free(body);
}

static void test_a_head_without_a_digest_is_followed_by_a_get(void **state) {
    static const char body[] =
        "{\"schemaVersion\":2,\"mediaType\":\"" MEDIA_OCI_INDEX "\",\"manifests\":[]}";
    struct bench *bench = *state;
    struct digest digest;
    char text[DIGEST_STRING_SIZE];
    bench->upstream.answers[0] = (struct answer){"tags", .body = "{\"tags\":[\"a\",\"b\"]}"};
    bench->upstream.answers[1] = (struct answer){"HEAD a", .body = ""};
    bench->upstream.answers[2] = (struct answer){"GET a", .body = body};
    bench->upstream.answers[3] = (struct answer){"HEAD b", .fail = ERROR_UNSUPPORTED};
    bench->upstream.answers[4] = (struct answer){"GET b", .body = body};
    assert_int_equal(list(bench), CATALOG_COMPLETE);
    assert_true(digest_of(DIGEST_SHA256, body, strlen(body), &digest));
    assert_int_equal(bench->list.count, 1);
    assert_int_equal(image(bench, digest_format(&digest, text))->tag_count, 2);
}

static void test_a_portals_page_is_no_manifest(void **state) {
    struct bench *bench = *state;
    bench->upstream.answers[0] = (struct answer){"tags", .body = "{\"tags\":[\"a\"]}"};
    bench->upstream.answers[1] = (struct answer){"HEAD a", .body = ""};
    bench->upstream.answers[2] = (struct answer){"GET a", .body = "<html>"};
    assert_int_equal(list(bench), CATALOG_FAILED);
    assert_non_null(strstr(bench->error.text, "is no manifest"));
}

/* ---- sizes ---- */

static void answer_with(struct bench *bench, const char *body, const char *type) {
    static char head[8], get[DIGEST_STRING_SIZE + 4], digest_text[DIGEST_STRING_SIZE];
    struct digest digest;
    assert_true(digest_of(DIGEST_SHA256, body, strlen(body), &digest));
    digest_format(&digest, digest_text);
    snprintf(head, sizeof head, "HEAD a");
    snprintf(get, sizeof get, "GET %s", digest_text);
    bench->question.sizes = true;
    bench->upstream.answers[0] = (struct answer){"tags", .body = "{\"tags\":[\"a\"]}"};
    bench->upstream.answers[1] = (struct answer){head, .digest = digest_text};
    bench->upstream.answers[2] = (struct answer){get, .body = body, .type = type};
}

static void test_a_manifest_tells_size_type_and_creation(void **state) {
    struct bench *bench = *state;
    answer_with(bench,
                "{\"schemaVersion\":2,\"artifactType\":\"application/x\",\"config\":{\"mediaType\":"
                "\"application/vnd.oci.image.config.v1+json\",\"digest\":\"" A "\",\"size\":7},"
                "\"layers\":[{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",\"digest\":"
                "\"" B "\",\"size\":100}],\"annotations\":{\"org.opencontainers.image.created\":"
                "\"2024-05-06T07:08:09Z\"}}",
                MEDIA_OCI_MANIFEST);
    assert_int_equal(list(bench), CATALOG_COMPLETE);
    assert_int_equal(bench->list.count, 1);
    const struct catalog_image *found = &bench->list.images[0];
    assert_int_equal(found->size, 107);
    assert_string_equal(found->media_type, MEDIA_OCI_MANIFEST);
    assert_string_equal(found->artifact_type, "application/x");
    assert_int_equal(found->created_us, catalog_time_parse("2024-05-06T07:08:09Z"));
    assert_int_equal(found->platform_count, 0);
}

static void test_a_size_that_is_not_wholly_told_is_none(void **state) {
    struct bench *bench = *state;
    answer_with(bench,
                "{\"schemaVersion\":2,\"mediaType\":\"" MEDIA_DOCKER_MANIFEST
                "\",\"config\":{\"mediaType\":\"x/y\",\"digest\":\"" A "\",\"size\":7},"
                "\"layers\":[{\"mediaType\":\"application/vnd.docker.image.rootfs.foreign.diff.tar."
                "gzip\",\"digest\":\"" B "\",\"size\":100,\"urls\":[\"https://x\"]}]}",
                "application/octet-stream");
    assert_int_equal(list(bench), CATALOG_COMPLETE);
    assert_int_equal(bench->list.images[0].size, CATALOG_UNTOLD);
    assert_string_equal(bench->list.images[0].media_type, MEDIA_DOCKER_MANIFEST);
}

static void test_an_index_tells_platforms_and_its_manifests(void **state) {
    struct bench *bench = *state;
    answer_with(bench,
                "{\"schemaVersion\":2,\"mediaType\":\"" MEDIA_OCI_INDEX "\",\"manifests\":["
                "{\"mediaType\":\"" MEDIA_OCI_MANIFEST "\",\"digest\":\"" A "\",\"size\":500,"
                "\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}},"
                "{\"mediaType\":\"" MEDIA_OCI_MANIFEST "\",\"digest\":\"" B "\",\"size\":500,"
                "\"platform\":{\"os\":\"linux\",\"architecture\":\"arm\",\"variant\":\"v7\"}},"
                "{\"mediaType\":\"" MEDIA_OCI_MANIFEST "\",\"digest\":\"" C "\",\"size\":500,"
                "\"platform\":{\"os\":\"unknown\",\"architecture\":\"unknown\"}}]}",
                MEDIA_OCI_INDEX);
    assert_int_equal(list(bench), CATALOG_COMPLETE);
    assert_int_equal(bench->list.count, 4);
    const struct catalog_image *index = &bench->list.images[0];
    assert_int_equal(index->size, CATALOG_UNTOLD);
    assert_int_equal(index->platform_count, 2);
    assert_string_equal(index->platforms[1], "linux/arm/v7");
    assert_int_equal(image(bench, A)->tag_count, 0);
    assert_string_equal(image(bench, A)->platforms[0], "linux/amd64");
    assert_int_equal(image(bench, A)->size, CATALOG_UNTOLD);
    assert_int_equal(image(bench, C)->platform_count, 0);
}

static void test_wrong_bytes_are_no_manifest(void **state) {
    struct bench *bench = *state;
    answer_with(bench, "{\"schemaVersion\":2,\"manifests\":[]}", MEDIA_OCI_INDEX);
    bench->upstream.answers[2].body = "{\"schemaVersion\":2,\"manifests\":[ ]}";
    assert_int_equal(list(bench), CATALOG_FAILED);
    assert_non_null(strstr(bench->error.text, "another digest"));
}

static bool is_wanted(void *context) {
    (void)context;
    return false;
}

static void test_a_list_ends_when_nobody_wants_it(void **state) {
    struct bench *bench = *state;
    const struct cancel cancel = {.is_wanted = is_wanted};
    bench->question.cancel = &cancel;
    assert_int_equal(list(bench), CATALOG_FAILED);
    assert_int_equal(bench->error.kind, ERROR_CLOSED);
    assert_string_equal(bench->upstream.asked, "");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_tags_of_one_digest_are_one_image),
        TEST(test_no_digest_costs_no_further_request),
        TEST(test_googles_addition_tells_all_in_one_request),
        TEST(test_a_tag_that_the_addition_leaves_out_is_asked_for),
        TEST(test_a_tag_that_is_gone_meanwhile_is_left_out),
        TEST(test_a_failure_leaves_no_list),
        TEST(test_a_page_that_repeats_is_an_error),
        TEST(test_a_page_without_tags_may_be_followed_by_others),
        TEST(test_an_empty_repository_is_a_whole_list),
        TEST(test_a_rate_limit_stops_the_rest_and_keeps_what_is_known),
        TEST(test_a_rate_limit_on_the_first_page_leaves_nothing),
        TEST(test_a_rate_limit_between_pages_keeps_the_names_that_came),
        TEST(test_no_more_than_eight_digests_are_asked_for_at_once),
        TEST(test_a_head_without_a_digest_is_followed_by_a_get),
        TEST(test_a_portals_page_is_no_manifest),
        TEST(test_a_manifest_tells_size_type_and_creation),
        TEST(test_a_size_that_is_not_wholly_told_is_none),
        TEST(test_an_index_tells_platforms_and_its_manifests),
        TEST(test_wrong_bytes_are_no_manifest),
        TEST(test_a_list_ends_when_nobody_wants_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
