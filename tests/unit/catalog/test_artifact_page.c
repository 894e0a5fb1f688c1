/* Pages and errors of Artifact Registry's REST API. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include "catalog/artifact_page.h"

#define REPOSITORY "us-docker.pkg.dev/p/r"
#define DIGEST     "sha256:abababababababababababababababababababababababababababababababab"
#define OTHER      "sha256:cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"

/* What a page is read into. */
struct page {
    struct catalog_list list;
    struct buffer token;
    struct error error;
};

static bool read_as(struct page *page, const char *json, const char *image,
                    bool (*may_list)(void *context, const char *shown)) {
    char path[64];
    struct artifact_name name;
    char shown[96];
    snprintf(path, sizeof path, "p/r%s%s", image ? "/" : "", image ? image : "");
    snprintf(shown, sizeof shown, "us-docker.pkg.dev/%s", path);
    assert_true(artifact_name_parse(text_of("us-docker.pkg.dev"), text_of(path), &name));
    const struct artifact_wanted wanted = {.name = &name, .shown = shown, .may_list = may_list};
    *page = (struct page){0};
    return artifact_page_read(json, strlen(json), &wanted, &page->list, &page->token, &page->error);
}

static void finish(struct page *page) {
    catalog_list_finish(&page->list);
    buffer_finish(&page->token);
}

static void test_a_page_as_google_sends_it(void **state) {
    (void)state;
    static const char json[] =
        "{\"dockerImages\":[{\"name\":\"projects/p/locations/us/repositories/r/dockerImages/"
        "team%2Fapp@" DIGEST "\",\"uri\":\"" REPOSITORY "/team/app@" DIGEST "\","
        "\"tags\":[\"latest\",\"1.25\"],\"imageSizeBytes\":\"71000000\","
        "\"uploadTime\":\"2023-03-27T13:02:39.123456Z\",\"mediaType\":\"a/b\","
        "\"buildTime\":\"2023-03-27T13:02:39Z\",\"updateTime\":\"2023-03-27T13:02:40Z\","
        "\"artifactType\":\"c/d\",\"imageManifests\":["
        "{\"architecture\":\"amd64\",\"os\":\"linux\",\"digest\":\"" OTHER "\",\"osFeatures\":[]},"
        "{\"architecture\":\"arm\",\"os\":\"linux\",\"variant\":\"v7\"},"
        "{\"architecture\":\"unknown\",\"os\":\"unknown\"},{\"os\":\"linux\"},7]}],"
        "\"nextPageToken\":\"a+/=\"}";
    struct page page;
    if (!read_as(&page, json, "team/app", NULL))
        fail_msg("%s", page.error.text);
    catalog_list_seal(&page.list);
    assert_int_equal(page.list.count, 1);
    cleanup_buffer struct buffer line = {0};
    catalog_image_append_json(&page.list.images[0], &line);
    assert_string_equal(
        line.bytes, "{\"repository\":\"" REPOSITORY "/team/app\",\"digest\":\"" DIGEST "\","
                    "\"tags\":[\"1.25\",\"latest\"],\"uploaded\":\"2023-03-27T13:02:39.123456Z\","
                    "\"created\":\"2023-03-27T13:02:39Z\",\"size\":71000000,"
                    "\"media_type\":\"a/b\",\"platforms\":[\"linux/amd64\",\"linux/arm/v7\"],"
                    "\"artifact_type\":\"c/d\"}");
    assert_string_equal(page.token.bytes, "a+/=");
    finish(&page);
}

static void test_a_page_may_be_empty(void **state) {
    (void)state;
    static const char *const pages[] = {"{}", "{\"dockerImages\":[]}", "{\"dockerImages\":null}",
                                        "{\"nextPageToken\":\"\"}", "{\"nextPageToken\":null}"};
    for (size_t i = 0; i < sizeof pages / sizeof *pages; i++) {
        struct page page;
        assert_true(read_as(&page, pages[i], "app", NULL));
        assert_int_equal(page.list.count, 0);
        assert_int_equal(page.token.length, 0);
        finish(&page);
    }
}

static void test_a_name_is_compared_whole(void **state) {
    (void)state;
    static const char json[] =
        "{\"dockerImages\":[{\"uri\":\"" REPOSITORY "/app@" DIGEST "\"},"
        "{\"uri\":\"" REPOSITORY "/team/app@" DIGEST "\"},{\"uri\":\"" REPOSITORY "/app/x@" DIGEST
        "\"},{\"uri\":\"" REPOSITORY "/app2@" DIGEST "\"}]}";
    static const char *const wanted[] = {"app", "team/app", "app/x", "app2", "ap", "team"};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        struct page page;
        assert_true(read_as(&page, json, wanted[i], NULL));
        assert_int_equal(page.list.count, i < 4);
        finish(&page);
    }
}

static bool only_app(void *context, const char *shown) {
    (void)context;
    return strcmp(shown, REPOSITORY "/app") == 0;
}

static void test_of_a_whole_repository_the_allowed_names_are_listed(void **state) {
    (void)state;
    static const char json[] = "{\"dockerImages\":[{\"uri\":\"" REPOSITORY "/app@" DIGEST "\"},"
                               "{\"uri\":\"" REPOSITORY "/team/app@" DIGEST "\"}]}";
    struct page page;
    assert_true(read_as(&page, json, NULL, NULL));
    assert_int_equal(page.list.count, 2);
    assert_string_equal(page.list.images[1].repository, REPOSITORY "/team/app");
    finish(&page);
    assert_true(read_as(&page, json, NULL, only_app));
    assert_int_equal(page.list.count, 1);
    finish(&page);
}

static void test_a_later_entry_that_tells_less_takes_nothing_away(void **state) {
    (void)state;
    static const char json[] =
        "{\"dockerImages\":[{\"uri\":\"" REPOSITORY "/app@" DIGEST "\",\"imageSizeBytes\":\"7\","
        "\"mediaType\":\"a/b\",\"uploadTime\":\"2023-03-27T13:02:39Z\"},"
        "{\"uri\":\"" REPOSITORY "/app@" DIGEST "\",\"imageSizeBytes\":\"0\",\"mediaType\":\"\"}]}";
    struct page page;
    assert_true(read_as(&page, json, "app", NULL));
    assert_int_equal(page.list.count, 1);
    assert_int_equal(page.list.images[0].size, 7);
    assert_string_equal(page.list.images[0].media_type, "a/b");
    assert_true(page.list.images[0].uploaded_us > 0);
    finish(&page);
}

static void test_a_malformed_page_is_an_error_that_lasts(void **state) {
    (void)state;
    static const char *const pages[] = {
        "",
        "<html>",
        "[]",
        "{\"dockerImages\":7}",
        "{\"dockerImages\":[7]}",
        "{\"dockerImages\":[{}]}",
        "{\"error\":{}}",
        "{\"nextPageToken\":{}}",
        "{\"nextPageToken\":\"a\\u0000b\"}",
        "{\"dockerImages\":[{\"uri\":\"" REPOSITORY "/app\"}]}",
        "{\"dockerImages\":[{\"uri\":\"" REPOSITORY "/app@sha256:ab\"}]}",
        "{\"dockerImages\":[{\"uri\":\"" REPOSITORY "/app@" DIGEST "\\u0000\"}]}",
        "{\"dockerImages\":[{\"uri\":\"" REPOSITORY "@" DIGEST "\"}]}",
        "{\"dockerImages\":[{\"uri\":\"" REPOSITORY "x/app@" DIGEST "\"}]}",
        "{\"dockerImages\":[{\"uri\":\"example.com/p/r/app@" DIGEST "\"}]}",
        "{\"dockerImages\":[{\"uri\":\"" REPOSITORY "/app@" DIGEST "\",\"tags\":{}}]}",
        "{\"dockerImages\":[{\"uri\":\"" REPOSITORY "/app@" DIGEST "\",\"tags\":[null]}]}",
        "{\"dockerImages\":[{\"uri\":\"" REPOSITORY "/app@" DIGEST "\",\"tags\":[\"a\\u0000\"]}]}",
    };
    for (size_t i = 0; i < sizeof pages / sizeof *pages; i++) {
        struct page page;
        if (read_as(&page, pages[i], "app", NULL))
            fail_msg("%s", pages[i]);
        assert_int_equal(page.error.kind, ERROR_UNAVAILABLE);
        assert_true(page.error.lasting);
        finish(&page);
    }
}

static void test_what_google_s_error_says(void **state) {
    (void)state;
    static const char json[] =
        "{\"error\":{\"code\":403,\"message\":\"Not \\u001b[2J used\",\"status\":"
        "\"PERMISSION_DENIED\",\"details\":[7,{\"@type\":\"x\"},{\"reason\":\"SERVICE_DISABLED\","
        "\"metadata\":{\"consumer\":\"projects/123\"}},{\"reason\":\"SECOND\"}]}}";
    struct artifact_failure failure;
    artifact_page_read_failure(json, strlen(json), &failure);
    assert_string_equal(failure.message, "Not  [2J used");
    assert_string_equal(failure.status, "PERMISSION_DENIED");
    assert_string_equal(failure.reason, "SERVICE_DISABLED");
    assert_string_equal(failure.consumer, "123");
}

static void test_an_error_that_is_none_of_google_s_says_nothing(void **state) {
    (void)state;
    static const char *const bodies[] = {
        "",
        "<html>",
        "[]",
        "{\"error\":\"x\"}",
        "{\"error\":{\"message\":7,\"details\":{}}}",
        "{\"error\":{\"details\":[{\"reason\":\"\",\"metadata\":{\"consumer\":\"x\"}}]}}"};
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        struct artifact_failure failure;
        artifact_page_read_failure(bodies[i], strlen(bodies[i]), &failure);
        assert_string_equal(failure.message, "");
        assert_string_equal(failure.reason, "");
        assert_string_equal(failure.consumer, "");
    }
    static const char odd[] = "{\"error\":{\"details\":[{\"reason\":\"A\",\"metadata\":"
                              "{\"consumer\":\"projects/a; rm -rf ~\"}}]}}";
    struct artifact_failure failure;
    artifact_page_read_failure(odd, strlen(odd), &failure);
    assert_string_equal(failure.consumer, "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_page_as_google_sends_it),
        cmocka_unit_test(test_a_page_may_be_empty),
        cmocka_unit_test(test_a_name_is_compared_whole),
        cmocka_unit_test(test_of_a_whole_repository_the_allowed_names_are_listed),
        cmocka_unit_test(test_a_later_entry_that_tells_less_takes_nothing_away),
        cmocka_unit_test(test_a_malformed_page_is_an_error_that_lasts),
        cmocka_unit_test(test_what_google_s_error_says),
        cmocka_unit_test(test_an_error_that_is_none_of_google_s_says_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
