/* Which paths the patterns of .dockerignore and .gcloudignore leave out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "build/ignore.h"

static bool leaves_out(enum ignore_rules rules, const char *patterns, const char *path,
                       bool is_folder) {
    struct error error = {0};
    cleanup_ignore struct ignore *ignore = ignore_new(rules);
    assert_non_null(ignore);
    if (!ignore_add_file(ignore, "file", text_of(patterns), &error))
        fail_msg("%s: %s", patterns, error.text);
    return ignore_matches(ignore, path, is_folder);
}

struct expected {
    const char *patterns, *path;
    bool left_out;
};

static void check(enum ignore_rules rules, const struct expected *all, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (leaves_out(rules, all[i].patterns, all[i].path, false) != all[i].left_out)
            fail_msg("%s with %s: %s is expected", all[i].path, all[i].patterns,
                     all[i].left_out ? "left out" : "sent");
}

/* The cases that Docker's own documentation and the tests of its matcher name. */
static void test_patterns_of_docker(void **state) {
    (void)state;
    static const struct expected all[] = {
        {"**", "file", true},
        {"**/", "file", true},
        {"**", "dir/file", true},
        {"**/**", "dir/file", true},
        {"dir/**", "dir/file", true},
        {"dir/**", "dir/dir2/file", true},
        {"dir/**", "dir", false},
        {"dir/**", "directory", false},
        {"**/dir", "dir", true},
        {"**/dir", "dir/file", true},
        {"**/dir", "a/b/dir/file", true},
        {"**/dir2/*", "dir/dir2/file", true},
        {"**/dir2/*", "dir/dir2/dir2/file", true},
        {"**/dir2/**", "dir/dir2/dir2/file", true},
        {"**file", "file", true},
        {"**file", "dir/file", true},
        {"**file", "dir/afile", true},
        {"**/file", "dir/file", true},
        {"**/file", "dir/afile", false},
        {"**/file*", "dir/dir/file.txt", true},
        {"**/file*txt", "dir/dir/file.txt", true},
        {"**/**/*.txt", "dir/dir/file.txt", true},
        {"**/**/*.txt2", "dir/dir/file.txt", false},
        {"**/*.txt", "file.txt", true},
        {"**/**/*.txt", "file.txt", true},
        {"a**/*.txt", "a/file.txt", true},
        {"a**/*.txt", "a/dir/file.txt", true},
        {"a/*.txt", "a/file.txt", true},
        {"a/*.txt", "a/dir/file.txt", false},
        {"a/*.txt**", "a/file.txt", true},
        {"a[b-d]e", "ae", false},
        {"a[b-d]e", "ace", true},
        {"a[b-d]e", "aae", false},
        {"a[^b-d]e", "aze", true},
        {"a[^b-d]e", "ace", false},
        {".*", ".foo", true},
        {".*", "foo", false},
        {"abc.def", "abcdef", false},
        {"abc.def", "abc.def", true},
        {"abc.def", "abcZdef", false},
        {"abc?def", "abcZdef", true},
        {"abc?def", "abcdef", false},
        {"abc?def", "abc/def", false},
        {"a\\*b", "a*b", true},
        {"a\\*b", "axb", false},
        {"**/foo/bar", "foo/bar", true},
        {"**/foo/bar", "dir/foo/bar", true},
        {"abc/**", "abc/def/ghi", true},
        {"**/.foo", ".foo", true},
        {"**/.foo", "bar.foo", false},
        {"a(b)c/def", "a(b)c/def", true},
        {"a(b)c/def", "a(b)c/xyz", false},
        {"a.|)$(}+{bc", "a.|)$(}+{bc", true},
        {"dist/p-2.4+g08-any.whl", "dist/p-2.4+g08-any.whl", true},
        {"?ä", "xä", true},
        {"?", "ä", true},
        {"[ä-ü]", "ö", true},
        /* of the documentation */
        {"*/temp*", "somedir/temporary.txt", true},
        {"*/temp*", "somedir/temp", true},
        {"*/temp*", "a/b/temp", false},
        {"*/*/temp*", "somedir/subdir/temporary.txt", true},
        {"temp?", "tempa", true},
        {"temp?", "temp", false},
        {"*.md\n!README.md", "README.md", false},
        {"*.md\n!README.md", "OTHER.md", true},
        {"*.md\n!README*.md\nREADME-secret.md", "README-secret.md", true},
        {"*.md\nREADME-secret.md\n!README*.md", "README-secret.md", false},
        /* how the file is read */
        {"# comment\n  a  \n", "a", true},
        {" # no comment", "# no comment", true},
        {"\xef\xbb\xbf"
         "a",
         "a", true},
        {"a\r\nb\r\n", "a", true},
        {"/a", "a", true},
        {"./a/../b/", "b", true},
        {"a/", "a/b", true},
        {"../a", "a", false},
        {"! a\n", "a", false},
        {"*\n! a", "a", false},
        {"*\n!/a", "a", false},
        {"", "a", false},
        {"foo/", "foo", true},
        {"a\n!a/b", "a/b", false},
        {"a\n!a/b", "a/c", true},
        {"a\n!a/b\na/b/c", "a/b/c", true},
        {"!a\na", "a", true},
        {"**/x\n!d", "d/x", true}, /* of d alone, "!d" changes nothing, and so it is not asked */
        {"d\n!d", "d/x", false},
        {"*\n!d\n**/x", "d/x", true},
    };
    check(IGNORE_AS_DOCKER, all, sizeof all / sizeof *all);
}

static void test_patterns_of_git(void **state) {
    (void)state;
    static const struct expected all[] = {
        {"*.o", "a.o", true},
        {"*.o", "x/y/a.o", true},
        {"*.o\n!main.o", "x/main.o", false},
        {"/a", "a", true},
        {"/a", "x/a", false},
        {"a/b", "a/b", true},
        {"a/b", "x/a/b", false},
        {"logs/", "logs", false}, /* a file of that name */
        {"logs/", "logs/x", true},
        {"logs/\n!logs/keep", "logs/keep", true},
        {"logs/*\n!logs/keep", "logs/keep", false},
        {"**/foo", "x/y/foo", true},
        {"**/foo", "foo", true},
        {"foo/**", "foo/a/b", true},
        {"foo/**", "foo", false},
        {"a/**/b", "a/b", true},
        {"a/**/b", "a/x/y/b", true},
        {"a**b", "axxb", true},
        {"a**b", "x/ab", true},
        {"a**b", "a/b", false},
        {"\\#a", "#a", true},
        {"#a", "#a", false},
        {"\\!a", "!a", true},
        {"a\\ ", "a ", true},
        {"a   ", "a", true},
        {"[!a-c]", "d", true},
        {"[!a-c]", "a", false},
        {"build\r\n", "build", true},
    };
    check(IGNORE_AS_GIT, all, sizeof all / sizeof *all);
}

static void test_a_folder_is_final_unless_something_below_may_come_back(void **state) {
    (void)state;
    static const struct {
        const char *patterns, *path;
        bool final;
    } all[] = {
        {"*", "a", true},        {"*\n!a/b", "a", false},     {"*\n!a/b", "b", true},
        {"*\n!ab/c", "a", true}, {"*\n!a/b/c", "a/b", false}, {"*\n!a", "a", false},
        {"*\n!**/x", "a", true}, {"*\n!a/*/c", "a", false},   {"*\n!a/*/c", "a/b", true},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        cleanup_ignore struct ignore *ignore = ignore_new(IGNORE_AS_DOCKER);
        assert_true(ignore_add_file(ignore, "file", text_of(all[i].patterns), NULL));
        if (ignore_is_final(ignore, all[i].path) != all[i].final)
            fail_msg("%s with %s", all[i].path, all[i].patterns);
    }
}

static void test_what_is_no_pattern(void **state) {
    (void)state;
    static const struct {
        const char *patterns, *text;
    } all[] = {
        {"a\n[", "f:2: a '[' has no end"}, {"[]", "f:1: a '['"},   {"a\n\n!\n", "f:3: a '!' alone"},
        {"x\\", "f:1: a '\\' stands"},     {"[a-]", "f:1: a '['"}, {"[-a]", "f:1: a '['"},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct error error = {0};
        cleanup_ignore struct ignore *ignore = ignore_new(IGNORE_AS_DOCKER);
        assert_false(ignore_add_file(ignore, "f", text_of(all[i].patterns), &error));
        assert_int_equal(error.kind, ERROR_INVALID);
        if (strncmp(error.text, all[i].text, strlen(all[i].text)) != 0)
            fail_msg("%s: %s", all[i].patterns, error.text);
    }
}

static void test_a_hostile_pattern_is_not_slow(void **state) {
    (void)state;
    char pattern[2000], path[IGNORE_PATTERN_LIMIT];
    for (size_t i = 0; i + 2 < sizeof pattern; i += 2)
        memcpy(pattern + i, "*a", 2);
    pattern[sizeof pattern - 2] = '\0';
    memset(path, 'a', sizeof path);
    path[sizeof path - 1] = '\0';
    path[sizeof path - 2] = 'b';
    assert_false(leaves_out(IGNORE_AS_DOCKER, pattern, path, false));
}

static void test_too_many_patterns_are_refused(void **state) {
    (void)state;
    struct error error = {0};
    cleanup_ignore struct ignore *ignore = ignore_new(IGNORE_AS_GIT);
    for (int i = 0; i < IGNORE_PATTERNS_LIMIT; i++)
        assert_true(ignore_add(ignore, text_of("a"), &error));
    assert_false(ignore_add(ignore, text_of("a"), &error));
    assert_int_equal(error.kind, ERROR_INVALID);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_patterns_of_docker),
        cmocka_unit_test(test_patterns_of_git),
        cmocka_unit_test(test_a_folder_is_final_unless_something_below_may_come_back),
        cmocka_unit_test(test_what_is_no_pattern),
        cmocka_unit_test(test_a_hostile_pattern_is_not_slow),
        cmocka_unit_test(test_too_many_patterns_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
