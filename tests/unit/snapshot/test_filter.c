/* Filters in containerd's syntax, and which snapshots they match. */
#include "snapshot/bench.h"

static bool matches(const char *filter) {
    json_t *labels =
        json_pack("{s:s,s:s}", "containerd.io/snapshot.ref", "sha256:ab", "plain", "a b");
    struct entry parent = {.name = (char *)"default/1/sha256:aa", .kind = ENTRY_COMMITTED};
    const struct entry entry = {.name = (char *)"default/2/sha256:ab",
                                .parent = &parent,
                                .kind = ENTRY_ACTIVE,
                                .labels = labels};
    struct error error = {0};
    cleanup_filters struct filters *filters = filters_parse(&filter, 1, &error);
    if (!filters)
        fail_msg("%s: %s", filter, error.text);
    bool result = filters_match(filters, &entry);
    json_decref(labels);
    return result;
}

static void test_conditions_hold_for_what_they_say(void **state) {
    static const char *const right[] = {
        "",
        "name",
        "kind",
        "parent",
        "kind==active",
        "name==default/2/sha256:ab",
        "name==\"default/2/sha256:ab\"",
        "name!=other",
        "labels.\"containerd.io/snapshot.ref\"==sha256:ab,parent==\"default/1/sha256:aa\"",
        "labels.plain==\"a b\"",
        "labels.\"plain\"",
        "labels.plain==\"\\x61\\u0020b\"",
        "labels.none!=x",
        "name~=sha256",
        "name~=/^default\\/2/",
        "name~=|^default.2|",
        "name~=\"ab$\",kind!=view",
        "unknown!=x",
    };
    static const char *const wrong[] = {
        "kind==view",     "name==default/2",  "labels.none", "unknown",
        "labels.none==x", "name,labels.none", "labels",      "name~=^sha",
    };
    (void)state;
    for (size_t i = 0; i < sizeof right / sizeof *right; i++)
        if (!matches(right[i]))
            fail_msg("%s does not match", right[i]);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (matches(wrong[i]))
            fail_msg("%s matches", wrong[i]);
}

static void test_one_filter_of_several_is_enough(void **state) {
    static const char *const texts[] = {"name==a", "name==b"};
    const struct entry a = {.name = (char *)"a"}, b = {.name = (char *)"b"},
                       c = {.name = (char *)"c"};
    cleanup_filters struct filters *filters = filters_parse(texts, 2, NULL);
    cleanup_filters struct filters *none = filters_parse(NULL, 0, NULL);
    (void)state;
    assert_true(filters_match(filters, &a));
    assert_true(filters_match(filters, &b));
    assert_false(filters_match(filters, &c));
    assert_true(filters_match(none, &c));
}

static void test_what_is_no_filter_is_refused_with_its_place(void **state) {
    static const char *const texts[] = {
        "==a",          "name=a",         "name==",          "name==\"a",     "name=>a",
        "name==a b",    "name..a",        "name==\"\\q\"",   "name~=(",       "name~=a{1,9}",
        "name~=(a)\\1", "name==\"\\x0\"", "name==\"\\x00\"", "labels.\"a==b", "name==\"\\uzzzz\"",
    };
    char long_pattern[400] = "name~=";
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct error error = {0};
        if (filters_parse(&texts[i], 1, &error))
            fail_msg("%s is taken", texts[i]);
        assert_int_equal(error.kind, ERROR_INVALID);
        assert_non_null(strstr(error.text, "byte"));
    }
    memset(long_pattern + 6, 'a', sizeof long_pattern - 7);
    assert_null(filters_parse(&(const char *){long_pattern}, 1, NULL));
    const char *many[FILTER_LIMIT + 1];
    for (size_t i = 0; i <= FILTER_LIMIT; i++)
        many[i] = "name";
    assert_null(filters_parse(many, FILTER_LIMIT + 1, NULL));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conditions_hold_for_what_they_say),
        cmocka_unit_test(test_one_filter_of_several_is_enough),
        cmocka_unit_test(test_what_is_no_filter_is_refused_with_its_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
