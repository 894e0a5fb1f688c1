/* Names of hosts, repositories, tags and images. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "oci/reference.h"

#define HEX64 "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define TEN   "aaaaaaaaaa"
#define FIFTY TEN TEN TEN TEN TEN

#define LENGTH(array) (sizeof(array) / sizeof *(array))

typedef bool rule(struct text text);

static void assert_all(rule *is, const char *const *strings, size_t count, bool expected) {
    for (size_t i = 0; i < count; i++) {
        if (is(text_of(strings[i])) != expected)
            fail_msg("\"%s\" should %sbe accepted", strings[i], expected ? "" : "not ");
    }
}

static void test_repository_names_follow_the_grammar(void **state) {
    (void)state;
    static const char *const good[] = {
        "a",
        "busybox",
        "library/busybox",
        "a/b/c/d/e/f/g",
        "a.b",
        "a_b",
        "a__b",
        "a-b",
        "a---b",
        "0/1",
        "my-project/repo/app.v2",
        "a-b_c__d.e",
        FIFTY FIFTY FIFTY FIFTY FIFTY "/aaa"
                                      "a",
    };
    static const char *const bad[] = {
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        "A",
        "a/B",
        ".a",
        "a.",
        "a..b",
        "a._b",
        "a___b",
        "_a",
        "a_",
        "-a",
        "a-",
        "a-/b",
        "a/-b",
        "..",
        "a/../b",
        "a/.",
        "a:b",
        "a@b",
        "a b",
        "a%2fb",
        "a\\b",
        "\xc3\xa4",
        "a\n",
        "a?b",
        "a._",
        "a__",
        "a-.b",
        FIFTY FIFTY FIFTY FIFTY FIFTY "/aaaa"
                                      "a",
    };
    assert_all(reference_is_repository, good, LENGTH(good), true);
    assert_all(reference_is_repository, bad, LENGTH(bad), false);
    assert_false(reference_is_repository((struct text){NULL, 0}));
    assert_false(reference_is_repository((struct text){"a\0b", 3}));
}

static void test_tags_follow_the_grammar(void **state) {
    (void)state;
    static const char *const good[] = {
        "latest",
        "1",
        "_",
        "__",
        "v1.2.3-rc.1_x86",
        "A",
        "a.",
        "a-",
        "sha256-" HEX64,
        FIFTY FIFTY TEN TEN "12345678",
    };
    static const char *const bad[] = {
        "",   ".",   "..",       "-",   ".a",
        "-a", "a/b", "a:b",      "a b", "a+b",
        "a@", "a%",  "\xc3\xa4", "a\n", FIFTY FIFTY TEN TEN "123456789",
    };
    assert_all(reference_is_tag, good, LENGTH(good), true);
    assert_all(reference_is_tag, bad, LENGTH(bad), false);
    assert_false(reference_is_tag((struct text){NULL, 0}));
    assert_false(reference_is_tag((struct text){"a\0", 2}));
}

static void test_hosts_are_names_or_addresses_with_an_optional_port(void **state) {
    (void)state;
    static const char *const good[] = {
        "localhost",
        "localhost:5000",
        "docker.io",
        "us-central1-docker.pkg.dev",
        "GHCR.io",
        "ghcr.io:443",
        "a",
        "a-b.c",
        "xn--bcher-kva.example",
        "1.2.3.4",
        "1.2.3.4:5",
        "[::1]",
        "[::1]:5",
        "[2001:db8::1]:65535",
        "[::ffff:1.2.3.4]:80",
        "3com.example",
        FIFTY TEN "123.example",
        "1and1.de:1",
    };
    static const char *const bad[] = {
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "-a",
        "a-",
        "a-.b",
        "a.-b",
        "a_b.c",
        "a b",
        "a/b",
        "a@b",
        "user@host",
        "http://a",
        "a:",
        "a:0",
        "a:65536",
        "a:080",
        "a:+1",
        "a: 1",
        "a:1:2",
        "::1",
        "a:99999999999",
        "[::1",
        "[]",
        "[::1]5",
        "[::1]:",
        "[::1]:0",
        "[::1]x:5",
        "[1.2.3.4]",
        "[fe80::1%eth0]",
        "[::g]",
        "\xc3\xa4.de",
        "a?b",
        "a#b",
        FIFTY TEN "1234.example",
        ":5000",
        "a\n",
    };
    assert_all(reference_is_host, good, LENGTH(good), true);
    assert_all(reference_is_host, bad, LENGTH(bad), false);
    assert_false(reference_is_host((struct text){NULL, 0}));
    assert_false(reference_is_host((struct text){"a\0b", 3}));
    char longest[HOST_LIMIT + 2];
    for (size_t i = 0; i < sizeof longest; i++)
        longest[i] = i % 10 == 9 ? '.' : 'a';
    assert_true(reference_is_host((struct text){longest, HOST_LIMIT}));
    assert_false(reference_is_host((struct text){longest, HOST_LIMIT + 1}));
}

static void test_addresses_in_other_spellings_are_no_hosts(void **state) {
    (void)state;
    static const char *const bad[] = {
        "127.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0X7F.1",       "0177.0.0.1",
        "1.2.3", "1.2.3.256",  "1.2.3.4.5",  "127.0.0.01", "example.0x7f", "a.1:80",
    };
    assert_all(reference_is_host, bad, LENGTH(bad), false);
}

static void test_the_first_part_is_a_host_by_dockers_rule(void **state) {
    (void)state;
    static const char *const hosts[] = {"ghcr.io", "localhost", "localhost:1", "a:1", "1.2.3.4"};
    static const char *const names[] = {"", "library", "local", "my-project"};
    assert_all(reference_looks_like_host, hosts, LENGTH(hosts), true);
    assert_all(reference_looks_like_host, names, LENGTH(names), false);
}

static void test_a_reference_is_a_tag_or_a_digest(void **state) {
    (void)state;
    struct reference reference;
    assert_true(reference_parse(text_of("1.37"), &reference));
    assert_false(reference.is_digest);
    assert_string_equal(reference.tag, "1.37");
    assert_true(reference_parse(text_of("sha256:" HEX64), &reference));
    assert_true(reference.is_digest);
    assert_int_equal(reference.digest.algorithm, DIGEST_SHA256);
    assert_string_equal(reference.tag, "");
    assert_true(reference_parse(text_of("sha512:" HEX64 HEX64), &reference));
    assert_int_equal(reference.digest.algorithm, DIGEST_SHA512);

    assert_false(reference_parse(text_of(""), &reference));
    assert_false(reference_parse((struct text){NULL, 0}, &reference));
    assert_false(reference_parse(text_of("sha256:abc"), &reference));
    assert_false(reference_parse(text_of("md5:" HEX64), &reference));
    assert_false(reference_parse(text_of(":"), &reference));
    assert_false(reference_parse(text_of("a/b"), &reference));
}

static void test_image_names_are_taken_apart(void **state) {
    (void)state;
    static const struct {
        const char *typed, *host, *repository, *tag; /* tag NULL: a digest */
    } cases[] = {
        {"busybox", "", "busybox", "latest"},
        {"busybox:1.37", "", "busybox", "1.37"},
        {"library/busybox", "", "library/busybox", "latest"},
        {"docker.io/busybox", "docker.io", "busybox", "latest"},
        {"ghcr.io/org/app:v1", "ghcr.io", "org/app", "v1"},
        {"localhost/app", "localhost", "app", "latest"},
        {"localhost:30026/p/r/busybox:1.37", "localhost:30026", "p/r/busybox", "1.37"},
        {"[::1]:5000/app:x", "[::1]:5000", "app", "x"},
        {"busybox@sha256:" HEX64, "", "busybox", NULL},
        {"ghcr.io/org/app:v1@sha256:" HEX64, "ghcr.io", "org/app", NULL},
        {"us-central1-docker.pkg.dev/project/repo/app", "us-central1-docker.pkg.dev",
         "project/repo/app", "latest"},
    };
    for (size_t i = 0; i < LENGTH(cases); i++) {
        struct image_name name;
        struct error error = {0};
        if (!image_name_parse(text_of(cases[i].typed), &name, &error))
            fail_msg("%s", error.text);
        assert_string_equal(name.host, cases[i].host);
        assert_string_equal(name.repository, cases[i].repository);
        assert_int_equal(name.reference.is_digest, cases[i].tag == NULL);
        assert_string_equal(name.reference.tag, cases[i].tag ? cases[i].tag : "");
    }
}

static void test_a_bad_image_name_is_told_what_is_wrong(void **state) {
    (void)state;
    static const struct {
        const char *typed, *says;
    } cases[] = {
        {"", "empty"},
        {"Busybox", "\"Busybox\" is not a repository name"},
        {"ghcr.io/", "\"\" is not a repository name"},
        {"/busybox", "is not a repository name"},
        {"ghcr.io/Org/app", "\"Org/app\" is not a repository name"},
        {"busybox:", "\"\" is not a tag"},
        {"busybox:a:b", "\"a:b\" is not a tag"},
        {"busybox:-1", "\"-1\" is not a tag"},
        {"busybox@", "\"\" is not a digest"},
        {"busybox@sha256:abc", "\"sha256:abc\" is not a digest"},
        {"busybox:bad tag@sha256:" HEX64, "\"bad tag\" is not a tag"},
        {"a..b/app", "\"a..b\" is not a host"},
        {"host:99999/app", "\"host:99999\" is not a host"},
        {"https://ghcr.io/app", "\"https:\" is not a host"},
        {"[::1/app", "\"[::1\" is not a host"},
    };
    for (size_t i = 0; i < LENGTH(cases); i++) {
        struct image_name name;
        struct error error = {0};
        assert_false(image_name_parse(text_of(cases[i].typed), &name, &error));
        assert_int_equal(error.kind, ERROR_INVALID);
        if (!strstr(error.text, cases[i].says))
            fail_msg("\"%s\" does not say: %s", error.text, cases[i].says);
    }
    struct image_name name;
    char *huge = test_malloc(100000);
    memset(huge, 'a', 100000);
    assert_false(image_name_parse((struct text){huge, 100000}, &name, NULL));
    test_free(huge);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_repository_names_follow_the_grammar),
        cmocka_unit_test(test_tags_follow_the_grammar),
        cmocka_unit_test(test_hosts_are_names_or_addresses_with_an_optional_port),
        cmocka_unit_test(test_addresses_in_other_spellings_are_no_hosts),
        cmocka_unit_test(test_the_first_part_is_a_host_by_dockers_rule),
        cmocka_unit_test(test_a_reference_is_a_tag_or_a_digest),
        cmocka_unit_test(test_image_names_are_taken_apart),
        cmocka_unit_test(test_a_bad_image_name_is_told_what_is_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
