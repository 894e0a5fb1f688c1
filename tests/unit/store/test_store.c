/* The root, blobs, links, tags and the list of repositories. */
#include <dirent.h>
#include <sys/inotify.h>
#include "store_root.h"

#define HOST "ghcr.io"
#define NAME "org/app"
#define TYPE "application/vnd.oci.image.manifest.v1+json"

/* ---- the root ---- */

static void test_a_second_opener_is_refused_and_told_who_holds_the_root(void **state) {
    struct fixture *fixture = *state;
    struct error error = {0};
    assert_null(store_open(fixture->root, &error));
    assert_int_equal(error.kind, ERROR_BUSY);
    char pid[32];
    snprintf(pid, sizeof pid, "process %ld", (long)getpid());
    assert_non_null(strstr(error.text, pid));
    assert_non_null(strstr(error.text, fixture->root));

    write_raw(fixture, "lock", "no number\n", 10);
    assert_null(store_open(fixture->root, &error));
    assert_int_equal(error.kind, ERROR_BUSY);
    assert_non_null(strstr(error.text, "another process"));
    reopen(fixture);
}

/* The running tarn's lock file is deleted, or another file gets its name. */
static void test_a_deleted_or_replaced_lock_file_lets_nobody_else_in(void **state) {
    struct fixture *fixture = *state;
    char lock[1024];
    path_in(fixture, "lock", lock);
    for (int replaced = 0; replaced < 2; replaced++) {
        struct error error = {0};
        assert_int_equal(unlink(lock), 0);
        if (replaced)
            write_raw(fixture, "lock", "1\n", 2);
        assert_null(store_open(fixture->root, &error));
        assert_int_equal(error.kind, ERROR_BUSY);
        assert_non_null(strstr(error.text, "is in use by"));
        assert_non_null(strstr(error.text, fixture->root));
    }
    reopen(fixture);
}

static void test_a_root_is_made_with_its_parents(void **state) {
    struct fixture *fixture = *state;
    char path[1024];
    path_in(fixture, "a/b/c/", path);
    struct store *store = store_open(path, NULL);
    assert_non_null(store);
    store_close(store);
    assert_true(exists(fixture, "a/b/c/lock"));
}

static void test_a_root_that_cannot_be_is_an_error_that_names_it(void **state) {
    struct fixture *fixture = *state;
    write_raw(fixture, "file", "x", 1);
    char path[1024];
    path_in(fixture, "file/root", path);
    struct error error = {0};
    assert_null(store_open(path, &error));
    assert_int_equal(error.kind, ERROR_IO);
    assert_non_null(strstr(error.text, "file"));
    assert_null(store_open("", &error));
    assert_int_equal(error.kind, ERROR_INVALID);
}

/* Opens the root with this owner and mode; returns the error's text, or "" if it opens. */
static const char *refusal_of(struct fixture *fixture, uid_t owner, mode_t mode) {
    static struct error error;
    error = (struct error){0};
    store_close(fixture->store);
    assert_int_equal(chmod(fixture->root, mode), 0);
    assert_true(chown(fixture->root, owner, (gid_t)-1) == 0);
    fixture->store = store_open(fixture->root, &error);
    assert_int_equal(error.kind, fixture->store ? ERROR_NONE : ERROR_DENIED);
    return error.text;
}

static void test_a_root_that_everybody_may_write_is_refused(void **state) {
    struct fixture *fixture = *state;
    static const mode_t modes[] = {0777, 01777, 0702, 0757};
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        const char *text = refusal_of(fixture, geteuid(), modes[i]);
        assert_non_null(strstr(text, "chmod o-w"));
        assert_non_null(strstr(text, fixture->root));
    }
    assert_string_equal(refusal_of(fixture, geteuid(), 0775), "");
    assert_string_equal(refusal_of(fixture, geteuid(), 0700), "");
}

static void test_a_root_of_another_user_is_refused(void **state) {
    struct fixture *fixture = *state;
    if (geteuid() != 0)
        skip(); /* only root can give a folder away */
    assert_non_null(strstr(refusal_of(fixture, 12345, 0700), "belongs to user 12345"));
    assert_string_equal(refusal_of(fixture, 0, 0700), "");
}

/* ---- blobs ---- */

static void test_a_blob_put_is_read_back_after_a_restart(void **state) {
    struct fixture *fixture = *state;
    struct digest digest = digest_of_text("hello");
    struct error error = {0};
    assert_false(store_blob_has(fixture->store, &digest, NULL));
    assert_true(store_blob_put(fixture->store, &digest, "hello", 5, &error));
    assert_true(store_blob_put(fixture->store, &digest, "hello", 5, &error));
    reopen(fixture);
    uint64_t size = 0;
    assert_true(store_blob_has(fixture->store, &digest, &size));
    assert_int_equal(size, 5);
    cleanup_buffer struct buffer out = {0};
    buffer_append_string(&out, "> ");
    assert_true(store_blob_read(fixture->store, &digest, 5, &out, &error));
    assert_string_equal(out.bytes, "> hello");
    int fd = store_blob_open(fixture->store, &digest, &size, &error);
    assert_true(fd >= 0);
    assert_int_equal(size, 5);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    store_blob_close(fixture->store, &digest, fd);
}

static void test_the_empty_blob_and_sha512_are_blobs_too(void **state) {
    struct fixture *fixture = *state;
    struct digest empty = digest_of_text(""), wide;
    assert_true(digest_of(DIGEST_SHA512, "wide", 4, &wide));
    assert_true(store_blob_put(fixture->store, &empty, "", 0, NULL));
    assert_true(store_blob_put(fixture->store, &wide, "wide", 4, NULL));
    cleanup_buffer struct buffer out = {0};
    assert_true(store_blob_read(fixture->store, &empty, 0, &out, NULL));
    assert_int_equal(out.length, 0);
    assert_true(store_blob_read(fixture->store, &wide, 4, &out, NULL));
    assert_string_equal(out.bytes, "wide");
}

static void test_bytes_of_another_digest_are_not_kept(void **state) {
    struct fixture *fixture = *state;
    struct digest digest = digest_of_text("right");
    struct error error = {0};
    assert_false(store_blob_put(fixture->store, &digest, "wrong", 5, &error));
    assert_int_equal(error.kind, ERROR_CORRUPT);
    assert_false(store_blob_has(fixture->store, &digest, NULL));
}

static void test_an_absent_blob_is_not_found(void **state) {
    struct fixture *fixture = *state;
    struct digest digest = digest_of_text("absent"), none = {0};
    struct error error = {0};
    assert_int_equal(store_blob_open(fixture->store, &digest, NULL, &error), -1);
    assert_int_equal(error.kind, ERROR_NOT_FOUND);
    assert_int_equal(store_blob_open(fixture->store, &none, NULL, &error), -1);
    assert_int_equal(error.kind, ERROR_INVALID);
    assert_false(store_blob_has(fixture->store, &none, NULL));
    assert_false(store_blob_put(fixture->store, &none, "", 0, &error));
    assert_int_equal(error.kind, ERROR_INVALID);
}

static void test_a_bad_blob_is_set_aside_and_gone(void **state) {
    struct fixture *fixture = *state;
    struct digest digest = digest_of_text("right");
    struct error error = {0};
    assert_true(store_blob_put(fixture->store, &digest, "right", 5, NULL));
    write_raw(fixture, blob_name(&digest), "wrong", 5);
    cleanup_buffer struct buffer out = {0};
    buffer_append_string(&out, "before");
    assert_false(store_blob_read(fixture->store, &digest, 100, &out, &error));
    assert_int_equal(error.kind, ERROR_CORRUPT);
    assert_int_equal(out.length, 6);
    assert_false(store_blob_has(fixture->store, &digest, NULL));
    assert_true(exists(fixture, flat_name("bad", &digest, "")));

    assert_true(store_blob_put(fixture->store, &digest, "right", 5, NULL));
    buffer_clear(&out);
    assert_true(store_blob_read(fixture->store, &digest, 100, &out, &error));
    assert_string_equal(out.bytes, "right");
}

static void test_a_good_blob_that_took_the_place_of_a_bad_one_is_not_set_aside(void **state) {
    struct fixture *fixture = *state;
    struct digest digest = digest_of_text("right");
    assert_true(store_blob_put(fixture->store, &digest, "right", 5, NULL));
    int bad = store_blob_open(fixture->store, &digest, NULL, NULL);
    write_raw(fixture, blob_name(&digest), "bad", 3);
    assert_true(store_blob_put(fixture->store, &digest, "right", 5, NULL));
    assert_true(store_blob_quarantine(fixture->store, &digest, bad, NULL));
    store_blob_close(fixture->store, &digest, bad);
    uint64_t size = 0;
    assert_true(store_blob_has(fixture->store, &digest, &size));
    assert_int_equal(size, 5);
}

static void test_a_blob_over_the_limit_is_not_read(void **state) {
    struct fixture *fixture = *state;
    struct digest digest = digest_of_text("hello");
    struct error error = {0};
    assert_true(store_blob_put(fixture->store, &digest, "hello", 5, NULL));
    cleanup_buffer struct buffer out = {0};
    assert_false(store_blob_read(fixture->store, &digest, 4, &out, &error));
    assert_int_equal(error.kind, ERROR_INVALID);
    assert_true(store_blob_has(fixture->store, &digest, NULL));
}

static void test_what_is_no_regular_file_is_no_blob(void **state) {
    struct fixture *fixture = *state;
    struct digest digest = digest_of_text("hello");
    struct error error = {0};
    char path[1024], secret[1024];
    assert_true(store_blob_put(fixture->store, &digest, "hello", 5, NULL));
    path_in(fixture, blob_name(&digest), path);
    path_in(fixture, "secret", secret);
    write_raw(fixture, "secret", "hello", 5);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink(secret, path), 0);
    assert_false(store_blob_has(fixture->store, &digest, NULL));
    assert_int_equal(store_blob_open(fixture->store, &digest, NULL, &error), -1);
    assert_int_equal(error.kind, ERROR_NOT_FOUND);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_false(store_blob_has(fixture->store, &digest, NULL));
    assert_int_equal(store_blob_open(fixture->store, &digest, NULL, &error), -1);
    assert_int_equal(error.kind, ERROR_NOT_FOUND);
}

static void test_opening_a_blob_renews_its_last_use_at_most_once_an_hour(void **state) {
    struct fixture *fixture = *state;
    struct digest digest = digest_of_text("hello");
    assert_true(store_blob_put(fixture->store, &digest, "hello", 5, NULL));
    set_age(fixture, blob_name(&digest), 1800);
    use_blob(fixture, &digest);
    assert_in_range(age_of(fixture, blob_name(&digest)), 1800, 1860);
    set_age(fixture, blob_name(&digest), 3700);
    use_blob(fixture, &digest);
    assert_in_range(age_of(fixture, blob_name(&digest)), 0, 60);
    set_age(fixture, blob_name(&digest), -86400);
    use_blob(fixture, &digest);
    assert_in_range(age_of(fixture, blob_name(&digest)), 0, 60);
}

/* ---- links ---- */

static void test_a_blob_link_holds_for_its_repository_alone(void **state) {
    struct fixture *fixture = *state;
    struct digest digest = digest_of_text("a"), other = digest_of_text("b");
    struct error error = {0};
    assert_false(store_has_link_blob(fixture->store, repository_named(HOST, NAME), &digest, NULL));
    assert_true(store_link_blob(fixture->store, repository_named(HOST, NAME), &digest, &error));
    assert_true(store_link_blob(fixture->store, repository_named(HOST, NAME), &digest, &error));
    reopen(fixture);
    assert_true(store_has_link_blob(fixture->store, repository_named(HOST, NAME), &digest, NULL));
    assert_false(store_has_link_blob(fixture->store, repository_named(HOST, NAME), &other, NULL));
    assert_false(store_has_link_blob(fixture->store, repository_named(HOST, "org"), &digest, NULL));
    assert_false(
        store_has_link_blob(fixture->store, repository_named(HOST, "org/app/x"), &digest, NULL));
    assert_false(
        store_has_link_blob(fixture->store, repository_named("quay.io", NAME), &digest, NULL));
    assert_false(
        store_has_link_manifest(fixture->store, repository_named(HOST, NAME), &digest, NULL, 0));
}

static void test_a_blob_is_opened_for_a_repository_that_is_linked(void **state) {
    struct fixture *fixture = *state;
    const struct repository_name *app = repository_named(HOST, NAME);
    struct store *store = fixture->store;
    struct digest digest = digest_of_text("hello");
    struct store_access access;
    uint64_t size;
    assert_int_equal(store_blob_open_linked(store, app, &digest, &access), -1);
    assert_false(access.linked || access.stored);
    put_text(fixture, "hello");
    assert_int_equal(store_blob_open_linked(store, app, &digest, &access), -1);
    assert_true(!access.linked && access.stored && access.size == 5);
    assert_false(store_blob_has_linked(store, app, &digest, &size));
    assert_true(store_link_blob(store, app, &digest, NULL));
    for (int round = 0; round < 2; round++) { /* the link says no size, then the right one */
        int fd = store_blob_open_linked(store, app, &digest, &access);
        assert_true(fd >= 0 && access.linked && access.stored && access.size == 5);
        store_blob_close(store, &digest, fd);
        assert_true(store_blob_has_linked(store, app, &digest, &size) && size == 5);
        assert_true(store_link_blob_size(store, app, &digest, 5, NULL));
    }
    /* Truncated while no process ran. */
    write_raw(fixture, blob_name(&digest), "hell", 4);
    reopen(fixture);
    store = fixture->store;
    assert_false(store_blob_has_linked(store, app, &digest, &size));
    assert_int_equal(store_blob_open_linked(store, app, &digest, &access), -1);
    assert_true(access.linked && !access.stored);
    assert_true(exists(fixture, flat_name("bad", &digest, "")));
    assert_false(store_blob_has(store, &digest, NULL));
}

static void test_a_manifest_link_keeps_the_media_type(void **state) {
    struct fixture *fixture = *state;
    struct digest digest = digest_of_text("a");
    char type[128] = "", small[8] = "";
    assert_true(store_link_manifest(fixture->store, repository_named(HOST, NAME), &digest,
                                    "text/old", NULL));
    assert_true(
        store_link_manifest(fixture->store, repository_named(HOST, NAME), &digest, TYPE, NULL));
    assert_true(store_has_link_manifest(fixture->store, repository_named(HOST, NAME), &digest, type,
                                        sizeof type));
    assert_string_equal(type, TYPE);
    assert_true(
        store_has_link_manifest(fixture->store, repository_named(HOST, NAME), &digest, NULL, 0));
    assert_false(store_has_link_manifest(fixture->store, repository_named(HOST, NAME), &digest,
                                         small, sizeof small));
    assert_false(store_has_link_blob(fixture->store, repository_named(HOST, NAME), &digest, NULL));
}

static void test_a_media_type_that_would_break_the_record_is_refused(void **state) {
    struct fixture *fixture = *state;
    struct digest digest = digest_of_text("a");
    struct error error = {0};
    char longest[129];
    memset(longest, 'a', 128);
    longest[128] = '\0';
    assert_false(
        store_link_manifest(fixture->store, repository_named(HOST, NAME), &digest, "a\nb", &error));
    assert_int_equal(error.kind, ERROR_INVALID);
    assert_false(store_link_manifest(fixture->store, repository_named(HOST, NAME), &digest, longest,
                                     &error));
    longest[127] = '\0';
    assert_true(store_link_manifest(fixture->store, repository_named(HOST, NAME), &digest, longest,
                                    &error));
    assert_true(store_has_link_manifest(fixture->store, repository_named(HOST, NAME), &digest,
                                        longest, 128));
}

static void test_a_corrupt_manifest_link_reads_as_absent_and_is_replaced(void **state) {
    struct fixture *fixture = *state;
    static const char *const bad[] = {
        "",
        "\n",
        "tarn-manifest 1",
        "tarn-manifest 1\n",
        "tarn-manifest 1\ntext/plain",
        "tarn-manifest 2\ntext/plain\n",
        "tarn-manifest 1\ntext/plain\nmore\n",
        "tarn-manifest 1\ntext\x01/plain\n",
    };
    struct digest digest = digest_of_text("a");
    char type[128], name[256], hex[DIGEST_STRING_SIZE], big[4096];
    digest_format(&digest, hex);
    snprintf(name, sizeof name, "repositories/" HOST "/" NAME "/_manifests/sha256/%s", hex + 7);
    memset(big, 'a', sizeof big);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_true(
            store_link_manifest(fixture->store, repository_named(HOST, NAME), &digest, TYPE, NULL));
        assert_true(store_has_link_manifest(fixture->store, repository_named(HOST, NAME), &digest,
                                            type, 128));
        write_raw(fixture, name, bad[i], strlen(bad[i]));
        assert_false(store_has_link_manifest(fixture->store, repository_named(HOST, NAME), &digest,
                                             type, 128));
    }
    write_raw(fixture, name, big, sizeof big);
    assert_false(
        store_has_link_manifest(fixture->store, repository_named(HOST, NAME), &digest, type, 128));
    write_raw(fixture, name, "tarn-manifest 1\nte\0t\n", 21);
    assert_false(
        store_has_link_manifest(fixture->store, repository_named(HOST, NAME), &digest, type, 128));
}

static void test_names_that_climb_out_are_refused(void **state) {
    struct fixture *fixture = *state;
    static const char *const repositories[] = {
        "..", "../x", "a/../b", "a/..",     "/a", "a/", "a//b",
        ".",  "a/.",  "_tags",  "a/_blobs", "",   "A",  "a b",
    };
    static const char *const hosts[] = {"..", ".", "", "a/b", "../etc", "a b", "_x", "/"};
    static const char *const tags[] = {"..", ".", "", "a/b", "../x", ".hidden", "-x"};
    struct store *store = fixture->store;
    struct digest digest = digest_of_text("a");
    struct tag_record record = {.digest = digest, .media_type = TYPE, .checked_s = 1};
    struct repository_name name;
    struct error error;
    for (size_t i = 0; i < sizeof repositories / sizeof *repositories; i++)
        assert_false(repository_name_parse(text_of(HOST), text_of(repositories[i]), &name));
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
        error = (struct error){0};
        assert_false(repository_name_parse(text_of(hosts[i]), text_of(NAME), &name));
        assert_false(store_repositories(store, hosts[i], NULL, NULL, NULL, &error));
        assert_int_equal(error.kind, ERROR_INVALID);
    }
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++) {
        error = (struct error){0};
        assert_false(store_tag_put(store, repository_named(HOST, NAME), tags[i], &record, &error));
        assert_int_equal(error.kind, ERROR_INVALID);
        assert_false(store_tag_delete(store, repository_named(HOST, NAME), tags[i], &error));
    }
    assert_false(exists(fixture, "repositories"));
}

static void test_the_longest_names_fit(void **state) {
    struct fixture *fixture = *state;
    char repository[256], host[256], tag[129];
    for (size_t i = 0; i < 255; i++) {
        repository[i] = i % 2 ? '/' : 'a';
        host[i] = i % 64 == 63 ? '.' : 'h';
    }
    repository[255] = host[255] = '\0';
    memset(tag, 't', 128);
    tag[128] = '\0';
    struct digest digest;
    assert_true(digest_of(DIGEST_SHA512, "a", 1, &digest));
    struct tag_record record = {.digest = digest, .media_type = TYPE, .checked_s = 1};
    struct error error = {0};
    assert_true(
        store_link_blob(fixture->store, repository_named(host, repository), &digest, &error));
    assert_true(store_link_manifest(fixture->store, repository_named(host, repository), &digest,
                                    TYPE, &error));
    assert_true(
        store_tag_put(fixture->store, repository_named(host, repository), tag, &record, &error));
    assert_true(
        store_has_link_blob(fixture->store, repository_named(host, repository), &digest, NULL));
    assert_true(store_tag_get(fixture->store, repository_named(host, repository), tag, &record));
}

/* ---- tags ---- */

static void test_a_tag_is_kept_replaced_and_deleted(void **state) {
    struct fixture *fixture = *state;
    struct tag_record put = {.digest = digest_of_text("a"), .media_type = TYPE, .checked_s = 1000};
    struct tag_record got;
    assert_false(store_tag_get(fixture->store, repository_named(HOST, NAME), "latest", &got));
    assert_true(store_tag_put(fixture->store, repository_named(HOST, NAME), "latest", &put, NULL));
    put.digest = digest_of_text("b");
    put.checked_s = 2000;
    assert_true(store_tag_put(fixture->store, repository_named(HOST, NAME), "latest", &put, NULL));
    reopen(fixture);
    assert_true(store_tag_get(fixture->store, repository_named(HOST, NAME), "latest", &got));
    assert_true(digest_equal(&got.digest, &put.digest));
    assert_string_equal(got.media_type, TYPE);
    assert_int_equal(got.checked_s, 2000);
    assert_true(store_tag_delete(fixture->store, repository_named(HOST, NAME), "latest", NULL));
    assert_true(store_tag_delete(fixture->store, repository_named(HOST, NAME), "latest", NULL));
    assert_false(store_tag_get(fixture->store, repository_named(HOST, NAME), "latest", &got));
}

static void test_a_tag_checked_in_the_future_was_checked_now(void **state) {
    struct fixture *fixture = *state;
    struct tag_record record = {
        .digest = digest_of_text("a"), .media_type = TYPE, .checked_s = time(NULL) + 1000000};
    assert_true(store_tag_put(fixture->store, repository_named(HOST, NAME), "v1", &record, NULL));
    assert_true(store_tag_get(fixture->store, repository_named(HOST, NAME), "v1", &record));
    assert_true(record.checked_s <= time(NULL));
}

static void test_a_tag_without_digest_or_with_a_broken_type_is_refused(void **state) {
    struct fixture *fixture = *state;
    struct error error = {0};
    struct tag_record none = {.media_type = TYPE}, past = {.digest = digest_of_text("a")};
    struct tag_record full = {.digest = digest_of_text("a")};
    assert_false(store_tag_put(fixture->store, repository_named(HOST, NAME), "v1", &none, &error));
    assert_int_equal(error.kind, ERROR_INVALID);
    past.checked_s = -1;
    assert_false(store_tag_put(fixture->store, repository_named(HOST, NAME), "v1", &past, &error));
    memset(full.media_type, 'a', sizeof full.media_type);
    assert_false(store_tag_put(fixture->store, repository_named(HOST, NAME), "v1", &full, &error));
}

static void test_a_corrupt_tag_reads_as_absent(void **state) {
    struct fixture *fixture = *state;
#define HEX "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
    static const char *const bad[] = {
        "",
        "tarn-tag 1\n",
        "tarn-tag 1\nsha256:" HEX "\ntext/plain\n5",
        "tarn-tag 1\nsha256:" HEX "\ntext/plain\n-5\n",
        "tarn-tag 1\nsha256:" HEX "\ntext/plain\n99999999999999999999\n",
        "tarn-tag 1\nsha256:" HEX "\ntext/plain\n18446744073709551615\n",
        "tarn-tag 1\nsha256:" HEX "\ntext/plain\n5\n\n",
        "tarn-tag 1\nsha256:" HEX "0\ntext/plain\n5\n",
        "tarn-tag 1\nsha256:../../../../etc/passwd\ntext/plain\n5\n",
        "tarn-tag 9\nsha256:" HEX "\ntext/plain\n5\n",
    };
    const char *name = "repositories/" HOST "/" NAME "/_tags/v1";
    const char *good = "tarn-tag 1\nsha256:" HEX "\ntext/plain\n5\n";
    struct tag_record record = {.digest = digest_of_text("a"), .media_type = TYPE, .checked_s = 1};
    assert_true(store_tag_put(fixture->store, repository_named(HOST, NAME), "v1", &record, NULL));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_raw(fixture, name, bad[i], strlen(bad[i]));
        assert_false(store_tag_get(fixture->store, repository_named(HOST, NAME), "v1", &record));
    }
    write_raw(fixture, name, good, strlen(good));
    assert_true(store_tag_get(fixture->store, repository_named(HOST, NAME), "v1", &record));
    assert_int_equal(record.checked_s, 5);
    for (size_t cut = 0; cut < strlen(good); cut++) {
        write_raw(fixture, name, good, cut);
        assert_false(store_tag_get(fixture->store, repository_named(HOST, NAME), "v1", &record));
    }
}

/* ---- a file system that ignores case ---- */

/* Makes the store see such a file system: there the lock file has the name LOCK too. */
static void ignore_case(struct fixture *fixture) {
    char lock[1024], upper[1024];
    path_in(fixture, "lock", lock);
    path_in(fixture, "LOCK", upper);
    assert_int_equal(link(lock, upper), 0);
    reopen(fixture);
}

static const char *const mixed_tags[] = {"v1",       "V1",  "abcdE", "ABCDE", "abcde",
                                         "1.0-RC_x", "_A.", "zzzz",  "ZZZZ"};
enum { MIXED_TAGS = sizeof mixed_tags / sizeof *mixed_tags };

static void put_mixed_tags(struct fixture *fixture) {
    for (int i = 0; i < MIXED_TAGS; i++) {
        struct tag_record record = {
            .digest = digest_of_text(mixed_tags[i]), .media_type = TYPE, .checked_s = 1};
        assert_true(store_tag_put(fixture->store, repository_named(HOST, NAME), mixed_tags[i],
                                  &record, NULL));
    }
}

static bool see_mixed_tag(void *context, const char *tag, const struct tag_record *record) {
    int *seen = context;
    struct digest digest = digest_of_text(tag);
    assert_true(digest_equal(&record->digest, &digest));
    for (int i = 0; i < MIXED_TAGS; i++)
        seen[i] += strcmp(tag, mixed_tags[i]) == 0;
    return true;
}

static void assert_mixed_tags(struct fixture *fixture) {
    int seen[MIXED_TAGS] = {0};
    assert_true(
        store_tags(fixture->store, repository_named(HOST, NAME), see_mixed_tag, seen, NULL));
    for (int i = 0; i < MIXED_TAGS; i++) {
        struct tag_record record;
        struct digest digest = digest_of_text(mixed_tags[i]);
        assert_int_equal(seen[i], 1);
        assert_true(
            store_tag_get(fixture->store, repository_named(HOST, NAME), mixed_tags[i], &record));
        assert_true(digest_equal(&record.digest, &digest));
    }
}

static void count_files(struct fixture *fixture, int *count, bool *has_upper) {
    char path[1024];
    path_in(fixture, "repositories/" HOST "/" NAME "/_tags", path);
    DIR *directory = opendir(path);
    assert_non_null(directory);
    *count = 0;
    *has_upper = false;
    for (struct dirent *entry; (entry = readdir(directory));) {
        *count += entry->d_name[0] != '.';
        for (const char *c = entry->d_name; *c; c++)
            *has_upper = *has_upper || (*c >= 'A' && *c <= 'Z');
    }
    closedir(directory);
}

static void test_tags_that_differ_in_case_have_files_that_differ_in_more(void **state) {
    struct fixture *fixture = *state;
    int files;
    bool has_upper;
    ignore_case(fixture);
    put_mixed_tags(fixture);
    assert_mixed_tags(fixture);
    count_files(fixture, &files, &has_upper);
    assert_int_equal(files, MIXED_TAGS);
    assert_false(has_upper);
    assert_true(exists(fixture, "repositories/" HOST "/" NAME "/_tags/v1+"));
    assert_true(exists(fixture, "repositories/" HOST "/" NAME "/_tags/v1+1"));
    assert_true(exists(fixture, "repositories/" HOST "/" NAME "/_tags/abcde+f1"));
    assert_true(exists(fixture, "repositories/" HOST "/" NAME "/_tags/abcde+01"));
    assert_true(store_tag_delete(fixture->store, repository_named(HOST, NAME), "V1", NULL));
    struct tag_record record;
    assert_false(store_tag_get(fixture->store, repository_named(HOST, NAME), "V1", &record));
    assert_true(store_tag_get(fixture->store, repository_named(HOST, NAME), "v1", &record));
}

static void test_the_longest_tag_in_upper_case_fits_where_case_is_ignored(void **state) {
    struct fixture *fixture = *state;
    ignore_case(fixture);
    char tag[129];
    memset(tag, 'A', 128);
    tag[128] = '\0';
    struct tag_record record = {.digest = digest_of_text("A"), .media_type = TYPE, .checked_s = 1};
    assert_true(store_tag_put(fixture->store, repository_named(HOST, NAME), tag, &record, NULL));
    assert_true(store_tag_get(fixture->store, repository_named(HOST, NAME), tag, &record));
    tag[127] = 'a';
    assert_false(store_tag_get(fixture->store, repository_named(HOST, NAME), tag, &record));
}

/* A file of an earlier version may be the record of either tag: it is read for neither, and the
 * sweep deletes it. What is no name of a tag's file is not taken for one. */
static void test_old_and_foreign_files_are_no_tags_where_case_is_ignored(void **state) {
    struct fixture *fixture = *state;
    static const char *const names[] = {"v1", "V1", "v1+0", "v1+3", "v1+01", "v1+g", "1+1", "v1++"};
    char path[128];
    struct tag_record record = {.digest = digest_of_text("a"), .media_type = TYPE, .checked_s = 1};
    put_mixed_tags(fixture); /* as an earlier version did */
    assert_mixed_tags(fixture);
    ignore_case(fixture);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "repositories/" HOST "/" NAME "/_tags/%s", names[i]);
        write_raw(fixture, path, "tarn-tag 1\nsha256:" HEX "\ntext/plain\n5\n",
                  strlen("tarn-tag 1\nsha256:" HEX "\ntext/plain\n5\n"));
    }
    int seen[MIXED_TAGS] = {0}, files;
    bool has_upper;
    assert_true(
        store_tags(fixture->store, repository_named(HOST, NAME), see_mixed_tag, seen, NULL));
    for (int i = 0; i < MIXED_TAGS; i++) {
        assert_int_equal(seen[i], 0);
        assert_false(
            store_tag_get(fixture->store, repository_named(HOST, NAME), mixed_tags[i], &record));
    }
    struct digest kept = put_text(fixture, "kept");
    record.digest = kept;
    assert_true(store_tag_put(fixture->store, repository_named(HOST, NAME), "V1", &record, NULL));
    scan(fixture);
    uint64_t deleted;
    assert_true(store_sweep(fixture->store, 0, NULL, &deleted, NULL));
    count_files(fixture, &files, &has_upper);
    assert_int_equal(files, 1);
    assert_true(store_tag_get(fixture->store, repository_named(HOST, NAME), "V1", &record));
}

/* ---- repositories ---- */

struct listing {
    struct buffer text;
    int left; /* how many more are wanted; negative: all */
};

static bool list_one(void *context, const struct repository_name *name) {
    struct listing *listing = context;
    buffer_printf(&listing->text, "%s/%s\n", name->host, name->path);
    return --listing->left != 0;
}

static const char *list(struct fixture *fixture, const char *host, int limit,
                        struct listing *listing) {
    buffer_finish(&listing->text);
    listing->left = limit;
    struct error error = {0};
    assert_true(store_repositories(fixture->store, host, NULL, list_one, listing, &error));
    return listing->text.bytes ? listing->text.bytes : "";
}

/* The same behind `after`. */
static const char *list_after(struct fixture *fixture, const char *host, const char *after,
                              struct listing *listing) {
    buffer_finish(&listing->text);
    listing->left = -1;
    assert_true(store_repositories(fixture->store, host, after, list_one, listing, NULL));
    return listing->text.bytes ? listing->text.bytes : "";
}

static void add_repository(struct fixture *fixture, const char *host, const char *repository) {
    struct digest digest = digest_of_text(repository);
    assert_true(store_link_manifest(fixture->store, repository_named(host, repository), &digest,
                                    TYPE, NULL));
}

static void test_repositories_come_in_the_byte_order_of_their_whole_names(void **state) {
    struct fixture *fixture = *state;
    struct listing listing = {0};
    assert_string_equal(list(fixture, NULL, -1, &listing), "");
    static const char *const names[] = {"a0", "a/b", "a", "a-b", "a.b/c", "a/b/c/d", "a_b", "b"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        add_repository(fixture, "h.io", names[i]);
    add_repository(fixture, "h.io:5000", "x");
    add_repository(fixture, "h.io-x.net", "y");
    struct digest digest = digest_of_text("a");
    assert_true(
        store_link_blob(fixture->store, repository_named("h.io", "only/blobs"), &digest, NULL));
    write_raw(fixture, "repositories/h.io/zfile", "", 0);
    assert_string_equal(list(fixture, NULL, -1, &listing),
                        "h.io-x.net/y\nh.io/a\nh.io/a-b\nh.io/a.b/c\nh.io/a/b\nh.io/a/b/c/d\n"
                        "h.io/a0\nh.io/a_b\nh.io/b\nh.io:5000/x\n");
    assert_string_equal(list(fixture, "h.io:5000", -1, &listing), "h.io:5000/x\n");
    assert_string_equal(list(fixture, "absent.io", -1, &listing), "");
    assert_string_equal(list(fixture, "h.io", 2, &listing), "h.io/a\nh.io/a-b\n");
    buffer_finish(&listing.text);
}

static void test_a_directory_of_many_repositories_is_listed_in_order_and_whole(void **state) {
    struct fixture *fixture = *state;
    struct listing listing = {0};
    cleanup_buffer struct buffer expected = {0};
    char name[32];
    for (int i = 0; i < 2500; i++) {
        snprintf(name, sizeof name, "r%04d", (i * 1009) % 2500);
        add_repository(fixture, "h.io", name);
        buffer_printf(&expected, "h.io/r%04d\n", i);
    }
    assert_string_equal(list(fixture, NULL, -1, &listing), expected.bytes);
    buffer_finish(&listing.text);
}

/* Names that sort around '/' at every depth, and texts that are no names: what follows each of them
 * is what a filter of the whole list leaves. */
static void test_a_list_begins_behind_any_text(void **state) {
    struct fixture *fixture = *state;
    struct listing listing = {0};
    static const char *const names[] = {"a",       "a-b",   "a-b/c", "a.b/c", "a/b",
                                        "a/b-c",   "a/b/c", "a/b/d", "a/b0",  "a0",
                                        "a_b/c/d", "b/a/a", "b/a/b", "c"};
    static const char *const texts[] = {
        "",     "a/",       "a/b/",     "a/b/cc", "a/b-",        "a//", "/",
        "//",   "a.",       "a-",       "a!",     "a~",          "A",   "b",
        "b/",   "b/a/aa/x", "b/a/b/c",  "\xff",   "zz",          "c/d", "a/b/c/d/e/f",
        "h.io", "h.io/",    "h.io/a/b", "h.io:",  "h.io:5000/a", "i",   "g/x"};
    char whole[4096], longer[600], expected[4096];
    static const char *const hosts[] = {"h.io", "h.io-x.net", "h.io:5000"};
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++)
        for (size_t j = 0; j < sizeof names / sizeof *names; j++)
            add_repository(fixture, hosts[i], names[j]);
    memset(longer, 'a', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    enum { NAMES = sizeof names / sizeof *names, TEXTS = sizeof texts / sizeof *texts };
    for (int with_host = 0; with_host < 2; with_host++) {
        const char *host = with_host ? "h.io" : NULL;
        snprintf(whole, sizeof whole, "%s", list(fixture, host, -1, &listing));
        for (size_t i = 0; i < NAMES * 2 + TEXTS + 1; i++) {
            char after[700];
            snprintf(after, sizeof after, "%s%s",
                     i < NAMES || with_host ? ""
                     : i < 2 * NAMES        ? "h.io/"
                                            : "",
                     i < 2 * NAMES           ? names[i % NAMES]
                     : i < 2 * NAMES + TEXTS ? texts[i - 2 * NAMES]
                                             : longer);
            expected[0] = '\0';
            for (struct text rest = text_of(whole), line; rest.length;) {
                line = text_cut(rest, '\n', &rest);
                char name[600];
                snprintf(name, sizeof name, "%.*s", TEXT_PRINT(line));
                if (strcmp(name + (with_host ? strlen("h.io/") : 0), after) > 0)
                    snprintf(expected + strlen(expected), sizeof expected - strlen(expected),
                             "%s\n", name);
            }
            assert_string_equal(list_after(fixture, host, after, &listing), expected);
        }
    }
    buffer_finish(&listing.text);
}

/* How often the watched directories were opened since the last call. */
static int opened(int watch) {
    char events[4096] __attribute__((aligned(8)));
    int count = 0;
    for (ssize_t length; (length = read(watch, events, sizeof events)) > 0;)
        for (ssize_t at = 0; at < length; count++)
            at += (ssize_t)(sizeof(struct inotify_event) +
                            ((struct inotify_event *)(events + at))->len);
    return count;
}

static void test_directories_before_the_page_are_not_read(void **state) {
    struct fixture *fixture = *state;
    struct listing listing = {0};
    static const char *const before[] = {"a.io",     "h.io/a",   "h.io/b",
                                         "h.io/b/c", "h.io/m/a", "h.io/m/a/b"};
    add_repository(fixture, "a.io", "x");
    add_repository(fixture, "h.io", "a/x");
    add_repository(fixture, "h.io", "b/c/x");
    add_repository(fixture, "h.io", "m/a/b/x");
    add_repository(fixture, "h.io", "m/n");
    add_repository(fixture, "h.io", "m/o/p");
    add_repository(fixture, "i.io", "y");
    int watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    assert_true(watch >= 0);
    for (size_t i = 0; i < sizeof before / sizeof *before; i++) {
        char name[128], path[1024];
        snprintf(name, sizeof name, "repositories/%s", before[i]);
        path_in(fixture, name, path);
        assert_true(inotify_add_watch(watch, path, IN_OPEN | IN_ONLYDIR) >= 0);
    }
    list(fixture, NULL, -1, &listing);
    assert_true(opened(watch) > 0);
    assert_string_equal(list_after(fixture, NULL, "h.io/m/n", &listing), "h.io/m/o/p\ni.io/y\n");
    assert_int_equal(opened(watch), 0);
    assert_string_equal(list_after(fixture, "h.io", "m/n", &listing), "h.io/m/o/p\n");
    assert_int_equal(opened(watch), 0);
    close(watch);
    buffer_finish(&listing.text);
}

static void test_the_deepest_repository_is_listed(void **state) {
    struct fixture *fixture = *state;
    struct listing listing = {0};
    char name[256], expected[300];
    for (size_t i = 0; i < 255; i++)
        name[i] = i % 2 ? '/' : 'a';
    name[255] = '\0';
    add_repository(fixture, "h.io", name);
    snprintf(expected, sizeof expected, "h.io/%s\n", name);
    char deeper[1024];
    snprintf(deeper, sizeof deeper, "%s/repositories/h.io/%s/b", fixture->root, name);
    assert_int_equal(mkdir(deeper, 0700), 0);
    assert_string_equal(list(fixture, NULL, -1, &listing), expected);
    buffer_finish(&listing.text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        STORE_TEST(test_a_second_opener_is_refused_and_told_who_holds_the_root),
        STORE_TEST(test_a_deleted_or_replaced_lock_file_lets_nobody_else_in),
        STORE_TEST(test_a_root_is_made_with_its_parents),
        STORE_TEST(test_a_root_that_cannot_be_is_an_error_that_names_it),
        STORE_TEST(test_a_root_that_everybody_may_write_is_refused),
        STORE_TEST(test_a_root_of_another_user_is_refused),
        STORE_TEST(test_a_blob_put_is_read_back_after_a_restart),
        STORE_TEST(test_the_empty_blob_and_sha512_are_blobs_too),
        STORE_TEST(test_bytes_of_another_digest_are_not_kept),
        STORE_TEST(test_an_absent_blob_is_not_found),
        STORE_TEST(test_a_bad_blob_is_set_aside_and_gone),
        STORE_TEST(test_a_good_blob_that_took_the_place_of_a_bad_one_is_not_set_aside),
        STORE_TEST(test_a_blob_over_the_limit_is_not_read),
        STORE_TEST(test_what_is_no_regular_file_is_no_blob),
        STORE_TEST(test_opening_a_blob_renews_its_last_use_at_most_once_an_hour),
        STORE_TEST(test_a_blob_link_holds_for_its_repository_alone),
        STORE_TEST(test_a_blob_is_opened_for_a_repository_that_is_linked),
        STORE_TEST(test_a_manifest_link_keeps_the_media_type),
        STORE_TEST(test_a_media_type_that_would_break_the_record_is_refused),
        STORE_TEST(test_a_corrupt_manifest_link_reads_as_absent_and_is_replaced),
        STORE_TEST(test_names_that_climb_out_are_refused),
        STORE_TEST(test_the_longest_names_fit),
        STORE_TEST(test_a_tag_is_kept_replaced_and_deleted),
        STORE_TEST(test_a_tag_checked_in_the_future_was_checked_now),
        STORE_TEST(test_a_tag_without_digest_or_with_a_broken_type_is_refused),
        STORE_TEST(test_a_corrupt_tag_reads_as_absent),
        STORE_TEST(test_tags_that_differ_in_case_have_files_that_differ_in_more),
        STORE_TEST(test_the_longest_tag_in_upper_case_fits_where_case_is_ignored),
        STORE_TEST(test_old_and_foreign_files_are_no_tags_where_case_is_ignored),
        STORE_TEST(test_repositories_come_in_the_byte_order_of_their_whole_names),
        STORE_TEST(test_a_directory_of_many_repositories_is_listed_in_order_and_whole),
        STORE_TEST(test_a_list_begins_behind_any_text),
        STORE_TEST(test_directories_before_the_page_are_not_read),
        STORE_TEST(test_the_deepest_repository_is_listed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
