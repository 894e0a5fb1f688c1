/* The words of Tarn-Ask and Tarn-Answer. */
#include "replica/ask.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static void test_each_word_is_read_as_it_is_written(void **state) {
    (void)state;
    static const char *const words[] = {NULL, "arriving", "fetch", "fetch; bucket=absent",
                                        "forget"};
    static const char *const answers[] = {NULL, "held", "arriving", "upstream", "no"};
    for (int i = 1; i < 5; i++) {
        enum replica_ask ask;
        enum replica_answer answer;
        assert_string_equal(replica_ask_text((enum replica_ask)i), words[i]);
        assert_true(replica_ask_parse(text_of(words[i]), &ask));
        assert_int_equal(ask, i);
        assert_string_equal(replica_answer_text((enum replica_answer)i), answers[i]);
        assert_true(replica_answer_parse(text_of(answers[i]), &answer));
        assert_int_equal(answer, i);
    }
}

static void test_anything_else_is_no_word(void **state) {
    (void)state;
    static const char *const words[] = {
        "",       "Fetch",   "fetch;bucket=absent", "fetch ; bucket=absent", "fetch;",
        "fetche", "held, no"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        enum replica_ask ask;
        enum replica_answer answer;
        assert_false(replica_ask_parse(text_of(words[i]), &ask));
        assert_false(replica_answer_parse(text_of(words[i]), &answer));
    }
}

static void test_only_what_upstream_did_is_its_word(void **state) {
    (void)state;
    struct error error = {0};
    static const enum error_kind theirs[] = {ERROR_NOT_FOUND,   ERROR_DENIED,  ERROR_RATE_LIMITED,
                                             ERROR_UNAVAILABLE, ERROR_TIMEOUT, ERROR_CORRUPT};
    static const enum error_kind ours[] = {ERROR_BUSY,   ERROR_MEMORY, ERROR_IO,     ERROR_NO_SPACE,
                                           ERROR_CLOSED, ERROR_FILES,  ERROR_INVALID};
    for (size_t i = 0; i < sizeof theirs / sizeof *theirs; i++) {
        error_set(&error, theirs[i], "it failed");
        assert_int_equal(replica_answer_of(&error), REPLICA_ANSWER_UPSTREAM);
    }
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
        error_set(&error, ours[i], "it failed");
        assert_int_equal(replica_answer_of(&error), REPLICA_ANSWER_NONE);
    }
    error_set(&error, ERROR_UNAVAILABLE, "tarn is stopping");
    error_because(&error, ERROR_REASON_STOPPING);
    assert_int_equal(replica_answer_of(&error), REPLICA_ANSWER_NONE);
}

static void test_a_hop_makes_nothing_younger_by_more_than_a_moment(void **state) {
    (void)state;
    assert_int_equal(replica_age_s(-5), 0);
    assert_int_equal(replica_age_s(0), 0);
    assert_int_equal(replica_age_s(99), 0);
    assert_int_equal(replica_age_s(101), 1);
    assert_int_equal(replica_age_s(1000), 1);
    assert_int_equal(replica_age_s(2500), 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_word_is_read_as_it_is_written),
        cmocka_unit_test(test_anything_else_is_no_word),
        cmocka_unit_test(test_only_what_upstream_did_is_its_word),
        cmocka_unit_test(test_a_hop_makes_nothing_younger_by_more_than_a_moment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
