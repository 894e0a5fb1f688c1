/* Folders as archives of layers: order, kinds of files, and files that change meanwhile. What tar
 * programs read from them is in tests/e2e/test_append_layers.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "copy/folder.h"
#include "copy/hard_links.h"
#include "copy/pack.h"
#include "copy/tar.h"

static char place[] = "/tmp/tarn-pack-XXXXXX";
static char *folder;

/* ---- files ---- */

static const char *below(const char *name) {
    static char path[8][4096];
    static unsigned next;
    char *out = path[next++ % 8];
    snprintf(out, sizeof *path, "%s/%s", folder, name);
    return out;
}

static void write_file(const char *name, const char *bytes) {
    cleanup_close int fd = open(below(name), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    assert_true(fd >= 0);
    assert_true(file_write_all(fd, bytes, strlen(bytes), NULL));
}

static void make_folder(const char *name) {
    assert_int_equal(mkdir(below(name), 0755), 0);
}

static int set_up(void **state) {
    (void)state;
    free(folder);
    strcpy(place + strlen(place) - 6, "XXXXXX");
    folder = mkdtemp(place) ? strdup(place) : NULL;
    return folder ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    const int status = system(command);
    free(folder);
    folder = NULL;
    return status;
}

/* ---- archives ---- */

static bool append(void *context, const void *bytes, size_t length, struct error *error) {
    (void)error;
    return buffer_append(context, bytes, length);
}

static const struct pack_settings plain_settings = {.time = 1000};

static void pack(const char *inside, const struct pack_settings *settings, struct buffer *out) {
    struct error error = {0};
    const struct sink sink = {append, out};
    if (!pack_folder(folder, inside, settings, &sink, &error))
        fail_msg("%s", error.text);
    assert_int_equal(out->length % TAR_BLOCK, 0);
}

static uint64_t octal(const char *field) {
    return strtoull(field, NULL, 8);
}

/* Writes "TYPE NAME [-> TARGET]\n" for each header. */
static void list(const struct buffer *archive, struct buffer *out) {
    size_t at = 0;
    while (archive->bytes[at]) {
        const char *header = archive->bytes + at;
        buffer_printf(out, "%c %.100s%s%.100s\n", header[156], header, header[157] ? " -> " : "",
                      header + 157);
        assert_memory_equal(header + 257, "ustar\00000", 8);
        assert_int_equal(header[265], 0); /* no name of an owner */
        at += TAR_BLOCK + octal(header + 124) + tar_padding(octal(header + 124));
    }
    assert_int_equal(archive->length - at, TAR_END_SIZE);
    for (; at < archive->length; at++)
        assert_int_equal(archive->bytes[at], 0);
}

static void assert_lists(const char *inside, const char *expected) {
    cleanup_buffer struct buffer archive = {0}, names = {0};
    pack(inside, &plain_settings, &archive);
    list(&archive, &names);
    assert_string_equal(names.bytes ? names.bytes : "", expected);
}

static const char *header_of(const struct buffer *archive, const char *name) {
    for (size_t at = 0; archive->bytes[at];) {
        const char *header = archive->bytes + at;
        if (strncmp(header, name, 100) == 0)
            return header;
        at += TAR_BLOCK + octal(header + 124) + tar_padding(octal(header + 124));
    }
    fail_msg("no %s", name);
    return NULL;
}

/* ---- tests ---- */

static void test_names_are_sorted_by_bytes(void **state) {
    (void)state;
    make_folder("a");
    make_folder("a/z");
    write_file("a/b", "");
    write_file("a-b", "");
    write_file("a.b", "");
    write_file("a0", "");
    write_file("B", "");
    write_file("\xc3\xa4", "");
    assert_lists("", "0 B\n"
                     "5 a/\n"
                     "0 a-b\n"
                     "0 a.b\n"
                     "0 a/b\n"
                     "5 a/z/\n"
                     "0 a0\n"
                     "x PaxHeaders\n"
                     "0 \xc3\xa4\n");
}

static void test_the_path_in_the_image_gets_its_parents(void **state) {
    (void)state;
    assert_int_equal(chmod(folder, 0700), 0);
    write_file("f", "x");
    assert_lists("opt/m", "5 opt/\n5 opt/m/\n0 opt/m/f\n");
    cleanup_buffer struct buffer archive = {0};
    pack("opt/m", &plain_settings, &archive);
    assert_int_equal(octal(header_of(&archive, "opt/m/") + 100), 0755);
}

static void test_an_empty_folder_is_an_empty_archive(void **state) {
    (void)state;
    assert_lists("", "");
}

static void test_every_kind_of_file(void **state) {
    (void)state;
    write_file("file", "hello");
    assert_int_equal(chmod(below("file"), 06751), 0);
    make_folder("tmp");
    assert_int_equal(chmod(below("tmp"), 01777), 0);
    assert_int_equal(symlink("../etc/passwd", below("link")), 0);
    assert_int_equal(symlink("nowhere", below("tmp/dangling")), 0);
    assert_int_equal(link(below("file"), below("tmp/second")), 0);
    assert_int_equal(mkfifo(below("pipe"), 0600), 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", below("socket"));
    cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_lists("", "0 file\n"
                     "2 link -> ../etc/passwd\n"
                     "6 pipe\n"
                     "5 tmp/\n"
                     "2 tmp/dangling -> nowhere\n"
                     "1 tmp/second -> file\n");
    cleanup_buffer struct buffer archive = {0};
    pack("", &plain_settings, &archive);
    assert_int_equal(octal(header_of(&archive, "file") + 100), 06751);
    assert_int_equal(octal(header_of(&archive, "file") + 136), 1000);
    assert_int_equal(octal(header_of(&archive, "tmp/") + 100), 01777);
    assert_string_equal(header_of(&archive, "file") + TAR_BLOCK, "hello");
}

static void test_a_device_keeps_its_numbers(void **state) {
    (void)state;
    if (mknod(below("null"), S_IFCHR | 0666, (1 << 8) | 3) != 0)
        skip(); /* only root may */
    cleanup_buffer struct buffer archive = {0};
    pack("", &plain_settings, &archive);
    const char *header = header_of(&archive, "null");
    assert_int_equal(header[156], '3');
    assert_int_equal(octal(header + 329), 1);
    assert_int_equal(octal(header + 337), 3);
}

static void test_long_names_and_targets_have_records(void **state) {
    (void)state;
    char name[200], deep[1024];
    memset(name, 'n', 199);
    name[199] = '\0';
    make_folder(name);
    snprintf(deep, sizeof deep, "%s/%s", name, name);
    write_file(deep, "x");
    assert_int_equal(symlink(deep, below("link")), 0);
    cleanup_buffer struct buffer archive = {0};
    pack("", &plain_settings, &archive);
    snprintf(deep, sizeof deep, " path=%s/%s\n", name, name);
    assert_non_null(memmem(archive.bytes, archive.length, deep, strlen(deep)));
    snprintf(deep, sizeof deep, " path=%s/\n", name);
    assert_non_null(memmem(archive.bytes, archive.length, deep, strlen(deep)));
    snprintf(deep, sizeof deep, " linkpath=%s/%s\n", name, name);
    assert_non_null(memmem(archive.bytes, archive.length, deep, strlen(deep)));
}

static void test_a_record_counts_its_own_length(void **state) {
    (void)state;
    char name[256] = "";
    /* Lengths around 99 and 100, where the number itself becomes longer. */
    for (size_t length = 86; length < 96; length++) {
        cleanup_buffer struct buffer out = {0};
        memset(name, 'n', length);
        name[length] = '\0';
        name[0] = (char)0xc3;
        name[1] = (char)0xa4;
        const struct tar_entry entry = {.type = TAR_FILE, .path = name};
        assert_true(tar_append_header(&out, &entry, NULL));
        const char *record = out.bytes + TAR_BLOCK;
        char *end;
        assert_int_equal(strtoul(record, &end, 10), octal(out.bytes + 124));
        assert_int_equal(strncmp(end, " path=", 6), 0);
        assert_int_equal(record[octal(out.bytes + 124) - 1], '\n');
    }
}

static void test_values_that_ustar_cannot_hold(void **state) {
    (void)state;
    cleanup_buffer struct buffer out = {0};
    const struct tar_entry entry = {.type = TAR_FILE,
                                    .path = "f",
                                    .size = (uint64_t)9 << 30,
                                    .user = 3000000,
                                    .group = 4000000,
                                    .time = -2,
                                    .time_ns = 500000000};
    assert_true(tar_append_header(&out, &entry, NULL));
    assert_string_equal(out.bytes + TAR_BLOCK, "15 gid=4000000\n"
                                               "14 mtime=-1.5\n"
                                               "19 size=9663676416\n"
                                               "15 uid=3000000\n");
    const struct tar_attribute bad = {"user.a=b", text_of("v")};
    const struct tar_entry with_bad = {
        .type = TAR_FILE, .path = "f", .attributes = &bad, .attribute_count = 1};
    struct error error = {0};
    assert_false(tar_append_header(&out, &with_bad, &error));
    assert_int_equal(error.kind, ERROR_UNSUPPORTED);
}

static void test_preserve_keeps_owner_and_time(void **state) {
    (void)state;
    write_file("f", "x");
    const struct timespec times[2] = {{5, 0}, {1234567890, 120000000}};
    assert_int_equal(utimensat(AT_FDCWD, below("f"), times, 0), 0);
    cleanup_buffer struct buffer archive = {0};
    const struct pack_settings settings = {.time = 7, .preserve = true};
    pack("in", &settings, &archive);
    const char *header = header_of(&archive, "in/f");
    assert_int_equal(octal(header + 136), 1234567890);
    assert_int_equal(octal(header + 108), getuid());
    assert_non_null(memmem(archive.bytes, archive.length, "23 mtime=1234567890.12\n", 23));
    assert_int_equal(octal(header_of(&archive, "in/") + 136), 7);
}

static void test_a_hole_is_zeros(void **state) {
    (void)state;
    enum { SIZE = 5 << 20 };
    const int fd = open(below("sparse"), O_RDWR | O_CREAT, 0644);
    assert_int_equal(ftruncate(fd, SIZE), 0);
    assert_int_equal(pwrite(fd, "data", 4, 3 << 20), 4);
    close(fd);
    cleanup_buffer struct buffer archive = {0};
    pack("", &plain_settings, &archive);
    assert_int_equal(archive.length, TAR_BLOCK + SIZE + TAR_END_SIZE);
    assert_memory_equal(archive.bytes + TAR_BLOCK + (3 << 20), "data", 4);
    size_t others = 0;
    for (size_t i = TAR_BLOCK; i < archive.length; i++)
        others += archive.bytes[i] != 0;
    assert_int_equal(others, 4);
}

/* ---- changes ---- */

/* A sink that does something to the folder when it has seen so many bytes. */
struct meddler {
    size_t at, seen;
    void (*meddle)(void);
};

static bool see(void *context, const void *bytes, size_t length, struct error *error) {
    struct meddler *meddler = context;
    (void)bytes;
    (void)error;
    const bool is_before = meddler->seen < meddler->at;
    meddler->seen += length;
    if (is_before && meddler->seen >= meddler->at)
        meddler->meddle();
    return true;
}

static void make_large(void) {
    cleanup_buffer struct buffer bytes = {0};
    while (bytes.length < 1 << 20)
        buffer_append_string(&bytes, "0123456789abcdef");
    make_folder("d");
    write_file("d/large", bytes.bytes);
}

static void grow(void) {
    cleanup_close int fd = open(below("d/large"), O_WRONLY | O_APPEND);
    assert_int_equal(write(fd, "x", 1), 1);
}

static void shrink(void) {
    assert_int_equal(truncate(below("d/large"), 700 << 10), 0);
}

static void overwrite(void) {
    cleanup_close int fd = open(below("d/large"), O_WRONLY);
    assert_int_equal(pwrite(fd, "x", 1, 5), 1);
}

static void overwrite_unseen(void) {
    struct stat status;
    assert_int_equal(stat(below("d/large"), &status), 0);
    overwrite();
    const struct timespec times[2] = {status.st_atim, status.st_mtim};
    assert_int_equal(utimensat(AT_FDCWD, below("d/large"), times, 0), 0);
}

static void drop(void) {
    assert_int_equal(unlink(below("d/large")), 0);
}

static void replace(void) {
    write_file("new", "x");
    assert_int_equal(rename(below("new"), below("d/large")), 0);
}

static void assert_noticed(void (*meddle)(void), size_t at, const char *name, const char *how) {
    struct meddler meddler = {.at = at, .meddle = meddle};
    const struct sink sink = {see, &meddler};
    struct error error = {0};
    char path[4096];
    assert_false(pack_folder(folder, "x", &plain_settings, &sink, &error));
    snprintf(path, sizeof path, "%s%s%s: ", folder, *name ? "/" : "", name);
    if (error.kind != ERROR_CORRUPT || strncmp(error.text, path, strlen(path)) != 0 ||
        !strstr(error.text, how))
        fail_msg("%s", error.text);
}

static void test_a_file_that_changes_is_named(void **state) {
    static const struct {
        void (*meddle)(void);
        const char *how;
    } cases[] = {{grow, "grew"},         {shrink, "shrank"},
                 {overwrite, "written"}, {overwrite_unseen, "written"},
                 {drop, "vanished"},     {replace, "vanished"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(set_up(state), 0);
        make_large();
        assert_noticed(cases[i].meddle, 300 << 10, "d/large", cases[i].how);
        assert_int_equal(tear_down(state), 0);
    }
}

static void drop_last(void) {
    assert_int_equal(unlink(below("z")), 0);
}

static void replace_last(void) {
    drop_last();
    make_folder("z");
}

static void add_file(void) {
    write_file("d/new", "x");
}

static void test_names_that_come_and_go_are_noticed(void **state) {
    static const struct {
        void (*meddle)(void);
        const char *name, *how;
    } cases[] = {{drop_last, "z", "vanished"},
                 {replace_last, "", "got or lost"},
                 {add_file, "d", "got or lost"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(set_up(state), 0);
        make_large();
        write_file("z", "x");
        clock_sleep_ms(30); /* so that the folder's time differs afterwards */
        assert_noticed(cases[i].meddle, 300 << 10, cases[i].name, cases[i].how);
        assert_int_equal(tear_down(state), 0);
    }
}

/* ---- refusals ---- */

static bool refuse(void *context, const void *bytes, size_t length, struct error *error) {
    (void)context;
    (void)bytes;
    (void)length;
    return error_set(error, ERROR_UNAVAILABLE, "the sink broke");
}

static void test_the_error_of_the_sink_names_no_file(void **state) {
    (void)state;
    write_file("f", "x");
    const struct sink sink = {refuse, NULL};
    struct error error = {0};
    assert_false(pack_folder(folder, "", &plain_settings, &sink, &error));
    assert_string_equal(error.text, "the sink broke");
}

static void assert_refused(enum error_kind kind, const char *text) {
    cleanup_buffer struct buffer archive = {0};
    const struct sink sink = {append, &archive};
    struct error error = {0};
    assert_false(pack_folder(folder, "", &plain_settings, &sink, &error));
    if (error.kind != kind || !strstr(error.text, text))
        fail_msg("%s: %s", error_kind_name(error.kind), error.text);
}

static void test_names_that_mean_removals_are_refused(void **state) {
    (void)state;
    make_folder("d");
    write_file("d/.wh.f", "x");
    assert_refused(ERROR_UNSUPPORTED, "d/.wh.f: ");
}

static void test_what_is_no_folder_is_refused(void **state) {
    (void)state;
    cleanup_buffer struct buffer archive = {0};
    const struct sink sink = {append, &archive};
    struct error error = {0};
    write_file("f", "x");
    assert_false(pack_folder(below("f"), "", &plain_settings, &sink, &error));
    assert_int_equal(error.kind, ERROR_INVALID);
    assert_false(pack_folder(below("none"), "", &plain_settings, &sink, &error));
    assert_int_equal(error.kind, ERROR_NOT_FOUND);
}

static void test_folders_too_deep_are_refused(void **state) {
    (void)state;
    int fd = open(folder, O_RDONLY | O_DIRECTORY);
    for (int i = 0; i < PACK_DEPTH_LIMIT + 1; i++) {
        assert_int_equal(mkdirat(fd, "d", 0755), 0);
        const int next = openat(fd, "d", O_RDONLY | O_DIRECTORY);
        close(fd);
        fd = next;
    }
    close(fd);
    assert_refused(ERROR_UNSUPPORTED, "folders deep");
}

static void test_the_names_of_a_folder_are_bounded(void **state) {
    (void)state;
    struct folder names;
    struct error error = {0};
    size_t left = 40;
    for (char name[] = "n0"; name[1] < '8'; name[1]++)
        write_file(name, "");
    assert_false(folder_read(&names, open(folder, O_RDONLY | O_DIRECTORY), &left, &error));
    assert_int_equal(error.kind, ERROR_UNSUPPORTED);
    left = 400;
    assert_true(folder_read(&names, open(folder, O_RDONLY | O_DIRECTORY), &left, &error));
    assert_true(left < 400);
    folder_finish(&names, &left);
    assert_int_equal(left, 400);
}

static void test_hard_links_are_bounded_and_forgotten(void **state) {
    (void)state;
    struct hard_links links = {0};
    cleanup_buffer struct buffer first = {0};
    struct error error = {0};
    struct stat status = {.st_ino = 1, .st_nlink = 2};
    assert_true(hard_links_add(&links, &status, "first", &error));
    assert_true(links.bytes > 0);
    assert_true(hard_links_find(&links, &status, &first));
    assert_string_equal(first.bytes, "first");
    assert_int_equal(links.bytes, 0); /* both names were seen */
    cleanup_free char *name = calloc(1, 1 << 16);
    memset(name, 'n', (1 << 16) - 1);
    while (hard_links_add(&links, &status, name, &error))
        status.st_ino++;
    assert_int_equal(error.kind, ERROR_UNSUPPORTED);
    assert_true(links.bytes <= HARD_LINKS_LIMIT);
    hard_links_finish(&links);
}

/* ---- paths and removals ---- */

static void test_paths_in_an_image(void **state) {
    (void)state;
    cleanup_buffer struct buffer path = {0};
    static const char *const good[][2] = {{"/", ""},
                                          {"", ""},
                                          {"/opt//model/", "opt/model"},
                                          {"./a/./b", "a/b"},
                                          {"/a/...", "a/..."}};
    static const char *const bad[] = {"..", "/a/../b", "/a/..", "/.wh.x", "a/.wh..wh..opq"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_true(pack_path(text_of(good[i][0]), &path, NULL));
        assert_string_equal(path.bytes, good[i][1]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(pack_path(text_of(bad[i]), &path, NULL));
    assert_false(pack_path((struct text){"a\0b", 3}, &path, NULL));
}

static void assert_removals(const char *const *paths, size_t count, const char *expected) {
    cleanup_buffer struct buffer archive = {0}, names = {0};
    struct error error = {0};
    const struct sink sink = {append, &archive};
    assert_true(pack_removals(paths, count, &plain_settings, &sink, &error));
    list(&archive, &names);
    assert_string_equal(names.bytes, expected);
}

static void test_removals_are_whiteouts(void **state) {
    (void)state;
    const char *const paths[] = {"usr/share/doc", "etc/passwd", "opt",     "etc/passwd",
                                 "opt/model",     "etc/group",  "optional"};
    assert_removals(paths, 7,
                    "0 .wh.opt\n"
                    "0 .wh.optional\n"
                    "5 etc/\n"
                    "0 etc/.wh.group\n"
                    "0 etc/.wh.passwd\n"
                    "5 usr/\n"
                    "5 usr/share/\n"
                    "0 usr/share/.wh.doc\n");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_names_are_sorted_by_bytes),
        TEST(test_the_path_in_the_image_gets_its_parents),
        TEST(test_an_empty_folder_is_an_empty_archive),
        TEST(test_every_kind_of_file),
        TEST(test_a_device_keeps_its_numbers),
        TEST(test_long_names_and_targets_have_records),
        cmocka_unit_test(test_a_record_counts_its_own_length),
        cmocka_unit_test(test_values_that_ustar_cannot_hold),
        TEST(test_preserve_keeps_owner_and_time),
        TEST(test_a_hole_is_zeros),
        cmocka_unit_test(test_a_file_that_changes_is_named),
        cmocka_unit_test(test_names_that_come_and_go_are_noticed),
        TEST(test_the_error_of_the_sink_names_no_file),
        TEST(test_names_that_mean_removals_are_refused),
        TEST(test_what_is_no_folder_is_refused),
        TEST(test_folders_too_deep_are_refused),
        TEST(test_the_names_of_a_folder_are_bounded),
        cmocka_unit_test(test_hard_links_are_bounded_and_forgotten),
        cmocka_unit_test(test_paths_in_an_image),
        cmocka_unit_test(test_removals_are_whiteouts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
