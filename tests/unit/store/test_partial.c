/* A blob that is being fetched: what is kept of it, what is believed later, and committing. */
#include <pthread.h>
#include "store_root.h"

static const char content[] = "0123456789abcdefghijABCDEFGHIJ"; /* 30 bytes */

static struct partial *open_partial(struct fixture *fixture, const struct digest *digest) {
    struct error error = {0};
    struct partial *partial = store_partial_open(fixture->store, digest, &error);
    assert_string_equal(error.text, "");
    assert_non_null(partial);
    return partial;
}

static void fetch(struct partial *partial, uint64_t start, uint64_t end) {
    assert_int_equal(pwrite(partial_fd(partial), content + start, end - start, (off_t)start),
                     end - start);
    assert_true(partial_record(partial, start, end, NULL));
}

static void assert_extents(struct partial *partial, size_t count, const struct extent *expected) {
    const struct extent *extents;
    assert_int_equal(partial_extents(partial, &extents), count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(extents[i].start, expected[i].start);
        assert_int_equal(extents[i].end, expected[i].end);
    }
}

/* A partial of `content` with the bytes [0, 10) and [20, 30), left behind by a process that was
 * killed. */
static struct digest leave_partial(struct fixture *fixture) {
    struct digest digest = digest_of_text(content);
    struct partial *partial = open_partial(fixture, &digest);
    assert_true(partial_set_size(partial, 30, NULL));
    fetch(partial, 20, 30);
    fetch(partial, 0, 10);
    partial_free(partial);
    return digest;
}

static void test_a_blob_is_visible_only_when_it_is_committed(void **state) {
    struct fixture *fixture = *state;
    struct digest digest = digest_of_text(content);
    struct partial *partial = open_partial(fixture, &digest);
    uint64_t size = 0;
    assert_extents(partial, 0, NULL);
    assert_false(partial_size(partial, &size));
    assert_true(partial_set_size(partial, 30, NULL));
    assert_true(partial_size(partial, &size));
    assert_int_equal(size, 30);
    fetch(partial, 0, 30);
    assert_false(store_blob_has(fixture->store, &digest, NULL));
    struct error error = {0};
    assert_true(partial_commit(partial, &error));
    assert_true(store_blob_has(fixture->store, &digest, &size));
    assert_int_equal(size, 30);
    assert_false(exists(fixture, flat_name("partial", &digest, "")));
    assert_false(exists(fixture, flat_name("partial", &digest, ".state")));
    char bytes[30];
    assert_int_equal(pread(partial_fd(partial), bytes, 30, 0), 30);
    assert_memory_equal(bytes, content, 30);
    partial_drop(partial);
    partial_free(partial);
    cleanup_buffer struct buffer out = {0};
    assert_true(store_blob_read(fixture->store, &digest, 100, &out, NULL));
    assert_string_equal(out.bytes, content);
}

static void test_a_partial_shorter_or_longer_than_its_size_is_not_committed(void **state) {
    struct fixture *fixture = *state;
    struct digest digest = digest_of_text(content);
    struct error error = {0};
    struct partial *partial = open_partial(fixture, &digest);
    assert_true(partial_set_size(partial, 30, NULL));
    fetch(partial, 0, 20);
    assert_false(partial_commit(partial, &error));
    assert_int_equal(error.kind, ERROR_CORRUPT);
    assert_false(store_blob_has(fixture->store, &digest, NULL));
    assert_int_equal(ftruncate(partial_fd(partial), 31), 0);
    assert_false(partial_commit(partial, &error));
    assert_int_equal(ftruncate(partial_fd(partial), 20), 0);
    fetch(partial, 20, 30);
    assert_true(partial_commit(partial, &error));
    assert_false(partial_commit(partial, &error));
    partial_free(partial);
}

static void test_what_was_fetched_outlives_the_process(void **state) {
    struct fixture *fixture = *state;
    struct digest digest = leave_partial(fixture);
    for (int round = 0; round < 3; round++) {
        reopen(fixture);
        struct partial *partial = open_partial(fixture, &digest);
        uint64_t size = 0;
        assert_true(partial_size(partial, &size));
        assert_int_equal(size, 30);
        assert_extents(partial, 2, (struct extent[]){{0, 10}, {20, 30}});
        partial_free(partial);
    }
    struct partial *partial = open_partial(fixture, &digest);
    fetch(partial, 10, 20);
    assert_true(partial_commit(partial, NULL));
    partial_free(partial);
    cleanup_buffer struct buffer out = {0};
    assert_true(store_blob_read(fixture->store, &digest, 100, &out, NULL));
    assert_string_equal(out.bytes, content);
}

static void test_extents_that_touch_or_overlap_are_one(void **state) {
    struct fixture *fixture = *state;
    struct digest digest = digest_of_text(content);
    struct partial *partial = open_partial(fixture, &digest);
    assert_true(partial_set_size(partial, 30, NULL));
    fetch(partial, 15, 20);
    fetch(partial, 5, 10);
    fetch(partial, 10, 12);
    fetch(partial, 0, 7);
    fetch(partial, 16, 18);
    fetch(partial, 25, 30);
    partial_free(partial);
    partial = open_partial(fixture, &digest);
    assert_extents(partial, 3, (struct extent[]){{0, 12}, {15, 20}, {25, 30}});
    partial_free(partial);
}

static void test_extents_end_with_the_file_and_with_the_size(void **state) {
    struct fixture *fixture = *state;
    struct digest digest = leave_partial(fixture);
    struct partial *partial = open_partial(fixture, &digest);
    assert_true(partial_record(partial, 28, 1000, NULL));
    assert_true(partial_record(partial, UINT64_MAX - 5, UINT64_MAX, NULL));
    assert_true(partial_record(partial, 9, 3, NULL));
    assert_int_equal(ftruncate(partial_fd(partial), 40), 0);
    partial_free(partial);
    partial = open_partial(fixture, &digest);
    assert_extents(partial, 2, (struct extent[]){{0, 10}, {20, 30}});
    assert_int_equal(ftruncate(partial_fd(partial), 25), 0);
    partial_free(partial);
    partial = open_partial(fixture, &digest);
    assert_extents(partial, 2, (struct extent[]){{0, 10}, {20, 25}});
    partial_free(partial);
}

static void test_another_size_voids_what_was_recorded(void **state) {
    struct fixture *fixture = *state;
    struct digest digest = leave_partial(fixture);
    struct partial *partial = open_partial(fixture, &digest);
    assert_true(partial_set_size(partial, 30, NULL));
    assert_extents(partial, 2, (struct extent[]){{0, 10}, {20, 30}});
    assert_true(partial_set_size(partial, 29, NULL));
    assert_extents(partial, 0, NULL);
    fetch(partial, 4, 8);
    partial_free(partial);
    partial = open_partial(fixture, &digest);
    uint64_t size = 0;
    assert_true(partial_size(partial, &size));
    assert_int_equal(size, 29);
    assert_extents(partial, 1, (struct extent[]){{4, 8}});
    struct error error = {0};
    assert_false(partial_set_size(partial, UINT64_MAX - 1, &error));
    assert_int_equal(error.kind, ERROR_INVALID);
    partial_free(partial);
}

static void test_a_size_learnt_late_keeps_what_lies_within(void **state) {
    struct fixture *fixture = *state;
    struct digest digest = digest_of_text(content);
    struct partial *partial = open_partial(fixture, &digest);
    fetch(partial, 0, 20);
    partial_free(partial);
    partial = open_partial(fixture, &digest);
    assert_extents(partial, 1, (struct extent[]){{0, 20}});
    assert_true(partial_set_size(partial, 15, NULL));
    assert_extents(partial, 1, (struct extent[]){{0, 15}});
    partial_free(partial);
    partial = open_partial(fixture, &digest);
    assert_extents(partial, 1, (struct extent[]){{0, 15}});
    partial_free(partial);
}

static void test_torn_and_foreign_records_are_ignored(void **state) {
    struct fixture *fixture = *state;
    struct digest digest = leave_partial(fixture);
    char state_name[256], bytes[4096];
    snprintf(state_name, sizeof state_name, "%s", flat_name("partial", &digest, ".state"));
    size_t length = read_raw(fixture, state_name, bytes, sizeof bytes);
    assert_int_equal(length, 64 + 3 * 24); /* header; size, [20, 30), [0, 10) */

    write_raw(fixture, state_name, bytes, length - 1); /* the last record is cut off */
    struct partial *partial = open_partial(fixture, &digest);
    assert_extents(partial, 1, (struct extent[]){{20, 30}});
    fetch(partial, 0, 5); /* a record behind it counts */
    partial_free(partial);
    partial = open_partial(fixture, &digest);
    assert_extents(partial, 2, (struct extent[]){{0, 5}, {20, 30}});
    partial_free(partial);

    char spoilt[4096];
    memcpy(spoilt, bytes, length);
    spoilt[64 + 24] ^= 1;                       /* one bit of [20, 30) */
    memset(spoilt + length, 0, 24);             /* a slot that was never written */
    memset(spoilt + length + 24, 0xff, 7 + 24); /* noise */
    write_raw(fixture, state_name, spoilt, length + 24 + 31);
    partial = open_partial(fixture, &digest);
    assert_extents(partial, 1, (struct extent[]){{0, 10}});
    partial_free(partial);
}

static void test_a_state_of_another_boot_or_form_is_not_believed(void **state) {
    struct fixture *fixture = *state;
    char bytes[4096];
    for (size_t at = 0; at < 64; at++) {
        struct digest digest = leave_partial(fixture);
        const char *name = flat_name("partial", &digest, ".state");
        size_t length = read_raw(fixture, name, bytes, sizeof bytes);
        bytes[at] ^= 1; /* magic, version, boot id or check */
        write_raw(fixture, name, bytes, length);
        struct partial *partial = open_partial(fixture, &digest);
        uint64_t size;
        assert_extents(partial, 0, NULL);
        assert_false(partial_size(partial, &size));
        assert_int_equal(lseek(partial_fd(partial), 0, SEEK_END), 0);
        partial_drop(partial);
        partial_free(partial);
    }
    struct digest digest = leave_partial(fixture);
    write_raw(fixture, flat_name("partial", &digest, ".state"), "tarn", 4);
    struct partial *partial = open_partial(fixture, &digest);
    assert_extents(partial, 0, NULL);
    partial_free(partial);
}

static void test_bytes_without_a_state_are_not_believed(void **state) {
    struct fixture *fixture = *state;
    struct digest digest = leave_partial(fixture);
    char path[1024];
    path_in(fixture, flat_name("partial", &digest, ".state"), path);
    assert_int_equal(unlink(path), 0);
    struct partial *partial = open_partial(fixture, &digest);
    assert_extents(partial, 0, NULL);
    assert_int_equal(lseek(partial_fd(partial), 0, SEEK_END), 0);
    partial_free(partial);
}

static void test_a_state_without_its_bytes_says_nothing(void **state) {
    struct fixture *fixture = *state;
    struct digest digest = leave_partial(fixture);
    char path[1024];
    path_in(fixture, flat_name("partial", &digest, ""), path);
    assert_int_equal(unlink(path), 0);
    struct partial *partial = open_partial(fixture, &digest);
    assert_extents(partial, 0, NULL);
    partial_free(partial);
}

static void test_a_state_does_not_grow_without_bound(void **state) {
    struct fixture *fixture = *state;
    struct digest digest = leave_partial(fixture);
    struct partial *partial = open_partial(fixture, &digest);
    for (int i = 0; i < (1 << 18) + 1000; i++)
        assert_true(partial_record(partial, 0, 10, NULL));
    struct stat info;
    char path[1024];
    path_in(fixture, flat_name("partial", &digest, ".state"), path);
    assert_int_equal(stat(path, &info), 0);
    assert_true(info.st_size <= 64 + 24 * (1 << 18));
    partial_free(partial);
    partial = open_partial(fixture, &digest);
    assert_extents(partial, 2, (struct extent[]){{0, 10}, {20, 30}});
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_size, 64 + 3 * 24);
    partial_free(partial);
}

static void test_wrong_bytes_are_dropped(void **state) {
    struct fixture *fixture = *state;
    struct digest digest = leave_partial(fixture);
    struct partial *partial = open_partial(fixture, &digest);
    partial_drop(partial);
    assert_false(exists(fixture, flat_name("partial", &digest, "")));
    assert_false(exists(fixture, flat_name("partial", &digest, ".state")));
    struct partial *next = open_partial(fixture, &digest); /* while readers hold the old partial */
    assert_extents(next, 0, NULL);
    fetch(next, 0, 5);
    partial_drop(partial);
    partial_free(partial);
    assert_true(exists(fixture, flat_name("partial", &digest, "")));
    struct error error = {0};
    assert_null(store_partial_open(fixture->store, &digest, &error));
    assert_int_equal(error.kind, ERROR_BUSY);
    partial_free(next);
}

static void test_cleaning_takes_old_partials_but_none_that_is_open(void **state) {
    struct fixture *fixture = *state;
    struct digest old = leave_partial(fixture), open = digest_of_text("open"),
                  young = digest_of_text("young"), orphan = digest_of_text("orphan");
    struct partial *partial = open_partial(fixture, &young);
    assert_int_equal(pwrite(partial_fd(partial), "x", 1, 0), 1);
    partial_free(partial);
    partial = open_partial(fixture, &open);
    write_raw(fixture, flat_name("partial", &orphan, ".state"), "x", 1);
    write_raw(fixture, "partial/README", "x", 1);
    write_raw(fixture, "tmp/00000000-7", "x", 1);
    const struct digest *aged[] = {&old, &open};
    for (size_t i = 0; i < 2; i++) {
        set_age(fixture, flat_name("partial", aged[i], ""), 7200);
        set_age(fixture, flat_name("partial", aged[i], ".state"), 7200);
    }
    set_age(fixture, flat_name("partial", &orphan, ".state"), 7200);
    set_age(fixture, flat_name("partial", &young, ""), 7200); /* but its state is young */
    store_partials_clean(fixture->store, 3600);
    assert_false(exists(fixture, flat_name("partial", &old, "")));
    assert_false(exists(fixture, flat_name("partial", &old, ".state")));
    assert_false(exists(fixture, flat_name("partial", &orphan, ".state")));
    assert_true(exists(fixture, flat_name("partial", &open, "")));
    assert_true(exists(fixture, flat_name("partial", &young, "")));
    assert_true(exists(fixture, "partial/README"));
    assert_false(exists(fixture, "tmp/00000000-7"));
    partial_free(partial);
}

static void test_a_partial_without_a_byte_leaves_nothing(void **state) {
    struct fixture *fixture = *state;
    struct digest digest = digest_of_text(content);
    struct store_usage usage;
    struct partial *partial = open_partial(fixture, &digest);
    assert_true(partial_set_size(partial, 1000, NULL));
    partial_free(partial);
    assert_false(exists(fixture, flat_name("partial", &digest, "")));
    assert_false(exists(fixture, flat_name("partial", &digest, ".state")));
    store_usage(fixture->store, &usage);
    assert_int_equal(usage.partials, 0);
    assert_int_equal(usage.partial_bytes, 0);
}

/* Leaves a partial of one byte that was last written `age_s` seconds ago. */
static struct digest leave_byte(struct fixture *fixture, unsigned number, int64_t age_s) {
    char text[32];
    snprintf(text, sizeof text, "left %u", number);
    struct digest digest = digest_of_text(text);
    struct partial *partial = open_partial(fixture, &digest);
    assert_int_equal(pwrite(partial_fd(partial), "x", 1, 0), 1);
    assert_true(partial_record(partial, 0, 1, NULL));
    set_age(fixture, flat_name("partial", &digest, ""), age_s);
    set_age(fixture, flat_name("partial", &digest, ".state"), age_s);
    partial_free(partial);
    return digest;
}

static void test_left_partials_are_few_and_the_least_recently_written_goes_first(void **state) {
    struct fixture *fixture = *state;
    struct store_usage usage;
    struct digest first[3];
    uint64_t freed;
    assert_false(store_partials_evict(fixture->store, &freed));
    for (unsigned i = 0; i < 3; i++) /* the second is the oldest */
        first[i] = leave_byte(fixture, i, i == 1 ? 9000 : 8000 - i);
    for (unsigned i = 3; i < PARTIALS_LEFT_LIMIT + 1; i++)
        leave_byte(fixture, i, 7000);
    assert_false(exists(fixture, flat_name("partial", &first[1], "")));
    assert_false(exists(fixture, flat_name("partial", &first[1], ".state")));
    assert_true(exists(fixture, flat_name("partial", &first[0], "")));
    store_usage(fixture->store, &usage);
    assert_int_equal(usage.partials, PARTIALS_LEFT_LIMIT);
    uint64_t bytes = usage.partial_bytes;
    assert_true(store_partials_evict(fixture->store, &freed));
    assert_false(exists(fixture, flat_name("partial", &first[0], "")));
    store_usage(fixture->store, &usage);
    assert_int_equal(usage.partials, PARTIALS_LEFT_LIMIT - 1);
    assert_true(freed > 0);
    assert_int_equal(usage.partial_bytes, bytes - freed);
    store_partials_count(fixture->store);
    struct store_usage again;
    store_usage(fixture->store, &again);
    assert_int_equal(again.partials, usage.partials);
    assert_int_equal(again.partial_bytes, usage.partial_bytes);
}

/* ---- many threads ---- */

enum { THREADS = 4, CHUNKS = 500, CHUNK = 16 };

struct fetcher {
    struct partial *partial;
    uint64_t first;
};

static void *record_chunks(void *argument) {
    struct fetcher *fetcher = argument;
    char bytes[CHUNK] = "................";
    for (uint64_t i = fetcher->first; i < THREADS * CHUNKS; i += THREADS) {
        uint64_t start = i * CHUNK;
        if (pwrite(partial_fd(fetcher->partial), bytes, CHUNK, (off_t)start) != CHUNK ||
            !partial_record(fetcher->partial, start, start + CHUNK, NULL))
            return argument;
    }
    return NULL;
}

static void test_no_record_of_threads_that_record_at_once_is_lost(void **state) {
    struct fixture *fixture = *state;
    struct digest digest = digest_of_text(content);
    struct partial *partial = open_partial(fixture, &digest);
    assert_true(partial_set_size(partial, THREADS * CHUNKS * CHUNK, NULL));
    struct fetcher fetchers[THREADS];
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        fetchers[i] = (struct fetcher){partial, i};
        assert_int_equal(pthread_create(&threads[i], NULL, record_chunks, &fetchers[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        void *failed;
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
    partial_free(partial);
    partial = open_partial(fixture, &digest);
    assert_extents(partial, 1, (struct extent[]){{0, THREADS * CHUNKS * CHUNK}});
    partial_free(partial);
}

static void *clean_often(void *argument) {
    struct fixture *fixture = argument;
    for (int i = 0; i < 300; i++)
        store_partials_clean(fixture->store, 0);
    return NULL;
}

static void test_a_flight_never_meets_the_cleaner(void **state) {
    struct fixture *fixture = *state;
    struct digest digest = digest_of_text(content);
    pthread_t cleaner;
    assert_int_equal(pthread_create(&cleaner, NULL, clean_often, fixture), 0);
    for (int i = 0; i < 300; i++) {
        struct partial *partial = open_partial(fixture, &digest);
        assert_true(exists(fixture, flat_name("partial", &digest, "")));
        assert_true(exists(fixture, flat_name("partial", &digest, ".state")));
        partial_free(partial);
    }
    assert_int_equal(pthread_join(cleaner, NULL), 0);
}

struct putter {
    struct fixture *fixture;
    unsigned number;
};

static void *put_and_link(void *argument) {
    struct putter *putter = argument;
    struct store *store = putter->fixture->store;
    for (unsigned i = 0; i < 50; i++) {
        char text[32];
        snprintf(text, sizeof text, "blob %u", i);
        struct digest digest;
        struct tag_record record = {.media_type = "a/b", .checked_s = putter->number};
        if (!digest_of(DIGEST_SHA256, text, strlen(text), &digest))
            return argument;
        record.digest = digest;
        if (!store_blob_put(store, &digest, text, strlen(text), NULL) ||
            !store_link_blob(store, repository_named("h.io", text[5] % 2 ? "a/b" : "a/c"), &digest,
                             NULL) ||
            !store_link_manifest(store, repository_named("h.io", "a/b/c"), &digest, "a/b", NULL) ||
            !store_tag_put(store, repository_named("h.io", "a/b"), "t", &record, NULL) ||
            !store_tag_get(store, repository_named("h.io", "a/b"), "t", &record))
            return argument;
    }
    return NULL;
}

static void test_threads_that_make_the_same_directories_do_not_disturb_each_other(void **state) {
    struct putter putters[THREADS];
    pthread_t threads[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        putters[i] = (struct putter){*state, i};
        assert_int_equal(pthread_create(&threads[i], NULL, put_and_link, &putters[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        void *failed;
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        STORE_TEST(test_a_blob_is_visible_only_when_it_is_committed),
        STORE_TEST(test_a_partial_shorter_or_longer_than_its_size_is_not_committed),
        STORE_TEST(test_what_was_fetched_outlives_the_process),
        STORE_TEST(test_extents_that_touch_or_overlap_are_one),
        STORE_TEST(test_extents_end_with_the_file_and_with_the_size),
        STORE_TEST(test_another_size_voids_what_was_recorded),
        STORE_TEST(test_a_size_learnt_late_keeps_what_lies_within),
        STORE_TEST(test_torn_and_foreign_records_are_ignored),
        STORE_TEST(test_a_state_of_another_boot_or_form_is_not_believed),
        STORE_TEST(test_bytes_without_a_state_are_not_believed),
        STORE_TEST(test_a_state_without_its_bytes_says_nothing),
        STORE_TEST(test_a_state_does_not_grow_without_bound),
        STORE_TEST(test_wrong_bytes_are_dropped),
        STORE_TEST(test_cleaning_takes_old_partials_but_none_that_is_open),
        STORE_TEST(test_a_partial_without_a_byte_leaves_nothing),
        STORE_TEST(test_left_partials_are_few_and_the_least_recently_written_goes_first),
        STORE_TEST(test_no_record_of_threads_that_record_at_once_is_lost),
        STORE_TEST(test_a_flight_never_meets_the_cleaner),
        STORE_TEST(test_threads_that_make_the_same_directories_do_not_disturb_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
