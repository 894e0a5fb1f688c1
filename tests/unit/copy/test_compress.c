/* Compressed layers: the same bytes on any number of processors, and unpacked again what went in.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>
#include <cmocka.h>
#include "base/buffer.h"
#include "copy/compress.h"

static bool append(void *context, const void *bytes, size_t length, struct error *error) {
    (void)error;
    return buffer_append(context, bytes, length);
}

/* Bytes that compress to about a half, with repetitions across the borders of blocks. */
static void fill(struct buffer *out, size_t length) {
    uint32_t state = 1;
    while (out->length < length) {
        state = state * 1664525 + 1013904223;
        char word[16];
        const int size = snprintf(word, sizeof word, "%x-layer ", state >> 20);
        buffer_append(out, word, (size_t)size);
    }
    out->length = length;
}

/* Writes the bytes in pieces of `piece`. */
static void compress_all(enum compress_kind kind, unsigned workers, const struct buffer *plain,
                         size_t piece, struct buffer *out, struct compress_result *result) {
    const struct sink sink = {append, out};
    struct error error = {0};
    struct compress *compress = compress_new(kind, workers, &sink, &error);
    assert_non_null(compress);
    for (size_t at = 0; at < plain->length; at += piece) {
        const size_t left = plain->length - at;
        assert_true(
            compress_write(compress, plain->bytes + at, left < piece ? left : piece, &error));
    }
    assert_true(compress_finish(compress, result, &error));
    compress_free(compress);
}

static void assert_digest_of(const struct buffer *bytes, const struct digest *digest) {
    struct digest made;
    assert_true(digest_of(DIGEST_SHA256, bytes->bytes, bytes->length, &made));
    assert_true(digest_equal(&made, digest));
}

static void gunzip(const struct buffer *packed, struct buffer *out, size_t size) {
    z_stream stream = {0};
    assert_true(buffer_reserve(out, size + 1));
    assert_int_equal(inflateInit2(&stream, 15 + 16), Z_OK);
    stream.next_in = (unsigned char *)packed->bytes;
    stream.avail_in = (uInt)packed->length;
    stream.next_out = (unsigned char *)out->bytes;
    stream.avail_out = (uInt)size + 1;
    /* One member with the right checksum and length, and nothing behind it. */
    assert_int_equal(inflate(&stream, Z_FINISH), Z_STREAM_END);
    assert_int_equal(stream.avail_in, 0);
    out->length = size + 1 - stream.avail_out;
    inflateEnd(&stream);
}

static void unzstd(const struct buffer *packed, struct buffer *out, size_t size) {
    assert_true(buffer_reserve(out, size + 1));
    const size_t length = ZSTD_decompress(out->bytes, size + 1, packed->bytes, packed->length);
    assert_false(ZSTD_isError(length));
    out->length = length;
}

static void check(enum compress_kind kind, size_t length) {
    cleanup_buffer struct buffer plain = {0}, first = {0}, back = {0};
    struct compress_result result, again;
    fill(&plain, length);
    compress_all(kind, 1, &plain, 100003, &first, &result);
    assert_int_equal(result.plain_size, length);
    assert_int_equal(result.size, first.length);
    assert_digest_of(&plain, &result.diff_id);
    assert_digest_of(&first, &result.digest);
    if (kind == COMPRESS_GZIP)
        gunzip(&first, &back, length);
    else if (kind == COMPRESS_ZSTD)
        unzstd(&first, &back, length);
    else
        buffer_append(&back, first.bytes, first.length);
    assert_int_equal(back.length, length);
    assert_digest_of(&back, &result.diff_id);
    /* Neither the number of workers nor how the bytes come matters. */
    for (unsigned workers = 2; workers <= 9; workers += workers == 2 ? 1 : 6) {
        cleanup_buffer struct buffer other = {0};
        compress_all(kind, workers, &plain, 512 * workers + 1, &other, &again);
        assert_true(digest_equal(&again.digest, &result.digest));
        assert_int_equal(other.length, first.length);
    }
}

static const size_t lengths[] = {0, 1, 131071, 131072, 131073, 262144, 1 << 20, (3 << 20) + 7};

static void test_gzip_is_one_member_whatever_the_workers(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        check(COMPRESS_GZIP, lengths[i]);
}

static void test_zstd_unpacks_whatever_the_workers(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        check(COMPRESS_ZSTD, lengths[i]);
}

static void test_none_keeps_the_bytes(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        check(COMPRESS_NONE, lengths[i]);
}

/* What cannot be compressed becomes hardly longer, so that the buffers of blocks suffice. */
static void test_random_bytes_pass(void **state) {
    (void)state;
    cleanup_buffer struct buffer plain = {0}, packed = {0}, back = {0};
    struct compress_result result;
    uint64_t number = 88172645463325252u;
    for (size_t i = 0; i < (600 << 10); i++) {
        number ^= number << 13;
        number ^= number >> 7;
        number ^= number << 17;
        buffer_append(&plain, &number, sizeof number);
    }
    compress_all(COMPRESS_GZIP, 2, &plain, 4096, &packed, &result);
    gunzip(&packed, &back, plain.length);
    assert_digest_of(&back, &result.diff_id);
    buffer_clear(&packed);
    buffer_clear(&back);
    compress_all(COMPRESS_ZSTD, 2, &plain, 4096, &packed, &result);
    unzstd(&packed, &back, plain.length);
    assert_digest_of(&back, &result.diff_id);
}

/* The dictionaries help: blocks of their own would be larger. */
static void test_blocks_know_what_was_before_them(void **state) {
    (void)state;
    cleanup_buffer struct buffer plain = {0}, packed = {0};
    struct compress_result result;
    uint32_t number = 1;
    for (size_t i = 0; i < (30 << 10) / sizeof number; i++) {
        number = number * 1664525 + 1013904223;
        buffer_append(&plain, &number, sizeof number);
    }
    const size_t once = plain.length;
    assert_true(buffer_reserve(&plain, 5 << 20));
    while (plain.length < 4 << 20) /* the same 30 KiB again and again */
        buffer_append(&plain, plain.bytes, once);
    compress_all(COMPRESS_GZIP, 2, &plain, 65536, &packed, &result);
    assert_in_range(packed.length, once, 4 * once);
}

struct breaking {
    size_t left;
};

static bool take_some(void *context, const void *bytes, size_t length, struct error *error) {
    struct breaking *breaking = context;
    (void)bytes;
    if (length > breaking->left)
        return error_set(error, ERROR_UNAVAILABLE, "the sink broke");
    breaking->left -= length;
    return true;
}

/* Wherever the sink fails, its error comes out and the workers end. */
static void test_the_error_of_the_sink_comes_out(void **state) {
    (void)state;
    cleanup_buffer struct buffer plain = {0}, packed = {0};
    struct compress_result result;
    fill(&plain, 1 << 20);
    compress_all(COMPRESS_GZIP, 2, &plain, 65536, &packed, &result);
    for (size_t room = 10; room < packed.length; room += 97771) {
        struct breaking breaking = {room};
        struct error error = {0};
        const struct sink sink = {take_some, &breaking};
        struct compress *compress = compress_new(COMPRESS_GZIP, 3, &sink, &error);
        assert_non_null(compress);
        assert_false(compress_write(compress, plain.bytes, plain.length, &error) &&
                     compress_finish(compress, &result, &error));
        assert_int_equal(error.kind, ERROR_UNAVAILABLE);
        compress_free(compress);
    }
}

static void test_names_of_kinds(void **state) {
    (void)state;
    enum compress_kind kind;
    assert_true(compress_parse("gzip", &kind) && kind == COMPRESS_GZIP);
    assert_true(compress_parse("zstd", &kind) && kind == COMPRESS_ZSTD);
    assert_true(compress_parse("none", &kind) && kind == COMPRESS_NONE);
    assert_false(compress_parse("", &kind));
    assert_false(compress_parse("Gzip", &kind));
    assert_false(compress_parse("gzip ", &kind));
    assert_string_equal(compress_name(COMPRESS_ZSTD), "zstd");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gzip_is_one_member_whatever_the_workers),
        cmocka_unit_test(test_zstd_unpacks_whatever_the_workers),
        cmocka_unit_test(test_none_keeps_the_bytes),
        cmocka_unit_test(test_random_bytes_pass),
        cmocka_unit_test(test_blocks_know_what_was_before_them),
        cmocka_unit_test(test_the_error_of_the_sink_comes_out),
        cmocka_unit_test(test_names_of_kinds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
