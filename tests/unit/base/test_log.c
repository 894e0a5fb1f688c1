/* Lines of the log, as standard error gets them, with and without the log's own thread. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/buffer.h"
#include "base/file.h"
#include "base/log.h"
#include "base/thread.h"

enum {
    TIME_LENGTH = 24, /* "2026-11-21T03:55:00.123Z" */
    THREADS = 8,
    EACH = 1000,  /* lines of each thread; all together fit into what the log gathers */
    MANY = 40000, /* lines that are longer together than the log gathers */
};

static int kept_stderr = -1, lines_fd = -1;

/* Standard error goes into a file in memory. */
static int set_up(void **state) {
    (void)state;
    log_configure(LOG_INFO, LOG_TEXT);
    kept_stderr = dup(STDERR_FILENO);
    lines_fd = memfd_create("test-log", MFD_CLOEXEC);
    return kept_stderr < 0 || lines_fd < 0 || dup2(lines_fd, STDERR_FILENO) < 0 ? -1 : 0;
}

static int tear_down(void **state) {
    (void)state;
    dup2(kept_stderr, STDERR_FILENO);
    close(kept_stderr);
    close(lines_fd);
    return 0;
}

/* What was written so far. */
static char *written(void) {
    static struct buffer bytes;
    struct stat status;
    assert_int_equal(fstat(lines_fd, &status), 0);
    buffer_clear(&bytes);
    assert_true(buffer_reserve(&bytes, (size_t)status.st_size));
    ssize_t got = file_read_at(lines_fd, bytes.bytes, (size_t)status.st_size, 0);
    assert_int_equal(got, status.st_size);
    bytes.bytes[got] = '\0';
    return bytes.bytes;
}

/* Waits until it was written. */
static void wait_for(const char *text) {
    while (!strstr(written(), text))
        usleep(1000);
}

static void test_a_line_of_text_has_time_level_message_and_fields(void **state) {
    (void)state;
    log_configure(LOG_INFO, LOG_TEXT);
    log_at(LOG_DEBUG, "below the level", LOG_NUMBER("bytes", 1));
    log_event(LOG_DEBUG, "below the level", NULL, 0);
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
    log_event(LOG_WARN, "second", NULL, 0); /* after the gathered lines */
    wait_for("\"second\"");
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

static void test_numbers_are_written_as_people_write_them(void **state) {
    static const struct {
        double number;
        const char *text;
    } numbers[] = {
        {0, "0"},
        {-7, "-7"},
        {999999999999999, "999999999999999"},
        {1e15, "1e+15"},
        {0.000012, "0.000012"},
        {-0.25, "-0.25"},
        {1.5, "1.5"},
        {12.345678, "12.345678"},
        {0.1 + 0.2, "0.3"},
        {1.0 / 3, "0.333333"},
        {999999.999999, "999999.999999"},
        {1e-7, "1e-07"},
        {0.9999999, "1"},
        {2500000.5, "2.5e+06"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        log_at(LOG_INFO, "n", LOG_NUMBER("n", numbers[i].number));
        const char *line = strrchr(written(), '=');
        assert_non_null(line);
        assert_int_equal(strcspn(line + 1, "\n"), strlen(numbers[i].text));
        assert_memory_equal(line + 1, numbers[i].text, strlen(numbers[i].text));
    }
}

static void test_no_control_character_reaches_a_terminal(void **state) {
    (void)state;
    log_event(LOG_INFO, "a \"b\" \x1b[2J \xc2\x9b", NULL, 0);
    log_at(LOG_INFO, "c", LOG_STRING("d", "\x1b[2J"),
           LOG_STRING("e", "\xc2\x9b"
                           "2J"),
           LOG_SLICE("f", ((struct text){"\x9b\0x", 2})));
    const char *lines = written();
    assert_non_null(strstr(lines, " a \"b\" \\u001b[2J \\u009b\n"));
    assert_non_null(
        strstr(lines, " c d=\"\\u001b[2J\" e=\"\\u009b2J\" f=\"\xef\xbf\xbd\\u0000\"\n"));
}

static void test_a_line_may_be_long(void **state) {
    static char value[6000];
    (void)state;
    memset(value, '\n', sizeof value - 1);
    log_at(LOG_INFO, "long", LOG_STRING("value", value), LOG_NUMBER("n", 1));
    log_gather_begin();
    log_at(LOG_INFO, "short", LOG_NUMBER("n", 2));
    log_at(LOG_INFO, "long", LOG_STRING("value", value), LOG_NUMBER("n", 3));
    log_gather_end();
    const char *lines = written(), *end = strchr(lines, '\n');
    assert_non_null(end);
    assert_true(end - lines > (ptrdiff_t)(6 * (sizeof value - 1)));
    assert_non_null(strstr(lines, "\\u000a\" n=1\n"));
    assert_true(strstr(lines, " n=2\n") < strstr(lines, "\\u000a\" n=3\n"));
}

/* ---- many threads ---- */

static void log_many(void *argument) {
    const int number = *(const int *)argument;
    if (number % 2)
        log_gather_begin();
    for (int i = 0; i < EACH; i++) {
        log_at(i % 100 == 99 ? LOG_WARN : LOG_INFO, "line", LOG_NUMBER("thread", number),
               LOG_STRING("said", i % 3 ? "plain" : "with \"quotes\""), LOG_NUMBER("at", i));
        if (i % 50 == 0)
            log_gather_flush();
    }
    log_gather_end();
}

static void test_lines_of_many_threads_are_whole_and_each_threads_in_order(void **state) {
    pthread_t threads[THREADS];
    int numbers[THREADS], next[THREADS] = {0}, lines = 0;
    (void)state;
    log_start();
    for (int i = 0; i < THREADS; i++) {
        numbers[i] = i;
        assert_true(thread_start("logger", THREAD_STACK, log_many, &numbers[i], &threads[i], NULL));
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    log_stop();
    char *line, *rest = written();
    for (; (line = strsep(&rest, "\n")) && *line; lines++) {
        int thread, at, length = 0;
        char *fields = strstr(line, " thread=");
        assert_non_null(fields);
        assert_int_equal(fields - line, TIME_LENGTH + strlen(" info  line"));
        int count = strstr(fields, "said=plain")
                        ? sscanf(fields, " thread=%d said=plain at=%d%n", &thread, &at, &length)
                        : sscanf(fields, " thread=%d said=\"with \\\"quotes\\\"\" at=%d%n", &thread,
                                 &at, &length);
        assert_int_equal(count, 2);
        assert_int_equal(fields[length], '\0');
        assert_in_range(thread, 0, THREADS - 1);
        assert_int_equal(at, next[thread]++);
    }
    assert_int_equal(lines, THREADS * EACH);
}

/* ---- a reader that stands still ---- */

/* Standard error goes into a pipe; returns the end to read from. */
static int pipe_stderr(void) {
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_true(dup2(ends[1], STDERR_FILENO) >= 0);
    close(ends[1]);
    return ends[0];
}

static void log_more_than_is_gathered(void) {
    for (int i = 0; i < MANY; i++)
        log_at(LOG_INFO, "line", LOG_NUMBER("number", i));
}

/* Reads until there is a line with the text and that line has ended. */
static void read_until(int fd, const char *text, struct buffer *out) {
    char bytes[4096];
    size_t searched = 0;
    const char *found = NULL;
    do {
        ssize_t got = read(fd, bytes, sizeof bytes);
        assert_true(got > 0);
        assert_true(buffer_append(out, bytes, (size_t)got));
        if (!found)
            found = memmem(out->bytes + searched, out->length - searched, text, strlen(text));
        searched = out->length > strlen(text) ? out->length - strlen(text) : 0;
    } while (!found || out->bytes[out->length - 1] != '\n');
}

static int count_of(const struct buffer *text, const char *part) {
    int count = 0;
    const char *at = text->bytes, *end = text->bytes + text->length;
    for (; (at = memmem(at, (size_t)(end - at), part, strlen(part))); at++)
        count++;
    return count;
}

static void test_without_a_reader_lines_are_dropped_and_counted(void **state) {
    cleanup_buffer struct buffer lines = {0};
    (void)state;
    int fd = pipe_stderr();
    log_start();
    log_more_than_is_gathered();
    log_event(LOG_WARN, "a warning has room", NULL, 0);
    read_until(fd, "log lines dropped", &lines);
    const char *report = strstr(lines.bytes, "dropped: standard error was not being read lines=");
    assert_non_null(report);
    int dropped = atoi(strrchr(report, '=') + 1);
    assert_true(dropped > 0);
    assert_int_equal(count_of(&lines, "line number="), MANY - dropped);
    const char *warning = strstr(lines.bytes, "a warning has room");
    assert_non_null(warning);
    assert_true(warning < report);
    log_stop();
    close(fd);
}

static void test_a_non_blocking_standard_error_loses_no_lines(void **state) {
    cleanup_buffer struct buffer lines = {0};
    (void)state;
    int fd = pipe_stderr();
    assert_int_equal(fcntl(STDERR_FILENO, F_SETFL, O_NONBLOCK), 0);
    log_start();
    for (int i = 0; i < EACH; i++)
        log_at(LOG_INFO, "line", LOG_NUMBER("number", i));
    read_until(fd, "number=999\n", &lines);
    assert_int_equal(count_of(&lines, "line number="), EACH);
    log_stop();
    close(fd);
}

static void test_the_log_stops_without_a_reader(void **state) {
    (void)state;
    int fd = pipe_stderr();
    log_start();
    log_more_than_is_gathered();
    log_stop();
    log_more_than_is_gathered();
    log_event(LOG_ERROR, "nobody waits for it", NULL, 0);
    log_stop();
    /* The rest of what is being written is lost with the pipe; then the writer goes on and ends. */
    assert_true(dup2(lines_fd, STDERR_FILENO) >= 0);
    close(fd);
    wait_for("nobody waits for it");
    wait_for("log lines dropped");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_a_line_of_text_has_time_level_message_and_fields),
        TEST(test_a_line_of_json_has_the_same),
        TEST(test_numbers_are_written_as_people_write_them),
        TEST(test_no_control_character_reaches_a_terminal),
        TEST(test_a_line_may_be_long),
        TEST(test_gathered_lines_keep_their_order_and_none_is_lost),
        TEST(test_lines_of_many_threads_are_whole_and_each_threads_in_order),
        TEST(test_without_a_reader_lines_are_dropped_and_counted),
        TEST(test_a_non_blocking_standard_error_loses_no_lines),
        TEST(test_the_log_stops_without_a_reader),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
