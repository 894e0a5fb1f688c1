/* The chunked coding of a request's body: what is read, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include "http/chunks.h"

struct read {
    enum chunks_verdict verdict;
    char data[1 << 16];
    size_t length, used;
};

/* Reads the text in pieces of `step` bytes, of which each is in memory of its own. */
static struct read *read_in_steps(const char *text, size_t length, size_t step) {
    struct read *read = calloc(1, sizeof *read);
    struct chunks chunks = {0};
    assert_non_null(read);
    for (size_t at = 0; at < length && read->verdict == CHUNKS_MORE; at += step) {
        size_t now = length - at < step ? length - at : step, data = 0, used = 0;
        char *piece = malloc(now);
        const char *why = NULL;
        memcpy(piece, text + at, now);
        read->verdict = chunks_read(&chunks, piece, now, &data, &used, &why);
        if (read->verdict != CHUNKS_BAD) {
            memcpy(read->data + read->length, piece, data);
            read->length += data;
            read->used += used;
        } else {
            assert_non_null(why);
        }
        free(piece);
    }
    return read;
}

static void expect(const char *text, size_t length, enum chunks_verdict verdict, const char *data) {
    static const size_t steps[] = {1, 2, 3, 7, 1 << 20};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        struct read *read = read_in_steps(text, length, steps[i]);
        if (read->verdict != verdict)
            fail_msg("in steps of %zu: verdict %d: %.80s", steps[i], (int)read->verdict, text);
        if (data) {
            assert_int_equal(read->length, strlen(data));
            assert_memory_equal(read->data, data, read->length);
        }
        free(read);
    }
}

static void test_a_body_is_read_in_any_pieces(void **state) {
    (void)state;
    static const struct {
        const char *text, *data;
    } bodies[] = {
        {"0\r\n\r\n", ""},
        {"5\r\nhello\r\n0\r\n\r\n", "hello"},
        {"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "hello world"},
        {"00000000000000A;x=\"y z\"\r\n0123456789\r\n000\r\n\r\n", "0123456789"},
        {"1\r\n\r\r\n0\r\nA: b\r\nC:\r\n\r\n", "\r"},
    };
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++)
        expect(bodies[i].text, strlen(bodies[i].text), CHUNKS_DONE, bodies[i].data);
}

static void test_what_could_be_read_in_two_ways_is_refused(void **state) {
    (void)state;
    static const char *const bodies[] = {
        "\r\n",
        "g\r\n",
        "-1\r\n",
        "+1\r\n",
        "0x1\r\n",
        " 1\r\n",
        "1 \r\n",
        "1\n",
        "1\rx",
        ";a\r\n",
        "1,\r\n",
        "1;a\nb\r\n",
        "1;a\x01\r\n",
        "1;\x7f\r\n",
        "1\r\nab",
        "1\r\na\n",
        "1\r\na\rb",
        "1\r\na\r\n\r\n",
        "0\r\nA\r\n",
        "0\r\n: b\r\n",
        "0\r\nA: b\n",
        "0\r\n a\r\n",
        "0\r\nA: b\rc",
        "0\r\n\rx",
        "0\r\n\n",
        "0000000000000001\r\n",
        "1000000000000000\r\n",
        "0\r\nA : b\r\n",
    };
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++)
        expect(bodies[i], strlen(bodies[i]), CHUNKS_BAD, NULL);
}

static void test_a_body_without_its_end_is_not_done(void **state) {
    (void)state;
    static const char whole[] = "5;a\r\nhello\r\n0\r\nA: b\r\n\r\n";
    for (size_t length = 1; length + 1 < sizeof whole; length++)
        expect(whole, length, CHUNKS_MORE, NULL);
}

static void test_lines_have_a_limit(void **state) {
    (void)state;
    char *text = malloc(CHUNKS_TRAILERS_LIMIT + 100);
    memset(text, 'a', CHUNKS_TRAILERS_LIMIT + 100);
    memcpy(text, "1;", 2);
    expect(text, CHUNKS_LINE_LIMIT, CHUNKS_MORE, NULL);
    expect(text, CHUNKS_LINE_LIMIT + 1, CHUNKS_BAD, NULL);
    memcpy(text, "0\r\nA:", 5);
    expect(text, CHUNKS_TRAILERS_LIMIT + 3, CHUNKS_MORE, NULL);
    expect(text, CHUNKS_TRAILERS_LIMIT + 4, CHUNKS_BAD, NULL);
    free(text);
}

static void test_bytes_behind_the_body_are_left(void **state) {
    (void)state;
    static const char text[] = "1\r\na\r\n0\r\n\r\nGET / HTTP/1.1\r\n";
    struct read *read = read_in_steps(text, sizeof text - 1, sizeof text);
    assert_int_equal(read->verdict, CHUNKS_DONE);
    assert_string_equal(text + read->used, "GET / HTTP/1.1\r\n");
    free(read);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_body_is_read_in_any_pieces),
        cmocka_unit_test(test_what_could_be_read_in_two_ways_is_refused),
        cmocka_unit_test(test_a_body_without_its_end_is_not_done),
        cmocka_unit_test(test_lines_have_a_limit),
        cmocka_unit_test(test_bytes_behind_the_body_are_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
