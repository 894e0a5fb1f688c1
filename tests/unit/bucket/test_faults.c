/* Memory that runs out at each allocation in turn: a call then fails truthfully, and the next one
 * works. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include "base/buffer.h"
#include "bucket/bench.h"
#include "bucket/document.h"
#include "memory_faults.h"

#define COMPLETED "<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>"
#define BEGUN                                                                                      \
    "<InitiateMultipartUploadResult><UploadId>id</UploadId></InitiateMultipartUploadResult>"
#define LIST                                                                                       \
    "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t"                    \
    "</NextContinuationToken><Contents><Key>tarn/k</Key><Size>1</Size></Contents>"                 \
    "</ListBucketResult>"

/* ---- calls ---- */

static bool call_get(struct bench *bench) {
    bench_line_up(bench, 200, NULL, "hello");
    return bench_get(bench, NULL, NULL);
}

static bool call_read(struct bench *bench) {
    cleanup_buffer struct buffer out = {0};
    bench_line_up(bench, 200, NULL, "hello");
    return bucket_read(bench->bucket, "x", 100, &out, NULL, &bench->answer, &bench->error);
}

static bool call_put(struct bench *bench) {
    const struct bucket_put put = {.key = "x", .body = {.bytes = "hello", .length = 5}};
    bench_line_up(bench, 200, NULL, "");
    return bucket_put(bench->bucket, &put, NULL, &bench->answer, &bench->error);
}

static bool on_entry(void *context, const struct bucket_entry *entry, struct error *error) {
    (void)context, (void)entry, (void)error;
    return true;
}

static bool call_list(struct bench *bench) {
    struct bucket_list list = {0};
    bench_line_up(bench, 200, NULL, LIST);
    bool ok =
        bucket_list_page(bench->bucket, &list, on_entry, NULL, NULL, &bench->answer, &bench->error);
    bucket_list_finish(&list);
    return ok;
}

static bool call_upload(struct bench *bench) {
    struct bucket_upload upload = {.key = "x"};
    struct bucket_part part;
    const struct client_body body = {.bytes = "hello", .length = 5};
    bench_line_up(bench, 200, NULL, BEGUN);
    bench_line_up(bench, 200, "ETag: \"e\"\r\n", "");
    bench_line_up(bench, 200, NULL, COMPLETED);
    return bucket_upload_begin(bench->bucket, &upload, NULL, &bench->answer, &bench->error) &&
           bucket_upload_part(bench->bucket, &upload, 1, &body, &part, NULL, &bench->answer,
                              &bench->error) &&
           bucket_upload_complete(bench->bucket, &upload, &part, 1, NULL, &bench->answer,
                                  &bench->error);
}

/* Lets each allocation of a call fail in turn. */
static void try_all(struct bench *bench, bool (*call)(struct bench *bench)) {
    bench_open(bench);
    assert_true(call_get(bench)); /* the credentials are here, and a connection */
    for (long at = 0;; at++) {
        assert_true(at < 2000);
        bench->count = bench->next = 0;
        memory_faults_set(at);
        bool ok = call(bench);
        bool failed = memory_faults_failed();
        memory_faults_set(-1);
        if (!failed) {
            assert_true(ok);
            break;
        }
        if (ok) /* what could be done without */
            continue;
        if (bench->error.kind != ERROR_MEMORY)
            fail_msg("allocation %ld: %s", at, bench->error.text);
        assert_int_equal(bench->answer.outcome, BUCKET_STOPPED);
        assert_true(bucket_is_up(bench->bucket));
    }
    bench->count = bench->next = 0;
    assert_true(call_get(bench));
}

static void test_a_get_survives(void **state) {
    try_all(*state, call_get);
}

static void test_a_read_survives(void **state) {
    try_all(*state, call_read);
}

static void test_a_put_survives(void **state) {
    try_all(*state, call_put);
}

static void test_a_list_survives(void **state) {
    try_all(*state, call_list);
}

static void test_an_upload_survives(void **state) {
    try_all(*state, call_upload);
}

static void test_a_bucket_is_made_whole_or_not_at_all(void **state) {
    struct bench *bench = *state;
    bench->settings.ca_file = "/x";
    bench->settings.google.scopes = (const char *const[]){"a", "b", NULL};
    for (long at = 0;; at++) {
        assert_true(at < 200);
        memory_faults_set(at);
        struct bucket *bucket = bucket_new(&bench->settings, bench->client);
        bool failed = memory_faults_failed();
        memory_faults_set(-1);
        bool whole = bucket != NULL;
        bucket_free(bucket);
        if (!failed) {
            assert_true(whole);
            break;
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_BENCH(test_a_get_survives),     WITH_BENCH(test_a_read_survives),
        WITH_BENCH(test_a_put_survives),     WITH_BENCH(test_a_list_survives),
        WITH_BENCH(test_an_upload_survives), WITH_BENCH(test_a_bucket_is_made_whole_or_not_at_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
