/* The grammar, the names and the order of Rubin Observatory's tags. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "keep/tag.h"

static const struct {
    const char *tag;
    enum keep_tag_kind kind;
    const char *name;
    const char *version; /* NULL: none */
    int cycle;           /* -1: none */
} vectors[] = {
    {"r21_0_1", KEEP_TAG_RELEASE, "Release r21.0.1", "21.0.1", -1},
    {"r22_0_0_rc1", KEEP_TAG_CANDIDATE, "Release Candidate r22.0.0-rc1", "22.0.0-rc1", -1},
    {"w_2021_22", KEEP_TAG_WEEKLY, "Weekly 2021_22", "2021.22.0", -1},
    {"d_2021_05_27", KEEP_TAG_DAILY, "Daily 2021_05_27", "2021.5.27", -1},
    {"r21_0_1_c0020.001", KEEP_TAG_RELEASE, "Release r21.0.1 (SAL Cycle 0020, Build 001)", "21.0.1",
     20},
    {"r22_0_0_rc1_c0020.001", KEEP_TAG_CANDIDATE,
     "Release Candidate r22.0.0-rc1 (SAL Cycle 0020, Build 001)", "22.0.0-rc1", 20},
    {"w_2021_22_c0020.001", KEEP_TAG_WEEKLY, "Weekly 2021_22 (SAL Cycle 0020, Build 001)",
     "2021.22.0", 20},
    {"w_2021_22_csal0020.001", KEEP_TAG_WEEKLY, "Weekly 2021_22 (SAL Cycle 0020, Build 001)",
     "2021.22.0", 20},
    {"d_2021_05_27_c0020.001", KEEP_TAG_DAILY, "Daily 2021_05_27 (SAL Cycle 0020, Build 001)",
     "2021.5.27", 20},
    {"r21_0_1_20210527", KEEP_TAG_RELEASE, "Release r21.0.1 [20210527]", "21.0.1", -1},
    {"r22_0_0_rc1_20210527", KEEP_TAG_CANDIDATE, "Release Candidate r22.0.0-rc1 [20210527]",
     "22.0.0-rc1", -1},
    {"w_2021_22_20210527", KEEP_TAG_WEEKLY, "Weekly 2021_22 [20210527]", "2021.22.0", -1},
    {"w_2021_22_c0020.001_20210527", KEEP_TAG_WEEKLY,
     "Weekly 2021_22 (SAL Cycle 0020, Build 001) [20210527]", "2021.22.0", 20},
    {"d_2021_05_27_c0020.001_20210527", KEEP_TAG_DAILY,
     "Daily 2021_05_27 (SAL Cycle 0020, Build 001) [20210527]", "2021.5.27", 20},
    {"r170", KEEP_TAG_RELEASE, "Release r17.0.0", "17.0.0", -1},
    {"r1700", KEEP_TAG_UNKNOWN, "r1700", NULL, -1},
    {"r170_rest", KEEP_TAG_UNKNOWN, "r170_rest", NULL, -1},
    {"recommended", KEEP_TAG_UNKNOWN, "recommended", NULL, -1},
    {"recommended_c0034", KEEP_TAG_UNKNOWN, "recommended (SAL Cycle 0034)", NULL, 34},
    {"exp_random", KEEP_TAG_EXPERIMENTAL, "Experimental random", NULL, -1},
    {"exp_w_2021_22", KEEP_TAG_EXPERIMENTAL, "Experimental Weekly 2021_22", "2021.22.0", -1},
    {"exp_w_2077_41_testing", KEEP_TAG_EXPERIMENTAL, "Experimental Weekly 2077_41 [testing]",
     "2077.41.0", -1},
    {"exp_", KEEP_TAG_UNKNOWN, "exp_", NULL, -1},
    {"not_a_normal_format", KEEP_TAG_UNKNOWN, "not_a_normal_format", NULL, -1},
    {"MiXeD_CaSe_TaG", KEEP_TAG_UNKNOWN, "MiXeD_CaSe_TaG", NULL, -1},
    {"", KEEP_TAG_UNKNOWN, "latest", NULL, -1},
    {"w_2021_22_rsp19", KEEP_TAG_WEEKLY, "Weekly 2021_22 (RSP Build 19)", "2021.22.0", -1},
    {"w_2021_22_c0020.001_rsp19_x", KEEP_TAG_WEEKLY,
     "Weekly 2021_22 (SAL Cycle 0020, Build 001) (RSP Build 19) [x]", "2021.22.0", 20},
    {"w_2021_22_rsp19_c0020.001", KEEP_TAG_WEEKLY,
     "Weekly 2021_22 (RSP Build 19) (SAL Cycle 0020, Build 001)", "2021.22.0", 20},
    {"w_2077_44-amd64", KEEP_TAG_WEEKLY, "Weekly 2077_44 [amd64]", "2077.44.0", -1},
    {"w_2077_44_a-b-arm64", KEEP_TAG_WEEKLY, "Weekly 2077_44 [a-b] [arm64]", "2077.44.0", -1},
    {"w_2021_22foo", KEEP_TAG_UNKNOWN, "w_2021_22foo", NULL, -1},
    {"w_2021_22_c0020.001x", KEEP_TAG_WEEKLY, "Weekly 2021_22 [c0020.001x]", "2021.22.0", -1},
    {"r21_0_0_rc1x", KEEP_TAG_RELEASE, "Release r21.0.0 [rc1x]", "21.0.0", -1},
    {"w_2021_22_", KEEP_TAG_WEEKLY, "Weekly 2021_22", "2021.22.0", -1},
    {"r021_00_1", KEEP_TAG_RELEASE, "Release r21.0.1", "21.0.1", -1},
    {"w_99999999999999999999999_1", KEEP_TAG_WEEKLY, "Weekly 99999999999999999999999_1",
     "99999999999999999999999.1", -1},
};

static void check_name(const struct keep_tag *tag, const char *expected) {
    cleanup_buffer struct buffer name = {0};
    assert_true(keep_tag_append_name(tag, &name));
    assert_string_equal(name.bytes, expected);
}

static void test_every_vector_has_its_kind_name_version_and_cycle(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        struct keep_tag tag, version;
        keep_tag_parse(text_of(vectors[i].tag), &tag);
        if (tag.kind != vectors[i].kind)
            fail_msg("%s is of kind %d", vectors[i].tag, tag.kind);
        check_name(&tag, vectors[i].name);
        assert_int_equal(tag.has_version, vectors[i].version != NULL);
        if (vectors[i].version) {
            assert_true(keep_tag_parse_version(text_of(vectors[i].version), &version));
            if (keep_tag_compare_version(&tag, &version) != 0)
                fail_msg("%s is not version %s", vectors[i].tag, vectors[i].version);
        }
        if (vectors[i].cycle < 0)
            assert_int_equal(tag.cycle.length, 0);
        else
            assert_true(keep_tag_has_cycle(&tag, (uint64_t)vectors[i].cycle));
        assert_false(keep_tag_has_cycle(&tag, 21));
    }
}

static void test_an_alias_is_named_by_its_words(void **state) {
    (void)state;
    static const char *const names[][2] = {
        {"recommended", "Recommended"},
        {"latest_weekly", "Latest Weekly"},
        {"recommended_c0034", "Recommended (SAL Cycle 0034)"},
        {"w_2021_22", "W 2021 22"},
        {"MIXED-case_x", "Mixed-Case X"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct keep_tag tag;
        keep_tag_parse_alias(text_of(names[i][0]), &tag);
        assert_int_equal(tag.kind, KEEP_TAG_ALIAS);
        check_name(&tag, names[i][1]);
    }
}

/* Each is older than the next. */
static const char *const ascending[] = {
    "w_2021_04",           "w_2021_5",
    "w_2021_22-arm64",     "w_2021_22",
    "w_2021_22_20210527",  "w_2021_22_rsp9",
    "w_2021_22_rsp19",     "w_2021_22_c0020.002",
    "w_2021_22_c0020.010", "w_2021_22_c0021.001",
    "w_2022_01",
};
static const char *const releases[] = {"r9_0_0", "r170", "r21_0_0", "r21_0_1", "r22_0_0"};
static const char *const candidates[] = {"r21_0_1_rc1", "r22_0_0_rc1", "r22_0_0_rc2"};

static void check_order(const char *const *tags, size_t count) {
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < count; j++) {
            struct keep_tag a, b;
            keep_tag_parse(text_of(tags[i]), &a);
            keep_tag_parse(text_of(tags[j]), &b);
            int order = keep_tag_compare(&a, &b);
            if ((order > 0) - (order < 0) != (i > j) - (i < j))
                fail_msg("%s against %s: %d", tags[i], tags[j], order);
        }
    }
}

static void test_numbers_decide_which_is_newer(void **state) {
    (void)state;
    check_order(ascending, sizeof ascending / sizeof *ascending);
    check_order(releases, sizeof releases / sizeof *releases);
    check_order(candidates, sizeof candidates / sizeof *candidates);
}

static void test_a_candidate_is_older_than_its_release(void **state) {
    (void)state;
    struct keep_tag candidate, release;
    keep_tag_parse(text_of("r22_0_0_rc1"), &candidate);
    keep_tag_parse(text_of("r22_0_0"), &release);
    assert_true(keep_tag_compare_version(&candidate, &release) < 0);
    assert_true(keep_tag_parse_version(text_of("22.0.0-rc1"), &release));
    assert_int_equal(keep_tag_compare_version(&candidate, &release), 0);
    assert_false(keep_tag_parse_version(text_of("latest"), &release));
    assert_false(keep_tag_parse_version(text_of("1.2.3.4"), &release));
}

static void test_dates_come_from_days_and_weeks(void **state) {
    (void)state;
    static const struct {
        const char *tag;
        int64_t days; /* -1: none */
    } dates[] = {
        {"d_2021_05_27", 18774},  {"w_2021_22", 18781}, {"w_2020_53", 18627},
        {"w_2021_53", -1},        {"d_2021_02_29", -1}, {"d_2024_02_29", 19782},
        {"r21_0_0", -1},          {"d_2021_13_01", -1}, {"w_2021_0", -1},
        {"exp_w_2021_22", 18781}, {"recommended", -1},
    };
    for (size_t i = 0; i < sizeof dates / sizeof *dates; i++) {
        struct keep_tag tag;
        int64_t seconds = -1;
        keep_tag_parse(text_of(dates[i].tag), &tag);
        bool has = keep_tag_date(&tag, &seconds);
        if (has != (dates[i].days >= 0) || (has && seconds != dates[i].days * 86400))
            fail_msg("%s: %d, day %ld", dates[i].tag, has, (long)(seconds / 86400));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_vector_has_its_kind_name_version_and_cycle),
        cmocka_unit_test(test_an_alias_is_named_by_its_words),
        cmocka_unit_test(test_numbers_decide_which_is_newer),
        cmocka_unit_test(test_a_candidate_is_older_than_its_release),
        cmocka_unit_test(test_dates_come_from_days_and_weeks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
