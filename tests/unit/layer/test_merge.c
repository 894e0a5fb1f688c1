/* Layers of an image, laid over each other and written as an EROFS image. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/cleanup.h"
#include "layer/archive.h"
#include "layer/index.h"
#include "layer/unpack.h"

typedef struct archive_entry entry;

static const uint64_t sizes[] = {1 << 20, 1 << 20, 1 << 20};

/* The tree of one layer, as it comes back from its own EROFS image. */
static struct tree *layer_of(const entry *entries) {
    cleanup_buffer struct buffer archive = {0}, out = {0};
    struct error error = {0};
    const struct layer_facts facts = {
        .layer.algorithm = DIGEST_SHA256, .diff_id.algorithm = DIGEST_SHA256, .tar_size = 0};
    struct tree *tree = tree_new(TREE_MEMORY);
    struct tar_reader *reader = tar_reader_new(unpack_entry, tree);
    for (; entries->name; entries++)
        archive_add(&archive, entries);
    archive_end(&archive);
    assert_true(tar_reader_feed(reader, archive.bytes, archive.length, &error));
    assert_true(tar_reader_finish(reader, &error));
    tar_reader_free(reader);
    struct layer_facts sized = facts;
    sized.tar_size = archive.length;
    struct layer_span span = {.in_length = (uint32_t)archive.length,
                              .out_length = (uint32_t)archive.length,
                              .kind = SPAN_PLAIN};
    sized.blob_size = archive.length;
    const struct layer_spans spans = {.list = &span, .count = 1};
    assert_true(layer_index_write(&sized, &spans, tree, &out, &error));
    cleanup_free char *before = archive_tree_shown(tree);
    tree_free(tree);
    struct layer_index index;
    assert_true(layer_index_open(out.bytes, out.length, &index, &error));
    tree = layer_index_tree(&index, &error);
    assert_non_null(tree);
    cleanup_free char *after = archive_tree_shown(tree);
    assert_string_equal(after, before);
    layer_index_finish(&index);
    return tree;
}

/* Lays the layers over each other. NULL: refused, with LAYER_TAR. */
static char *merged(const entry *const *layers, size_t count) {
    struct tree *tree = tree_new(TREE_MEMORY);
    struct error error = {0};
    bool ok = true;
    for (size_t i = 0; ok && i < count; i++) {
        struct tree *layer = layer_of(layers[i]);
        ok = tree_merge(tree, layer, (uint32_t)i + 1, &error);
        tree_free(layer);
    }
    cleanup_buffer struct buffer image = {0};
    ok = ok && erofs_write(tree, sizes, count, &image, &error);
    tree_free(tree);
    if (!ok) {
        assert_string_equal(error.code, "tar");
        return NULL;
    }
    tree = erofs_read(image.bytes, image.length, sizes, count, &error);
    assert_non_null(tree);
    char *shown = archive_tree_shown(tree);
    tree_free(tree);
    return shown;
}

#define LAYER(...)                                                                                 \
    (const entry[]) {                                                                              \
        __VA_ARGS__, {                                                                             \
            0                                                                                      \
        }                                                                                          \
    }

static void assert_merged(const char *wanted, const entry *lower, const entry *upper) {
    cleanup_free char *shown = merged((const entry *const[]){lower, upper}, 2);
    assert_non_null(shown);
    assert_string_equal(shown, wanted);
}

static void test_upper_names_replace_lower_ones(void **state) {
    (void)state;
    assert_merged("-0644 /a 2 0+2@512\nd0755 /d\n-0644 /d/x 0\n-0644 /d/y 0\nl0777 /f -> a\n",
                  LAYER({.name = "a", .body = "1"}, {.name = "d/x"}, {.type = '5', .name = "f"},
                        {.name = "f/g"}),
                  LAYER({.name = "a", .body = "22"}, {.name = "d/y"},
                        {.type = '2', .name = "f", .link = "a"}));
}

static void test_directories_get_what_the_upper_header_says(void **state) {
    (void)state;
    assert_merged(
        "d0700 /d\n-0644 /d/x 0\nd0750 /e t5.000000000 user.a=1\n-0644 /e/y 0\n",
        LAYER(
            {.type = '5', .name = "d", .mode = 0755, .mtime = 9, .pax = "SCHILY.xattr.user.gone=1"},
            {.name = "d/x"},
            {.type = '5', .name = "e", .mode = 0750, .mtime = 5, .pax = "SCHILY.xattr.user.a=1"}),
        LAYER({.type = '5', .name = "d", .mode = 0700}, {.name = "e/y"}));
}

static void test_whiteouts_and_opaque_directories_hide(void **state) {
    (void)state;
    assert_merged("d0755 /d\n-0644 /d/new 0\nd0755 /keep\n-0644 /keep/b 0\n",
                  LAYER({.name = "a"}, {.name = "d/x"}, {.name = "d/y/z"}, {.name = "keep/a"},
                        {.name = "keep/b"}, {.name = "t/u/v"}),
                  LAYER({.name = ".wh.a"}, {.name = "d/.wh..wh..opq"}, {.name = "d/new"},
                        {.name = "keep/.wh.a"}, {.name = ".wh.t"}, {.name = ".wh.nothing"}));
}

static void test_hard_links_stay_together(void **state) {
    (void)state;
    assert_merged("-0644 /b 1 0+1@512 x2\n-0644 /c 1 0+1@512 x2\n-0600 /d 0 x2\n-0600 /e 0 x2\n",
                  LAYER({.name = "a", .body = "1"}, {.type = '1', .name = "b", .link = "a"},
                        {.type = '1', .name = "c", .link = "a"}),
                  LAYER({.name = ".wh.a"}, {.name = "d", .mode = 0600},
                        {.type = '1', .name = "e", .link = "d", .mode = 0600}));
}

static void test_a_directory_in_place_of_a_link_hides_nothing_else(void **state) {
    (void)state;
    const entry *const layers[] = {
        LAYER({.type = '5', .name = "usr/lib"}, {.type = '2', .name = "lib", .link = "usr/lib"}),
        LAYER({.name = "lib/x"})};
    assert_null(merged(layers, 2));
    assert_merged("d0755 /lib\n-0644 /lib/x 0\n",
                  LAYER({.type = '2', .name = "lib", .link = "usr/lib"}),
                  LAYER({.type = '5', .name = "lib", .mode = 0755}, {.name = "lib/x"}));
}

static void test_large_directories_and_long_names_are_found_again(void **state) {
    (void)state;
    enum { COUNT = 3000 };
    entry *entries = calloc(COUNT + 1, sizeof *entries);
    char(*names)[200] = calloc(COUNT, sizeof *names),
    (*targets)[80] = calloc(COUNT, sizeof *targets);
    for (int i = 0; i < COUNT; i++) {
        char pad[160];
        memset(pad, '!' + i % 90, sizeof pad);
        for (size_t j = 0; j < sizeof pad; j++)
            if (pad[j] == '/' || pad[j] == '.')
                pad[j] = '-';
        snprintf(names[i], 100, "dir/%.*s%d", i % 90, pad, i);
        snprintf(targets[i], 80, "%.*s", 1 + i % 79, pad);
        entries[i] = (entry){.type = i % 3 ? '2' : '0', .name = names[i], .link = targets[i]};
    }
    const entry *const layers[] = {entries};
    cleanup_free char *shown = merged(layers, 1);
    size_t lines = 0;
    for (const char *at = shown; (at = strchr(at, '\n')); at++)
        lines++;
    assert_int_equal(lines, COUNT + 1);
    free(entries);
    free(names);
    free(targets);
}

static void test_an_image_index_comes_back(void **state) {
    (void)state;
    cleanup_buffer struct buffer out = {0};
    struct error error = {0};
    struct image_layer layers[2] = {{.blob_size = 5, .tar_size = 1 << 20},
                                    {.blob_size = 6, .tar_size = 1 << 20}};
    struct digest manifest;
    assert_true(digest_of(DIGEST_SHA512, "m", 1, &manifest));
    for (int i = 0; i < 2; i++) {
        assert_true(digest_of(DIGEST_SHA256, "l", 1, &layers[i].layer));
        assert_true(digest_of(DIGEST_SHA256, "d", 1, &layers[i].diff_id));
    }
    struct tree *tree = tree_new(TREE_MEMORY);
    struct tree *layer = layer_of(LAYER({.name = "a", .body = "x"}));
    assert_true(tree_merge(tree, layer, 2, &error));
    tree_free(layer);
    assert_true(image_index_write(&manifest, layers, 2, tree, &out, &error));
    tree_free(tree);
    struct image_index index;
    assert_true(image_index_open(out.bytes, out.length, &index, &error));
    assert_true(digest_equal(&index.manifest, &manifest));
    assert_int_equal(index.layer_count, 2);
    assert_true(digest_equal(&index.layers[1].diff_id, &layers[1].diff_id));
    assert_int_equal(index.layers[1].blob_size, 6);
    tree = image_index_tree(&index, &error);
    assert_non_null(tree);
    struct tree_node *node = tree_find(tree, tree->root, text_of("a"));
    assert_int_equal(node->inode->device, 2);
    tree_free(tree);
    image_index_finish(&index);
    for (size_t at = 0; at < out.length; at++) {
        out.bytes[at] ^= 1;
        assert_false(image_index_open(out.bytes, out.length, &index, NULL));
        out.bytes[at] ^= 1;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_upper_names_replace_lower_ones),
        cmocka_unit_test(test_directories_get_what_the_upper_header_says),
        cmocka_unit_test(test_whiteouts_and_opaque_directories_hide),
        cmocka_unit_test(test_hard_links_stay_together),
        cmocka_unit_test(test_a_directory_in_place_of_a_link_hides_nothing_else),
        cmocka_unit_test(test_large_directories_and_long_names_are_found_again),
        cmocka_unit_test(test_an_image_index_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
