/* Indexes of layers: every span unpacks to the archive's bytes, and damage is found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>
#include <cmocka.h>
#include "base/cleanup.h"
#include "layer/archive.h"
#include "layer/build.h"
#include "layer/refusal.h"

enum { FILE_BYTES = 1 << 20, FILES = 9 };

/* An archive of 9 MiB that compresses a little, with references over long distances. */
static void make_archive(struct buffer *out) {
    char *body = malloc(FILE_BYTES);
    uint64_t random = 42;
    for (int file = 0; file < FILES; file++) {
        char name[30];
        snprintf(name, sizeof name, "d/f%d", file);
        for (size_t i = 0; i < FILE_BYTES; i++) {
            random = random * 6364136223846793005 + 1442695040888963407;
            body[i] = i > 40000 && random >> 60 < 12 ? body[i - 30000 + (random >> 58) % 8]
                                                     : "abcdefghijklmnop"[random >> 60];
        }
        archive_add(out, &(struct archive_entry){.name = name, .body = body, .size = FILE_BYTES});
    }
    archive_end(out);
    free(body);
}

static bool keep(void *context, const void *bytes, size_t length, struct error *error) {
    (void)error;
    return buffer_append(context, bytes, length);
}

static bool build_with(const struct build_recipe *recipe, const struct buffer *blob, size_t step,
                       struct buffer *out, bool *needs_copy, struct error *error) {
    struct build *build = build_new(recipe);
    bool ok = true;
    out->length = 0;
    for (size_t at = 0; ok && at < blob->length; at += step)
        ok = build_feed(build, blob->bytes + at,
                        blob->length - at < step ? blob->length - at : step, error);
    ok = ok && build_finish(build, out, error);
    *needs_copy = build_needs_copy(build);
    build_free(build);
    return ok;
}

/* Builds the index, with a copy if one is needed. The word of the refusal, or "". */
static const char *build_index(const struct buffer *blob, const struct buffer *archive, size_t step,
                               struct buffer *out, struct buffer *copy) {
    static struct error error;
    struct build_recipe recipe = {0};
    bool needs_copy;
    error = (struct error){0};
    assert_true(digest_of(DIGEST_SHA256, blob->bytes, blob->length, &recipe.layer));
    assert_true(digest_of(DIGEST_SHA256, archive->bytes, archive->length, &recipe.diff_id));
    bool ok = build_with(&recipe, blob, step, out, &needs_copy, &error);
    if (!ok && needs_copy) {
        recipe.copy = keep;
        recipe.context = copy;
        ok = build_with(&recipe, blob, step, out, &needs_copy, &error);
    }
    return ok ? "" : layer_refusal_word(layer_refusal_of(&error));
}

static void assert_spans_unpack(const struct layer_index *index, const struct buffer *source,
                                const struct buffer *archive) {
    struct error error = {0};
    for (size_t i = 0; i < index->span_count; i++) {
        const struct layer_span *span = &index->spans[i];
        cleanup_free char *bytes = malloc(span->in_length), *out = malloc(span->out_length);
        memcpy(bytes, source->bytes + span->in, span->in_length);
        if (!span_unpack(span, bytes, index->windows + span->window_at, out, &error))
            fail_msg("span %zu: %s", i, error.text);
        assert_memory_equal(out, archive->bytes + span->out, span->out_length);
        bytes[span->in_length / 2] ^= 1;
        assert_false(span_unpack(span, bytes, index->windows + span->window_at, out, &error));
        assert_int_equal(error.kind, ERROR_CORRUPT);
    }
}

static void assert_indexed(const struct buffer *blob, const struct buffer *archive,
                           size_t least_spans) {
    cleanup_buffer struct buffer out = {0}, again = {0}, copy = {0}, copy_again = {0};
    struct layer_index index;
    struct error error = {0};
    assert_string_equal(build_index(blob, archive, blob->length + 1, &out, &copy), "");
    assert_string_equal(build_index(blob, archive, 4093, &again, &copy_again), "");
    assert_int_equal(out.length, again.length);
    assert_memory_equal(out.bytes, again.bytes, out.length);
    assert_true(layer_index_open(out.bytes, out.length, &index, &error));
    assert_true(index.span_count >= least_spans);
    assert_int_equal(index.facts.has_copy, copy.length > 0);
    assert_int_equal(index.facts.copy_size, copy.length);
    assert_spans_unpack(&index, copy.length ? &copy : blob, archive);
    struct tree *tree = layer_index_tree(&index, &error);
    assert_non_null(tree);
    cleanup_free char *shown = archive_tree_shown(tree);
    char word[32];
    cleanup_free char *wanted = archive_shown(archive, word);
    assert_string_equal(shown, wanted);
    tree_free(tree);
    layer_index_finish(&index);
}

static void test_every_kind_of_gzip_is_cut_into_spans(void **state) {
    const struct buffer *archive = *state;
    static const int strategies[] = {Z_DEFAULT_STRATEGY, Z_HUFFMAN_ONLY, Z_RLE, Z_FIXED};
    for (size_t i = 0; i < sizeof strategies / sizeof *strategies; i++) {
        cleanup_buffer struct buffer blob = {0};
        archive_gzip(&blob, archive->bytes, archive->length, 6, strategies[i]);
        assert_indexed(&blob, archive, 3);
    }
    static const int levels[] = {0, 9};
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        cleanup_buffer struct buffer blob = {0};
        archive_gzip(&blob, archive->bytes, archive->length, levels[i], Z_DEFAULT_STRATEGY);
        assert_indexed(&blob, archive, 3);
    }
}

static void test_members_empty_ones_and_padding_are_read(void **state) {
    const struct buffer *archive = *state;
    static const size_t parts[] = {1, 60000, 700000, 3000001};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        cleanup_buffer struct buffer blob = {0};
        size_t at = 0, count = 0;
        for (; at < archive->length && count < 200; count++) {
            size_t length = archive->length - at < parts[i] ? archive->length - at : parts[i];
            archive_gzip(&blob, archive->bytes + at, length, 6, Z_DEFAULT_STRATEGY);
            archive_gzip(&blob, "", 0, 6, Z_DEFAULT_STRATEGY);
            at += length;
        }
        if (at < archive->length)
            archive_gzip(&blob, archive->bytes + at, archive->length - at, 6, Z_DEFAULT_STRATEGY);
        archive_end(&blob); /* zeros */
        assert_indexed(&blob, archive, 2);
    }
}

static void test_plain_archives_are_cut_into_spans(void **state) {
    const struct buffer *archive = *state;
    assert_indexed(archive, archive, 4);
}

static void test_frames_of_zstd_are_spans_or_are_copied(void **state) {
    const struct buffer *archive = *state;
    static const size_t parts[] = {300000, 5000000, 20000000};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        cleanup_buffer struct buffer blob = {0};
        for (size_t at = 0; at < archive->length; at += parts[i]) {
            size_t length = archive->length - at < parts[i] ? archive->length - at : parts[i];
            assert_true(buffer_reserve(&blob, ZSTD_compressBound(length) + 16));
            blob.length += ZSTD_compress(blob.bytes + blob.length, ZSTD_compressBound(length),
                                         archive->bytes + at, length, 1);
            buffer_append(&blob, "\x53\x2a\x4d\x18\x04\0\0\0skip", 12);
        }
        assert_indexed(&blob, archive, 2);
    }
}

static void test_what_is_not_whole_or_not_right_is_refused(void **state) {
    const struct buffer *archive = *state;
    cleanup_buffer struct buffer blob = {0}, out = {0}, copy = {0};
    archive_gzip(&blob, archive->bytes, archive->length, 6, Z_DEFAULT_STRATEGY);
    const size_t whole = blob.length;
    blob.length = whole - 1;
    assert_string_equal(build_index(&blob, archive, 65536, &out, &copy), "compression");
    blob.length = whole;
    buffer_append(&blob, "x", 1);
    assert_string_equal(build_index(&blob, archive, 65536, &out, &copy), "compression");
    blob.length = whole;
    blob.bytes[whole - 1] ^= 1; /* the length of the member */
    assert_string_equal(build_index(&blob, archive, 65536, &out, &copy), "compression");
    blob.bytes[whole - 1] ^= 1;
    blob.bytes[whole / 2] ^= 8; /* whatever is noticed first */
    assert_string_not_equal(build_index(&blob, archive, 65536, &out, &copy), "");
    blob.bytes[whole / 2] ^= 8;
    assert_string_equal(build_index(&blob, &blob, 65536, &out, &copy), "diff_id");
    assert_string_equal(build_index(archive, archive, 65536, &out, &copy), "");
    blob.length = 0;
    archive_gzip(&blob, "nonsense", 8, 6, Z_DEFAULT_STRATEGY);
    assert_string_equal(build_index(&blob, archive, 65536, &out, &copy), "tar");
}

/* Feeds a member of nothing but zeros behind a header that says a huge file. */
static const char *feed_zeros(uint64_t *bytes) {
    static struct error error;
    struct build_recipe recipe = {.layer.algorithm = DIGEST_SHA256,
                                  .diff_id.algorithm = DIGEST_SHA256};
    struct build *build = build_new(&recipe);
    cleanup_buffer struct buffer head = {0};
    archive_header(&head, &(struct archive_entry){.name = "f", .size = UINT32_MAX});
    char *zeros = calloc(1, FILE_BYTES), packed[4096];
    z_stream deflater = {0};
    error = (struct error){0};
    deflateInit2(&deflater, 1, Z_DEFLATED, 15 + 16, 9, Z_DEFAULT_STRATEGY);
    bool ok = true;
    const uint64_t most = *bytes;
    for (uint64_t at = 0; ok && at < most; at += FILE_BYTES) {
        *bytes = at;
        deflater.next_in = (unsigned char *)(at ? zeros : head.bytes);
        deflater.avail_in = at ? FILE_BYTES : 512;
        do {
            deflater.next_out = (unsigned char *)packed;
            deflater.avail_out = sizeof packed;
            deflate(&deflater, Z_NO_FLUSH);
            ok = build_feed(build, packed, sizeof packed - deflater.avail_out, &error);
        } while (ok && deflater.avail_out == 0);
    }
    deflateEnd(&deflater);
    build_free(build);
    free(zeros);
    return ok ? "" : layer_refusal_word(layer_refusal_of(&error));
}

static void test_bombs_are_refused_past_their_first_gibibyte(void **state) {
    (void)state;
    uint64_t bytes = UINT64_C(1100) << 20;
    assert_string_equal(feed_zeros(&bytes), "bomb");
    assert_in_range(bytes, (UINT64_C(1) << 30) - FILE_BYTES, (UINT64_C(1) << 30) + 8 * FILE_BYTES);
}

static void test_a_block_that_does_not_end_is_refused(void **state) {
    (void)state;
    /* One block of fixed codes: a literal zero, and then copies of 258 bytes without an end. */
    static struct error error;
    struct build_recipe recipe = {.layer.algorithm = DIGEST_SHA256,
                                  .diff_id.algorithm = DIGEST_SHA256};
    struct build *build = build_new(&recipe);
    cleanup_buffer struct buffer head = {0}, blob = {0};
    archive_header(&head, &(struct archive_entry){.name = "f", .size = UINT32_MAX});
    buffer_append(&blob, "\x1f\x8b\x08\0\0\0\0\0\0\3", 10);
    uint64_t bits = 0;
    unsigned count = 0;
    buffer_append(&blob, "\0\0\2\xff\xfd", 5); /* stored: the header */
    buffer_append(&blob, head.bytes, 512);
    bits = 2, count = 3;                         /* not the last block, fixed codes */
    bits |= (uint64_t)0x0c << count, count += 8; /* literal 0: 00110000, its highest bit first */
    for (size_t i = 0; i < 400000; i++) {
        bits |= (uint64_t)0xa3 << count, count += 8; /* length 258: 11000101 */
        count += 5;                                  /* distance 1: 00000 */
        for (; count >= 8; count -= 8, bits >>= 8)
            buffer_append(&blob, &bits, 1);
    }
    bool ok = build_feed(build, blob.bytes, blob.length, &error);
    assert_false(ok);
    assert_string_equal(error.code, "span");
    build_free(build);
}

static void test_a_damaged_index_is_refused(void **state) {
    const struct buffer *archive = *state;
    cleanup_buffer struct buffer blob = {0}, out = {0}, copy = {0};
    struct layer_index index;
    archive_gzip(&blob, archive->bytes, archive->length, 6, Z_DEFAULT_STRATEGY);
    assert_string_equal(build_index(&blob, archive, 65536, &out, &copy), "");
    for (size_t at = 0; at < out.length; at += at < 600 ? 1 : 97) {
        out.bytes[at] ^= 4;
        assert_false(layer_index_open(out.bytes, out.length, &index, NULL));
        out.bytes[at] ^= 4;
    }
    assert_false(layer_index_open(out.bytes, out.length - 1, &index, NULL));
    assert_false(layer_index_open(out.bytes, 100, &index, NULL));
}

static void test_the_span_of_a_byte_is_found(void **state) {
    const struct buffer *archive = *state;
    cleanup_buffer struct buffer out = {0}, copy = {0};
    struct layer_index index;
    assert_string_equal(build_index(archive, archive, 65536, &out, &copy), "");
    assert_true(layer_index_open(out.bytes, out.length, &index, NULL));
    assert_ptr_equal(layer_index_span(&index, 0), &index.spans[0]);
    assert_ptr_equal(layer_index_span(&index, SPAN_BYTES - 1), &index.spans[0]);
    assert_ptr_equal(layer_index_span(&index, SPAN_BYTES), &index.spans[1]);
    assert_ptr_equal(layer_index_span(&index, archive->length - 1),
                     &index.spans[index.span_count - 1]);
    assert_null(layer_index_span(&index, archive->length));
    layer_index_finish(&index);
}

static int set_up(void **state) {
    struct buffer *archive = calloc(1, sizeof *archive);
    make_archive(archive);
    *state = archive;
    return 0;
}

static int tear_down(void **state) {
    buffer_finish(*state);
    free(*state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_kind_of_gzip_is_cut_into_spans),
        cmocka_unit_test(test_members_empty_ones_and_padding_are_read),
        cmocka_unit_test(test_plain_archives_are_cut_into_spans),
        cmocka_unit_test(test_frames_of_zstd_are_spans_or_are_copied),
        cmocka_unit_test(test_what_is_not_whole_or_not_right_is_refused),
        cmocka_unit_test(test_bombs_are_refused_past_their_first_gibibyte),
        cmocka_unit_test(test_a_block_that_does_not_end_is_refused),
        cmocka_unit_test(test_a_damaged_index_is_refused),
        cmocka_unit_test(test_the_span_of_a_byte_is_found),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
