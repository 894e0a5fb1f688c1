/* The table of pulls, and the ring of errors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "base/thread.h"
#include "registry/page/errors.h"
#include "registry/page/pulls.h"

static struct pulls pulls;

static const struct repository_name app = {"docker.io", "org/app"}, other = {"docker.io", "org/b"};

static struct digest numbered(unsigned number) {
    struct digest digest = {.algorithm = DIGEST_SHA256};
    memcpy(digest.bytes, &number, sizeof number);
    return digest;
}

static uint32_t count_of(const struct repository_name *repository, unsigned number) {
    const struct digest digest = numbered(number);
    int64_t last_s;
    return pulls_of(&pulls, repository, &digest, &last_s);
}

static void note(const struct repository_name *repository, unsigned number, int64_t now_s) {
    const struct digest digest = numbered(number);
    pulls_note(&pulls, repository, &digest, now_s);
}

static int set_up(void **state) {
    (void)state;
    pulls_init(&pulls);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    pulls_finish(&pulls);
    return 0;
}

static void test_pulls_count_for_the_repository_and_the_digest(void **state) {
    (void)state;
    note(&app, 1, 50);
    note(&app, 1, 70);
    note(&other, 1, 60);
    assert_int_equal(count_of(&app, 1), 2);
    assert_int_equal(count_of(&other, 1), 1);
    assert_int_equal(count_of(&app, 2), 0);
    int64_t last_s;
    const struct digest digest = numbered(1);
    pulls_of(&pulls, &app, &digest, &last_s);
    assert_int_equal(last_s, 70);
}

static void test_a_frequent_image_stays_among_any_number_of_others(void **state) {
    (void)state;
    for (unsigned i = 0; i < 20000; i++) {
        note(&app, 0, 1);
        note(&other, i, 1);
    }
    assert_true(count_of(&app, 0) >= 20000);
}

static void test_the_file_gives_back_what_was_written(void **state) {
    (void)state;
    struct buffer file = {0};
    note(&app, 1, 50);
    pulls_write(&pulls, &file);
    assert_int_equal(file.length, pulls_length());
    pulls_finish(&pulls);
    pulls_init(&pulls);
    assert_int_equal(count_of(&app, 1), 0);
    struct text rest = {file.bytes, file.length};
    pulls_read(&pulls, &rest);
    assert_int_equal(rest.length, 0);
    assert_int_equal(count_of(&app, 1), 1);
    buffer_finish(&file);
}

static void pull_much(void *context) {
    (void)context;
    for (unsigned i = 0; i < 5000; i++) {
        note(&app, 1, i);
        note(&other, i, i);
    }
}

static void test_threads_count_together(void **state) {
    (void)state;
    pthread_t threads[3];
    note(&app, 1, 1);
    for (size_t i = 0; i < 3; i++)
        assert_true(thread_start("pulls", THREAD_STACK, pull_much, NULL, &threads[i], NULL));
    for (size_t i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    assert_true(count_of(&app, 1) > 5000);
}

/* ---- errors ---- */

static void test_errors_are_few_and_the_latest_stand_first(void **state) {
    (void)state;
    static struct errors errors;
    static struct errors_entry read[ERRORS_KEPT];
    errors_init(&errors);
    for (int i = 0; i < 3 * ERRORS_KEPT; i++) {
        struct errors_entry entry = {.status = 502, .repository = app};
        snprintf(entry.text, sizeof entry.text, "error %d", i);
        errors_note(&errors, &entry, 100 + i / 2);
    }
    assert_int_equal(errors_read(&errors, read), ERRORS_KEPT);
    assert_string_equal(read[0].text, "error 119");
    errors_note(&errors, &read[9], 500);
    assert_int_equal(errors_read(&errors, read), ERRORS_KEPT);
    assert_string_equal(read[0].text, "error 110");
    assert_int_equal(read[0].count, 2);
    errors_finish(&errors);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_pulls_count_for_the_repository_and_the_digest, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_frequent_image_stays_among_any_number_of_others,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_file_gives_back_what_was_written, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_threads_count_together, set_up, tear_down),
        cmocka_unit_test(test_errors_are_few_and_the_latest_stand_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
