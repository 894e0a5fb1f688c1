/* PUT, parts and DELETE against a scripted bucket. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "base/clock.h"
#include "bucket/bench.h"

#define FAULT(code) "<?xml version=\"1.0\"?><Error><Code>" code "</Code></Error>"
#define HELLO_SHA   "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
#define COMPLETED   "<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>"
#define BEGUN                                                                                      \
    "<InitiateMultipartUploadResult><UploadId>id/1</UploadId></InitiateMultipartUploadResult>"

static struct bucket_put hello(void) {
    return (struct bucket_put){.key = "x", .body = {.bytes = "hello", .length = 5}};
}

static bool put(struct bench *bench, const struct bucket_put *what) {
    return bucket_put(bench->bucket, what, NULL, &bench->answer, &bench->error);
}

/* How many fields of a head have this name. */
static unsigned count_fields(const char *head, const char *name) {
    unsigned count = 0;
    const char *end = strstr(head, "\r\n\r\n");
    for (const char *at = head; (at = strcasestr(at, name)) && at < end; at++)
        count += at[-1] == '\n';
    return count;
}

static void test_a_put_says_what_it_is(void **state) {
    struct bench *bench = *state;
    struct bucket_put what = hello();
    bench->settings.storage_class = "STANDARD_IA";
    bench->settings.encryption = "aws:kms";
    bench->settings.kms_key = "arn:aws:kms:x:y";
    bench_open(bench);
    bench_line_up(bench, 200, "ETag: \"e\"\r\n", "");
    what.create_only = true;
    assert_true(put(bench, &what));
    const char *head = bench_request(bench, 0);
    assert_true(server_asks(head, "PUT /cache/tarn/x"));
    assert_true(server_has(head, "\r\nContent-Length: 5\r\n"));
    assert_true(server_has(head, "\r\nContent-Type: application/octet-stream\r\n"));
    assert_true(server_has(head, "\r\nx-amz-content-sha256: " HELLO_SHA "\r\n"));
    assert_true(server_has(head, "\r\nIf-None-Match: *\r\n"));
    assert_true(server_has(head, "\r\nx-amz-storage-class: STANDARD_IA\r\n"));
    assert_true(server_has(head, "\r\nx-amz-server-side-encryption: aws:kms\r\n"));
    assert_true(
        server_has(head, "\r\nx-amz-server-side-encryption-aws-kms-key-id: arn:aws:kms:x:y\r\n"));
    assert_false(server_has(head, "\r\nTransfer-Encoding:"));
    assert_false(server_has(head, "\r\nExpect:"));
    assert_true(server_has(head, "\r\n\r\nhello"));
    static const char *const names[] = {
        "content-type:",  "content-length:", "x-amz-date:",
        "authorization:", "host:",           "x-amz-content-sha256:"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_int_equal(count_fields(head, names[i]), 1);
}

static void test_an_empty_object_has_a_length(void **state) {
    struct bench *bench = *state;
    const struct bucket_put what = {.key = "x", .content_type = "text/plain"};
    bench_open(bench);
    bench_line_up(bench, 200, NULL, "");
    assert_true(put(bench, &what));
    assert_true(server_has(bench_request(bench, 0), "\r\nContent-Length: 0\r\n"));
    assert_true(server_has(bench_request(bench, 0), "\r\nContent-Type: text/plain\r\n"));
}

static void test_a_file_is_sent_from_its_range(void **state) {
    struct bench *bench = *state;
    int fd = memfd_create("object", MFD_CLOEXEC);
    assert_int_equal(write(fd, "..hello..", 9), 9);
    const struct bucket_put what = {.key = "x", .body = {.fd = fd, .offset = 2, .length = 5}};
    bench_open(bench);
    bench_line_up(bench, 503, NULL, FAULT("SlowDown"));
    bench_line_up(bench, 200, NULL, "");
    assert_true(put(bench, &what));
    assert_true(server_has(bench_request(bench, 1), "\r\nx-amz-content-sha256: " HELLO_SHA));
    assert_true(server_has(bench_request(bench, 1), "\r\n\r\nhello"));
    const struct bucket_put beyond = {.key = "x", .body = {.fd = fd, .offset = 7, .length = 5}};
    assert_false(put(bench, &beyond));
    assert_int_equal(bench->answer.outcome, BUCKET_STOPPED);
    close(fd);
}

static void test_what_is_there_stays(void **state) {
    struct bench *bench = *state;
    struct bucket_put what = hello();
    what.create_only = true;
    bench_open(bench);
    bench_line_up(bench, 412, NULL, FAULT("PreconditionFailed"));
    assert_false(put(bench, &what));
    assert_int_equal(bench->answer.outcome, BUCKET_PRESENT);
    assert_int_equal(bench_requests(bench), 1);
}

static void test_a_bucket_without_conditions_is_written_without(void **state) {
    struct bench *bench = *state;
    struct bucket_put what = hello();
    what.create_only = true;
    bench_open(bench);
    bench_line_up(bench, 501, NULL, FAULT("NotImplemented"));
    bench_line_up(bench, 200, NULL, "");
    assert_true(put(bench, &what));
    assert_false(server_has(bench_request(bench, 1), "\r\nIf-None-Match:"));
    assert_true(put(bench, &what));
    assert_int_equal(bench_requests(bench), 3);
    assert_false(server_has(bench_request(bench, 2), "\r\nIf-None-Match:"));
}

static void test_a_race_is_tried_again(void **state) {
    struct bench *bench = *state;
    struct bucket_put what = hello();
    what.create_only = true;
    bench_open(bench);
    bench_line_up(bench, 409, NULL, FAULT("ConditionalRequestConflict"));
    bench_line_up(bench, 412, NULL, FAULT("PreconditionFailed"));
    assert_false(put(bench, &what));
    assert_int_equal(bench->answer.outcome, BUCKET_PRESENT);
}

static void test_writing_is_tried_eight_times(void **state) {
    struct bench *bench = *state;
    struct bucket_put what = hello();
    bench_open(bench);
    for (int i = 0; i < 7; i++)
        bench_line_up(bench, i % 2 ? 503 : 500, NULL, "");
    bench_line_up(bench, 200, NULL, "");
    assert_true(put(bench, &what));
    assert_int_equal(bench_requests(bench), 8);
}

static void test_a_refusal_to_write_names_the_right(void **state) {
    struct bench *bench = *state;
    struct bucket_put what = hello();
    bench_open(bench);
    bench_line_up(bench, 403, NULL, FAULT("AccessDenied"));
    assert_false(put(bench, &what));
    assert_int_equal(bench->answer.outcome, BUCKET_FORBIDDEN);
    assert_int_equal(bench_requests(bench), 1);
    assert_string_equal(bench->error.text, "bucket s3://cache: PUT x: 403 AccessDenied (check the "
                                           "rights: s3:PutObject is needed)");
}

static void test_an_upload_in_parts(void **state) {
    struct bench *bench = *state;
    struct bucket_upload upload = {.key = "x", .create_only = true};
    struct bucket_part parts[2];
    const struct client_body body = {.bytes = "hello", .length = 5};
    bench_open(bench);
    bench_line_up(bench, 200, NULL, BEGUN);
    bench_line_up(bench, 200, "ETag: \"a\"\r\n", "");
    bench_line_up(bench, 200, "ETag: \"b&c\"\r\n", "");
    bench_line_up(bench, 200, NULL, "    <?xml version=\"1.0\"?>" COMPLETED);
    bench_line_up(bench, 204, NULL, "");
    assert_true(bucket_upload_begin(bench->bucket, &upload, NULL, NULL, &bench->error));
    assert_string_equal(upload.id, "id/1");
    for (unsigned i = 0; i < 2; i++)
        assert_true(bucket_upload_part(bench->bucket, &upload, i + 1, &body, &parts[i], NULL, NULL,
                                       &bench->error));
    assert_true(
        bucket_upload_complete(bench->bucket, &upload, parts, 2, NULL, NULL, &bench->error));
    assert_true(bucket_upload_abort(bench->bucket, "x", upload.id, NULL, NULL, &bench->error));
    assert_true(server_has(bench_request(bench, 0), "POST /cache/tarn/x?uploads= HTTP"));
    assert_true(
        server_has(bench_request(bench, 1), "PUT /cache/tarn/x?partNumber=1&uploadId=id%2F1 HTTP"));
    assert_true(server_has(bench_request(bench, 1), "x-amz-content-sha256: " HELLO_SHA));
    const char *complete = bench_request(bench, 3);
    assert_true(server_has(complete, "POST /cache/tarn/x?uploadId=id%2F1 HTTP"));
    assert_true(server_has(complete, "\r\nContent-Type: application/xml\r\n"));
    assert_true(server_has(complete, "\r\nIf-None-Match: *\r\n"));
    assert_true(server_has(complete, "<Part><PartNumber>2</PartNumber><ETag>&quot;b&amp;c&quot;"
                                     "</ETag></Part>"));
    assert_true(server_has(bench_request(bench, 4), "DELETE /cache/tarn/x?uploadId=id%2F1 HTTP"));
}

static bool complete(struct bench *bench) {
    struct bucket_upload upload = {.key = "x", .id = "i"};
    const struct bucket_part part = {"\"a\""};
    return bucket_upload_complete(bench->bucket, &upload, &part, 1, NULL, &bench->answer,
                                  &bench->error);
}

static void test_a_completion_is_believed_by_its_body_alone(void **state) {
    struct bench *bench = *state;
    bench_open(bench);
    bench_line_up(bench, 200, NULL, "  <Error><Code>InternalError</Code></Error>");
    bench_line_up(bench, 200, NULL, "      ");
    bench_line_up(bench, 200, NULL, COMPLETED);
    assert_true(complete(bench));
    assert_int_equal(bench_requests(bench), 3);
    bench_line_up(bench, 200, NULL, "<Error><Code>EntityTooSmall</Code></Error>");
    bench->next = bench->count - 1;
    assert_false(complete(bench));
    assert_int_equal(bench->answer.outcome, BUCKET_REFUSED);
    assert_string_equal(bench->answer.code, "EntityTooSmall");
}

static void test_a_lost_answer_to_a_completion_is_looked_for(void **state) {
    struct bench *bench = *state;
    bench_open(bench);
    bench_line_up_raw(bench, "");
    bench_line_up_raw(bench, "");
    bench_line_up(bench, 404, NULL, FAULT("NoSuchUpload"));
    bench_line_up(bench, 200, "Content-Length: 5\r\n", "");
    assert_true(complete(bench));
    assert_int_equal(bench->answer.outcome, BUCKET_DONE);
}

static void test_an_upload_that_is_gone_is_told(void **state) {
    struct bench *bench = *state;
    struct bucket_upload upload = {.key = "x", .id = "i"};
    struct bucket_part part;
    const struct client_body body = {.bytes = "hello", .length = 5};
    bench_open(bench);
    bench_line_up(bench, 404, NULL, FAULT("NoSuchUpload"));
    assert_false(bucket_upload_part(bench->bucket, &upload, 1, &body, &part, NULL, &bench->answer,
                                    &bench->error));
    assert_int_equal(bench->answer.outcome, BUCKET_NO_UPLOAD);
    assert_false(complete(bench));
    assert_int_equal(bench->answer.outcome, BUCKET_NO_UPLOAD);
    assert_true(bucket_upload_abort(bench->bucket, "x", "i", NULL, NULL, &bench->error));
    assert_int_equal(bench_requests(bench), 3);
}

static void test_what_is_absent_counts_as_deleted(void **state) {
    struct bench *bench = *state;
    bench_open(bench);
    bench_line_up(bench, 404, NULL, FAULT("NoSuchKey"));
    bench_line_up(bench, 204, NULL, "");
    assert_true(bucket_delete(bench->bucket, "x", NULL, &bench->answer, &bench->error));
    assert_true(bucket_delete(bench->bucket, "x", NULL, &bench->answer, &bench->error));
    assert_true(server_asks(bench_request(bench, 1), "DELETE /cache/tarn/x"));
}

static void test_a_call_ends_when_it_is_cancelled(void **state) {
    struct bench *bench = *state;
    struct bucket_put what = hello();
    atomic_bool stop = true;
    const struct cancel cancel = {.stop = &stop};
    const struct bucket_limits limits = {.cancel = &cancel};
    bench_open(bench);
    bench_line_up(bench, 503, NULL, "");
    assert_false(bucket_put(bench->bucket, &what, &limits, &bench->answer, &bench->error));
    assert_int_equal(bench->answer.outcome, BUCKET_STOPPED);
    assert_int_equal(bench->error.kind, ERROR_CLOSED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_BENCH(test_a_put_says_what_it_is),
        WITH_BENCH(test_an_empty_object_has_a_length),
        WITH_BENCH(test_a_file_is_sent_from_its_range),
        WITH_BENCH(test_what_is_there_stays),
        WITH_BENCH(test_a_bucket_without_conditions_is_written_without),
        WITH_BENCH(test_a_race_is_tried_again),
        WITH_BENCH(test_writing_is_tried_eight_times),
        WITH_BENCH(test_a_refusal_to_write_names_the_right),
        WITH_BENCH(test_an_upload_in_parts),
        WITH_BENCH(test_a_completion_is_believed_by_its_body_alone),
        WITH_BENCH(test_a_lost_answer_to_a_completion_is_looked_for),
        WITH_BENCH(test_an_upload_that_is_gone_is_told),
        WITH_BENCH(test_what_is_absent_counts_as_deleted),
        WITH_BENCH(test_a_call_ends_when_it_is_cancelled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
