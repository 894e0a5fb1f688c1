/* Archives: what of them becomes a tree, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/cleanup.h"
#include "layer/archive.h"
#include "layer/tar.h"

typedef struct archive_entry entry;

/* The tree of these entries is `wanted`. */
static void assert_tree(const entry *entries, size_t count, const char *wanted) {
    cleanup_buffer struct buffer archive = {0};
    char word[32];
    for (size_t i = 0; i < count; i++)
        archive_add(&archive, &entries[i]);
    archive_end(&archive);
    cleanup_free char *shown = archive_shown(&archive, word);
    assert_string_equal(word, "");
    assert_string_equal(shown, wanted);
}
#define TREE(wanted, ...)                                                                          \
    assert_tree((const entry[]){__VA_ARGS__},                                                      \
                sizeof((const entry[]){__VA_ARGS__}) / sizeof(entry), wanted)

static void assert_refused(const entry *entries, size_t count, const char *wanted) {
    cleanup_buffer struct buffer archive = {0};
    char word[32];
    for (size_t i = 0; i < count; i++)
        archive_add(&archive, &entries[i]);
    archive_end(&archive);
    cleanup_free char *shown = archive_shown(&archive, word);
    assert_null(shown);
    assert_string_equal(word, wanted);
}
#define REFUSED(...)                                                                               \
    assert_refused((const entry[]){__VA_ARGS__},                                                   \
                   sizeof((const entry[]){__VA_ARGS__}) / sizeof(entry), "tar")

static void test_types_owners_and_times_are_taken(void **state) {
    (void)state;
    TREE("d0755 /d t7.000000000\n"
         "-4755 /d/f 3 0+3@1024 u12\n"
         "b0644 /d/g 7:1048575\n"
         "c0644 /d/h 4095:0\n"
         "l0777 /d/l -> ../x\n"
         "p0644 /d/p\n",
         {.type = '5', .name = "d/", .mode = 0755, .mtime = 7},
         {.name = "./d//f", .mode = 04755, .body = "abc", .uid = 12},
         {.type = '2', .name = "/d/l", .link = "../x", .mode = 0600}, {.type = '6', .name = "d/p"},
         {.type = '4', .name = "d/g", .major = 7, .minor = 0xfffff},
         {.type = '3', .name = "d/h", .major = 4095});
}

static void test_a_pax_header_counts_for_one_entry(void **state) {
    (void)state;
    TREE("d0755 /long implicit\n"
         "-0644 /long/name 1 0+1@1536 t5.250000000 u4294967294 user.a=1 security.capability=x\n"
         "-0644 /short 1 0+1@2560\n",
         {.name = "short",
          .body = "1",
          .pax = "path=long/name\nuid=4294967294\nmtime=5.25\nSCHILY.xattr.security.capability=x\n"
                 "SCHILY.xattr.user.a=1\nLIBARCHIVE.xattr.user.b=MQ\ncomment=nothing"},
         {.name = "short", .body = "1"});
}

static void test_times_that_containerd_does_not_know_are_1970(void **state) {
    (void)state;
    TREE("-0644 /a 0\n-0644 /b 0\n-0644 /c 0\n-0644 /d 0 t9223372036.000000000\n",
         {.name = "a", .pax = "mtime=-1.5"}, {.name = "b", .pax = "mtime=-0.5"},
         {.name = "c", .pax = "mtime=9223372037"}, {.name = "d", .pax = "mtime=9223372036"});
}

static void test_global_headers_change_nothing(void **state) {
    (void)state;
    cleanup_buffer struct buffer archive = {0};
    char word[32];
    archive_pax(&archive, 'g', "mtime=99\nuid=7\npath=else");
    archive_add(&archive, &(entry){.name = "f"});
    archive_end(&archive);
    cleanup_free char *shown = archive_shown(&archive, word);
    assert_string_equal(shown, "-0644 /f 0\n");
}

static void test_gnu_long_names_are_taken(void **state) {
    (void)state;
    cleanup_buffer struct buffer archive = {0};
    char word[32], name[200], link[200], wanted[500];
    memset(name, 'n', 199);
    memset(link, 'k', 199);
    name[199] = link[199] = '\0';
    archive_header(&archive,
                   &(entry){.type = 'L', .name = "././@LongLink", .size = 200, .is_gnu = true});
    archive_body(&archive, name, 200);
    archive_header(&archive,
                   &(entry){.type = 'K', .name = "././@LongLink", .size = 200, .is_gnu = true});
    archive_body(&archive, link, 200);
    archive_add(&archive, &(entry){.type = '2', .name = "short", .link = "short", .is_gnu = true});
    archive_add(&archive, &(entry){.name = "next"});
    archive_end(&archive);
    snprintf(wanted, sizeof wanted, "-0644 /next 0\nl0777 /%s -> %s\n", name, link);
    cleanup_free char *shown = archive_shown(&archive, word);
    assert_string_equal(shown, wanted);
}

static void test_hard_links_share_what_the_last_header_says(void **state) {
    (void)state;
    TREE("-0755 /a 3 0+3@512 x2 u5\nd0755 /d implicit\n-0755 /d/b 3 0+3@512 x2 u5\n",
         {.name = "a", .body = "abc", .mode = 0600},
         {.type = '1', .name = "d/b", .link = "./a", .mode = 0755, .uid = 5, .size = 77});
}

static void test_the_last_of_two_entries_counts(void **state) {
    (void)state;
    TREE("-0644 /a 1 0+1@1536\nd0700 /d\n-0644 /d/x 0\n", {.name = "a", .body = "12"},
         {.name = "a", .body = "3"}, {.type = '5', .name = "d", .mode = 0755}, {.name = "d/x"},
         {.type = '5', .name = "d", .mode = 0700});
    TREE("-0644 /d 0\n", {.type = '5', .name = "d"}, {.name = "d/x"}, {.name = "d"});
}

static void test_whiteouts_hide_names_of_lower_layers(void **state) {
    (void)state;
    TREE("d0755 /d implicit opaque\n-0644 /d/x 0\nw0000 /gone\n", {.name = ".wh.gone"},
         {.name = "d/.wh..wh..opq"}, {.name = "d/x"});
}

static void test_the_root_stays_as_it_is(void **state) {
    (void)state;
    TREE("-0644 /x 0\n", {.type = '5', .name = "./", .mode = 0700}, {.name = "x"},
         {.type = '5', .name = "/"});
}

static void test_attributes_that_no_such_file_has_are_left_out(void **state) {
    (void)state;
    TREE("l0777 /l -> t\n-0644 /x 0 trusted.a=1\n",
         {.type = '2', .name = "l", .link = "t", .pax = "SCHILY.xattr.user.a=1"},
         {.name = "x", .pax = "SCHILY.xattr.trusted.a=1\nSCHILY.xattr.btrfs.compression=zstd"});
}

static void test_what_containerd_refuses_is_refused(void **state) {
    (void)state;
    REFUSED({.name = "a/../b"});
    REFUSED({.name = "../b"});
    REFUSED({.type = '2', .name = "l", .link = "d"}, {.name = "l/x"});
    REFUSED({.name = "f"}, {.name = "f/x"});
    REFUSED({.type = '1', .name = "h", .link = "nothing"});
    REFUSED({.type = '1', .name = "h", .link = "h"});
    REFUSED({.name = "h"}, {.type = '1', .name = "h", .link = "h"});
    REFUSED({.type = '5', .name = "d"}, {.type = '1', .name = "h", .link = "d"});
    REFUSED({.type = '3', .name = "c"});
    REFUSED({.type = '3', .name = "c", .major = 4096});
    REFUSED({.type = '7', .name = "c"});
    REFUSED({.type = 'V', .name = "c"});
    REFUSED({.type = '2', .name = "l", .link = ""});
    REFUSED({.name = ".wh."});
    REFUSED({.name = ".wh..."});
    REFUSED({.name = "x"}, {.name = ".wh.x"});
    REFUSED({.name = "x", .pax = "SCHILY.xattr.trusted.overlay.opaque=y"});
    REFUSED({.name = "x", .pax = "uid=4294967295"});
    REFUSED({.name = "x", .pax = "uid=-1"});
    REFUSED({.name = "x", .pax = "size=-1"});
    REFUSED({.name = "x", .pax = "mtime=now"});
}

static void test_damage_is_refused(void **state) {
    (void)state;
    for (int kind = 0; kind < 6; kind++) {
        cleanup_buffer struct buffer archive = {0};
        char word[32];
        archive_add(&archive, &(entry){.name = "f", .body = "abc"});
        archive_end(&archive);
        switch (kind) {
        case 0: /* the sum */
            archive.bytes[0] ^= 1;
            break;
        case 1: /* a number, with a right sum */
            archive.bytes[101] = '9';
            archive.bytes[102] -= 9;
            break;
        case 2: /* cut in the file */
            archive.length = 512 + 2;
            break;
        case 3: /* cut in a header */
            archive.length = 100;
            break;
        case 4: /* a single block of zeros inside */
            archive.length = 1536;
            archive_add(&archive, &(entry){.name = "g"});
            break;
        default: /* a PAX header whose record is too short */
            archive.length = 0;
            archive_header(&archive, &(entry){.type = 'x', .name = "p", .size = 9});
            archive_body(&archive, "9 path=f\0", 9);
            archive_add(&archive, &(entry){.name = "g"});
        }
        cleanup_free char *shown = archive_shown(&archive, word);
        assert_null(shown);
        assert_string_equal(word, "tar");
    }
}

static void test_an_archive_may_end_without_zeros_or_padding(void **state) {
    (void)state;
    static const size_t lengths[] = {512 + 3, 1024, 1536, 2048};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        cleanup_buffer struct buffer archive = {0};
        char word[32];
        archive_add(&archive, &(entry){.name = "f", .body = "abc"});
        archive_end(&archive);
        archive.length = lengths[i];
        cleanup_free char *shown = archive_shown(&archive, word);
        assert_string_equal(shown, "-0644 /f 3 0+3@512\n");
    }
}

/* A sparse file of 8192 bytes with "abc…" at 4096: as each of GNU's formats stores it. */
static void test_all_formats_of_sparse_files_are_read(void **state) {
    (void)state;
    char body[1024] = "abc", word[32], map[512] = "1\n4096\n1024\n", old[512] = {0};
    for (int format = 0; format < 4; format++) {
        cleanup_buffer struct buffer archive = {0};
        const entry file = {.name = "f", .body = body, .size = sizeof body};
        unsigned long where;
        if (format == 0) {
            archive_pax(&archive, 'x',
                        "GNU.sparse.size=8192\nGNU.sparse.numblocks=1\nGNU.sparse.offset=4096\n"
                        "GNU.sparse.numbytes=1024");
            archive_add(&archive, &file);
            where = 1536;
        } else if (format == 1) {
            archive_pax(&archive, 'x',
                        "GNU.sparse.size=8192\nGNU.sparse.numblocks=1\nGNU.sparse.map=4096,1024");
            archive_add(&archive, &file);
            where = 1536;
        } else if (format == 2) {
            archive_pax(&archive, 'x',
                        "GNU.sparse.major=1\nGNU.sparse.minor=0\nGNU.sparse.name=f\n"
                        "GNU.sparse.realsize=8192");
            archive_header(&archive, &(entry){.name = "GNUSparseFile.0/f", .size = 512 + 1024});
            archive_body(&archive, map, sizeof map);
            archive_body(&archive, body, sizeof body);
            where = 2048;
        } else {
            archive_header(&archive,
                           &(entry){.type = 'S', .name = "f", .size = 1024, .is_gnu = true});
            memcpy(old, archive.bytes, 512);
            snprintf(old + 386, 12, "%011o", 4096u);
            snprintf(old + 398, 12, "%011o", 1024u);
            snprintf(old + 483, 12, "%011o", 8192u);
            archive_sum(old);
            memcpy(archive.bytes, old, 512);
            archive_body(&archive, body, sizeof body);
            where = 512;
        }
        archive_end(&archive);
        char wanted[100];
        snprintf(wanted, sizeof wanted, "-0644 /f 8192 4096+1024@%lu\n", where);
        cleanup_free char *shown = archive_shown(&archive, word);
        assert_string_equal(word, "");
        assert_string_equal(shown, wanted);
    }
}

static void test_maps_of_sparse_files_are_checked(void **state) {
    (void)state;
    static const char *const maps[] = {
        "GNU.sparse.size=100\nGNU.sparse.numblocks=1\nGNU.sparse.map=4096,512",
        "GNU.sparse.size=8192\nGNU.sparse.numblocks=2\nGNU.sparse.map=4096,512",
        "GNU.sparse.size=8192\nGNU.sparse.numblocks=1\nGNU.sparse.map=4096,511",
        "GNU.sparse.size=8192\nGNU.sparse.numblocks=1\nGNU.sparse.map=4096",
        "GNU.sparse.size=8192\nGNU.sparse.numblocks=2\nGNU.sparse.map=1024,256,512,256",
        "GNU.sparse.size=8192\nGNU.sparse.numblocks=1\nGNU.sparse.numbytes=1024",
        "GNU.sparse.major=1\nGNU.sparse.minor=0\nGNU.sparse.realsize=8192",
    };
    char body[512] = "x";
    for (size_t i = 0; i < sizeof maps / sizeof *maps; i++)
        REFUSED({.name = "f", .body = body, .size = sizeof body, .pax = maps[i]});
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types_owners_and_times_are_taken),
        cmocka_unit_test(test_a_pax_header_counts_for_one_entry),
        cmocka_unit_test(test_times_that_containerd_does_not_know_are_1970),
        cmocka_unit_test(test_global_headers_change_nothing),
        cmocka_unit_test(test_gnu_long_names_are_taken),
        cmocka_unit_test(test_hard_links_share_what_the_last_header_says),
        cmocka_unit_test(test_the_last_of_two_entries_counts),
        cmocka_unit_test(test_whiteouts_hide_names_of_lower_layers),
        cmocka_unit_test(test_the_root_stays_as_it_is),
        cmocka_unit_test(test_attributes_that_no_such_file_has_are_left_out),
        cmocka_unit_test(test_what_containerd_refuses_is_refused),
        cmocka_unit_test(test_damage_is_refused),
        cmocka_unit_test(test_an_archive_may_end_without_zeros_or_padding),
        cmocka_unit_test(test_all_formats_of_sparse_files_are_read),
        cmocka_unit_test(test_maps_of_sparse_files_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
