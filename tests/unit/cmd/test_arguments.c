/* The one parser of command lines, the table of commands, and the help that is printed from it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "cmd/arguments.h"
#include "cmd/commands.h"
#include "cmd/help.h"
#include "cmd/run.h"

/* The exit status is the number of operands, so that a test sees that the command ran. */
static int run_counting(const struct arguments *arguments) {
    return (int)arguments->operand_count;
}

static const struct command_option options[] = {
    {"json", OPTION_FLAG, NULL, "a flag"},
    {"color", OPTION_SWITCH, "BOOL", "a switch"},
    {"root", OPTION_STRING, "FOLDER", "a string"},
    {"platform", OPTION_LIST, "PLATFORM", "a list"},
    {"size", OPTION_SIZE, "SIZE", "a size"},
    {"age", OPTION_DURATION, "DURATION", "a duration"},
    {"limit", OPTION_COUNT, "NUMBER", "a count"},
    {"quiet", OPTION_FLAG, NULL, "a flag with a letter", .letter = 'q'},
};

static const struct command_option variable_options[] = {
    {"flag", OPTION_FLAG, NULL, "a flag", .variable = "TARN_TEST_FLAG"},
    {"string", OPTION_STRING, "STRING", "a string", .variable = "TARN_TEST_STRING"},
    {"list", OPTION_LIST, "ITEM", "a list", .variable = "TARN_TEST_LIST"},
    {"age", OPTION_DURATION, "TIME", "a time", .variable = "TARN_TEST_AGE"},
};

/* Its options have variables. */
static const struct command variable_command = {
    .name = "vary",
    .arguments = "",
    .summary = "try variables",
    .options = variable_options,
    .option_count = 4,
    .run = run_counting,
};

static const struct command command = {
    .name = "try",
    .arguments = "NAME…",
    .least = 1,
    .most = 3,
    .summary = "try the parser",
    COMMAND_OPTIONS(options),
    .run = run_counting,
};

static struct error error;

static bool read_as(const struct command *as, struct arguments *arguments,
                    const char *const *words) {
    char *argv[16] = {(char *)(uintptr_t)as->name};
    int argc = 1;
    for (; words[argc - 1]; argc++)
        argv[argc] = (char *)(uintptr_t)words[argc - 1];
    error_clear(&error);
    return arguments_read(arguments, as, argc, argv, &error);
}
#define READ(arguments, ...) read_as(&command, arguments, (const char *const[]){__VA_ARGS__, NULL})

static void assert_refused(const struct command *as, const char *const *words, const char *reason) {
    cleanup_arguments struct arguments arguments = {0};
    assert_false(read_as(as, &arguments, words));
    assert_string_equal(error.text, reason);
}
#define REFUSED(reason, ...)                                                                       \
    assert_refused(&command, (const char *const[]){__VA_ARGS__, NULL}, reason)

/* ---- the parser ---- */

static void test_values_stand_in_the_next_argument_or_behind_an_equals_sign(void **state) {
    (void)state;
    cleanup_arguments struct arguments arguments = {0};
    assert_true(READ(&arguments, "--root", "/a", "--size=2KiB", "--age", "1m", "image"));
    assert_string_equal(arguments_string(&arguments, "root"), "/a");
    assert_int_equal(arguments_number(&arguments, "size", -1), 2048);
    assert_int_equal(arguments_number(&arguments, "age", -1), 60000);
    assert_int_equal(arguments.operand_count, 1);
    assert_string_equal(arguments.operands[0], "image");
}

static void test_what_is_not_given_has_no_value(void **state) {
    (void)state;
    cleanup_arguments struct arguments arguments = {0};
    size_t at = 0;
    assert_true(READ(&arguments, "image"));
    assert_false(arguments_flag(&arguments, "json"));
    assert_null(arguments_string(&arguments, "root"));
    assert_int_equal(arguments_number(&arguments, "size", -1), -1);
    assert_null(arguments_next(&arguments, "platform", &at));
}

static void test_options_and_operands_are_mixed(void **state) {
    (void)state;
    cleanup_arguments struct arguments arguments = {0};
    assert_true(READ(&arguments, "a", "--json", "b", "--root=", "c"));
    assert_true(arguments_flag(&arguments, "json"));
    assert_string_equal(arguments_string(&arguments, "root"), "");
    assert_int_equal(arguments.operand_count, 3);
    assert_string_equal(arguments.operands[2], "c");
}

static void test_the_last_value_counts_but_of_a_list_each_one(void **state) {
    (void)state;
    cleanup_arguments struct arguments arguments = {0};
    size_t at = 0;
    assert_true(
        READ(&arguments, "--root=a", "--platform", "x,y", "--root", "b", "--platform=z", "image"));
    assert_string_equal(arguments_string(&arguments, "root"), "b");
    assert_string_equal(arguments_next(&arguments, "platform", &at), "x,y");
    assert_string_equal(arguments_next(&arguments, "platform", &at), "z");
    assert_null(arguments_next(&arguments, "platform", &at));
}

static void test_a_variable_gives_what_is_not_given(void **state) {
    (void)state;
    cleanup_arguments struct arguments arguments = {0}, given = {0};
    size_t at = 0;
    setenv("TARN_TEST_FLAG", "true", 1);
    setenv("TARN_TEST_STRING", "a", 1);
    setenv("TARN_TEST_LIST", "x,y", 1);
    setenv("TARN_TEST_AGE", "2s", 1);
    assert_true(read_as(&variable_command, &arguments, (const char *const[]){NULL}));
    assert_true(arguments_flag(&arguments, "flag"));
    assert_string_equal(arguments_string(&arguments, "string"), "a");
    assert_string_equal(arguments_next(&arguments, "list", &at), "x,y");
    assert_null(arguments_next(&arguments, "list", &at));
    assert_int_equal(arguments_number(&arguments, "age", 0), 2000);
    setenv("TARN_TEST_FLAG", "false", 1);
    setenv("TARN_TEST_AGE", "", 1);
    assert_true(read_as(&variable_command, &given,
                        (const char *const[]){"--string=b", "--list", "z", NULL}));
    assert_false(arguments_flag(&given, "flag"));
    assert_string_equal(arguments_string(&given, "string"), "b");
    at = 0;
    assert_string_equal(arguments_next(&given, "list", &at), "z");
    assert_null(arguments_next(&given, "list", &at));
    assert_int_equal(arguments_number(&given, "age", -1), -1);
}

static void test_a_wrong_variable_is_named(void **state) {
    (void)state;
    setenv("TARN_TEST_FLAG", "1", 1);
    assert_refused(&variable_command, (const char *const[]){NULL},
                   "TARN_TEST_FLAG: \"1\" is neither true nor false");
    setenv("TARN_TEST_FLAG", "", 1);
    setenv("TARN_TEST_AGE", "soon", 1);
    assert_refused(&variable_command, (const char *const[]){NULL},
                   "TARN_TEST_AGE: --age: \"soon\" is no duration; write for example 30s, 12h, "
                   "30d");
    unsetenv("TARN_TEST_AGE");
}

static void test_a_switch_takes_its_value_only_behind_an_equals_sign(void **state) {
    (void)state;
    cleanup_arguments struct arguments bare = {0}, off = {0};
    assert_true(READ(&bare, "--color", "false"));
    assert_string_equal(arguments_string(&bare, "color"), "true");
    assert_string_equal(bare.operands[0], "false");
    assert_true(READ(&off, "--color=false", "image"));
    assert_string_equal(arguments_string(&off, "color"), "false");
}

static void test_what_follows_two_dashes_are_operands(void **state) {
    (void)state;
    cleanup_arguments struct arguments arguments = {0};
    assert_true(READ(&arguments, "--", "--json", "--help", "--"));
    assert_false(arguments.wants_help);
    assert_false(arguments_flag(&arguments, "json"));
    assert_int_equal(arguments.operand_count, 3);
    assert_string_equal(arguments.operands[2], "--");
}

static void test_help_is_asked_for_anywhere(void **state) {
    (void)state;
    static const char *const words[][4] = {
        {"--help"}, {"-h"}, {"--json", "-h"}, {"image", "--unknown", "--help"}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        cleanup_arguments struct arguments arguments = {0};
        assert_true(read_as(&command, &arguments, words[i]));
        assert_true(arguments.wants_help);
    }
}

static void test_a_count_is_a_whole_number(void **state) {
    (void)state;
    cleanup_arguments struct arguments arguments = {0};
    assert_true(READ(&arguments, "--limit", "1", "--limit=2147483647", "image"));
    assert_int_equal(arguments_number(&arguments, "limit", 0), 2147483647);
    static const char *const wrong[] = {"0", "-1", "1.5",        "1k",
                                        "",  " 1", "2147483648", "99999999999999999999"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        cleanup_buffer struct buffer reason = {0};
        buffer_printf(&reason, "--limit: \"%s\" is no whole number from 1 on", wrong[i]);
        REFUSED(reason.bytes, "--limit", wrong[i], "image");
    }
}

static void test_a_letter_stands_for_its_option(void **state) {
    (void)state;
    cleanup_arguments struct arguments arguments = {0}, whole = {0};
    assert_true(READ(&arguments, "image", "-q"));
    assert_true(arguments_flag(&arguments, "quiet"));
    assert_true(READ(&whole, "--quiet", "image"));
    assert_true(arguments_flag(&whole, "quiet"));
    REFUSED("there is no option -qq", "image", "-qq");
    REFUSED("there is no option -q=1", "image", "-q=1");
    REFUSED("there is no option -", "image", "-");
}

static void test_bad_usage_is_refused_with_a_reason(void **state) {
    (void)state;
    REFUSED("--root needs a value", "image", "--root");
    REFUSED("--platform needs a value", "--platform");
    REFUSED("--json takes no value", "--json=1", "image");
    REFUSED("there is no option --unknown", "--unknown", "image");
    REFUSED("there is no option --js", "--js", "image");
    REFUSED("there is no option --jsonx", "--jsonx", "image");
    REFUSED("there is no option -j", "-j", "image");
    REFUSED("there is no option -", "-");
    REFUSED("--size: \"much\" is no size; write for example 10GiB, 500MB, or bytes", "--size",
            "much");
    REFUSED("--size: \"-1\" is no size; write for example 10GiB, 500MB, or bytes", "--size", "-1");
    REFUSED("--age: \"30\" is no duration; write for example 30s, 12h, 30d", "--age=30");
    REFUSED("NAME… is missing", "--json");
    REFUSED("unexpected argument d", "a", "b", "c", "d");
}

static void test_nothing_at_all_is_read_as_well(void **state) {
    (void)state;
    cleanup_arguments struct arguments arguments = {0};
    char *const nothing[] = {NULL};
    assert_true(arguments_read(&arguments, &version_command, 0, nothing, &error));
    assert_int_equal(arguments.operand_count, 0);
}

static void test_a_command_may_take_anything(void **state) {
    (void)state;
    cleanup_arguments struct arguments arguments = {0};
    const char *const words[] = {"--help", "-v", "--", "get", NULL};
    assert_true(read_as(&docker_credential_command, &arguments, words));
    assert_false(arguments.wants_help);
    assert_int_equal(arguments.operand_count, 4);
    assert_string_equal(arguments.operands[0], "--help");
}

static void test_every_setting_is_an_option_of_serve(void **state) {
    (void)state;
    cleanup_arguments struct arguments arguments = {0};
    const char *const words[] = {
        "--tag-ttl",  "5m", "--log-level=debug", "--prefetch", "--range-fill=false",
        "--upstream", "a",  "--upstream",        "b",          NULL};
    assert_true(read_as(&serve_command, &arguments, words));
    assert_int_equal(arguments.given_count, 6);
    assert_string_equal(arguments.given[0].option.setting->key, "tag_ttl");
    assert_string_equal(arguments.given[0].value, "5m");
    assert_string_equal(arguments.given[2].value, "true");
    assert_string_equal(arguments.given[3].value, "false");
    assert_string_equal(arguments.given[5].value, "b");
    assert_refused(&serve_command, (const char *const[]){"--tag-ttlx", NULL},
                   "there is no option --tag-ttlx");
    assert_refused(&serve_command, (const char *const[]){"extra", NULL},
                   "unexpected argument extra");
}

static void test_a_command_runs_unless_its_usage_is_bad(void **state) {
    (void)state;
    static char name[] = "try", image[] = "image", unknown[] = "--unknown";
    char *const good[] = {name, image, image, image, NULL}, *const bad[] = {name, unknown, NULL};
    assert_int_equal(run_command(&command, 4, good), 3);
    assert_int_equal(run_command(&command, 2, bad), 2);
    assert_int_equal(command_refuse(&command, "%s is bad", image), 2);
}

/* ---- the table ---- */

static void test_every_command_is_found_by_its_name(void **state) {
    (void)state;
    for (const struct command *const *each = commands; *each; each++)
        assert_ptr_equal(commands_find((*each)->name), *each);
    assert_ptr_equal(commands_find("--version"), &version_command);
    assert_ptr_equal(commands_find("-V"), &version_command);
    assert_ptr_equal(commands_find("--help"), &help_command);
    assert_ptr_equal(commands_find("-h"), &help_command);
    assert_null(commands_find("serv"));
    assert_null(commands_find(""));
}

static void test_every_description_is_complete(void **state) {
    (void)state;
    for (const struct command *const *each = commands; *each; each++) {
        const struct command *one = *each;
        struct command_option option, other;
        assert_non_null(one->run);
        assert_non_null(one->arguments);
        assert_in_range(one->summary[0], 'a', 'z');
        assert_true(one->least <= one->most);
        if (one->text)
            assert_int_equal(one->text[strlen(one->text) - 1], '\n');
        for (size_t at = 0; command_option(one, at, &option); at++) {
            assert_true(*option.name && option.name[0] != '-');
            assert_true(*option.help && option.help[strlen(option.help) - 1] != '.');
            assert_int_equal(option.value == NULL, option.type == OPTION_FLAG);
            for (size_t next = at + 1; command_option(one, next, &other); next++)
                assert_string_not_equal(option.name, other.name);
        }
    }
}

/* Returns the help of the command, as printed on standard output. */
static void read_help(const struct command *one, struct buffer *out) {
    char path[] = "/tmp/tarn-help-XXXXXX";
    int file = mkstemp(path), stdout_copy = dup(STDOUT_FILENO);
    assert_true(file >= 0 && stdout_copy >= 0);
    fflush(stdout);
    dup2(file, STDOUT_FILENO);
    int status = help_print_command(one);
    dup2(stdout_copy, STDOUT_FILENO);
    close(stdout_copy);
    assert_int_equal(status, 0);
    assert_true(buffer_reserve(out, 64 << 10));
    ssize_t got = pread(file, out->bytes, 64 << 10, 0);
    assert_true(got > 0);
    out->bytes[got] = '\0';
    close(file);
    unlink(path);
}

static void test_the_help_of_every_command_has_its_every_option(void **state) {
    (void)state;
    for (const struct command *const *each = commands; *each; each++) {
        cleanup_buffer struct buffer help = {0};
        char wanted[200];
        struct command_option option;
        read_help(*each, &help);
        snprintf(wanted, sizeof wanted, "Usage: tarn %s", (*each)->name);
        assert_int_equal(strncmp(help.bytes, wanted, strlen(wanted)), 0);
        assert_non_null(strstr(help.bytes, "  --help, -h\n"));
        for (size_t at = 0; command_option(*each, at, &option); at++) {
            snprintf(wanted, sizeof wanted, "\n  --%s", option.name);
            assert_non_null(strstr(help.bytes, wanted));
            assert_non_null(strstr(help.bytes, option.help));
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_stand_in_the_next_argument_or_behind_an_equals_sign),
        cmocka_unit_test(test_what_is_not_given_has_no_value),
        cmocka_unit_test(test_options_and_operands_are_mixed),
        cmocka_unit_test(test_the_last_value_counts_but_of_a_list_each_one),
        cmocka_unit_test(test_a_variable_gives_what_is_not_given),
        cmocka_unit_test(test_a_wrong_variable_is_named),
        cmocka_unit_test(test_a_switch_takes_its_value_only_behind_an_equals_sign),
        cmocka_unit_test(test_what_follows_two_dashes_are_operands),
        cmocka_unit_test(test_help_is_asked_for_anywhere),
        cmocka_unit_test(test_a_count_is_a_whole_number),
        cmocka_unit_test(test_a_letter_stands_for_its_option),
        cmocka_unit_test(test_bad_usage_is_refused_with_a_reason),
        cmocka_unit_test(test_nothing_at_all_is_read_as_well),
        cmocka_unit_test(test_a_command_may_take_anything),
        cmocka_unit_test(test_every_setting_is_an_option_of_serve),
        cmocka_unit_test(test_a_command_runs_unless_its_usage_is_bad),
        cmocka_unit_test(test_every_command_is_found_by_its_name),
        cmocka_unit_test(test_every_description_is_complete),
        cmocka_unit_test(test_the_help_of_every_command_has_its_every_option),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
