/* The list of images: merging, limits, selection, order, and its form in JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include "catalog/select.h"
#include "oci/reference.h"

#define REPOSITORY "eu-docker.pkg.dev/p/r/app"

static struct digest digest_number(unsigned number) {
    struct digest digest = {.algorithm = DIGEST_SHA256};
    memcpy(digest.bytes, &number, sizeof number);
    return digest;
}

static struct catalog_image *enter(struct catalog_list *list, const char *repository,
                                   unsigned number) {
    const struct digest digest = digest_number(number);
    struct error error = {0};
    struct catalog_image *image = catalog_list_enter(list, text_of(repository), &digest, &error);
    if (!image)
        fail_msg("%s", error.text);
    return image;
}

static void tag(struct catalog_list *list, struct catalog_image *image, const char *name) {
    assert_true(catalog_list_add_tag(list, image, text_of(name), NULL));
}

/* An image with one tag, or with none. */
static struct catalog_image *add(struct catalog_list *list, unsigned number, const char *name,
                                 int64_t uploaded_us, int64_t size) {
    struct catalog_image *image = enter(list, REPOSITORY, number);
    image->uploaded_us = uploaded_us;
    image->size = size;
    if (name)
        tag(list, image, name);
    return image;
}

static void assert_tags(const struct catalog_list *list, const char *const *names) {
    size_t count = 0;
    while (names[count])
        count++;
    assert_int_equal(list->count, count);
    for (size_t i = 0; i < count; i++)
        assert_string_equal(list->images[i].tag_count ? list->images[i].tags[0] : "-", names[i]);
}

/* ---- merging ---- */

static void test_tags_of_one_digest_are_one_image_with_all_of_them_sorted(void **state) {
    (void)state;
    cleanup_catalog_list struct catalog_list list = {0};
    tag(&list, enter(&list, REPOSITORY, 1), "latest");
    tag(&list, enter(&list, REPOSITORY, 2), "v2");
    tag(&list, enter(&list, REPOSITORY, 1), "v1");
    tag(&list, enter(&list, REPOSITORY, 1), "latest");
    tag(&list, enter(&list, REPOSITORY, 1), "1.0");
    catalog_list_seal(&list);
    assert_int_equal(list.count, 2);
    assert_int_equal(list.images[0].tag_count, 3);
    assert_string_equal(list.images[0].tags[0], "1.0");
    assert_string_equal(list.images[0].tags[1], "latest");
    assert_string_equal(list.images[0].tags[2], "v1");
}

static void test_one_digest_in_two_repositories_is_two_images(void **state) {
    (void)state;
    cleanup_catalog_list struct catalog_list list = {0};
    enter(&list, REPOSITORY, 1);
    enter(&list, REPOSITORY "/base", 1);
    enter(&list, REPOSITORY, 1);
    assert_int_equal(list.count, 2);
}

static void test_images_without_a_digest_are_never_merged(void **state) {
    (void)state;
    cleanup_catalog_list struct catalog_list list = {0};
    assert_non_null(catalog_list_enter(&list, text_of(REPOSITORY), NULL, NULL));
    assert_non_null(catalog_list_enter(&list, text_of(REPOSITORY), NULL, NULL));
    assert_int_equal(list.count, 2);
}

static void test_a_large_list_keeps_every_image_and_little_memory(void **state) {
    (void)state;
    enum { IMAGES = 50000 };
    cleanup_catalog_list struct catalog_list list = {0};
    char name[40];
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < IMAGES; i++) {
            snprintf(name, sizeof name, "w_2077_%05u_%u", i, round);
            tag(&list, enter(&list, REPOSITORY, i), name);
        }
    }
    catalog_list_seal(&list);
    assert_int_equal(list.count, IMAGES);
    for (unsigned i = 0; i < IMAGES; i++) {
        const struct digest digest = digest_number(i);
        assert_true(digest_equal(&list.images[i].digest, &digest));
        assert_int_equal(list.images[i].tag_count, 3);
        snprintf(name, sizeof name, "w_2077_%05u_2", i);
        assert_string_equal(list.images[i].tags[2], name);
    }
    assert_in_range(list.bytes, 1, 32 << 20);
}

static void test_many_tags_of_one_digest_take_little_memory(void **state) {
    (void)state;
    enum { TAGS = 20000 };
    cleanup_catalog_list struct catalog_list list = {0};
    char name[40];
    for (unsigned i = TAGS; i > 0; i--) {
        snprintf(name, sizeof name, "t%05u", i - 1);
        tag(&list, enter(&list, REPOSITORY, 7), name);
    }
    catalog_list_seal(&list);
    assert_int_equal(list.images[0].tag_count, TAGS);
    assert_string_equal(list.images[0].tags[TAGS - 1], "t19999");
    assert_in_range(list.bytes, 1, 2 << 20);
}

static void test_a_list_beyond_its_limit_is_an_error(void **state) {
    (void)state;
    cleanup_catalog_list struct catalog_list list = {0};
    struct error error = {0};
    struct catalog_image *image = enter(&list, REPOSITORY, 1);
    char name[TAG_LIMIT + 1];
    bool ok = true;
    for (unsigned i = 0; ok && i < 4000000; i++) {
        snprintf(name, sizeof name, "%0128u", i);
        ok = catalog_list_add_tag(&list, image, text_of(name), &error);
    }
    assert_false(ok);
    assert_int_equal(error.kind, ERROR_UNAVAILABLE);
    assert_true(error.lasting);
    assert_in_range(list.bytes, 1, CATALOG_LIST_BYTES);
}

static void test_what_is_no_tag_is_an_error(void **state) {
    (void)state;
    static const char *const bad[] = {"", "-x", "a b", "a/b", "\x1b[2J", "a:b"};
    cleanup_catalog_list struct catalog_list list = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct error error = {0};
        struct catalog_image *image = enter(&list, REPOSITORY, 1);
        assert_false(catalog_list_add_tag(&list, image, text_of(bad[i]), &error));
        assert_int_equal(error.kind, ERROR_UNAVAILABLE);
        assert_null(strchr(error.text, '\x1b'));
    }
    assert_int_equal(list.images[0].tag_count, 0);
}

static void test_what_is_no_word_is_untold(void **state) {
    (void)state;
    cleanup_catalog_list struct catalog_list list = {0};
    char longest[CATALOG_WORD_LIMIT + 2];
    memset(longest, 'a', sizeof longest);
    longest[CATALOG_WORD_LIMIT + 1] = '\0';
    const char *word = "?";
    const char *const bad[] = {"", " a", "a ", "a\nb", "\x80", longest};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_true(catalog_list_keep_word(&list, text_of(bad[i]), &word, NULL));
        assert_null(word);
    }
    const char *again;
    assert_true(catalog_list_keep_word(&list, text_of("application/x; a=b"), &word, NULL));
    assert_true(catalog_list_keep_word(&list, text_of("application/x; a=b"), &again, NULL));
    assert_string_equal(word, "application/x; a=b");
    assert_ptr_equal(word, again);
}

/* ---- selection and order ---- */

static void test_the_newest_upload_is_first_and_those_without_a_time_last(void **state) {
    (void)state;
    cleanup_catalog_list struct catalog_list list = {0};
    add(&list, 1, "untold-a", CATALOG_UNTOLD, 5);
    add(&list, 2, "old", 1000000, 5);
    add(&list, 3, "new-a", 2000001, 5);
    add(&list, 4, "new-b", 2000001, 5);
    add(&list, 5, "untold-b", CATALOG_UNTOLD, 5);
    add(&list, 6, NULL, 2000001, 5);
    catalog_list_seal(&list);
    const struct catalog_selection selection = {.all = true};
    assert_int_equal(catalog_list_select(&list, &selection), 0);
    assert_tags(&list,
                (const char *[]){"new-b", "new-a", "-", "old", "untold-b", "untold-a", NULL});
}

static void test_the_order_by_size_and_by_tag(void **state) {
    (void)state;
    cleanup_catalog_list struct catalog_list list = {0};
    add(&list, 1, "a", 3, CATALOG_UNTOLD);
    add(&list, 2, "c", 1, 10);
    add(&list, 3, "b", 2, 20);
    catalog_list_seal(&list);
    struct catalog_selection selection = {.order = CATALOG_BY_SIZE};
    catalog_list_select(&list, &selection);
    assert_tags(&list, (const char *[]){"b", "c", "a", NULL});
    selection.order = CATALOG_BY_TAG;
    catalog_list_select(&list, &selection);
    assert_tags(&list, (const char *[]){"c", "b", "a", NULL});
    selection.limit = 2;
    catalog_list_select(&list, &selection);
    assert_tags(&list, (const char *[]){"c", "b", NULL});
}

static void test_an_image_is_ordered_by_its_highest_tag(void **state) {
    (void)state;
    cleanup_catalog_list struct catalog_list list = {0};
    tag(&list, add(&list, 1, "a", 1, 1), "z");
    add(&list, 2, "y", 1, 1);
    catalog_list_seal(&list);
    const struct catalog_selection selection = {0};
    catalog_list_select(&list, &selection);
    assert_tags(&list, (const char *[]){"a", "y", NULL});
}

static void test_untagged_images_are_left_out_unless_all_are_wanted(void **state) {
    (void)state;
    cleanup_catalog_list struct catalog_list list = {0};
    add(&list, 1, NULL, 2, 1);
    add(&list, 2, "a", 1, 1);
    catalog_list_seal(&list);
    struct catalog_selection selection = {.all = true};
    catalog_list_select(&list, &selection);
    assert_int_equal(list.count, 2);
    selection.all = false;
    catalog_list_select(&list, &selection);
    assert_tags(&list, (const char *[]){"a", NULL});
}

static void test_a_glob_keeps_an_image_with_all_its_tags(void **state) {
    (void)state;
    cleanup_catalog_list struct catalog_list list = {0};
    tag(&list, add(&list, 1, "latest", 2, 1), "w_1");
    add(&list, 2, "d_1", 1, 1);
    add(&list, 3, "r_1", 1, 1);
    add(&list, 4, NULL, 1, 1);
    catalog_list_seal(&list);
    static const char *const globs[] = {"w_*", "r_?", NULL};
    const struct catalog_selection selection = {.all = true, .tags = globs};
    catalog_list_select(&list, &selection);
    assert_tags(&list, (const char *[]){"latest", "r_1", NULL});
    assert_int_equal(list.images[0].tag_count, 2);
}

static void test_one_image_is_found_by_any_of_its_tags_or_by_its_digest(void **state) {
    (void)state;
    cleanup_catalog_list struct catalog_list list = {0};
    tag(&list, add(&list, 1, "a", 2, 1), "b");
    tag(&list, enter(&list, REPOSITORY, 1), "c");
    add(&list, 2, "ab", 1, 1);
    add(&list, 3, NULL, 1, 1);
    catalog_list_seal(&list);
    const char *const found[] = {"a", "b", "c", "ab"};
    for (size_t i = 0; i < 4; i++) {
        const struct catalog_selection selection = {.tag = found[i]};
        assert_int_equal(catalog_selects(&selection, &list.images[0]), i < 3);
        assert_int_equal(catalog_selects(&selection, &list.images[1]), i == 3);
    }
    const struct catalog_selection absent = {.tag = "aa"};
    assert_false(catalog_selects(&absent, &list.images[0]));
    const struct digest digest = digest_number(3);
    const struct catalog_selection untagged = {.digest = &digest};
    assert_true(catalog_selects(&untagged, &list.images[2]));
    assert_false(catalog_selects(&untagged, &list.images[0]));
}

static void test_an_image_without_a_time_is_not_known_to_be_newer(void **state) {
    (void)state;
    cleanup_catalog_list struct catalog_list list = {0};
    add(&list, 1, "untold", CATALOG_UNTOLD, 1);
    add(&list, 2, "older", 9, 1);
    add(&list, 3, "exact", 10, 1);
    add(&list, 4, "newer", 11, 1);
    add(&list, 5, NULL, CATALOG_UNTOLD, 1);
    catalog_list_seal(&list);
    const struct catalog_selection selection = {.has_since = true, .since_us = 10};
    assert_int_equal(catalog_list_select(&list, &selection), 1);
    assert_tags(&list, (const char *[]){"newer", "exact", NULL});
}

/* ---- times and JSON ---- */

static void test_times_keep_their_fraction_and_1970_is_untold(void **state) {
    (void)state;
    static const struct {
        const char *from, *to;
    } times[] = {
        {"2023-03-27T13:02:39Z", "2023-03-27T13:02:39Z"},
        {"2023-03-27T13:02:39.5Z", "2023-03-27T13:02:39.500Z"},
        {"2023-03-27T13:02:39.123456Z", "2023-03-27T13:02:39.123456Z"},
        {"2023-03-27T13:02:39.123456789Z", "2023-03-27T13:02:39.123456Z"},
        {"2023-03-27T15:02:39.25+02:00", "2023-03-27T13:02:39.250Z"},
        {"9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"},
        {"1970-01-01T00:00:00Z", NULL},
        {"1969-12-31T00:00:00Z", NULL},
        {"yesterday", NULL},
        {"", NULL},
    };
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        char text[CATALOG_TIME_SIZE];
        int64_t us = catalog_time_parse(times[i].from);
        if (times[i].to)
            assert_string_equal(catalog_time_format(us, text), times[i].to);
        else
            assert_int_equal(us, CATALOG_UNTOLD);
    }
}

static void assert_json(const struct catalog_image *image, const char *expected) {
    cleanup_buffer struct buffer json = {0};
    catalog_image_append_json(image, &json);
    assert_string_equal(json.bytes, expected);
}

static void test_all_keys_are_in_the_json_and_the_untold_ones_are_null(void **state) {
    (void)state;
    cleanup_catalog_list struct catalog_list list = {0};
    assert_non_null(catalog_list_enter(&list, text_of(REPOSITORY), NULL, NULL));
    assert_json(&list.images[0],
                "{\"repository\":\"" REPOSITORY "\",\"digest\":null,\"tags\":[],"
                "\"uploaded\":null,\"created\":null,\"size\":null,\"media_type\":null,"
                "\"platforms\":null,\"artifact_type\":null}");
    struct catalog_image *image = add(&list, 1, "b", 1679922159123456, 71000000);
    tag(&list, image, "a");
    image->created_us = 1679922159000000;
    assert_true(catalog_list_add_platform(&list, image, text_of("linux/amd64"), NULL));
    assert_true(catalog_list_add_platform(&list, image, text_of("unknown/unknown"), NULL));
    assert_true(catalog_list_add_platform(&list, image, text_of("linux/\x1b"), NULL));
    assert_true(catalog_list_add_platform(&list, image, text_of("linux/arm/v7"), NULL));
    assert_true(catalog_list_add_platform(&list, image, text_of("linux/amd64"), NULL));
    assert_true(catalog_list_keep_word(&list, text_of("a/b"), &image->media_type, NULL));
    assert_true(catalog_list_keep_word(&list, text_of("\"c\""), &image->artifact_type, NULL));
    catalog_list_seal(&list);
    assert_json(&list.images[1],
                "{\"repository\":\"" REPOSITORY "\",\"digest\":\"sha256:"
                "0100000000000000000000000000000000000000000000000000000000000000\","
                "\"tags\":[\"a\",\"b\"],\"uploaded\":\"2023-03-27T13:02:39.123456Z\","
                "\"created\":\"2023-03-27T13:02:39Z\",\"size\":71000000,\"media_type\":\"a/b\","
                "\"platforms\":[\"linux/amd64\",\"linux/arm/v7\"],"
                "\"artifact_type\":\"\\\"c\\\"\"}");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tags_of_one_digest_are_one_image_with_all_of_them_sorted),
        cmocka_unit_test(test_one_digest_in_two_repositories_is_two_images),
        cmocka_unit_test(test_images_without_a_digest_are_never_merged),
        cmocka_unit_test(test_a_large_list_keeps_every_image_and_little_memory),
        cmocka_unit_test(test_many_tags_of_one_digest_take_little_memory),
        cmocka_unit_test(test_a_list_beyond_its_limit_is_an_error),
        cmocka_unit_test(test_what_is_no_tag_is_an_error),
        cmocka_unit_test(test_what_is_no_word_is_untold),
        cmocka_unit_test(test_the_newest_upload_is_first_and_those_without_a_time_last),
        cmocka_unit_test(test_the_order_by_size_and_by_tag),
        cmocka_unit_test(test_an_image_is_ordered_by_its_highest_tag),
        cmocka_unit_test(test_untagged_images_are_left_out_unless_all_are_wanted),
        cmocka_unit_test(test_a_glob_keeps_an_image_with_all_its_tags),
        cmocka_unit_test(test_one_image_is_found_by_any_of_its_tags_or_by_its_digest),
        cmocka_unit_test(test_an_image_without_a_time_is_not_known_to_be_newer),
        cmocka_unit_test(test_times_keep_their_fraction_and_1970_is_untold),
        cmocka_unit_test(test_all_keys_are_in_the_json_and_the_untold_ones_are_null),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
