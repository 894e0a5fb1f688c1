/* GET, HEAD and lists against a scripted bucket, and what its refusals mean. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include "base/buffer.h"
#include "base/clock.h"
#include "base/thread.h"
#include "bucket/bench.h"

#define FAULT(code)                                                                                \
    "<?xml version=\"1.0\"?><Error><Code>" code "</Code><Message>m</Message></Error>"
#define EMPTY_LIST "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
#define TIMES                                                                                      \
    "Date: Sat, 21 Nov 2026 10:00:10 GMT\r\nLast-Modified: Sat, 21 Nov 2026 10:00:00 GMT\r\n"

enum { MODIFIED_S = 1795255200 };

static void test_a_get_is_signed_and_handed_on(void **state) {
    struct bench *bench = *state;
    bench_open(bench);
    bench_line_up(bench, 200, TIMES "Content-Type: text/x\r\n", "hello");
    assert_true(bench_get(bench, NULL, NULL));
    assert_int_equal(bench->answer.outcome, BUCKET_DONE);
    assert_string_equal(bench->body, "hello");
    assert_int_equal(bench->heads, 1);
    assert_int_equal(bench->head.status, 200);
    assert_true(bench->head.has_total);
    assert_int_equal(bench->head.total, 5);
    assert_string_equal(bench->head.content_type, "text/x");
    assert_int_equal(bench->head.modified_s, MODIFIED_S);
    assert_int_equal(bench->answer.modified_s, MODIFIED_S);
    assert_int_equal(bench->answer.date_s, MODIFIED_S + 10);
    const char *head = bench_request(bench, 0);
    assert_true(server_asks(head, "GET /cache/tarn/blobs/x"));
    assert_true(server_has(head, "\r\nAuthorization: AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/"));
    assert_true(server_has(head, "/us-east-1/s3/aws4_request"));
    assert_true(server_has(head, "\r\nx-amz-content-sha256: e3b0c442"));
    assert_false(server_has(head, "\r\nRange:"));
    assert_false(server_has(head, "\r\nIf-"));
}

static void test_a_range_is_asked_for_and_checked(void **state) {
    struct bench *bench = *state;
    const struct bucket_range range = {true, 2, 4}, rest = {true, 7, UINT64_MAX};
    bench_open(bench);
    bench_line_up(bench, 206, "Content-Range: bytes 2-4/10\r\n", "cde");
    bench_line_up(bench, 206, "Content-Range: bytes 7-9/10\r\n", "hij");
    bench_line_up(bench, 206, "Content-Range: bytes 3-5/10\r\n", "def");
    assert_true(bench_get(bench, &range, NULL));
    assert_true(bench->head.has_range);
    assert_int_equal(bench->head.first, 2);
    assert_int_equal(bench->head.total, 10);
    assert_true(server_has(bench_request(bench, 0), "\r\nRange: bytes=2-4\r\n"));
    assert_true(bench_get(bench, &rest, NULL));
    assert_true(server_has(bench_request(bench, 1), "\r\nRange: bytes=7-\r\n"));
    const struct bucket_limits once = {.tries = 1};
    assert_false(bench_get(bench, &range, &once)); /* other bytes than were asked for */
    assert_int_equal(bench->answer.outcome, BUCKET_UNREACHABLE);
    assert_int_equal(bench->heads, 0);
}

static void test_a_range_beyond_the_end_tells_the_size(void **state) {
    struct bench *bench = *state;
    const struct bucket_range range = {true, 20, 29};
    bench_open(bench);
    bench_line_up(bench, 416, "Content-Range: bytes */10\r\n", FAULT("InvalidRange"));
    assert_false(bench_get(bench, &range, NULL));
    assert_int_equal(bench->answer.outcome, BUCKET_OUTSIDE);
    assert_int_equal(bench->error.kind, ERROR_RANGE);
    assert_int_equal(bench->head.status, 416);
    assert_int_equal(bench->head.total, 10);
    assert_int_equal(bench_requests(bench), 1);
}

static void test_what_is_absent_costs_one_request(void **state) {
    struct bench *bench = *state;
    bench_open(bench);
    bench_line_up(bench, 404, TIMES, FAULT("NoSuchKey"));
    assert_false(bench_get(bench, NULL, NULL));
    assert_int_equal(bench->answer.outcome, BUCKET_ABSENT);
    assert_int_equal(bench->error.kind, ERROR_NOT_FOUND);
    assert_string_equal(bench->answer.code, "NoSuchKey");
    assert_int_equal(bench_requests(bench), 1);
    assert_true(bucket_is_up(bench->bucket));
}

static void test_a_bucket_that_is_absent_is_no_absent_key(void **state) {
    struct bench *bench = *state;
    bench_open(bench);
    bench_line_up(bench, 404, NULL, FAULT("NoSuchBucket"));
    assert_false(bench_get(bench, NULL, NULL));
    assert_int_equal(bench->answer.outcome, BUCKET_REFUSED);
    assert_non_null(
        strstr(bench->error.text, "bucket s3://cache: GET blobs/x: 404 NoSuchBucket ("));
}

static void test_absent_keys_look_forbidden_without_the_right_to_list(void **state) {
    struct bench *bench = *state;
    bench_open(bench);
    bench_line_up(bench, 403, "x-amz-bucket-region: us-east-1\r\n", FAULT("AccessDenied"));
    assert_false(bench_get(bench, NULL, NULL));
    assert_int_equal(bench->answer.outcome, BUCKET_ABSENT);
    assert_int_equal(bench_requests(bench), 2); /* the second one tries to list */
    const char *list = bench_request(bench, 1);
    assert_true(server_asks(list, "GET /cache"));
    assert_true(server_has(list, "prefix=tarn%2F"));
    assert_false(bench_get(bench, NULL, NULL));
    assert_int_equal(bench->answer.outcome, BUCKET_ABSENT);
    assert_false(bucket_head(bench->bucket, "y", NULL, &bench->answer, NULL));
    assert_int_equal(bench->answer.outcome, BUCKET_ABSENT);
    assert_int_equal(bench_requests(bench), 4); /* it is known now */
    assert_true(bucket_is_up(bench->bucket));
}

static void test_forbidden_is_forbidden_with_the_right_to_list(void **state) {
    struct bench *bench = *state;
    bench_open(bench);
    bench_line_up(bench, 403, NULL, FAULT("AccessDenied"));
    bench_line_up(bench, 200, NULL, EMPTY_LIST);
    bench_line_up(bench, 403, NULL, FAULT("AccessDenied"));
    for (int i = 0; i < 2; i++) {
        assert_false(bench_get(bench, NULL, NULL));
        assert_int_equal(bench->answer.outcome, BUCKET_FORBIDDEN);
        assert_int_equal(bench->error.kind, ERROR_DENIED);
        assert_non_null(
            strstr(bench->error.text, "bucket s3://cache: GET blobs/x: 403 AccessDenied ("));
    }
    assert_int_equal(bench_requests(bench), 3);
}

static void test_a_refusal_that_tells_its_reason_is_not_asked_about(void **state) {
    struct bench *bench = *state;
    bench_open(bench);
    bench_line_up(bench, 403, NULL, FAULT("InsufficientScope"));
    assert_false(bench_get(bench, NULL, NULL));
    assert_int_equal(bench->answer.outcome, BUCKET_FORBIDDEN);
    assert_int_equal(bench_requests(bench), 1);
}

static void test_a_wrong_secret_is_told_and_not_tried_again(void **state) {
    struct bench *bench = *state;
    bench_open(bench);
    bench_line_up(bench, 403, NULL, FAULT("SignatureDoesNotMatch"));
    assert_false(bench_get(bench, NULL, NULL));
    assert_int_equal(bench->answer.outcome, BUCKET_FORBIDDEN);
    assert_int_equal(bench_requests(bench), 1);
    assert_string_equal(bench->error.text,
                        "bucket s3://cache: GET blobs/x: 403 SignatureDoesNotMatch (check the "
                        "secret key; clock differs by 0 s)");
}

static void test_the_region_is_learnt_once(void **state) {
    struct bench *bench = *state;
    struct bucket_facts facts;
    bench_open(bench);
    bench_line_up(bench, 400, NULL,
                  "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-central-1</Region>"
                  "</Error>");
    bench_line_up(bench, 200, NULL, "hello");
    assert_true(bench_get(bench, NULL, NULL));
    assert_true(server_has(bench_request(bench, 1), "/eu-central-1/s3/aws4_request"));
    assert_true(bench_get(bench, NULL, NULL));
    assert_int_equal(bench_requests(bench), 3);
    bucket_look(bench->bucket, &facts);
    assert_string_equal(facts.region, "eu-central-1");
}

static void test_a_redirect_teaches_the_region_and_is_not_followed(void **state) {
    struct bench *bench = *state;
    char moved[200];
    bench_open(bench);
    snprintf(moved, sizeof moved, "Location: %s/elsewhere\r\nx-amz-bucket-region: ap-south-1\r\n",
             bench->endpoint);
    bench_line_up(bench, 301, moved, FAULT("PermanentRedirect"));
    assert_false(bench_get(bench, NULL, NULL)); /* the region is the learnt one already */
    assert_int_equal(bench->answer.outcome, BUCKET_REFUSED);
    assert_int_equal(bench_requests(bench), 2);
    assert_int_equal(server_count(bench->server, "GET /elsewhere"), 0);
    assert_true(server_has(bench_request(bench, 1), "/ap-south-1/s3/aws4_request"));
}

static void test_a_hostile_region_is_not_used(void **state) {
    struct bench *bench = *state;
    bench_open(bench);
    bench_line_up(bench, 301, "x-amz-bucket-region: evil.example/\r\n",
                  "<Error><Code>X</Code><Region>@evil.example</Region></Error>");
    assert_false(bench_get(bench, NULL, NULL));
    assert_int_equal(bench_requests(bench), 1);
    assert_int_equal(bench->answer.outcome, BUCKET_REFUSED);
}

static void test_a_wrong_clock_is_corrected_once(void **state) {
    struct bench *bench = *state;
    struct bucket_facts facts;
    bench_open(bench);
    bench_line_up(bench, 403, "Date: Fri, 24 May 2013 00:00:00 GMT\r\n",
                  FAULT("RequestTimeTooSkewed"));
    bench_line_up(bench, 200, "Date: Fri, 24 May 2013 00:00:01 GMT\r\n", "hello");
    assert_true(bench_get(bench, NULL, NULL));
    assert_true(server_has(bench_request(bench, 1), "\r\nx-amz-date: 20130524T0000"));
    assert_true(bench_get(bench, NULL, NULL));
    assert_true(server_has(bench_request(bench, 2), "\r\nx-amz-date: 20130524T0000"));
    bucket_look(bench->bucket, &facts);
    assert_true(facts.clock_seconds > 86400);
}

static void test_a_head_that_hides_its_reason_is_asked_about(void **state) {
    struct bench *bench = *state;
    bench_open(bench);
    bench_line_up(bench, 403, "Date: Fri, 24 May 2013 00:00:00 GMT\r\n", "");
    bench_line_up(bench, 403, "Date: Fri, 24 May 2013 00:00:00 GMT\r\n",
                  FAULT("RequestTimeTooSkewed"));
    bench_line_up(bench, 200, NULL, EMPTY_LIST);
    bench_line_up(bench, 200, TIMES "Content-Length: 7\r\n", "");
    assert_true(bucket_head(bench->bucket, "x", NULL, &bench->answer, &bench->error));
    assert_int_equal(bench->answer.length, 7);
    assert_int_equal(bench->answer.modified_s, MODIFIED_S);
}

static void test_a_busy_bucket_is_asked_again(void **state) {
    struct bench *bench = *state;
    bench_open(bench);
    bench_line_up(bench, 503, NULL, FAULT("SlowDown"));
    bench_line_up(bench, 500, NULL, "");
    bench_line_up(bench, 200, NULL, "hello");
    assert_true(bench_get(bench, NULL, NULL));
    assert_string_equal(bench->body, "hello");
    assert_int_equal(bench->heads, 1);
    assert_int_equal(bench_requests(bench), 3);
}

static void test_a_deadline_bounds_the_tries(void **state) {
    struct bench *bench = *state;
    bench_open(bench);
    bench_line_up(bench, 503, "Retry-After: 5\r\n", FAULT("SlowDown"));
    int64_t began = clock_ms();
    const struct bucket_limits limits = {.deadline_ms = began + 1000};
    assert_false(bench_get(bench, NULL, &limits));
    assert_int_equal(bench->answer.outcome, BUCKET_BUSY);
    assert_true(clock_ms() - began < 4000);
    assert_int_equal(bench_requests(bench), 1);
}

static void test_a_body_that_breaks_off_is_cut(void **state) {
    struct bench *bench = *state;
    bench_open(bench);
    bench_line_up_raw(bench, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
    assert_false(bench_get(bench, NULL, NULL));
    assert_int_equal(bench->answer.outcome, BUCKET_CUT);
    assert_string_equal(bench->body, "hello");
    assert_int_equal(bench_requests(bench), 1); /* the rest is the caller's */
}

static void test_a_small_object_is_read_whole(void **state) {
    struct bench *bench = *state;
    cleanup_buffer struct buffer out = {0};
    buffer_append_string(&out, ">");
    bench_open(bench);
    bench_line_up_raw(bench, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe");
    bench_line_up(bench, 200, NULL, "hello");
    bench_line_up(bench, 404, NULL, FAULT("NoSuchKey"));
    assert_true(bucket_read(bench->bucket, "x", 5, &out, NULL, NULL, &bench->error));
    assert_string_equal(out.bytes, ">hello");
    /* The limit is for the object, not for the words about one that is absent. */
    assert_false(bucket_read(bench->bucket, "x", 5, &out, NULL, &bench->answer, &bench->error));
    assert_int_equal(bench->answer.outcome, BUCKET_ABSENT);
    bench->next = 1;
    assert_false(bucket_read(bench->bucket, "x", 4, &out, NULL, &bench->answer, &bench->error));
    assert_int_equal(bench->answer.outcome, BUCKET_REFUSED);
    assert_int_equal(out.length, 6);
    assert_true(bucket_is_up(bench->bucket));
}

static void test_three_faults_in_a_row_open_the_breaker(void **state) {
    struct bench *bench = *state;
    const struct bucket_limits once = {.tries = 1};
    bench_open(bench);
    bench_line_up(bench, 500, NULL, "");
    bench_line_up(bench, 500, NULL, "");
    bench_line_up(bench, 404, NULL, FAULT("NoSuchKey"));
    bench_line_up(bench, 500, NULL, "");
    for (int i = 0; i < 5; i++) {
        assert_false(bench_get(bench, NULL, &once));
        assert_true(bucket_is_up(bench->bucket));
        assert_int_equal(bucket_asks_from_ms(bench->bucket), 0);
    }
    assert_false(bench_get(bench, NULL, &once));
    assert_false(bucket_is_up(bench->bucket));
    assert_in_range(bucket_asks_from_ms(bench->bucket) - clock_ms(), 4000, 8000);
    assert_false(bench_get(bench, NULL, NULL));
    assert_int_equal(bench->answer.outcome, BUCKET_DOWN);
    assert_int_equal(bench_requests(bench), 6);
}

/* Waits no longer than the time in its context says. */
static bool wait_until(void *context, struct error *error) {
    const int64_t *until_ms = context;
    return clock_ms() < *until_ms || error_set(error, ERROR_TIMEOUT, "no byte in time");
}

static bool drop(void *context, const void *bytes, size_t length, struct error *error) {
    (void)context, (void)bytes, (void)length, (void)error;
    return true;
}

static void test_a_caller_that_waits_no_longer_tells_of_a_silence(void **state) {
    struct bench *bench = *state;
    int64_t until_ms = 0;
    const struct bucket_sink sink = {&until_ms, NULL, drop, wait_until};
    bench_open(bench);
    bench_line_up_silence(bench);
    for (int i = 0; i < 3; i++) {
        until_ms = clock_ms() + 100;
        const struct bucket_limits limits = {.deadline_ms = until_ms};
        assert_true(bucket_is_up(bench->bucket));
        assert_false(
            bucket_get(bench->bucket, "x", NULL, &sink, &limits, &bench->answer, &bench->error));
        assert_int_equal(bench->answer.outcome, BUCKET_UNREACHABLE);
    }
    assert_false(bucket_is_up(bench->bucket));
}

/* ---- a bucket that is slow, by a clock that the test sets ---- */

static _Atomic int64_t skipped_ms;

int64_t __real_clock_ms(void);
int64_t __wrap_clock_ms(void);
int64_t __wrap_clock_ms(void) {
    return __real_clock_ms() + atomic_load(&skipped_ms);
}

static void skip_half_a_second(void) {
    atomic_fetch_add(&skipped_ms, 500);
}

/* The bucket answers what comes next with the status, and `slow` later than its patience. */
static void answer_next(struct bench *bench, int status, bool slow) {
    pthread_mutex_lock(&bench->server->requests_lock); /* silent answers may be under way */
    bench->count = bench->next = 0;
    bench_line_up(bench, status, NULL, status == 200 ? "" : FAULT("SlowDown"));
    bench->replies[0].before = slow ? skip_half_a_second : NULL;
    pthread_mutex_unlock(&bench->server->requests_lock);
}

static bool get_in_time(struct bench *bench) {
    const struct bucket_limits limits = {.deadline_ms = clock_ms() + 300};
    return bench_get(bench, NULL, &limits);
}

static bool probe(struct bench *bench) {
    atomic_fetch_add(&skipped_ms, bucket_asks_from_ms(bench->bucket) - clock_ms());
    const struct bucket_limits limits = {.deadline_ms = clock_ms() + 5000};
    return bucket_head(bench->bucket, "x", &limits, &bench->answer, &bench->error);
}

static bool put_once(struct bench *bench) {
    const struct bucket_put put = {.key = "x", .body = {.bytes = "hello", .length = 5}};
    const struct bucket_limits once = {.tries = 1};
    return bucket_put(bench->bucket, &put, &once, &bench->answer, &bench->error);
}

static void open_slow(struct bench *bench) {
    bench->settings.patience_ms = 300;
    bench_open(bench);
    bench_line_up_silence(bench);
    for (int i = 0; i < 3; i++)
        assert_false(get_in_time(bench));
    assert_false(bucket_is_up(bench->bucket));
    assert_false(bucket_works(bench->bucket));
}

static void test_a_bucket_that_is_slower_than_its_patience_is_written_and_not_read(void **state) {
    struct bench *bench = *state;
    open_slow(bench);
    for (int i = 0; i < 3; i++) {
        answer_next(bench, 200, true);
        assert_true(probe(bench));
        assert_false(bucket_is_up(bench->bucket));
        assert_true(bucket_works(bench->bucket));
        assert_int_equal(bucket_works_from_ms(bench->bucket), 0);
        assert_true(bucket_asks_from_ms(bench->bucket) > clock_ms());
        const unsigned before = bench_requests(bench);
        assert_false(get_in_time(bench));
        assert_int_equal(bench->answer.outcome, BUCKET_DOWN);
        assert_int_equal(bench_requests(bench), before);
        assert_true(put_once(bench));
        assert_false(bucket_is_up(bench->bucket));
    }
    answer_next(bench, 200, false);
    assert_true(probe(bench));
    assert_true(bucket_is_up(bench->bucket));
    assert_true(get_in_time(bench));
}

static void test_a_slow_bucket_that_fails_is_left_alone(void **state) {
    struct bench *bench = *state;
    open_slow(bench);
    answer_next(bench, 404, true);
    assert_false(probe(bench));
    assert_int_equal(bench->answer.outcome, BUCKET_ABSENT);
    assert_true(bucket_works(bench->bucket));
    answer_next(bench, 503, false);
    assert_false(put_once(bench));
    assert_int_equal(bench->answer.outcome, BUCKET_BUSY);
    assert_false(bucket_works(bench->bucket));
    assert_false(put_once(bench));
    assert_int_equal(bench->answer.outcome, BUCKET_DOWN);
}

/* ---- lists ---- */

static bool take_entry(void *context, const struct bucket_entry *entry, struct error *error) {
    (void)error;
    return buffer_printf(context, "%s=%llu ", entry->key, (unsigned long long)entry->size);
}

static void test_a_list_goes_on_page_by_page(void **state) {
    struct bench *bench = *state;
    cleanup_buffer struct buffer out = {0};
    struct bucket_list list = {.prefix = "blobs/", .start_after = "blobs/a", .page = 2};
    bench_open(bench);
    bench_line_up(bench, 200, TIMES,
                  "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t/1"
                  "</NextContinuationToken><Contents><Key>tarn/blobs/b</Key><Size>1</Size>"
                  "</Contents><Contents><Key>elsewhere/c</Key><Size>1</Size></Contents>"
                  "</ListBucketResult>");
    bench_line_up(bench, 200, TIMES,
                  "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>tarn/blobs/c"
                  "</Key><Size>2</Size></Contents></ListBucketResult>");
    while (!list.done)
        assert_true(
            bucket_list_page(bench->bucket, &list, take_entry, &out, NULL, NULL, &bench->error));
    assert_string_equal(out.bytes, "blobs/b=1 blobs/c=2 ");
    assert_int_equal(list.date_s, MODIFIED_S + 10);
    assert_int_equal(bench_requests(bench), 2);
    const char *first = bench_request(bench, 0), *second = bench_request(bench, 1);
    assert_true(server_has(first, "max-keys=2"));
    assert_true(server_has(first, "prefix=tarn%2Fblobs%2F"));
    assert_true(server_has(first, "start-after=tarn%2Fblobs%2Fa"));
    assert_true(server_has(second, "continuation-token=t%2F1"));
    bucket_list_finish(&list);
}

static void test_a_list_that_goes_in_a_circle_ends(void **state) {
    struct bench *bench = *state;
    cleanup_buffer struct buffer out = {0};
    struct bucket_list list = {0};
    bool ok = true;
    bench_open(bench);
    bench_line_up(bench, 200, NULL,
                  "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t"
                  "</NextContinuationToken></ListBucketResult>");
    for (int i = 0; i < 5 && ok; i++)
        ok = bucket_list_page(bench->bucket, &list, take_entry, &out, NULL, NULL, &bench->error);
    assert_false(ok);
    bucket_list_finish(&list);
}

/* Many threads learn the region, the clock and the missing right at the same time. */
static void ask_often(void *context) {
    struct bench *bench = context;
    for (int i = 0; i < 12; i++) {
        struct bucket_answer answer;
        struct bucket_facts facts;
        struct error error = {0};
        bucket_head(bench->bucket, "x", NULL, &answer, &error);
        bucket_look(bench->bucket, &facts);
        bucket_is_up(bench->bucket);
        bucket_asks_from_ms(bench->bucket);
    }
}

static void test_threads_share_what_is_learnt(void **state) {
    struct bench *bench = *state;
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    bench_open(bench);
    bench_line_up(bench, 400, "x-amz-bucket-region: eu-north-1\r\n", "");
    for (int i = 0; i < 8; i++)
        bench_line_up(bench, 403, "Date: Fri, 24 May 2013 00:00:00 GMT\r\n",
                      i % 2 ? FAULT("RequestTimeTooSkewed") : FAULT("AccessDenied"));
    bench_line_up(bench, 404, NULL, FAULT("NoSuchKey"));
    for (int i = 0; i < THREADS; i++)
        assert_true(thread_start("asks", THREAD_STACK, ask_often, bench, &threads[i], NULL));
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_true(bucket_is_up(bench->bucket));
}

static void test_no_secret_is_in_an_error(void **state) {
    struct bench *bench = *state;
    bench_open(bench);
    bench_line_up(bench, 403, NULL,
                  "<Error><Code>AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE</Code></Error>");
    assert_false(bench_get(bench, NULL, NULL));
    assert_null(strstr(bench->error.text, "AKIAEXAMPLE"));
    assert_null(strstr(bench->error.text, "very-secret"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_BENCH(test_a_get_is_signed_and_handed_on),
        WITH_BENCH(test_a_range_is_asked_for_and_checked),
        WITH_BENCH(test_a_range_beyond_the_end_tells_the_size),
        WITH_BENCH(test_what_is_absent_costs_one_request),
        WITH_BENCH(test_a_bucket_that_is_absent_is_no_absent_key),
        WITH_BENCH(test_absent_keys_look_forbidden_without_the_right_to_list),
        WITH_BENCH(test_forbidden_is_forbidden_with_the_right_to_list),
        WITH_BENCH(test_a_refusal_that_tells_its_reason_is_not_asked_about),
        WITH_BENCH(test_a_wrong_secret_is_told_and_not_tried_again),
        WITH_BENCH(test_the_region_is_learnt_once),
        WITH_BENCH(test_a_redirect_teaches_the_region_and_is_not_followed),
        WITH_BENCH(test_a_hostile_region_is_not_used),
        WITH_BENCH(test_a_wrong_clock_is_corrected_once),
        WITH_BENCH(test_a_head_that_hides_its_reason_is_asked_about),
        WITH_BENCH(test_a_busy_bucket_is_asked_again),
        WITH_BENCH(test_a_deadline_bounds_the_tries),
        WITH_BENCH(test_a_body_that_breaks_off_is_cut),
        WITH_BENCH(test_a_small_object_is_read_whole),
        WITH_BENCH(test_a_bucket_that_is_slower_than_its_patience_is_written_and_not_read),
        WITH_BENCH(test_a_slow_bucket_that_fails_is_left_alone),
        WITH_BENCH(test_three_faults_in_a_row_open_the_breaker),
        WITH_BENCH(test_a_caller_that_waits_no_longer_tells_of_a_silence),
        WITH_BENCH(test_a_list_goes_on_page_by_page),
        WITH_BENCH(test_a_list_that_goes_in_a_circle_ends),
        WITH_BENCH(test_threads_share_what_is_learnt),
        WITH_BENCH(test_no_secret_is_in_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
