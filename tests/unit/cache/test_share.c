/* The names of the objects in a shared bucket, and the records of what is pending for it. */
#include "cache/share.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include "cache/pending.h"

#define HEX    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define DIGEST "sha256:" HEX

static struct digest abc(void) {
    struct digest digest;
    assert_true(digest_parse(text_of(DIGEST), &digest));
    return digest;
}

static struct repository_name name_of(const char *host, const char *path) {
    struct repository_name name;
    assert_true(repository_name_parse(text_of(host), text_of(path), &name));
    return name;
}

static void test_keys_are_those_of_the_cncf_registry(void **state) {
    (void)state;
    char key[SHARE_KEY_SIZE];
    const struct digest digest = abc();
    const struct repository_name name = name_of("ghcr.io", "org/app");
    assert_string_equal(share_key_blob(key, &digest),
                        "docker/registry/v2/blobs/sha256/ba/" HEX "/data");
    assert_string_equal(share_key_layer(key, &name, &digest),
                        "docker/registry/v2/repositories/ghcr.io/org/app/_layers/sha256/" HEX
                        "/link");
    assert_string_equal(share_key_revision(key, &name, &digest),
                        "docker/registry/v2/repositories/ghcr.io/org/app/_manifests/revisions/"
                        "sha256/" HEX "/link");
    assert_string_equal(share_key_tag(key, &name, "v1.2"),
                        "docker/registry/v2/repositories/ghcr.io/org/app/_manifests/tags/v1.2/"
                        "current/link");
    assert_string_equal(share_key_used(key, &digest), "tarn/v1/used/sha256/ba/" HEX);
}

static void test_a_host_is_written_for_a_plain_registry_and_read_back(void **state) {
    (void)state;
    static const struct {
        const char *host, *written, *read;
    } hosts[] = {{"LocalHost:5000", "/localhost_5000/a/", "localhost:5000"},
                 {"[::1]:5000", "/[__1]_5000/a/", "[::1]:5000"},
                 {"ghcr.io", "/ghcr.io/a/", "ghcr.io"}};
    const struct digest digest = abc();
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
        char key[SHARE_KEY_SIZE], tag[TAG_LIMIT + 1];
        struct repository_name name = name_of(hosts[i].host, "a"), back;
        struct digest found;
        assert_non_null(strstr(share_key_layer(key, &name, &digest), hosts[i].written));
        assert_true(share_parse_layer(text_of(key), &back, &found));
        assert_string_equal(back.host, hosts[i].read);
        assert_true(digest_equal(&found, &digest));
        share_key_revision(key, &name, &digest);
        assert_true(share_parse_revision(text_of(key), &back, &found));
        share_key_tag(key, &name, "1");
        assert_true(share_parse_tag(text_of(key), &back, tag));
        assert_string_equal(back.host, hosts[i].read);
        assert_string_equal(back.path, "a");
        assert_string_equal(tag, "1");
    }
}

static void test_the_longest_key_fits(void **state) {
    (void)state;
    char key[SHARE_KEY_SIZE], host[HOST_LIMIT + 1], path[NAME_LIMIT + 1];
    struct digest digest, found;
    struct repository_name name, back;
    assert_true(digest_of(DIGEST_SHA512, "abc", 3, &digest));
    memset(path, 'a', NAME_LIMIT);
    path[NAME_LIMIT] = '\0';
    for (int i = 0; i < 253; i++)
        host[i] = i % 60 == 59 ? '.' : 'h';
    host[253] = '\0';
    name = name_of(host, path);
    share_key_revision(key, &name, &digest);
    assert_true(share_parse_revision(text_of(key), &back, &found));
    assert_true(repository_name_equal(&name, &back));
    assert_true(digest_equal(&digest, &found));
}

static void test_other_keys_are_none_of_ours(void **state) {
    (void)state;
    static const char *const keys[] = {
        "",
        "docker/registry/v2/blobs/sha256/ba/" HEX,
        "docker/registry/v2/blobs/sha256/bb/" HEX "/data",
        "docker/registry/v2/blobs/sha256/ba/" HEX "0/data",
        "docker/registry/v2/blobs/md5/ba/" HEX "/data",
        "docker/registry/v2/blobs/sha256/ba/data",
        "docker/registry/v2/blobs//data",
        "docker/registry/v2/repositories/a/b/_layers/sha256/" HEX,
        "docker/registry/v2/repositories/_layers/sha256/" HEX "/link",
        "docker/registry/v2/repositories/a/_layers/sha256/" HEX "/link",
        "docker/registry/v2/repositories/a/../b/_layers/sha256/" HEX "/link",
        "docker/registry/v2/repositories/a.b/b/_layers/" HEX "/link",
        "docker/registry/v2/repositories/a.b/b/_manifests/tags//current/link",
        "docker/registry/v2/repositories/a.b/b/_manifests/tags/a b/current/link",
        "docker/registry/v2/repositories/a.b/b/_manifests/tags/1/index/sha256/" HEX "/link",
        "tarn/v1/used/sha256/ba/" HEX "/data",
        "tarn/v1/janitor.json",
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const struct text key = text_of(keys[i]);
        struct repository_name name;
        struct digest digest;
        char tag[TAG_LIMIT + 1];
        assert_false(share_parse_blob(key, &digest) || share_parse_used(key, &digest) ||
                     share_parse_layer(key, &name, &digest) ||
                     share_parse_revision(key, &name, &digest) || share_parse_tag(key, &name, tag));
    }
}

static void test_a_link_holds_a_digest(void **state) {
    (void)state;
    struct digest digest;
    assert_true(share_parse_link(text_of(DIGEST), &digest));
    assert_true(share_parse_link(text_of(DIGEST "\n"), &digest));
    assert_false(share_parse_link(text_of(""), &digest));
    assert_false(share_parse_link(text_of("\n"), &digest));
    assert_false(share_parse_link(text_of(DIGEST "0"), &digest));
    assert_false(share_parse_link((struct text){NULL, 0}, &digest));
}

/* ---- records ---- */

static struct pending_item item_of(enum pending_kind kind, const char *text) {
    struct pending_item item = {.kind = kind, .name = name_of("a.b:5000", "org/app")};
    text_copy(text_of(text), item.text, sizeof item.text);
    return item;
}

static void test_a_record_is_read_as_it_was_written(void **state) {
    (void)state;
    const struct pending_item items[] = {
        item_of(PENDING_DATA, ""),
        item_of(PENDING_BLOB, ""),
        item_of(PENDING_MANIFEST, "application/vnd.oci.image.index.v1+json"),
        item_of(PENDING_TAG, "v1.2_3-4"),
        item_of(PENDING_OVERWRITE, ""),
    };
    cleanup_buffer struct buffer record = {0};
    for (int twice = 0; twice < 2; twice++) {
        for (size_t i = 0; i < sizeof items / sizeof *items; i++)
            assert_true(pending_add(&record, &items[i]));
    }
    struct text rest = {record.bytes, record.length};
    struct pending_item item;
    for (size_t i = 0; i < sizeof items / sizeof *items; i++) {
        assert_true(pending_next(&rest, &item));
        assert_int_equal(item.kind, items[i].kind);
        assert_string_equal(item.text, items[i].text);
        if (item.kind >= PENDING_BLOB)
            assert_true(repository_name_equal(&item.name, &items[i].name));
    }
    assert_false(pending_next(&rest, &item));
}

static void test_lines_that_cannot_be_read_are_passed_over(void **state) {
    (void)state;
    static const char text[] = "tarn-pending 9\n"
                               "data more\nblob\nblob a.b\nblob a.b/../c\nblob a.b/c d\n"
                               "manifest a.b/c\ntag a.b/c\ntag a.b/c a b\nfly a.b/c\n\n"
                               "blob a.b/c\ntag a.b/c 1";
    struct text rest = text_of(text);
    struct pending_item item;
    assert_true(pending_next(&rest, &item));
    assert_int_equal(item.kind, PENDING_BLOB);
    assert_true(pending_next(&rest, &item));
    assert_int_equal(item.kind, PENDING_TAG);
    assert_string_equal(item.text, "1");
    assert_false(pending_next(&rest, &item));
}

static void test_a_record_is_bounded(void **state) {
    (void)state;
    cleanup_buffer struct buffer record = {0};
    bool fits = true;
    for (unsigned i = 0; i < 10000; i++) {
        char tag[32];
        snprintf(tag, sizeof tag, "tag-%u", i);
        const struct pending_item item = item_of(PENDING_TAG, tag);
        fits &= pending_add(&record, &item);
    }
    assert_false(fits);
    assert_in_range(record.length, 1000, PENDING_LIMIT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys_are_those_of_the_cncf_registry),
        cmocka_unit_test(test_a_host_is_written_for_a_plain_registry_and_read_back),
        cmocka_unit_test(test_the_longest_key_fits),
        cmocka_unit_test(test_other_keys_are_none_of_ours),
        cmocka_unit_test(test_a_link_holds_a_digest),
        cmocka_unit_test(test_a_record_is_read_as_it_was_written),
        cmocka_unit_test(test_lines_that_cannot_be_read_are_passed_over),
        cmocka_unit_test(test_a_record_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
