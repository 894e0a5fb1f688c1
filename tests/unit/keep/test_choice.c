/* Which images of a repository are chosen, in which order, and how they are called. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include "keep/choice.h"

enum { IMAGES = 32, TAGS = 4 };

struct repository {
    struct keep_listed images[IMAGES];
    const char *tags[IMAGES][TAGS];
    size_t count;
};

static struct keep_listed *add(struct repository *repository, const char *digest, const char *one,
                               const char *two, const char *three) {
    const char *tags[] = {one, two, three};
    struct keep_listed *image = &repository->images[repository->count];
    image->digest = digest;
    image->tags = repository->tags[repository->count];
    while (image->tag_count < 3 && tags[image->tag_count]) {
        repository->tags[repository->count][image->tag_count] = tags[image->tag_count];
        image->tag_count++;
    }
    repository->count++;
    return image;
}

static void check(const struct keep_chosen *chosen, size_t count, bool names,
                  const char *const *expected) {
    size_t i = 0;
    for (; expected[i]; i++) {
        if (i == count)
            fail_msg("%s is missing", expected[i]);
        assert_string_equal(names ? chosen[i].name : chosen[i].tag, expected[i]);
    }
    if (i < count)
        fail_msg("%s is too many", chosen[i].tag);
}
#define CHECK_TAGS(list, ...)                                                                      \
    check((list), list##_count, false, (const char *const[]){__VA_ARGS__, NULL})
#define CHECK_NAMES(list, ...)                                                                     \
    check((list), list##_count, true, (const char *const[]){__VA_ARGS__, NULL})

static struct keep_choice choose(const struct keep_entry *entry,
                                 const struct repository *repository) {
    struct keep_choice choice;
    struct error error = {0};
    if (!keep_choose(entry, repository->images, repository->count, 1700000000, &choice, &error))
        fail_msg("%s", error.text);
    return choice;
}

static void docker_vector(struct repository *repository) {
    add(repository, "b0b7", "recommended", "r21_0_0", NULL);
    add(repository, "0000", "r22_0_0_rc1", NULL, NULL);
    add(repository, "3fc7", "w_2021_22", NULL, NULL);
    add(repository, "77cd", "w_2021_21_c0021.003", NULL, NULL);
    add(repository, "6259", "w_2021_19_c0020.001", NULL, NULL);
    add(repository, "bb16", "w_2021_03", NULL, NULL);
    add(repository, "343b", "d_2021_01_13", NULL, NULL);
    add(repository, "badb", "d_2021_01_12", NULL, NULL);
}

static void test_the_newest_of_each_kind_are_chosen_after_recommended(void **state) {
    (void)state;
    struct repository repository = {0};
    docker_vector(&repository);
    struct keep_entry entry = {.kind = KEEP_ENTRY_RUBIN, .repository = "h/r"};
    entry.rubin = (struct keep_rubin){
        .releases = 1, .weeklies = 1, .dailies = 1, .recommended = "recommended"};
    struct keep_choice choice = choose(&entry, &repository);
    CHECK_TAGS(choice.desired, "recommended", "r21_0_0", "w_2021_22", "d_2021_01_13");
    CHECK_NAMES(choice.desired, "Recommended (Release r21.0.0)", "Release r21.0.0",
                "Weekly 2021_22", "Daily 2021_01_13");
    assert_string_equal(choice.desired[0].short_name, "Recommended");
    CHECK_TAGS(choice.all, "w_2021_22", "w_2021_21_c0021.003", "w_2021_19_c0020.001", "w_2021_03",
               "recommended", "r22_0_0_rc1", "r21_0_0", "d_2021_01_13", "d_2021_01_12");
    keep_choice_finish(&choice);
    entry.rubin.candidates = 1;
    choice = choose(&entry, &repository);
    CHECK_TAGS(choice.desired, "recommended", "r21_0_0", "w_2021_22", "d_2021_01_13",
               "r22_0_0_rc1");
    keep_choice_finish(&choice);
}

static void test_a_cycle_filters_everything(void **state) {
    (void)state;
    struct repository repository = {0};
    docker_vector(&repository);
    const char *const pins[] = {"w_2021_03", "w_2021_19_c0020.001", NULL};
    struct keep_entry entry = {.kind = KEEP_ENTRY_RUBIN, .repository = "h/r"};
    entry.rubin = (struct keep_rubin){.weeklies = 1, .has_cycle = true, .cycle = 21, .pins = pins};
    struct keep_choice choice = choose(&entry, &repository);
    CHECK_TAGS(choice.desired, "w_2021_21_c0021.003");
    CHECK_TAGS(choice.all, "w_2021_21_c0021.003");
    keep_choice_finish(&choice);
}

static void
test_aliases_follow_the_recommended_one_and_have_the_cycle_of_their_image(void **state) {
    (void)state;
    struct repository repository = {0};
    add(&repository, "1", "w_2021_21_c0020.002", NULL, NULL);
    add(&repository, "2", "w_2021_22_c0020.003", "latest_weekly", "recommended");
    add(&repository, "3", "d_2021_06_14_c0020.004", NULL, NULL);
    add(&repository, "4", "d_2021_06_15_c0020.005", "latest_daily", NULL);
    add(&repository, "5", "w_2021_21_c0021.002", NULL, NULL);
    add(&repository, "6", "w_2021_22_c0021.003", NULL, NULL);
    add(&repository, "7", "d_2021_06_14_c0021.004", NULL, NULL);
    add(&repository, "8", "d_2021_06_15_c0021.005", NULL, NULL);
    const char *const aliases[] = {"latest_weekly", "latest_daily", NULL};
    struct keep_entry entry = {.kind = KEEP_ENTRY_RUBIN, .repository = "h/r"};
    entry.rubin = (struct keep_rubin){.weeklies = 2,
                                      .dailies = 2,
                                      .recommended = "recommended",
                                      .aliases = aliases,
                                      .has_cycle = true,
                                      .cycle = 20};
    struct keep_choice choice = choose(&entry, &repository);
    CHECK_NAMES(choice.desired, "Recommended (Weekly 2021_22 (SAL Cycle 0020, Build 003))",
                "Latest Weekly (Weekly 2021_22 (SAL Cycle 0020, Build 003))",
                "Latest Daily (Daily 2021_06_15 (SAL Cycle 0020, Build 005))",
                "Weekly 2021_22 (SAL Cycle 0020, Build 003)",
                "Weekly 2021_21 (SAL Cycle 0020, Build 002)",
                "Daily 2021_06_15 (SAL Cycle 0020, Build 005)",
                "Daily 2021_06_14 (SAL Cycle 0020, Build 004)");
    assert_string_equal(choice.desired[0].flat_name,
                        "Recommended (Weekly 2021_22, SAL Cycle 0020, Build 003)");
    keep_choice_finish(&choice);
}

static void test_tags_of_one_architecture_are_hidden(void **state) {
    (void)state;
    struct repository repository = {0};
    add(&repository, "1", "w_2077_44-amd64", NULL, NULL);
    add(&repository, "2", "w_2077_43", "recommended", "latest_weekly");
    add(&repository, "3", "w_2077_42", NULL, NULL);
    add(&repository, "4", "w_2077_41", NULL, NULL);
    add(&repository, "5", "exp_w_2077_41_testing", NULL, NULL);
    const char *const aliases[] = {"latest_weekly", NULL};
    struct keep_entry entry = {.kind = KEEP_ENTRY_RUBIN, .repository = "h/r"};
    entry.rubin = (struct keep_rubin){.weeklies = 2,
                                      .releases = 1,
                                      .experimentals = 5,
                                      .recommended = "recommended",
                                      .aliases = aliases};
    struct keep_choice choice = choose(&entry, &repository);
    CHECK_NAMES(choice.desired, "Recommended (Weekly 2077_43)", "Latest Weekly (Weekly 2077_43)",
                "Weekly 2077_43", "Weekly 2077_42", "Experimental Weekly 2077_41 [testing]");
    CHECK_TAGS(choice.all, "w_2077_43", "w_2077_42", "w_2077_41", "recommended", "latest_weekly",
               "exp_w_2077_41_testing");
    keep_choice_finish(&choice);
}

static void test_an_alias_alone_has_no_brackets_and_several_siblings_are_all_named(void **state) {
    (void)state;
    struct repository repository = {0};
    add(&repository, "1", "recommended", "something", NULL);
    add(&repository, "2", "latest", "r21_0_0", "w_2021_22");
    const char *const aliases[] = {"latest", NULL};
    struct keep_entry entry = {.kind = KEEP_ENTRY_RUBIN, .repository = "h/r"};
    entry.rubin = (struct keep_rubin){.recommended = "recommended", .aliases = aliases};
    struct keep_choice choice = choose(&entry, &repository);
    CHECK_NAMES(choice.desired, "Recommended", "Latest (Weekly 2021_22, Release r21.0.0)");
    assert_string_equal(choice.desired[1].flat_name, "Latest (Release r21.0.0)");
    keep_choice_finish(&choice);
}

static void test_filters_limit_what_is_listed(void **state) {
    (void)state;
    struct repository repository = {0};
    add(&repository, "1", "w_2023_45", "r25_0_0", NULL);
    add(&repository, "2", "w_2023_40", "r26_0_0", NULL);
    add(&repository, "3", "w_2023_30", "r24_0_0_rsp3", "w_2023_46_rsp2");
    add(&repository, "4", "w_2022_30", "d_2023_11_14", "d_2023_11_01");
    const char *const pins[] = {"w_2022_30", NULL};
    struct keep_entry entry = {.kind = KEEP_ENTRY_RUBIN, .repository = "h/r"};
    entry.rubin = (struct keep_rubin){.weeklies = 10, .dailies = 10, .releases = 10, .pins = pins};
    /* Now is 2023-11-14. */
    entry.rubin.filters[KEEP_TAG_WEEKLY] = (struct keep_filter){.age_ms = INT64_C(90) * 86400000,
                                                                .has_number = true,
                                                                .number = 2,
                                                                .has_cutoff_build = true,
                                                                .cutoff_build = 3};
    entry.rubin.filters[KEEP_TAG_DAILY] = (struct keep_filter){.cutoff_date_s = 1699315200};
    entry.rubin.filters[KEEP_TAG_RELEASE] = (struct keep_filter){.cutoff_version = "r25_0_0"};
    struct keep_choice choice = choose(&entry, &repository);
    CHECK_TAGS(choice.desired, "w_2022_30", "r26_0_0", "r25_0_0", "w_2023_45", "w_2023_40",
               "d_2023_11_14");
    CHECK_TAGS(choice.all, "w_2023_45", "w_2023_40", "w_2022_30", "r26_0_0", "r25_0_0",
               "d_2023_11_14");
    keep_choice_finish(&choice);
}

static void test_tags_are_chosen_by_glob_order_age_and_number(void **state) {
    (void)state;
    struct repository repository = {0};
    add(&repository, "1", "v1.9", "one", NULL)->uploaded_s = 1699999000;
    add(&repository, "2", "v1.10", NULL, NULL)->uploaded_s = 1699998000;
    add(&repository, "3", "v1.10-rc1", NULL, NULL)->uploaded_s = 1699999999;
    add(&repository, "4", "v0.1", NULL, NULL)->uploaded_s = 1600000000;
    add(&repository, "5", "v9", NULL, NULL);
    const char *const globs[] = {"v*", NULL};
    struct keep_entry entry = {.kind = KEEP_ENTRY_TAGS, .repository = "h/r"};
    entry.tags = (struct keep_tags){.matching = globs, .has_newest = true, .newest = 3};
    struct keep_choice choice = choose(&entry, &repository);
    CHECK_TAGS(choice.desired, "v9", "v1.10", "v1.10-rc1");
    keep_choice_finish(&choice);
    entry.tags.order = KEEP_ORDER_UPLOADED;
    choice = choose(&entry, &repository);
    CHECK_TAGS(choice.desired, "v1.10-rc1", "v1.9", "v1.10");
    keep_choice_finish(&choice);
    entry.tags = (struct keep_tags){.order = KEEP_ORDER_NAME, .newer_than_ms = 3600000};
    choice = choose(&entry, &repository);
    CHECK_NAMES(choice.desired, "v1.9", "v1.10-rc1", "v1.10", "one");
    assert_true(choice.without_times);
    keep_choice_finish(&choice);
}

static void test_more_than_a_thousand_images_are_refused(void **state) {
    (void)state;
    static char names[1001][8];
    static const char *tags[1001];
    for (size_t i = 0; i < 1001; i++) {
        snprintf(names[i], sizeof names[i], "v%zu", i);
        tags[i] = names[i];
    }
    struct keep_listed image = {.digest = "1", .tags = tags, .tag_count = 1001};
    struct keep_entry entry = {.kind = KEEP_ENTRY_TAGS, .repository = "h/r"};
    struct keep_choice choice;
    struct error error = {0};
    assert_false(keep_choose(&entry, &image, 1, 0, &choice, &error));
    assert_int_equal(error.kind, ERROR_INVALID);
    keep_choice_finish(&choice);
    image.tag_count = 1000;
    assert_true(keep_choose(&entry, &image, 1, 0, &choice, &error));
    assert_int_equal(choice.desired_count, 1000);
    keep_choice_finish(&choice);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_newest_of_each_kind_are_chosen_after_recommended),
        cmocka_unit_test(test_a_cycle_filters_everything),
        cmocka_unit_test(test_aliases_follow_the_recommended_one_and_have_the_cycle_of_their_image),
        cmocka_unit_test(test_tags_of_one_architecture_are_hidden),
        cmocka_unit_test(test_an_alias_alone_has_no_brackets_and_several_siblings_are_all_named),
        cmocka_unit_test(test_filters_limit_what_is_listed),
        cmocka_unit_test(test_tags_are_chosen_by_glob_order_age_and_number),
        cmocka_unit_test(test_more_than_a_thousand_images_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
