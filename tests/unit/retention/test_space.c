/* The cache's limits: what is evicted for which bytes, and what a blob that is not kept changes. */
#include "base/log.h"
#include "retention/space.h"
#include "store_root.h"

/* What a letter of a blob's text stands for. Much more than the directories take, which count too.
 */
enum { U = 128 << 10 };

/* The bytes of a blob: U for each letter of the text. */
static char *expand(const char *text) {
    char *bytes = malloc(strlen(text) * U);
    assert_non_null(bytes);
    for (size_t i = 0; text[i]; i++)
        memset(bytes + i * U, text[i], U);
    return bytes;
}

static struct digest digest_of_units(const char *text) {
    struct digest digest;
    cleanup_free char *bytes = expand(text);
    assert_true(digest_of(DIGEST_SHA256, bytes, strlen(text) * U, &digest));
    return digest;
}

static struct digest put_units(const struct fixture *fixture, const char *text) {
    cleanup_free char *bytes = expand(text);
    struct digest digest = digest_of_units(text);
    assert_true(store_blob_put(fixture->store, &digest, bytes, strlen(text) * U, NULL));
    return digest;
}

/* A space of `max_size` units, and the directories, over the fixture's store, whose blobs and pins
 * are all known. */
static struct space *open_space(struct space *space, struct fixture *fixture, uint64_t max_size) {
    scan(fixture);
    space_init(space, fixture->store, max_size ? (max_size * 2 + 1) * U / 2 : 0, 0, 0);
    space_allow_eviction(space, true);
    return space;
}

static bool has(struct fixture *fixture, const char *text) {
    struct digest digest = digest_of_units(text);
    return store_blob_has(fixture->store, &digest, NULL);
}

static struct store_usage usage_of(struct fixture *fixture) {
    struct store_usage usage;
    store_usage(fixture->store, &usage);
    return usage;
}

static void pin(struct fixture *fixture, const char *text) {
    struct digest digest = digest_of_units(text);
    store_pin(fixture->store, &digest);
}

/* ---- before writing ---- */

static void test_the_least_recently_used_blobs_make_space_for_new_ones(void **state) {
    struct fixture *fixture = *state;
    struct space space;
    open_space(&space, fixture, 12);
    put_units(fixture, "aaaa");
    put_units(fixture, "bbbb");
    put_units(fixture, "cccc");
    assert_true(space_ensure(&space, 0 * U, NULL));
    assert_true(has(fixture, "aaaa"));
    assert_true(space_ensure(&space, 5 * U, NULL));
    assert_false(has(fixture, "aaaa"));
    assert_false(has(fixture, "bbbb"));
    assert_true(has(fixture, "cccc"));
    space_finish(&space);
}

static void test_nothing_is_evicted_if_all_of_it_would_not_suffice(void **state) {
    struct fixture *fixture = *state;
    struct error error = {0};
    struct space space;
    open_space(&space, fixture, 12);
    put_units(fixture, "aaaa");
    put_units(fixture, "pinned");
    pin(fixture, "pinned");
    assert_false(space_ensure(&space, 7 * U, &error));
    assert_int_equal(error.kind, ERROR_NO_SPACE);
    assert_true(has(fixture, "aaaa"));
    assert_true(space_ensure(&space, 6 * U, NULL));
    assert_false(has(fixture, "aaaa"));
    assert_true(has(fixture, "pinned"));
    space_finish(&space);
}

static void test_nothing_is_evicted_before_it_is_allowed(void **state) {
    struct fixture *fixture = *state;
    struct space space;
    open_space(&space, fixture, 6);
    space_allow_eviction(&space, false);
    put_units(fixture, "aaaa");
    assert_true(space_ensure(&space, 4 * U, NULL));
    assert_false(space_free_after_full(&space, 4 * U, 4 * U));
    put_units(fixture, "bbbb");
    space_enforce(&space, NULL);
    assert_true(has(fixture, "aaaa") && has(fixture, "bbbb"));
    space_allow_eviction(&space, true);
    space_enforce(&space, NULL);
    assert_false(has(fixture, "aaaa"));
    assert_true(has(fixture, "bbbb"));
    space_finish(&space);
}

static bool reserve(struct space *space, struct partial *partial, uint64_t bytes, uint64_t missing,
                    struct error *error) {
    const struct space_wish wish = {.bytes = bytes * U, .missing = missing * U, .whole = bytes * U};
    return space_reserve(space, partial, &wish, error);
}

static void test_a_partial_that_finds_no_space_has_no_reservation(void **state) {
    struct fixture *fixture = *state;
    struct digest digest = digest_of_units("coming");
    struct error error = {0};
    struct space space;
    open_space(&space, fixture, 10);
    struct partial *partial = store_partial_open(fixture->store, &digest, NULL);
    assert_non_null(partial);
    assert_true(reserve(&space, partial, 8, 8, NULL));
    assert_int_equal(usage_of(fixture).reserved_bytes, 8 * U);
    assert_false(space_ensure(&space, 3 * U, &error)); /* the reservation counts */
    assert_int_equal(error.kind, ERROR_NO_SPACE);
    assert_false(reserve(&space, partial, 11, 3, &error)); /* larger than the cache */
    assert_int_equal(usage_of(fixture).reserved_bytes, 0);
    put_units(fixture, "pinned");
    pin(fixture, "pinned");
    assert_false(reserve(&space, partial, 5, 5, &error));
    assert_int_equal(error.kind, ERROR_NO_SPACE);
    assert_int_equal(usage_of(fixture).reserved_bytes, 0);
    partial_drop(partial);
    partial_free(partial);
    space_finish(&space);
}

static void test_left_partials_are_deleted_before_any_blob(void **state) {
    struct fixture *fixture = *state;
    struct digest digest = digest_of_units("left");
    struct space space;
    static const char bytes[8 * U];
    struct partial *partial = store_partial_open(fixture->store, &digest, NULL);
    assert_int_equal(pwrite(partial_fd(partial), bytes, sizeof bytes, 0), sizeof bytes);
    assert_true(partial_record(partial, 0, sizeof bytes, NULL));
    partial_free(partial);
    open_space(&space, fixture, 16);
    put_units(fixture, "aaaa");
    assert_true(usage_of(fixture).partial_bytes >= sizeof bytes);
    assert_true(space_ensure(&space, 8 * U, NULL));
    assert_true(has(fixture, "aaaa"));
    assert_false(exists(fixture, flat_name("partial", &digest, "")));
    space_finish(&space);
}

static void test_after_a_full_disk_as_much_is_evicted_as_did_not_fit(void **state) {
    struct fixture *fixture = *state;
    struct space space;
    open_space(&space, fixture, 0);
    put_units(fixture, "aaaa");
    put_units(fixture, "bbbb");
    /* The file system has that much left, so that nothing need go. */
    assert_true(space_free_after_full(&space, 1, 1));
    assert_true(has(fixture, "aaaa"));
    /* More than the file system and the cache have. */
    assert_false(space_free_after_full(&space, 1, UINT64_MAX / 2));
    assert_true(has(fixture, "aaaa") && has(fixture, "bbbb"));
    space_finish(&space);
}

/* ---- upkeep ---- */

static void test_blobs_unused_for_the_longest_age_are_evicted(void **state) {
    struct fixture *fixture = *state;
    const atomic_bool stopping = true;
    const struct cancel cancel = {.stop = &stopping};
    struct space space;
    struct digest old = put_units(fixture, "old");
    put_units(fixture, "new");
    put_units(fixture, "pinned");
    set_age(fixture, blob_name(&old), 1000);
    reopen(fixture);
    open_space(&space, fixture, 0);
    space.max_age_s = 500;
    space_enforce(&space, &cancel);
    assert_true(has(fixture, "old"));
    space_enforce(&space, NULL);
    assert_false(has(fixture, "old"));
    assert_true(has(fixture, "new"));
    space_finish(&space);
}

static void test_the_keeper_evicts_what_it_can_even_if_that_is_not_enough(void **state) {
    struct fixture *fixture = *state;
    struct space space;
    open_space(&space, fixture, 3);
    put_units(fixture, "pinned");
    pin(fixture, "pinned");
    put_units(fixture, "aa");
    space_enforce(&space, NULL);
    assert_false(has(fixture, "aa"));
    assert_true(has(fixture, "pinned"));
    space_update_metrics(&space);
    assert_int_equal(metric_value(space.blobs), 1);
    assert_int_equal(metric_value(space.bytes) / U, 6);
    assert_int_equal(metric_value(space.pinned), 6 * U);
    assert_int_equal(metric_value(space.limit) / U, 3);
    space_finish(&space);
}

/* ---- what was kept and what was not ---- */

static void test_a_small_blob_that_is_kept_does_not_end_the_degraded_state(void **state) {
    struct fixture *fixture = *state;
    struct error why = {.kind = ERROR_NO_SPACE, .text = "no space"};
    struct space space;
    open_space(&space, fixture, 12);
    put_units(fixture, "pinned");
    pin(fixture, "pinned");
    int64_t full = metric_value(space.unkept[UNKEPT_FULL]);
    assert_int_equal(space_unkept_reason(&why), UNKEPT_FULL);
    space_record_unkept(&space, UNKEPT_FULL, 10 * U, &why);
    assert_int_equal(metric_value(space.unkept[UNKEPT_FULL]), full + 1);
    assert_int_equal(metric_value(space.degraded), 1);
    space_record_kept(&space, 1 * U);
    assert_int_equal(metric_value(space.degraded), 1);
    /* Without the pin the large blob would fit, because what is evictable counts as free. */
    store_pins_begin(fixture->store);
    store_pins_end(fixture->store);
    space_record_kept(&space, 1 * U);
    assert_int_equal(metric_value(space.degraded), 0);
    /* So it would if a blob as large was kept. */
    pin(fixture, "pinned");
    space_record_unkept(&space, UNKEPT_FULL, 10 * U, &why);
    space_record_kept(&space, 10 * U);
    assert_int_equal(metric_value(space.degraded), 0);
    space_finish(&space);
}

static void test_a_blob_larger_than_the_cache_is_no_degraded_state(void **state) {
    struct fixture *fixture = *state;
    struct error error = {0};
    struct space space;
    open_space(&space, fixture, 12);
    assert_true(space_can_hold(&space, 12 * U, NULL));
    assert_false(space_can_hold(&space, 13 * U, &error));
    assert_int_equal(error.kind, ERROR_NO_SPACE);
    space_record_unkept(&space, UNKEPT_TOO_LARGE, 13 * U, &error);
    assert_int_equal(metric_value(space.degraded), 0);
    space_finish(&space);
}

static void test_only_the_disks_errors_are_the_disks(void **state) {
    struct fixture *fixture = *state;
    static const enum error_kind others[] = {ERROR_INVALID, ERROR_MEMORY, ERROR_CORRUPT,
                                             ERROR_NOT_FOUND, ERROR_FILES};
    struct space space;
    open_space(&space, fixture, 12);
    int64_t unfit = metric_value(space.unkept[UNKEPT_UNFIT]);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        struct error why = {.kind = others[i]};
        assert_int_equal(space_unkept_reason(&why), UNKEPT_UNFIT);
        space_record_unkept(&space, space_unkept_reason(&why), 0, &why);
    }
    assert_int_equal(metric_value(space.unkept[UNKEPT_UNFIT]), unfit + 5);
    assert_int_equal(metric_value(space.degraded), 0);
    space_finish(&space);
}

static void test_a_disk_that_cannot_be_read_is_not_trusted_for_a_while(void **state) {
    struct fixture *fixture = *state;
    struct error why = {.kind = ERROR_IO};
    struct space space;
    open_space(&space, fixture, 12);
    assert_int_equal(space_unkept_reason(&why), UNKEPT_FAILING);
    assert_false(space_is_unreadable(&space));
    space_record_unreadable(&space);
    assert_true(space_is_unreadable(&space));
    space_finish(&space);
}

int main(void) {
    log_configure(LOG_ERROR + 1, LOG_TEXT);
    const struct CMUnitTest tests[] = {
        STORE_TEST(test_the_least_recently_used_blobs_make_space_for_new_ones),
        STORE_TEST(test_nothing_is_evicted_if_all_of_it_would_not_suffice),
        STORE_TEST(test_nothing_is_evicted_before_it_is_allowed),
        STORE_TEST(test_a_partial_that_finds_no_space_has_no_reservation),
        STORE_TEST(test_left_partials_are_deleted_before_any_blob),
        STORE_TEST(test_after_a_full_disk_as_much_is_evicted_as_did_not_fit),
        STORE_TEST(test_blobs_unused_for_the_longest_age_are_evicted),
        STORE_TEST(test_the_keeper_evicts_what_it_can_even_if_that_is_not_enough),
        STORE_TEST(test_a_small_blob_that_is_kept_does_not_end_the_degraded_state),
        STORE_TEST(test_a_blob_larger_than_the_cache_is_no_degraded_state),
        STORE_TEST(test_only_the_disks_errors_are_the_disks),
        STORE_TEST(test_a_disk_that_cannot_be_read_is_not_trusted_for_a_while),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
