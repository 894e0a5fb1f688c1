/* A layer while it is made: taken in pieces, wanted again, broken off, and failing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/buffer.h"
#include "copy/layer.h"
#include "copy/tar.h"

static char folder[64], file[128];

enum { CONTENT = 3 << 20 };

static void write_content(size_t length, unsigned seed) {
    FILE *stream = fopen(file, "w");
    assert_non_null(stream);
    uint32_t number = seed;
    for (size_t i = 0; i < length / sizeof number; i++) {
        number = number * 1664525 + 1013904223;
        assert_int_equal(fwrite(&number, sizeof number, 1, stream), 1);
    }
    assert_int_equal(fclose(stream), 0);
}

static int set_up(void **state) {
    (void)state;
    strcpy(folder, "/tmp/tarn-layer-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(file, sizeof file, "%s/file", folder);
    write_content(CONTENT, 1);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    unlink(file);
    return rmdir(folder);
}

static struct layer *make(enum compress_kind kind) {
    const struct layer_settings settings = {.content = {.folder = folder, .inside = "m"},
                                            .compression = kind};
    struct layer *layer = layer_new(&settings, NULL);
    assert_non_null(layer);
    return layer;
}

/* Takes up to `limit` bytes. Returns whether the layer has ended. */
static bool take(struct layer *layer, size_t limit, struct buffer *out) {
    struct copy_body *body = layer_body(layer);
    struct error error = {0};
    char bytes[10007];
    bool ended = false;
    while (!ended && limit) {
        size_t length = 0;
        const size_t most = limit < sizeof bytes ? limit : sizeof bytes;
        if (!copy_body_read(body, bytes, most, &length, &ended, &error))
            fail_msg("%s", error.text);
        assert_true(length <= most);
        buffer_append(out, bytes, length);
        limit -= length;
    }
    return ended;
}

static void seek(struct layer *layer, uint64_t offset) {
    struct copy_body *body = layer_body(layer);
    struct error error = {0};
    assert_true(body->seek(body->context, offset, &error));
}

static void assert_whole(struct layer *layer, const struct buffer *bytes) {
    struct copy_body *body = layer_body(layer);
    struct digest digest, made;
    uint64_t size;
    assert_true(body->finish(body->context, &digest, &size, NULL));
    assert_int_equal(size, bytes->length);
    assert_true(digest_of(DIGEST_SHA256, bytes->bytes, bytes->length, &made));
    assert_true(digest_equal(&digest, &made));
    assert_true(digest_equal(&layer_result(layer)->digest, &made));
}

static void test_a_layer_is_taken_while_it_is_made(void **state) {
    (void)state;
    for (enum compress_kind kind = COMPRESS_NONE; kind <= COMPRESS_ZSTD; kind++) {
        cleanup_buffer struct buffer bytes = {0};
        struct layer *layer = make(kind);
        seek(layer, 0);
        assert_true(take(layer, SIZE_MAX, &bytes));
        assert_whole(layer, &bytes);
        layer_free(layer);
    }
}

/* A destination loses bytes, wherever it stands, and gets the same ones again. */
static void test_bytes_that_are_lost_come_again(void **state) {
    (void)state;
    cleanup_buffer struct buffer whole = {0};
    struct layer *layer = make(COMPRESS_GZIP);
    seek(layer, 0);
    take(layer, SIZE_MAX, &whole);
    const struct {
        size_t taken, back;
    } cases[] = {{1000, 0},
                 {2 << 20, 1 << 20},
                 {2 << 20, (1 << 20) + 1},
                 {whole.length, 0},
                 {whole.length, whole.length - 1},
                 {500000, 500000}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cleanup_buffer struct buffer bytes = {0};
        seek(layer, 0);
        take(layer, cases[i].taken, &bytes);
        bytes.length = cases[i].back;
        seek(layer, cases[i].back);
        assert_true(take(layer, SIZE_MAX, &bytes));
        assert_int_equal(bytes.length, whole.length);
        assert_whole(layer, &bytes);
    }
    layer_free(layer);
}

/* A destination that knows the length takes so many bytes, and does not ask for the end. The result
 * is that of what it took, although the maker may still be at work. */
static void test_a_layer_whose_end_nobody_sees_has_its_result(void **state) {
    (void)state;
    cleanup_buffer struct buffer whole = {0};
    struct layer *layer = make(COMPRESS_GZIP);
    seek(layer, 0);
    take(layer, SIZE_MAX, &whole);
    for (int i = 0; i < 30; i++) {
        cleanup_buffer struct buffer bytes = {0};
        seek(layer, 1); /* a new making */
        seek(layer, 0);
        take(layer, whole.length, &bytes);
        assert_whole(layer, &bytes);
    }
    layer_free(layer);
}

static void test_a_layer_that_got_longer_has_no_result(void **state) {
    (void)state;
    cleanup_buffer struct buffer whole = {0}, bytes = {0};
    struct layer *layer = make(COMPRESS_NONE);
    struct copy_body *body = layer_body(layer);
    struct error error = {0};
    struct digest digest;
    uint64_t size;
    seek(layer, 0);
    take(layer, SIZE_MAX, &whole);
    write_content(2 * CONTENT, 1);
    seek(layer, 1);
    seek(layer, 0);
    take(layer, whole.length, &bytes);
    assert_false(body->finish(body->context, &digest, &size, &error));
    assert_int_equal(error.kind, ERROR_CORRUPT);
    assert_non_null(strstr(error.text, "longer now"));
    layer_free(layer);
}

static void test_a_layer_that_is_left_ends(void **state) {
    (void)state;
    cleanup_buffer struct buffer bytes = {0};
    for (size_t taken = 0; taken < 3; taken++) {
        struct layer *layer = make(COMPRESS_NONE);
        if (taken)
            seek(layer, 0);
        take(layer, taken == 2 ? 100 : 0, &bytes);
        layer_free(layer); /* the maker waits for room in the buffer */
    }
}

static void test_the_failure_of_a_folder_is_the_body_s(void **state) {
    (void)state;
    struct layer *layer = make(COMPRESS_GZIP);
    struct copy_body *body = layer_body(layer);
    struct error error = {0};
    char bytes[4096];
    size_t length;
    bool ended = false, ok = true;
    unlink(file);
    assert_int_equal(mkfifo(file, 0600), 0);
    char bad[160];
    snprintf(bad, sizeof bad, "%s/.wh.x", folder);
    assert_int_equal(mkdir(bad, 0755), 0);
    seek(layer, 0);
    while (ok && !ended)
        ok = copy_body_read(body, bytes, sizeof bytes, &length, &ended, &error);
    assert_false(ok);
    assert_int_equal(error.kind, ERROR_UNSUPPORTED);
    assert_non_null(strstr(error.text, bad));
    layer_free(layer);
    rmdir(bad);
}

/* The folder became smaller between two tries: what the destination has cannot be continued. */
static void test_a_folder_that_shrank_between_two_tries(void **state) {
    (void)state;
    cleanup_buffer struct buffer bytes = {0};
    struct layer *layer = make(COMPRESS_NONE);
    struct copy_body *body = layer_body(layer);
    struct error error = {0};
    char piece[4096];
    size_t length;
    bool ended = false, ok = true;
    seek(layer, 0);
    take(layer, 2 << 20, &bytes);
    write_content(1 << 20, 1);
    seek(layer, 2 << 20);
    while (ok && !ended)
        ok = copy_body_read(body, piece, sizeof piece, &length, &ended, &error);
    assert_false(ok);
    assert_int_equal(error.kind, ERROR_CORRUPT);
    layer_free(layer);
}

static void test_removals_are_a_layer(void **state) {
    (void)state;
    const char *const paths[] = {"etc/passwd"};
    const struct layer_settings settings = {.content = {.removals = paths, .removal_count = 1}};
    cleanup_buffer struct buffer bytes = {0};
    struct layer *layer = layer_new(&settings, NULL);
    seek(layer, 0);
    assert_true(take(layer, SIZE_MAX, &bytes));
    assert_int_equal(bytes.length, 4 * TAR_BLOCK);
    assert_string_equal(bytes.bytes + TAR_BLOCK, "etc/.wh.passwd");
    layer_free(layer);
}

static void count_up(void *context, uint64_t bytes) {
    uint64_t *last = context;
    *last = bytes;
}

static void test_progress_is_told(void **state) {
    (void)state;
    uint64_t last = 0;
    const struct layer_settings settings = {
        .content = {.folder = folder, .inside = ""}, .on_progress = count_up, .context = &last};
    cleanup_buffer struct buffer bytes = {0};
    struct layer *layer = layer_new(&settings, NULL);
    seek(layer, 0);
    take(layer, SIZE_MAX, &bytes);
    assert_int_equal(last, bytes.length);
    layer_free(layer);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_a_layer_is_taken_while_it_is_made),
        TEST(test_bytes_that_are_lost_come_again),
        TEST(test_a_layer_whose_end_nobody_sees_has_its_result),
        TEST(test_a_layer_that_got_longer_has_no_result),
        TEST(test_a_layer_that_is_left_ends),
        TEST(test_the_failure_of_a_folder_is_the_body_s),
        TEST(test_a_folder_that_shrank_between_two_tries),
        TEST(test_removals_are_a_layer),
        TEST(test_progress_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
