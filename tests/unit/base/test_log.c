/* Lines of the log, as standard error gets them, with and without the log's own thread. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/file.h"
#include "base/log.h"

enum { TIME_LENGTH = 24 }; /* "2026-11-21T03:55:00.123Z" */

static int kept_stderr = -1, lines_fd = -1;

/* Standard error goes into a file in memory. */
static int set_up(void **state) {
    (void)state;
    kept_stderr = dup(STDERR_FILENO);
    lines_fd = memfd_create("test-log", MFD_CLOEXEC);
    return kept_stderr < 0 || lines_fd < 0 || dup2(lines_fd, STDERR_FILENO) < 0 ? -1 : 0;
}

static int tear_down(void **state) {
    (void)state;
    dup2(kept_stderr, STDERR_FILENO);
    close(kept_stderr);
    close(lines_fd);
    log_configure(LOG_INFO, LOG_TEXT);
    return 0;
}

/* What was written so far. */
static const char *written(void) {
    static char bytes[4096];
    ssize_t got = file_read_at(lines_fd, bytes, sizeof bytes - 1, 0);
    assert_true(got >= 0);
    bytes[got] = '\0';
    return bytes;
}

static void test_a_line_of_text_has_time_level_message_and_fields(void **state) {
    (void)state;
    log_configure(LOG_INFO, LOG_TEXT);
    log_at(LOG_DEBUG, "below the level", LOG_NUMBER("bytes", 1));
    log_at(LOG_INFO, "fetched", LOG_STRING("blob", "sha256:ab"), LOG_STRING("empty", NULL),
           LOG_STRING("said", "two \"words\"\n"), LOG_NUMBER("bytes", 1ULL << 40),
           LOG_NUMBER("seconds", 0.25));
    const char *line = written();
    assert_true(strlen(line) > TIME_LENGTH);
    assert_int_equal(line[TIME_LENGTH - 1], 'Z');
    assert_string_equal(
        line + TIME_LENGTH,
        " info  fetched blob=sha256:ab empty=\"\" said=\"two \\\"words\\\"\\u000a\" "
        "bytes=1099511627776 seconds=0.25\n");
}

static void test_a_line_of_json_has_the_same(void **state) {
    (void)state;
    log_configure(LOG_DEBUG, LOG_JSON);
    log_at(LOG_DEBUG, "fetched", LOG_STRING("said", "\"a\""), LOG_NUMBER("bytes", 3));
    const char *line = written();
    assert_memory_equal(line, "{\"time\":\"", 9);
    assert_true(strlen(line) > 9 + TIME_LENGTH);
    assert_string_equal(line + 9 + TIME_LENGTH,
                        "\",\"level\":\"debug\",\"message\":\"fetched\",\"said\":\"\\\"a\\\"\","
                        "\"bytes\":3}\n");
}

static void test_gathered_lines_keep_their_order_and_none_is_lost(void **state) {
    (void)state;
    log_configure(LOG_INFO, LOG_JSON);
    log_start();
    log_event(LOG_INFO, "first", NULL, 0);
    log_event(LOG_WARN, "second", NULL, 0); /* written at once, after the gathered lines */
    const char *lines = written();
    const char *first = strstr(lines, "\"first\""), *second = strstr(lines, "\"second\"");
    assert_non_null(first);
    assert_non_null(second);
    assert_true(first < second);
    log_event(LOG_INFO, "third", NULL, 0);
    log_stop();
    assert_non_null(strstr(written(), "\"third\""));
    log_stop();
    log_event(LOG_INFO, "fourth", NULL, 0); /* without the thread it is written at once */
    assert_non_null(strstr(written(), "\"fourth\""));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_a_line_of_text_has_time_level_message_and_fields),
        TEST(test_a_line_of_json_has_the_same),
        TEST(test_gathered_lines_keep_their_order_and_none_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
