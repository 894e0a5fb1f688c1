/* The orders ls, du, rm, prune and verify on a store, and the patterns that name images. */
#include "admin/ls.h"
#include "admin/order.h"
#include "admin/prune.h"
#include "admin/rm.h"
#include "admin/verify.h"
#include "base/log.h"
#include "oci/manifest.h"
#include "store/blobs.h"
#include "store/records.h"
#include "store/usage.h"
#include "store_root.h"

#define HOST "fake.test"

/* ---- orders and their responses ---- */

/* Gathers the lines; after `limit` lines it takes no more. */
struct answer {
    struct order_target target;
    json_t *lines; /* an array */
    size_t limit;
    bool is_unwanted;
};

static bool take_line(void *context, const char *bytes, size_t length) {
    struct answer *answer = context;
    if (json_array_size(answer->lines) >= answer->limit)
        return false;
    assert_int_equal(bytes[length - 1], '\n');
    json_t *line = json_loadb(bytes, length, 0, NULL);
    assert_true(json_is_object(line));
    json_array_append_new(answer->lines, line);
    return true;
}

static bool is_wanted(void *context) {
    return !((struct answer *)context)->is_unwanted;
}

static struct answer answer_of(struct fixture *fixture) {
    return (struct answer){
        .target.store = fixture->store, .lines = json_array(), .limit = SIZE_MAX};
}

static bool order(struct answer *answer, const char *what, const char *json, struct error *error) {
    const struct line_sink sink = {.write = take_line, .is_wanted = is_wanted, .context = answer};
    json_array_clear(answer->lines);
    json_t *parsed = json_loads(json, JSON_DECODE_ANY, NULL);
    assert_non_null(parsed);
    bool ok = order_run(&answer->target, what, parsed, &sink, error);
    json_decref(parsed);
    return ok;
}

static const json_t *line(const struct answer *answer, size_t at) {
    return json_array_get(answer->lines, at);
}

static const json_t *last_line(const struct answer *answer) {
    return line(answer, json_array_size(answer->lines) - 1);
}

static json_int_t number(const json_t *object, const char *name) {
    assert_true(json_is_integer(json_object_get(object, name)));
    return json_integer_value(json_object_get(object, name));
}

static const char *string(const json_t *object, const char *name) {
    const char *value = json_string_value(json_object_get(object, name));
    return value ? value : "";
}

static bool is_true(const json_t *object, const char *name) {
    return json_is_true(json_object_get(object, name));
}

/* Runs an order, which must succeed. The result is its last line. */
static const json_t *done(struct answer *answer, const char *what, const char *json) {
    struct error error = {0};
    if (!order(answer, what, json, &error))
        fail_msg("%s %s: %s", what, json, error.text);
    assert_true(is_true(last_line(answer), "done"));
    return last_line(answer);
}

/* ---- images ---- */

static struct digest put_blob(struct fixture *fixture, const char *repository, const char *text) {
    struct digest digest = digest_of_text(text);
    assert_true(store_blob_put(fixture->store, &digest, text, strlen(text), NULL));
    assert_true(store_link_blob(fixture->store, repository_named(HOST, repository), &digest, NULL));
    return digest;
}

static struct digest put_manifest(struct fixture *fixture, const char *repository, const char *text,
                                  const char *media_type) {
    struct digest digest = put_blob(fixture, repository, text);
    assert_true(store_link_manifest(fixture->store, repository_named(HOST, repository), &digest,
                                    media_type, NULL));
    return digest;
}

static void put_tag(struct fixture *fixture, const char *repository, const char *tag,
                    const struct digest *digest) {
    struct tag_record record = {.digest = *digest, .checked_s = 1};
    strcpy(record.media_type, MEDIA_OCI_MANIFEST);
    assert_true(
        store_tag_put(fixture->store, repository_named(HOST, repository), tag, &record, NULL));
}

/* A manifest with one layer that holds `layer`; a tag, unless that is NULL. */
static struct digest put_image(struct fixture *fixture, const char *repository, const char *layer,
                               const char *tag) {
    char text[512], blob[DIGEST_STRING_SIZE];
    struct digest digest = put_blob(fixture, repository, layer);
    snprintf(
        text, sizeof text,
        "{\"schemaVersion\":2,\"layers\":[{\"mediaType\":\"x\",\"digest\":\"%s\",\"size\":%zu}]"
        ",\"annotations\":{\"for\":\"%s\"}}",
        digest_format(&digest, blob), strlen(layer), tag ? tag : "");
    struct digest manifest = put_manifest(fixture, repository, text, MEDIA_OCI_MANIFEST);
    if (tag)
        put_tag(fixture, repository, tag, &manifest);
    return manifest;
}

/* An index over two digests. */
static struct digest put_index(struct fixture *fixture, const char *repository,
                               const struct digest *first, const struct digest *second,
                               const char *tag) {
    char text[512], a[DIGEST_STRING_SIZE], b[DIGEST_STRING_SIZE];
    snprintf(text, sizeof text,
             "{\"schemaVersion\":2,\"manifests\":[{\"digest\":\"%s\",\"size\":1},"
             "{\"digest\":\"%s\",\"size\":1}]}",
             digest_format(first, a), digest_format(second, b));
    struct digest index = put_manifest(fixture, repository, text, MEDIA_OCI_INDEX);
    if (tag)
        put_tag(fixture, repository, tag, &index);
    return index;
}

static bool has_blob(struct fixture *fixture, const char *text) {
    struct digest digest = digest_of_text(text);
    return store_blob_has(fixture->store, &digest, NULL);
}

/* ---- orders ---- */

static void test_an_invalid_order_is_refused_and_does_nothing(void **state) {
    struct fixture *fixture = *state;
    struct answer answer = answer_of(fixture);
    static const char *const bad[][2] = {
        {"ls", "[]"},
        {"ls", "{\"names\":\"a\"}"},
        {"ls", "{\"names\":[null]}"},
        {"ls", "{\"name\":[]}"},
        {"du", "{\"names\":[]}"},
        {"rm", "{}"},
        {"rm", "{\"names\":[]}"},
        {"rm", "{\"names\":[\"app\"]}"},
        {"prune", "{}"},
        {"prune", "{\"dry_run\":true}"},
        {"prune", "{\"to_size\":-1}"},
        {"prune", "{\"to_size\":0,\"dry_run\":null,\"older_than\":1}"},
        {"prune", "{\"to_size\":0.5}"},
        {"verify", "{\"rate\":-1}"},
        {"verify", "{\"repair\":0}"},
        {"verify", "null"},
        {"eat", "{}"},
    };
    put_image(fixture, "app", "layer", "1");
    scan(fixture);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct error error = {0};
        if (order(&answer, bad[i][0], bad[i][1], &error))
            fail_msg("%s %s is taken", bad[i][0], bad[i][1]);
        assert_int_equal(error.kind, ERROR_INVALID);
        assert_int_equal(json_array_size(answer.lines), 0);
    }
    assert_true(has_blob(fixture, "layer"));
    json_decref(answer.lines);
}

static void test_a_client_that_leaves_during_the_scan_ends_its_order(void **state) {
    struct fixture *fixture = *state;
    struct answer answer = answer_of(fixture);
    static const atomic_bool stopping = true;
    struct error error = {0};
    put_image(fixture, "app", "layer", "1");
    answer.is_unwanted = true;
    assert_false(order(&answer, "ls", "{}", &error));
    assert_int_equal(error.kind, ERROR_CLOSED);
    /* The parts of an image are not known before the scan: none is removed. */
    assert_false(order(&answer, "rm", "{\"names\":[\"" HOST "/app:1\"]}", &error));
    assert_int_equal(error.kind, ERROR_CLOSED);
    assert_true(has_blob(fixture, "layer"));
    answer.is_unwanted = false;
    answer.target.stopping = &stopping;
    assert_false(order(&answer, "verify", "{}", &error));
    assert_int_equal(error.kind, ERROR_CLOSED);
    json_decref(answer.lines);
}

/* ---- ls and du ---- */

static void test_images_are_sorted_by_upstream_repository_and_tag(void **state) {
    struct fixture *fixture = *state;
    struct answer answer = answer_of(fixture);
    static const char *const expected[] = {"b/x", "b-c", "b-c", "b-c", "zz"};
    put_image(fixture, "zz", "1", "a");
    put_image(fixture, "b-c", "2", "y");
    put_image(fixture, "b-c", "3", "x");
    put_image(fixture, "b-c", "4", NULL);
    put_image(fixture, "b/x", "5", "1");
    scan(fixture);
    assert_int_equal(number(done(&answer, "ls", "{}"), "images"), 5);
    for (size_t i = 0; i < 5; i++)
        assert_string_equal(string(line(&answer, i), "upstream"), HOST);
    /* As bytes, '-' sorts before '/'. */
    assert_string_equal(string(line(&answer, 0), "repository"), expected[1]);
    assert_int_equal(json_array_size(json_object_get(line(&answer, 0), "tags")), 0);
    assert_string_equal(
        json_string_value(json_array_get(json_object_get(line(&answer, 1), "tags"), 0)), "x");
    assert_string_equal(
        json_string_value(json_array_get(json_object_get(line(&answer, 2), "tags"), 0)), "y");
    assert_string_equal(string(line(&answer, 3), "repository"), expected[0]);
    assert_string_equal(string(line(&answer, 4), "repository"), expected[4]);
    json_decref(answer.lines);
}

static void test_an_index_counts_a_layer_of_both_its_children_once(void **state) {
    struct fixture *fixture = *state;
    struct answer answer = answer_of(fixture);
    struct digest first = put_image(fixture, "app", "shared layer", NULL);
    struct digest second = digest_of_text("not here");
    struct digest index = put_index(fixture, "app", &first, &second, "1");
    uint64_t sizes[2];
    store_blob_has(fixture->store, &first, &sizes[0]);
    store_blob_has(fixture->store, &index, &sizes[1]);
    scan(fixture);
    assert_int_equal(number(done(&answer, "ls", "{}"), "images"), 1);
    assert_int_equal(number(line(&answer, 0), "size"),
                     sizes[0] + sizes[1] + strlen("shared layer"));
    assert_false(is_true(line(&answer, 0), "complete"));
    json_decref(answer.lines);
}

static void test_manifests_that_are_hostile_or_broken_are_listed_and_no_more(void **state) {
    struct fixture *fixture = *state;
    struct answer answer = answer_of(fixture);
    struct digest missing = digest_of_text("nowhere");
    struct digest deep = put_image(fixture, "app", "deepest", NULL);
    put_manifest(fixture, "app", "{\"schemaVersion\":2,\"manifests\":7}", MEDIA_OCI_INDEX);
    put_manifest(fixture, "app", "no JSON", MEDIA_OCI_INDEX);
    put_manifest(fixture, "app", "", MEDIA_OCI_INDEX);
    put_tag(fixture, "app", "lost", &missing);
    for (int i = 0; i < 20; i++)
        deep = put_index(fixture, "app", &deep, &missing, NULL);
    put_tag(fixture, "app", "deep", &deep);
    scan(fixture);
    /* The two that have bytes but are no index, and the deep one. A missing manifest is no image.
     */
    assert_int_equal(number(done(&answer, "ls", "{}"), "images"), 3);
    assert_string_equal(
        json_string_value(json_array_get(json_object_get(line(&answer, 2), "tags"), 0)), "deep");
    for (size_t i = 0; i < 3; i++)
        assert_false(is_true(line(&answer, i), "complete"));
    json_decref(answer.lines);
}

static void test_du_counts_a_blob_of_many_repositories_once(void **state) {
    struct fixture *fixture = *state;
    struct answer answer = answer_of(fixture);
    answer.target.limit = 1000;
    put_blob(fixture, "a", "12345");
    put_blob(fixture, "b", "12345");
    put_blob(fixture, "b", "123");
    struct digest loose = digest_of_text("of nobody");
    assert_true(store_blob_put(fixture->store, &loose, "of nobody", 9, NULL));
    scan(fixture);
    const json_t *sums = done(&answer, "du", "{}");
    assert_int_equal(number(sums, "bytes"), 17);
    assert_int_equal(number(sums, "blobs"), 3);
    assert_int_equal(number(sums, "limit"), 1000);
    const json_t *host = json_object_get(json_object_get(sums, "upstreams"), HOST);
    assert_int_equal(number(host, "bytes"), 8);
    assert_int_equal(number(host, "blobs"), 2);
    json_decref(answer.lines);
}

/* ---- rm ---- */

static void test_rm_leaves_what_another_repository_links(void **state) {
    struct fixture *fixture = *state;
    struct answer answer = answer_of(fixture);
    put_image(fixture, "a", "common", "1");
    put_image(fixture, "a", "only of a", "2");
    put_image(fixture, "b", "common", "3");
    scan(fixture);
    const json_t *sums = done(&answer, "rm", "{\"names\":[\"" HOST "/a\"]}");
    assert_int_equal(number(sums, "blobs"), 3); /* two manifests, one layer */
    assert_true(has_blob(fixture, "common"));
    assert_false(has_blob(fixture, "only of a"));
    struct digest common = digest_of_text("common");
    assert_false(store_has_link_blob(fixture->store, repository_named(HOST, "a"), &common, NULL));
    assert_true(store_has_link_blob(fixture->store, repository_named(HOST, "b"), &common, NULL));
    json_decref(answer.lines);
}

static void test_rm_of_an_image_whose_manifest_is_gone_removes_its_tag(void **state) {
    struct fixture *fixture = *state;
    struct answer answer = answer_of(fixture);
    struct digest digest = put_image(fixture, "a", "layer", "1");
    uint64_t freed;
    assert_true(store_blob_remove(fixture->store, &digest, &freed, NULL));
    scan(fixture);
    const json_t *sums = done(&answer, "rm", "{\"names\":[\"" HOST "/a:1\"]}");
    assert_int_equal(number(sums, "blobs"), 0);
    struct tag_record record;
    assert_false(store_tag_get(fixture->store, repository_named(HOST, "a"), "1", &record));
    assert_false(
        store_has_link_manifest(fixture->store, repository_named(HOST, "a"), &digest, NULL, 0));
    json_decref(answer.lines);
}

static void test_rm_by_digest_takes_the_child_of_an_index_that_stays(void **state) {
    struct fixture *fixture = *state;
    struct answer answer = answer_of(fixture);
    struct digest first = put_image(fixture, "a", "first", NULL);
    struct digest second = put_image(fixture, "a", "second", "arm");
    struct digest index = put_index(fixture, "a", &first, &second, "1");
    char names[256], text[DIGEST_STRING_SIZE];
    scan(fixture);
    snprintf(names, sizeof names, "{\"names\":[\"" HOST "/a@%s\"]}", digest_format(&first, text));
    /* The manifest is removed, because it was named. Its layer is still a part of the index. */
    done(&answer, "rm", names);
    assert_false(store_blob_has(fixture->store, &first, NULL));
    assert_true(store_blob_has(fixture->store, &second, NULL));
    assert_true(store_blob_has(fixture->store, &index, NULL));
    /* The index is removed, but its child that has a tag stays. */
    done(&answer, "rm", "{\"names\":[\"" HOST "/a:1\"]}");
    assert_false(store_blob_has(fixture->store, &index, NULL));
    assert_true(has_blob(fixture, "second"));
    json_decref(answer.lines);
}

static void test_a_client_that_leaves_rm_leaves_no_blob_that_nobody_links(void **state) {
    struct fixture *fixture = *state;
    struct answer answer = answer_of(fixture);
    struct error error = {0};
    put_image(fixture, "a", "one", "1");
    put_image(fixture, "b", "two", "1");
    scan(fixture);
    answer.limit = 1;
    assert_false(order(&answer, "rm", "{\"names\":[\"" HOST "/**\"]}", &error));
    assert_int_equal(error.kind, ERROR_CLOSED);
    assert_false(has_blob(fixture, "one"));
    assert_true(has_blob(fixture, "two"));
    json_decref(answer.lines);
}

static void test_each_pattern_that_matches_nothing_is_reported(void **state) {
    struct fixture *fixture = *state;
    struct answer answer = answer_of(fixture);
    put_image(fixture, "a", "one", "1");
    scan(fixture);
    done(&answer, "rm",
         "{\"names\":[\"" HOST "/none\",\"" HOST "/a:1\",\"" HOST "/a:1\",\"" HOST "/a:2\"]}");
    assert_string_equal(string(line(&answer, 0), "unmatched"), HOST "/none");
    assert_string_equal(string(line(&answer, 1), "tag"), "1");
    assert_string_equal(string(line(&answer, 2), "unmatched"), HOST "/a:1");
    assert_string_equal(string(line(&answer, 3), "unmatched"), HOST "/a:2");
    json_decref(answer.lines);
}

/* ---- prune ---- */

static void age(struct fixture *fixture, const char *text, int64_t age_s) {
    struct digest digest = digest_of_text(text);
    set_age(fixture, blob_name(&digest), age_s);
}

/* "old", "older" and "oldest", not used for 1, 2 and 3 days, and "new". */
static void put_aged(struct fixture *fixture) {
    static const char *const names[] = {"new", "old", "older", "oldest"};
    for (int days = 0; days < 4; days++) {
        put_blob(fixture, "a", names[days]);
        age(fixture, names[days], days * 86400 + 60);
    }
    reopen(fixture);
    scan(fixture);
}

static void test_prune_by_age_and_then_to_a_size(void **state) {
    struct fixture *fixture = *state;
    struct answer answer = answer_of(fixture);
    put_aged(fixture);
    answer.target.store = fixture->store;
    for (int wet = 0; wet < 2; wet++) {
        char text[128];
        snprintf(text, sizeof text, "{\"older_than_ms\":172800000,\"to_size\":5,\"dry_run\":%s}",
                 wet ? "false" : "true");
        const json_t *sums = done(&answer, "prune", text);
        assert_int_equal(number(sums, "blobs"), 3); /* two by age, one for the size */
        assert_int_equal(number(sums, "bytes"), strlen("oldest"
                                                       "older"
                                                       "old"));
        assert_int_equal(number(sums, "remaining_bytes"), 3);
        assert_int_equal(is_true(sums, "dry_run"), !wet);
        char digest[DIGEST_STRING_SIZE];
        struct digest oldest = digest_of_text("oldest");
        assert_string_equal(string(line(&answer, 0), "digest"), digest_format(&oldest, digest));
        assert_int_equal(has_blob(fixture, "oldest"), !wet);
    }
    assert_true(has_blob(fixture, "new"));
    struct digest gone = digest_of_text("old");
    assert_false(
        store_has_link_blob(fixture->store, repository_named(HOST, "a"), &gone, NULL)); /* swept */
    json_decref(answer.lines);
}

static void test_prune_leaves_pinned_and_open_blobs(void **state) {
    struct fixture *fixture = *state;
    struct answer answer = answer_of(fixture);
    put_aged(fixture);
    answer.target.store = fixture->store;
    struct digest open = digest_of_text("oldest"), pinned = digest_of_text("older");
    int fd = store_blob_open(fixture->store, &open, NULL, NULL);
    assert_true(fd >= 0);
    store_pin(fixture->store, &pinned);
    for (int wet = 0; wet < 2; wet++) {
        const json_t *sums =
            done(&answer, "prune", wet ? "{\"to_size\":0}" : "{\"to_size\":0,\"dry_run\":true}");
        assert_int_equal(number(sums, "blobs"), 2);
        assert_int_equal(number(sums, "remaining_bytes"), strlen("oldest"
                                                                 "older"));
    }
    store_blob_close(fixture->store, &open, fd);
    assert_int_equal(number(done(&answer, "prune", "{\"to_size\":0}"), "remaining_bytes"),
                     strlen("older"));
    json_decref(answer.lines);
}

static void test_an_empty_blob_goes_by_its_age_too(void **state) {
    struct fixture *fixture = *state;
    struct answer answer = answer_of(fixture);
    put_blob(fixture, "a", "");
    age(fixture, "", 86400);
    reopen(fixture);
    scan(fixture);
    answer.target.store = fixture->store;
    assert_int_equal(number(done(&answer, "prune", "{\"older_than_ms\":1000}"), "blobs"), 1);
    assert_false(has_blob(fixture, ""));
    json_decref(answer.lines);
}

/* Puts a folder in the blob's place. unlink() cannot delete a folder, even for root. */
static void make_undeletable(struct fixture *fixture, const char *text) {
    struct digest digest = digest_of_text(text);
    char path[1024];
    path_in(fixture, blob_name(&digest), path);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
}

static void test_prune_ends_when_nothing_can_be_deleted(void **state) {
    struct fixture *fixture = *state;
    struct answer answer = answer_of(fixture);
    char text[32];
    for (int i = 0; i < 40; i++) {
        struct error error = {0};
        snprintf(text, sizeof text, "blob %02d", i);
        put_blob(fixture, "a", text);
        if (i == 0)
            scan(fixture);
        make_undeletable(fixture, text);
        if (i != 0 && i != 15 && i != 16 && i != 39)
            continue;
        assert_false(order(&answer, "prune", "{\"to_size\":0}", &error));
        assert_int_equal(error.kind, ERROR_IO);
        assert_non_null(strstr(error.text, "evict"));
        assert_false(order(&answer, "prune", "{\"to_size\":0,\"older_than_ms\":0}", &error));
        assert_int_equal(error.kind, ERROR_IO);
    }
    json_decref(answer.lines);
}

static void test_a_few_that_cannot_be_deleted_do_not_keep_the_rest(void **state) {
    struct fixture *fixture = *state;
    struct answer answer = answer_of(fixture);
    struct error error = {0};
    put_aged(fixture);
    answer.target.store = fixture->store;
    make_undeletable(fixture, "oldest");
    make_undeletable(fixture, "old");
    assert_false(order(&answer, "prune", "{\"to_size\":0}", &error));
    assert_int_equal(error.kind, ERROR_IO);
    assert_false(has_blob(fixture, "older"));
    assert_false(has_blob(fixture, "new"));
    assert_int_equal(json_array_size(answer.lines), 2); /* without the line that ends a response */
    json_decref(answer.lines);
}

static void test_a_client_that_leaves_while_nothing_can_be_deleted_ends_prune(void **state) {
    struct fixture *fixture = *state;
    struct answer answer = answer_of(fixture);
    struct error error = {0};
    static const atomic_bool stopping = true;
    put_aged(fixture);
    answer.target.store = fixture->store;
    make_undeletable(fixture, "oldest");
    answer.is_unwanted = true;
    assert_false(order(&answer, "prune", "{\"to_size\":0}", &error));
    assert_int_equal(error.kind, ERROR_CLOSED);
    assert_true(has_blob(fixture, "new"));
    answer.is_unwanted = false;
    answer.target.stopping = &stopping;
    make_undeletable(fixture, "older");
    assert_false(order(&answer, "prune", "{\"to_size\":0}", &error));
    assert_int_equal(error.kind, ERROR_CLOSED);
    assert_true(has_blob(fixture, "new"));
    json_decref(answer.lines);
}

/* ---- verify ---- */

static void spoil(struct fixture *fixture, const char *text, const char *bytes) {
    struct digest digest = digest_of_text(text);
    write_raw(fixture, blob_name(&digest), bytes, strlen(bytes));
}

static size_t count_bad(const struct answer *answer) {
    size_t bad = 0;
    for (size_t i = 0; i < json_array_size(answer->lines); i++)
        bad += json_object_get(line(answer, i), "bad") != NULL;
    return bad;
}

static void test_verify_finds_wrong_blobs_and_sets_them_aside_with_repair(void **state) {
    struct fixture *fixture = *state;
    struct answer answer = answer_of(fixture);
    put_blob(fixture, "a", "sound");
    put_blob(fixture, "a", "flipped");
    put_blob(fixture, "a", "cut short");
    scan(fixture);
    spoil(fixture, "flipped", "slipped");
    spoil(fixture, "cut short", "cut");
    for (int i = 0; i < 2; i++) {
        const json_t *sums = done(&answer, "verify", "{}");
        assert_int_equal(number(sums, "blobs"), 3);
        assert_int_equal(count_bad(&answer), 2);
        assert_true(has_blob(fixture, "flipped"));
    }
    assert_true(is_true(done(&answer, "verify", "{\"repair\":true}"), "repaired"));
    assert_int_equal(count_bad(&answer), 2);
    assert_false(has_blob(fixture, "flipped"));
    assert_false(has_blob(fixture, "cut short"));
    assert_int_equal(number(done(&answer, "verify", "{}"), "blobs"), 1);
    assert_int_equal(count_bad(&answer), 0);
    json_decref(answer.lines);
}

/* Puts a socket in the blob's place. open() fails for a socket, even for root. */
static void make_unreadable(struct fixture *fixture, const char *text) {
    struct digest digest = digest_of_text(text);
    char path[1024];
    path_in(fixture, blob_name(&digest), path);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mknod(path, S_IFSOCK | 0600, 0), 0);
}

static void test_an_unreadable_blob_is_not_called_bad_and_stays(void **state) {
    struct fixture *fixture = *state;
    struct answer answer = answer_of(fixture);
    struct digest digest = digest_of_text("locked");
    char text[DIGEST_STRING_SIZE];
    put_blob(fixture, "a", "sound");
    put_blob(fixture, "a", "locked");
    scan(fixture);
    make_unreadable(fixture, "locked");
    assert_true(is_true(done(&answer, "verify", "{\"repair\":true}"), "repaired"));
    assert_int_equal(count_bad(&answer), 0);
    size_t unreadable = 0;
    for (size_t i = 0; i < json_array_size(answer.lines); i++) {
        if (!json_object_get(line(&answer, i), "unreadable"))
            continue;
        unreadable++;
        assert_string_equal(string(line(&answer, i), "unreadable"), digest_format(&digest, text));
        assert_non_null(strstr(string(line(&answer, i), "error"), "No such device"));
    }
    assert_int_equal(unreadable, 1);
    assert_true(exists(fixture, blob_name(&digest)));
    json_decref(answer.lines);
}

static void test_each_bad_blob_says_whether_it_was_set_aside(void **state) {
    struct fixture *fixture = *state;
    struct answer answer = answer_of(fixture);
    put_blob(fixture, "a", "flipped");
    scan(fixture);
    spoil(fixture, "flipped", "slipped");
    for (int repair = 0; repair < 2; repair++) {
        const json_t *last =
            done(&answer, "verify", repair ? "{\"repair\":true}" : "{\"repair\":false}");
        assert_int_equal(is_true(last, "repaired"), repair);
        assert_int_equal(count_bad(&answer), 1);
        for (size_t i = 0; i < json_array_size(answer.lines); i++) {
            if (json_object_get(line(&answer, i), "bad"))
                assert_int_equal(is_true(line(&answer, i), "set_aside"), repair);
        }
    }
    json_decref(answer.lines);
}

static void test_many_bad_blobs_are_all_reported(void **state) {
    struct fixture *fixture = *state;
    struct answer answer = answer_of(fixture);
    char text[32];
    for (int i = 0; i < 100; i++) {
        snprintf(text, sizeof text, "blob %02d", i);
        put_blob(fixture, "a", text);
        spoil(fixture, text, "bad one");
    }
    scan(fixture);
    done(&answer, "verify", "{}");
    assert_int_equal(count_bad(&answer), 100);
    /* A client that leaves ends the order in the middle. */
    struct error error = {0};
    answer.limit = 10;
    assert_false(order(&answer, "verify", "{\"repair\":true}", &error));
    assert_int_equal(error.kind, ERROR_CLOSED);
    answer.limit = SIZE_MAX;
    done(&answer, "verify", "{}");
    assert_true(count_bad(&answer) > 50);
    json_decref(answer.lines);
}

static void test_a_slow_verify_ends_when_nobody_wants_it(void **state) {
    struct fixture *fixture = *state;
    struct answer answer = answer_of(fixture);
    struct error error = {0};
    static char large[1 << 20];
    memset(large, 'x', sizeof large - 1);
    put_blob(fixture, "a", large);
    scan(fixture);
    answer.is_unwanted = true;
    assert_false(
        order(&answer, "verify", "{\"rate\":1000}", &error)); /* without the end: 17 minutes */
    assert_int_equal(error.kind, ERROR_CLOSED);
    json_decref(answer.lines);
}

int main(void) {
    log_configure(LOG_ERROR, LOG_TEXT);
    const struct CMUnitTest tests[] = {
        STORE_TEST(test_an_invalid_order_is_refused_and_does_nothing),
        STORE_TEST(test_a_client_that_leaves_during_the_scan_ends_its_order),
        STORE_TEST(test_images_are_sorted_by_upstream_repository_and_tag),
        STORE_TEST(test_an_index_counts_a_layer_of_both_its_children_once),
        STORE_TEST(test_manifests_that_are_hostile_or_broken_are_listed_and_no_more),
        STORE_TEST(test_du_counts_a_blob_of_many_repositories_once),
        STORE_TEST(test_rm_leaves_what_another_repository_links),
        STORE_TEST(test_rm_of_an_image_whose_manifest_is_gone_removes_its_tag),
        STORE_TEST(test_rm_by_digest_takes_the_child_of_an_index_that_stays),
        STORE_TEST(test_a_client_that_leaves_rm_leaves_no_blob_that_nobody_links),
        STORE_TEST(test_each_pattern_that_matches_nothing_is_reported),
        STORE_TEST(test_prune_by_age_and_then_to_a_size),
        STORE_TEST(test_prune_leaves_pinned_and_open_blobs),
        STORE_TEST(test_an_empty_blob_goes_by_its_age_too),
        STORE_TEST(test_prune_ends_when_nothing_can_be_deleted),
        STORE_TEST(test_a_few_that_cannot_be_deleted_do_not_keep_the_rest),
        STORE_TEST(test_a_client_that_leaves_while_nothing_can_be_deleted_ends_prune),
        STORE_TEST(test_verify_finds_wrong_blobs_and_sets_them_aside_with_repair),
        STORE_TEST(test_an_unreadable_blob_is_not_called_bad_and_stays),
        STORE_TEST(test_each_bad_blob_says_whether_it_was_set_aside),
        STORE_TEST(test_many_bad_blobs_are_all_reported),
        STORE_TEST(test_a_slow_verify_ends_when_nobody_wants_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
