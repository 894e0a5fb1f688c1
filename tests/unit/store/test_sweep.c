/* The records of repositories: listed, deleted, made durable, and swept when their blobs are gone.
 */
#include <pthread.h>
#include "store_root.h"

#define HOST "ghcr.io"
#define NAME "org/app"
#define TYPE "application/vnd.oci.image.manifest.v1+json"

static void put_tag(struct fixture *fixture, const char *repository, const char *tag,
                    const struct digest *digest) {
    struct tag_record record = {.digest = *digest, .media_type = TYPE, .checked_s = 1};
    assert_true(
        store_tag_put(fixture->store, repository_named(HOST, repository), tag, &record, NULL));
}

static bool has_tag(struct fixture *fixture, const char *repository, const char *tag) {
    struct tag_record record;
    return store_tag_get(fixture->store, repository_named(HOST, repository), tag, &record);
}

static uint64_t sweep(struct fixture *fixture, int64_t age_s) {
    uint64_t deleted = 7;
    struct error error = {0};
    assert_true(store_sweep(fixture->store, age_s, NULL, &deleted, &error));
    return deleted;
}

/* ---- listing ---- */

struct listing {
    struct fixture *fixture;
    struct buffer text;
    int left;
    bool delete;
};

static bool list_tag(void *context, const char *tag, const struct tag_record *record) {
    struct listing *listing = context;
    assert_string_equal(record->media_type, TYPE);
    buffer_printf(&listing->text, "%s ", tag);
    if (listing->delete)
        assert_true(
            store_tag_delete(listing->fixture->store, repository_named(HOST, NAME), tag, NULL));
    return --listing->left != 0;
}

static void test_tags_are_listed_but_not_those_that_cannot_be_believed(void **state) {
    struct fixture *fixture = *state;
    struct listing listing = {.fixture = fixture, .left = -1};
    struct store *store = fixture->store;
    assert_true(store_tags(store, repository_named(HOST, NAME), list_tag, &listing, NULL));
    assert_int_equal(listing.text.length, 0);
    struct digest digest = digest_of_text("a");
    for (int i = 0; i < 500; i++) {
        char tag[16];
        snprintf(tag, sizeof tag, "v%d", i);
        put_tag(fixture, NAME, tag, &digest);
    }
    write_raw(fixture, "repositories/" HOST "/" NAME "/_tags/broken", "tarn-tag 1\n", 11);
    write_raw(fixture, "repositories/" HOST "/" NAME "/_tags/.hidden", "", 0);
    listing.left = 3;
    assert_true(store_tags(store, repository_named(HOST, NAME), list_tag, &listing, NULL));
    assert_int_equal(listing.left, 0);
    listing.delete = true;
    assert_true(store_tags(store, repository_named(HOST, NAME), list_tag, &listing, NULL));
    assert_int_equal(listing.left, -500);
    assert_null(strstr(listing.text.bytes, "broken"));
    listing.left = 0;
    assert_true(store_tags(store, repository_named(HOST, NAME), list_tag, &listing, NULL));
    assert_int_equal(listing.left, 0);
    buffer_finish(&listing.text);
}

static bool list_link(void *context, const struct digest *digest) {
    struct listing *listing = context;
    char text[DIGEST_STRING_SIZE];
    buffer_printf(&listing->text, "%.11s ", digest_format(digest, text));
    return --listing->left != 0;
}

static const char *links(struct fixture *fixture, enum link_kind kind, struct listing *listing) {
    buffer_finish(&listing->text);
    listing->left = -1;
    assert_true(
        store_links(fixture->store, repository_named(HOST, NAME), kind, list_link, listing, NULL));
    return listing->text.bytes ? listing->text.bytes : "";
}

static void test_links_are_listed_by_kind_and_deleted(void **state) {
    struct fixture *fixture = *state;
    struct listing listing = {.fixture = fixture};
    struct store *store = fixture->store;
    struct digest blob = digest_of_text("a"), manifest;
    assert_true(digest_of(DIGEST_SHA512, "m", 1, &manifest));
    assert_string_equal(links(fixture, LINK_BLOB, &listing), "");
    assert_true(store_link_blob(store, repository_named(HOST, NAME), &blob, NULL));
    assert_true(store_link_manifest(store, repository_named(HOST, NAME), &manifest, TYPE, NULL));
    write_raw(fixture, "repositories/" HOST "/" NAME "/_blobs/sha256/README", "", 0);
    assert_string_equal(links(fixture, LINK_BLOB, &listing), "sha256:ca97 ");
    assert_string_equal(links(fixture, LINK_MANIFEST, &listing), "sha512:f14a ");
    struct error error = {0};
    assert_true(store_sync_blob_links(store, repository_named(HOST, NAME), DIGEST_SHA256, &error));
    assert_true(store_sync_blob_links(store, repository_named(HOST, NAME), DIGEST_SHA512, &error));
    assert_false(store_sync_blob_links(store, repository_named(HOST, NAME),
                                       (enum digest_algorithm)0, &error));
    assert_int_equal(error.kind, ERROR_INVALID);
    assert_true(store_link_delete(store, repository_named(HOST, NAME), LINK_BLOB, &manifest, NULL));
    assert_true(store_link_delete(store, repository_named(HOST, NAME), LINK_BLOB, &blob, NULL));
    assert_string_equal(links(fixture, LINK_BLOB, &listing), "");
    assert_string_equal(links(fixture, LINK_MANIFEST, &listing), "sha512:f14a ");
    char hex[DIGEST_STRING_SIZE], name[512];
    digest_format(&manifest, hex);
    snprintf(name, sizeof name, "repositories/" HOST "/" NAME "/_manifests/sha512/%s", hex + 7);
    write_raw(fixture, name, "tarn", 4);
    assert_string_equal(links(fixture, LINK_MANIFEST, &listing), "");
    assert_true(
        store_link_delete(store, repository_named(HOST, NAME), LINK_MANIFEST, &manifest, NULL));
    assert_false(exists(fixture, name));
    buffer_finish(&listing.text);
}

static bool list_repository(void *context, const struct repository_name *name) {
    buffer_printf(&((struct listing *)context)->text, "%s/%s ", name->host, name->path);
    return true;
}

static void test_all_repositories_are_those_with_any_record(void **state) {
    struct fixture *fixture = *state;
    struct listing listing = {0};
    struct digest digest = digest_of_text("a");
    assert_true(store_link_blob(fixture->store, repository_named("a.io", "blobs"), &digest, NULL));
    assert_true(store_link_manifest(fixture->store, repository_named("b.io", "manifests"), &digest,
                                    TYPE, NULL));
    put_tag(fixture, "tags", "v1", &digest);
    put_tag(fixture, "none", "v1", &digest);
    assert_true(store_tag_delete(fixture->store, repository_named(HOST, "none"), "v1", NULL));
    assert_true(store_repositories_all(fixture->store, NULL, list_repository, &listing, NULL));
    assert_string_equal(listing.text.bytes, "a.io/blobs b.io/manifests " HOST "/tags ");
    buffer_clear(&listing.text);
    assert_true(store_repositories_all(fixture->store, "a.io", list_repository, &listing, NULL));
    assert_string_equal(listing.text.bytes, "a.io/blobs ");
    buffer_finish(&listing.text);
}

static void test_a_manifest_linked_again_is_not_written_again(void **state) {
    struct fixture *fixture = *state;
    struct digest digest = digest_of_text("a");
    char hex[DIGEST_STRING_SIZE], name[512];
    digest_format(&digest, hex);
    snprintf(name, sizeof name, "repositories/" HOST "/" NAME "/_manifests/sha256/%s", hex + 7);
    assert_true(
        store_link_manifest(fixture->store, repository_named(HOST, NAME), &digest, TYPE, NULL));
    set_age(fixture, name, 5000);
    assert_true(
        store_link_manifest(fixture->store, repository_named(HOST, NAME), &digest, TYPE, NULL));
    assert_in_range(age_of(fixture, name), 5000, 5060);
    assert_true(store_link_manifest(fixture->store, repository_named(HOST, NAME), &digest,
                                    "text/new", NULL));
    assert_in_range(age_of(fixture, name), 0, 60);
}

/* ---- sweeping ---- */

static void test_records_of_blobs_that_are_gone_are_swept(void **state) {
    struct fixture *fixture = *state;
    struct store *store = fixture->store;
    struct digest there = put_text(fixture, "there"), gone = digest_of_text("gone"),
                  coming = digest_of_text("coming"), left = digest_of_text("left");
    const struct digest *all[] = {&there, &gone, &coming, &left};
    static const char *const tags[] = {"there", "gone", "coming", "left"};
    for (int i = 0; i < 4; i++) {
        assert_true(store_link_blob(store, repository_named(HOST, NAME), all[i], NULL));
        assert_true(store_link_manifest(store, repository_named(HOST, NAME), all[i], TYPE, NULL));
        put_tag(fixture, NAME, tags[i], all[i]);
    }
    assert_true(
        store_link_manifest(store, repository_named(HOST, "deep/er/only/gone"), &gone, TYPE, NULL));
    assert_true(store_link_blob(store, repository_named("other.io", "x"), &gone, NULL));
    write_raw(fixture, "repositories/" HOST "/" NAME "/_tags/broken", "x", 1);
    struct partial *partial = store_partial_open(store, &left, NULL);
    assert_int_equal(pwrite(partial_fd(partial), "x", 1, 0), 1);
    partial_free(partial);
    partial = store_partial_open(store, &coming, NULL);
    uint64_t deleted;
    struct error error = {0};
    assert_false(store_sweep(store, 0, NULL, &deleted, &error)); /* not scanned yet */
    assert_int_equal(error.kind, ERROR_BUSY);
    scan(fixture);
    assert_int_equal(sweep(fixture, 3600), 0); /* all records are too young */
    assert_int_equal(sweep(fixture, 0), 6);
    assert_false(store_has_link_blob(store, repository_named(HOST, NAME), &gone, NULL));
    assert_false(store_has_link_manifest(store, repository_named(HOST, NAME), &gone, NULL, 0));
    assert_false(has_tag(fixture, NAME, "gone"));
    for (int i = 0; i < 4; i++) {
        assert_true(store_has_link_blob(store, repository_named(HOST, NAME), all[i], NULL) ||
                    i == 1);
        assert_true(store_has_link_manifest(store, repository_named(HOST, NAME), all[i], NULL, 0) ||
                    i == 1);
        assert_true(has_tag(fixture, NAME, tags[i]) || i == 1);
    }
    assert_false(exists(fixture, "repositories/" HOST "/deep"));
    assert_false(exists(fixture, "repositories/other.io"));
    assert_true(exists(fixture, "repositories/" HOST "/" NAME "/_tags"));
    partial_drop(partial);
    partial_free(partial);
    assert_int_equal(sweep(fixture, 0), 3);
    const atomic_bool stopping = true;
    const struct cancel stop = {.stop = &stopping};
    assert_false(store_sweep(store, 0, &stop, &deleted, &error));
    assert_int_equal(error.kind, ERROR_CLOSED);
}

static void test_an_empty_root_and_the_deepest_repository_are_swept(void **state) {
    struct fixture *fixture = *state;
    scan(fixture);
    assert_int_equal(sweep(fixture, 0), 0);
    char repository[256];
    for (size_t i = 0; i < 255; i++)
        repository[i] = i % 2 ? '/' : 'a';
    repository[255] = '\0';
    struct digest digest = digest_of_text("gone");
    assert_true(store_link_manifest(fixture->store, repository_named(HOST, repository), &digest,
                                    TYPE, NULL));
    assert_true(store_link_blob(fixture->store, repository_named(HOST, "a"), &digest, NULL));
    assert_int_equal(sweep(fixture, 0), 2);
    assert_false(exists(fixture, "repositories/" HOST));
    assert_true(exists(fixture, "repositories"));
}

struct maker {
    struct fixture *fixture;
    atomic_bool done;
    int failed;
};

static void *link_all_the_time(void *argument) {
    struct maker *maker = argument;
    struct store *store = maker->fixture->store;
    struct digest digest;
    if (!digest_of(DIGEST_SHA256, "gone", 4, &digest))
        maker->failed++;
    for (int i = 0; i < 2000; i++) {
        struct tag_record record = {.digest = digest, .media_type = TYPE, .checked_s = 1};
        maker->failed += !store_link_blob(store, repository_named(HOST, "a/b/c"), &digest, NULL);
        maker->failed +=
            !store_link_manifest(store, repository_named(HOST, "a/b/c/d"), &digest, TYPE, NULL);
        maker->failed += !store_tag_put(store, repository_named(HOST, "a"), "v1", &record, NULL);
    }
    atomic_store(&maker->done, true);
    return NULL;
}

static void test_a_thread_that_links_does_not_notice_the_sweep(void **state) {
    struct maker maker = {.fixture = *state};
    scan(maker.fixture);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, link_all_the_time, &maker), 0);
    uint64_t deleted = 0;
    while (!atomic_load(&maker.done))
        deleted += sweep(maker.fixture, 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(maker.failed, 0);
    assert_true(deleted + sweep(maker.fixture, 0) > 0);
}

/* ---- too many records ---- */

static uint64_t trim(struct fixture *fixture, struct record_limits limits) {
    uint64_t deleted;
    struct error error = {0};
    assert_true(store_records_trim(fixture->store, &limits, NULL, &deleted, &error));
    return deleted;
}

static void put_aged_tag(struct fixture *fixture, const char *repository, const char *tag,
                         const struct digest *digest, int64_t age_s) {
    char path[256];
    put_tag(fixture, repository, tag, digest);
    snprintf(path, sizeof path, "repositories/" HOST "/%s/_tags/%s", repository, tag);
    set_age(fixture, path, age_s);
}

static void test_of_too_many_tags_the_least_recently_used_go(void **state) {
    struct fixture *fixture = *state;
    struct digest digest = put_text(fixture, "manifest");
    put_aged_tag(fixture, "many", "oldest", &digest, 90000);
    put_aged_tag(fixture, "many", "old", &digest, 9000);
    put_aged_tag(fixture, "many", "new", &digest, 9);
    put_aged_tag(fixture, "many", "newest", &digest, 0);
    put_aged_tag(fixture, "few", "oldest", &digest, 900000);
    const struct record_limits limits = {.records = 1000, .bytes = UINT64_MAX, .tags = 2};
    assert_int_equal(trim(fixture, limits), 2);
    assert_false(has_tag(fixture, "many", "oldest"));
    assert_false(has_tag(fixture, "many", "old"));
    assert_true(has_tag(fixture, "many", "new"));
    assert_true(has_tag(fixture, "many", "newest"));
    assert_true(has_tag(fixture, "few", "oldest"));
    assert_int_equal(trim(fixture, limits), 0);
}

static bool is_kept(void *context, const struct repository_name *repository) {
    return strcmp(repository->path, context) == 0;
}

static void test_of_too_many_records_the_least_recently_used_go(void **state) {
    struct fixture *fixture = *state;
    struct digest digest = put_text(fixture, "manifest");
    struct store_usage usage;
    for (int i = 0; i < 20; i++) {
        char name[16];
        snprintf(name, sizeof name, "r%d", i);
        put_aged_tag(fixture, name, "t", &digest, 100000 - i * 4000);
    }
    put_aged_tag(fixture, "kept", "t", &digest, 900000);
    scan(fixture);
    store_usage(fixture->store, &usage);
    const uint64_t each = usage.record_bytes / usage.records;
    const struct record_limits by_number = {.records = usage.records - 5,
                                            .bytes = UINT64_MAX,
                                            .tags = 100,
                                            .keeps = is_kept,
                                            .context = (char[]){"kept"}};
    assert_int_equal(trim(fixture, by_number), 5);
    for (int i = 0; i < 20; i++) {
        char name[16];
        snprintf(name, sizeof name, "r%d", i);
        assert_int_equal(has_tag(fixture, name, "t"), i >= 5);
    }
    assert_true(has_tag(fixture, "kept", "t"));
    assert_false(exists(fixture, "repositories/" HOST "/r0")); /* its directories go as well */
    struct store_usage after;
    store_usage(fixture->store, &after);
    assert_int_equal(after.records, usage.records - 15); /* and are counted */
    const struct record_limits by_bytes = {
        .records = 1000, .bytes = after.record_bytes - 2 * each, .tags = 100};
    assert_true(trim(fixture, by_bytes) >= 2);
    store_usage(fixture->store, &after);
    assert_true(after.record_bytes <= by_bytes.bytes);
    const struct store_usage before = after;
    assert_true(store_records_count(fixture->store, NULL, NULL)); /* nothing has drifted */
    store_usage(fixture->store, &after);
    assert_int_equal(after.record_bytes, before.record_bytes);
    assert_int_equal(after.records, before.records);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        STORE_TEST(test_tags_are_listed_but_not_those_that_cannot_be_believed),
        STORE_TEST(test_links_are_listed_by_kind_and_deleted),
        STORE_TEST(test_all_repositories_are_those_with_any_record),
        STORE_TEST(test_a_manifest_linked_again_is_not_written_again),
        STORE_TEST(test_records_of_blobs_that_are_gone_are_swept),
        STORE_TEST(test_an_empty_root_and_the_deepest_repository_are_swept),
        STORE_TEST(test_a_thread_that_links_does_not_notice_the_sweep),
        STORE_TEST(test_of_too_many_tags_the_least_recently_used_go),
        STORE_TEST(test_of_too_many_records_the_least_recently_used_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
