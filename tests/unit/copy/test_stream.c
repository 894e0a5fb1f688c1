/* A blob that is read over several connections into a window. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/lock.h"
#include "copy/stream.h"

enum { SIZE = 3 << 20, PIECE = 5000 };

/* A source in memory. */
struct memory {
    struct copy_source source;
    char *bytes;
    size_t length;
    bool refuses_ranges;
    uint64_t fails_at; /* the first reading of this byte fails; UINT64_MAX: none does */
    atomic_bool has_failed;
    struct lock lock;
    unsigned running, most; /* readings at once */
    uint64_t furthest;      /* byte that was handed over */
};

static void enter(struct memory *memory) {
    lock_acquire(&memory->lock);
    if (++memory->running > memory->most)
        memory->most = memory->running;
    lock_release(&memory->lock);
}

static bool leave(struct memory *memory, bool ok) {
    lock_acquire(&memory->lock);
    memory->running--;
    lock_release(&memory->lock);
    return ok;
}

static bool hand_over(struct memory *memory, const struct copy_read *read, struct error *error) {
    uint64_t end = read->last < memory->length ? read->last + 1 : memory->length;
    for (uint64_t at = read->first; at < end;) {
        size_t length = end - at < PIECE ? (size_t)(end - at) : PIECE;
        if (at <= memory->fails_at && memory->fails_at < at + length &&
            !atomic_exchange(&memory->has_failed, true))
            return error_set(error, ERROR_UNAVAILABLE, "cut at %d", (int)memory->fails_at);
        if (read->stop && atomic_load(read->stop))
            return error_set(error, ERROR_CLOSED, "stopped");
        if (!read->on_bytes(read->context, memory->bytes + at, length, error))
            return false;
        at += length;
        lock_acquire(&memory->lock);
        if (at > memory->furthest)
            memory->furthest = at;
        lock_release(&memory->lock);
    }
    return true;
}

static bool read_blob(struct copy_source *source, const struct copy_read *read,
                      struct error *error) {
    struct memory *memory = (struct memory *)source;
    if (memory->refuses_ranges && read->first > 0)
        return error_set(error, ERROR_UNSUPPORTED, "no ranges");
    enter(memory);
    return leave(memory, hand_over(memory, read, error));
}

static const struct copy_source_kind kind = {.read_blob = read_blob};

static int set_up(void **state) {
    struct memory *memory = calloc(1, sizeof *memory);
    memory->source.kind = &kind;
    memory->length = SIZE;
    memory->bytes = malloc(SIZE);
    memory->fails_at = UINT64_MAX;
    lock_init(&memory->lock);
    for (size_t i = 0; i < SIZE; i++)
        memory->bytes[i] = (char)(i * 31 + (i >> 11));
    *state = memory;
    return 0;
}

static int tear_down(void **state) {
    struct memory *memory = *state;
    free(memory->bytes);
    lock_finish(&memory->lock);
    free(memory);
    return 0;
}

static struct copy_stream *open_stream(struct memory *memory, unsigned readers) {
    struct error error = {0};
    struct copy_stream_settings settings = {.source = &memory->source,
                                            .size = memory->length,
                                            .readers = readers,
                                            .window = COPY_STREAM_WINDOW_LEAST};
    assert_true(digest_of(DIGEST_SHA256, memory->bytes, memory->length, &settings.digest));
    struct copy_stream *stream = copy_stream_new(&settings, &error);
    assert_non_null(stream);
    return stream;
}

/* Reads `count` bytes from where the body stands, which is `at`, and compares them. */
static bool read_some(struct copy_body *body, const struct memory *memory, uint64_t at,
                      uint64_t count, bool *ended, struct error *error) {
    char bytes[7000];
    size_t length;
    for (uint64_t end = at + count; at < end; at += length) {
        size_t want = end - at < sizeof bytes ? (size_t)(end - at) : sizeof bytes;
        if (!copy_body_read(body, bytes, want, &length, ended, error))
            return false;
        assert_true(length > 0);
        assert_int_equal(memcmp(bytes, memory->bytes + at, length), 0);
    }
    return true;
}

static void read_all(struct copy_body *body, const struct memory *memory) {
    struct error error = {0};
    bool ended = false;
    if (!body->seek(body->context, 0, &error) ||
        !read_some(body, memory, 0, memory->length, &ended, &error))
        fail_msg("%s", error.text);
    assert_true(ended);
}

static void test_bytes_come_in_order_over_several_readers(void **state) {
    struct memory *memory = *state;
    for (unsigned readers = 1; readers <= 5; readers++) {
        struct copy_stream *stream = open_stream(memory, readers);
        read_all(copy_stream_body(stream), memory);
        copy_stream_free(stream);
        assert_true(memory->most <= readers);
    }
}

static void test_readers_wait_at_the_end_of_the_window(void **state) {
    struct memory *memory = *state;
    struct error error = {0};
    bool ended = false;
    struct copy_stream *stream = open_stream(memory, 4);
    struct copy_body *body = copy_stream_body(stream);
    assert_true(body->seek(body->context, 0, &error));
    assert_true(read_some(body, memory, 0, 100000, &ended, &error));
    copy_stream_free(stream);
    assert_true(memory->furthest <= 100000 + COPY_STREAM_WINDOW_LEAST);
}

static void test_earlier_bytes_can_be_read_again(void **state) {
    struct memory *memory = *state;
    struct error error = {0};
    bool ended = false;
    const uint64_t steps[] = {0, 10, 777777, 5, 0, 2000000};
    struct copy_stream *stream = open_stream(memory, 3);
    struct copy_body *body = copy_stream_body(stream);
    assert_true(body->seek(body->context, 0, &error));
    assert_true(read_some(body, memory, 0, SIZE, &ended, &error) && ended);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        assert_true(body->seek(body->context, steps[i], &error));
        if (!read_some(body, memory, steps[i], SIZE - steps[i], &ended, &error))
            fail_msg("%s", error.text);
        assert_true(ended);
    }
    copy_stream_free(stream);
}

static void test_a_source_without_ranges_is_read_whole(void **state) {
    struct memory *memory = *state;
    memory->refuses_ranges = true;
    struct copy_stream *stream = open_stream(memory, 4);
    read_all(copy_stream_body(stream), memory);
    struct error error = {0};
    bool ended = false;
    struct copy_body *body = copy_stream_body(stream);
    assert_true(body->seek(body->context, 1234567, &error));
    assert_true(read_some(body, memory, 1234567, SIZE - 1234567, &ended, &error) && ended);
    copy_stream_free(stream);
}

static void test_a_wrong_digest_holds_back_the_last_bytes(void **state) {
    struct memory *memory = *state;
    struct error error = {0};
    bool ended = false;
    struct copy_stream *stream = open_stream(memory, 4);
    struct copy_body *body = copy_stream_body(stream);
    memory->bytes[SIZE / 2] ^= 1;
    assert_true(body->seek(body->context, 0, &error));
    assert_false(read_some(body, memory, 0, SIZE, &ended, &error));
    assert_int_equal(error.kind, ERROR_CORRUPT);
    for (int i = 0; i < 3; i++) { /* however often they are asked for */
        char bytes[10];
        size_t length;
        bool handed_out = false;
        assert_true(body->seek(body->context, SIZE - 10, &error));
        while (copy_body_read(body, bytes, sizeof bytes, &length, &ended, &error) && !handed_out)
            handed_out = ended;
        assert_false(handed_out);
        assert_int_equal(error.kind, ERROR_CORRUPT);
    }
    copy_stream_free(stream);
}

static void test_a_source_of_another_length_is_refused(void **state) {
    struct memory *memory = *state;
    const size_t lengths[] = {SIZE - 1, SIZE / 2, 0};
    for (size_t i = 0; i < 3; i++) {
        struct error error = {0};
        bool ended = false;
        memory->length = SIZE;
        struct copy_stream *stream = open_stream(memory, 2);
        struct copy_body *body = copy_stream_body(stream);
        memory->length = lengths[i];
        assert_true(body->seek(body->context, 0, &error));
        assert_false(read_some(body, memory, 0, SIZE, &ended, &error));
        assert_int_equal(error.kind, ERROR_CORRUPT);
        copy_stream_free(stream);
    }
}

static void test_a_failure_reaches_the_taker_and_another_try_works(void **state) {
    struct memory *memory = *state;
    struct error error = {0};
    bool ended = false;
    memory->fails_at = SIZE / 3;
    struct copy_stream *stream = open_stream(memory, 4);
    struct copy_body *body = copy_stream_body(stream);
    assert_true(body->seek(body->context, 0, &error));
    assert_false(read_some(body, memory, 0, SIZE, &ended, &error));
    assert_string_equal(error.text, "cut at 1048576");
    read_all(body, memory);
    copy_stream_free(stream);
}

static void test_an_empty_blob_has_a_digest_too(void **state) {
    struct memory *memory = *state;
    struct error error = {0};
    size_t length;
    bool ended = false;
    char byte;
    memory->length = 0;
    struct copy_stream *stream = open_stream(memory, 4);
    struct copy_body *body = copy_stream_body(stream);
    assert_true(body->seek(body->context, 0, &error));
    assert_true(copy_body_read(body, &byte, 1, &length, &ended, &error));
    assert_true(ended && length == 0);
    copy_stream_free(stream);
}

static void test_a_stopped_taker_ends_although_nothing_comes(void **state) {
    struct memory *memory = *state;
    atomic_bool stop = false;
    struct error error = {0};
    size_t length;
    bool ended = false;
    char byte;
    struct copy_stream *stream = open_stream(memory, 4);
    struct copy_body *body = copy_stream_body(stream);
    body->stop = &stop;
    atomic_store(&stop, true);
    assert_false(copy_body_read(body, &byte, 1, &length, &ended, &error));
    assert_int_equal(error.kind, ERROR_CLOSED);
    copy_stream_free(stream);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_bytes_come_in_order_over_several_readers),
        TEST(test_readers_wait_at_the_end_of_the_window),
        TEST(test_earlier_bytes_can_be_read_again),
        TEST(test_a_source_without_ranges_is_read_whole),
        TEST(test_a_wrong_digest_holds_back_the_last_bytes),
        TEST(test_a_source_of_another_length_is_refused),
        TEST(test_a_failure_reaches_the_taker_and_another_try_works),
        TEST(test_an_empty_blob_has_a_digest_too),
        TEST(test_a_stopped_taker_ends_although_nothing_comes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
