/* Which blobs the store knows, in which order they are evicted, and which are never evicted. */
#include <pthread.h>
#include "base/clock.h"
#include "store/quarantine.h"
#include "store/root.h"
#include "store/store_private.h"
#include "store_root.h"

/* The text whose blob is evicted; "" when there is none to evict. */
static const char *evict_before(struct fixture *fixture, int64_t before_s) {
    static char names[64];
    struct store_blob evicted;
    struct error error = {0};
    if (!store_evict(fixture->store, before_s, &evicted, &error)) {
        assert_int_equal(error.kind, ERROR_NOT_FOUND);
        return "";
    }
    assert_false(store_blob_has(fixture->store, &evicted.digest, NULL));
    assert_false(store_blob_find(fixture->store, &evicted.digest, &evicted));
    for (char name[2] = "a"; name[0] <= 'z'; name[0]++) {
        struct digest digest = digest_of_text(name);
        if (digest_equal(&digest, &evicted.digest))
            return strcpy(names, name);
    }
    return "?";
}

static const char *evict(struct fixture *fixture) {
    return evict_before(fixture, INT64_MAX);
}

static struct store_usage usage_of(struct fixture *fixture) {
    struct store_usage usage;
    store_usage(fixture->store, &usage);
    return usage;
}

/* ---- the order ---- */

static void test_least_recently_used_goes_first(void **state) {
    struct fixture *fixture = *state;
    struct digest a = put_text(fixture, "a"), b = put_text(fixture, "b");
    put_text(fixture, "c");
    put_text(fixture, "d");
    use_blob(fixture, &a);
    store_blob_touch(fixture->store, &b);
    cleanup_buffer struct buffer out = {0};
    struct digest c = digest_of_text("c");
    assert_true(store_blob_read(fixture->store, &c, 10, &out, NULL));
    assert_int_equal(usage_of(fixture).blobs, 4);
    assert_int_equal(usage_of(fixture).bytes, 4);
    assert_string_equal(evict(fixture), "d");
    assert_string_equal(evict(fixture), "a");
    assert_string_equal(evict(fixture), "b");
    assert_string_equal(evict(fixture), "c");
    assert_string_equal(evict(fixture), "");
    assert_int_equal(usage_of(fixture).blobs, 0);
    assert_int_equal(usage_of(fixture).bytes, 0);
}

static void test_looking_at_a_blob_is_no_use(void **state) {
    struct fixture *fixture = *state;
    struct digest a = put_text(fixture, "a");
    put_text(fixture, "b");
    struct store_blob blob;
    cleanup_buffer struct buffer out = {0};
    assert_true(store_blob_has(fixture->store, &a, NULL));
    assert_true(store_blob_find(fixture->store, &a, &blob));
    assert_true(store_blob_verify(fixture->store, &a, 0, NULL, NULL, NULL));
    assert_true(store_blob_peek(fixture->store, &a, 10, &out, NULL));
    assert_string_equal(evict(fixture), "a");
}

static void test_what_is_open_is_not_evicted(void **state) {
    struct fixture *fixture = *state;
    struct digest a = put_text(fixture, "a");
    put_text(fixture, "b");
    int first = store_blob_open(fixture->store, &a, NULL, NULL);
    int second = store_blob_open(fixture->store, &a, NULL, NULL);
    struct store_blob blob;
    assert_true(store_blob_find(fixture->store, &a, &blob));
    assert_true(blob.in_use);
    put_text(fixture, "c");
    assert_string_equal(evict(fixture), "b");
    assert_string_equal(evict(fixture), "c");
    assert_string_equal(evict(fixture), "");
    store_blob_close(fixture->store, &a, first);
    assert_string_equal(evict(fixture), "");
    store_blob_close(fixture->store, &a, second);
    put_text(fixture, "d");
    assert_string_equal(evict(fixture), "a");
}

static void test_the_end_of_a_read_is_a_use_too(void **state) {
    struct fixture *fixture = *state;
    struct digest a = put_text(fixture, "a");
    int fd = store_blob_open(fixture->store, &a, NULL, NULL);
    put_text(fixture, "b");
    store_blob_close(fixture->store, &a, fd);
    assert_string_equal(evict(fixture), "b");
}

static void test_pinned_ones_are_passed_over(void **state) {
    struct fixture *fixture = *state;
    struct digest a = put_text(fixture, "a"), b = put_text(fixture, "b"),
                  c = put_text(fixture, "c"), absent = digest_of_text("absent");
    struct store_blob blob;
    store_pins_begin(fixture->store);
    store_pin(fixture->store, &a);
    store_pin(fixture->store, &c);
    store_pin(fixture->store, &absent);
    store_pins_end(fixture->store);
    assert_int_equal(usage_of(fixture).pinned_bytes, 2);
    assert_true(store_blob_find(fixture->store, &a, &blob));
    assert_true(blob.pinned);
    use_blob(fixture, &a);
    assert_string_equal(evict(fixture), "b");
    assert_string_equal(evict(fixture), "");

    /* The next round pins one of them, and another that is new. */
    b = put_text(fixture, "b");
    store_pins_begin(fixture->store);
    store_pin(fixture->store, &b);
    store_pin(fixture->store, &c);
    assert_string_equal(evict(fixture), ""); /* the old pins hold until the round ends */
    store_pins_end(fixture->store);
    assert_int_equal(usage_of(fixture).pinned_bytes, 2);
    assert_string_equal(evict(fixture), "a");
    assert_string_equal(evict(fixture), "");

    put_text(fixture, "d");
    struct digest d = digest_of_text("d");
    store_pin(fixture->store, &d); /* between two rounds */
    assert_string_equal(evict(fixture), "");
    uint64_t freed;
    assert_true(store_blob_remove(fixture->store, &d, &freed, NULL));
    assert_int_equal(usage_of(fixture).pinned_bytes, 2);
    for (int round = 0; round < 70000; round++) { /* more rounds than pins have generations */
        store_pins_begin(fixture->store);
        store_pin(fixture->store, &c);
        store_pins_end(fixture->store);
    }
    assert_int_equal(usage_of(fixture).pinned_bytes, 1);
    assert_string_equal(evict(fixture), "b");
    assert_string_equal(evict(fixture), "");
}

static void test_only_what_is_old_enough_is_evicted(void **state) {
    struct fixture *fixture = *state;
    static const char *const texts[] = {"a", "b", "c"};
    for (int i = 0; i < 3; i++) {
        struct digest digest = put_text(fixture, texts[i]);
        set_age(fixture, blob_name(&digest), 300 - i * 100);
    }
    reopen(fixture);
    scan(fixture);
    int64_t now_s = time(NULL);
    assert_string_equal(evict_before(fixture, now_s - 1000), "");
    assert_string_equal(evict_before(fixture, now_s - 250), "a");
    assert_string_equal(evict_before(fixture, now_s - 250), "");
    assert_string_equal(evict_before(fixture, now_s - 150), "b");
    assert_string_equal(evict_before(fixture, now_s - 150), "");
}

static void test_order_survives_a_restart(void **state) {
    struct fixture *fixture = *state;
    static const char *const texts[] = {"a", "b", "c", "d", "e", "f"};
    static const int64_t ages[] = {5000, 9000, 1000, 7000, 20000, 3000};
    for (int i = 0; i < 6; i++) {
        struct digest digest = put_text(fixture, texts[i]);
        set_age(fixture, blob_name(&digest), ages[i]);
    }
    struct digest e = digest_of_text("e"), b = digest_of_text("b"), f = digest_of_text("f");
    store_blob_touch(fixture->store, &f);
    assert_in_range(age_of(fixture, blob_name(&f)), 3000,
                    3060); /* the last use is written once an hour */
    reopen(fixture);
    use_blob(fixture, &e); /* a use before the scan */
    assert_int_equal(usage_of(fixture).blobs, 1);
    assert_false(usage_of(fixture).complete);
    scan(fixture);
    assert_true(usage_of(fixture).complete);
    assert_int_equal(usage_of(fixture).blobs, 6);
    store_blob_touch(fixture->store, &b); /* and one after it */
    assert_in_range(age_of(fixture, blob_name(&b)), 0, 60);
    reopen(fixture);
    scan(fixture);
    static const char order[] = "dafc"; /* then e and b, perhaps of the same second */
    for (int i = 0; i < 4; i++)
        assert_int_equal(evict(fixture)[0], order[i]);
    assert_index_is_what_is_on_disk(fixture, true);
    assert_int_equal(usage_of(fixture).blobs, 2);
}

static void test_what_was_used_before_the_scan_goes_last(void **state) {
    struct fixture *fixture = *state;
    struct digest a = put_text(fixture, "a"), b = put_text(fixture, "b"),
                  c = put_text(fixture, "c");
    set_age(fixture, blob_name(&a), 9000);
    reopen(fixture);
    int open = store_blob_open(fixture->store, &b, NULL, NULL);
    use_blob(fixture, &a);
    scan(fixture);
    store_pin(fixture->store, &c);
    assert_string_equal(evict(fixture), "a");
    assert_string_equal(evict(fixture), "");
    store_blob_close(fixture->store, &b, open);
    assert_string_equal(evict(fixture), "b");
    assert_int_equal(usage_of(fixture).blobs, 1);
}

/* ---- the scan ---- */

static void test_the_scan_counts_blobs_and_nothing_else(void **state) {
    struct fixture *fixture = *state;
    struct digest a = put_text(fixture, "a"), other = digest_of_text("other"), wide, twin = {0};
    assert_true(digest_of(DIGEST_SHA512, "wide", 4, &wide));
    assert_true(store_blob_put(fixture->store, &wide, "wide", 4, NULL));
    /* Another SHA-512 that begins with the same 32 bytes. */
    twin = wide;
    twin.bytes[63] ^= 1;
    write_raw(fixture, blob_name(&twin), "twin!", 5);
    char name[512], path[1024];
    snprintf(name, sizeof name, "%.16sREADME", blob_name(&a));
    write_raw(fixture, name, "xxx", 3);
    snprintf(name, sizeof name, "%s.old", blob_name(&a));
    write_raw(fixture, name, "xxx", 3);
    snprintf(name, sizeof name, "%.16s", blob_name(&a));
    strcat(name, strrchr(blob_name(&other), '/') + 1);
    write_raw(fixture, name, "in another's directory", 22);
    write_raw(fixture, "blobs/sha256/zz", "xxx", 3);
    strcpy(name, blob_name(&a));
    name[strlen(name) - 1] ^= 1; /* b to c: another digest's name */
    path_in(fixture, name, path);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    name[strlen(name) - 2] ^= 1;
    path_in(fixture, name, path);
    assert_int_equal(mkdir(path, 0700), 0);
    struct digest left = digest_of_text("left");
    struct partial *partial = store_partial_open(fixture->store, &left, NULL);
    assert_int_equal(pwrite(partial_fd(partial), "0123456789", 10, 0), 10);
    partial_free(partial);

    reopen(fixture);
    scan(fixture);
    assert_int_equal(usage_of(fixture).blobs, 3);
    assert_int_equal(usage_of(fixture).bytes, 1 + 4 + 5);
    assert_true(usage_of(fixture).partial_bytes > 0);
    struct store_blob blob;
    assert_true(store_blob_find(fixture->store, &twin, &blob));
    assert_true(digest_equal(&blob.digest, &twin));
    assert_int_equal(blob.size, 5);
    assert_true(store_blob_find(fixture->store, &wide, &blob));
    assert_int_equal(blob.size, 4);
    assert_false(store_blob_find(fixture->store, &other, &blob));
}

static void test_partials_that_nobody_has_open_are_counted(void **state) {
    struct fixture *fixture = *state;
    struct digest digest = digest_of_text("left");
    char bytes[10000] = {0};
    struct partial *partial = store_partial_open(fixture->store, &digest, NULL);
    assert_int_equal(pwrite(partial_fd(partial), bytes, sizeof bytes, 0), sizeof bytes);
    assert_true(partial_set_size(partial, sizeof bytes, NULL));
    assert_true(partial_record(partial, 0, sizeof bytes, NULL));
    scan(fixture);
    assert_int_equal(usage_of(fixture).partial_bytes, 0);
    partial_free(partial);
    uint64_t left = usage_of(fixture).partial_bytes;
    assert_true(left >= sizeof bytes);
    reopen(fixture);
    scan(fixture);
    assert_int_equal(usage_of(fixture).partial_bytes, left);
    partial = store_partial_open(fixture->store, &digest, NULL);
    assert_int_equal(usage_of(fixture).partial_bytes, 0);
    partial_free(partial);
    assert_int_equal(usage_of(fixture).partial_bytes, left);
    partial = store_partial_open(fixture->store, &digest, NULL);
    partial_drop(partial);
    partial_free(partial);
    assert_int_equal(usage_of(fixture).partial_bytes, 0);
    partial_free(store_partial_open(fixture->store, &digest, NULL));
    store_partials_clean(fixture->store, 0);
    assert_int_equal(usage_of(fixture).partial_bytes, 0);
}

static void test_the_scan_can_be_interrupted(void **state) {
    struct fixture *fixture = *state;
    put_text(fixture, "a");
    reopen(fixture);
    const atomic_bool stopping = true;
    const struct cancel stop = {.stop = &stopping};
    struct error error = {0};
    assert_false(store_scan(fixture->store, &stop, &error));
    assert_int_equal(error.kind, ERROR_CLOSED);
    assert_false(usage_of(fixture).complete);
    scan(fixture);
    assert_string_equal(evict(fixture), "a");
}

static void test_a_commit_is_counted_once(void **state) {
    struct fixture *fixture = *state;
    struct digest digest = digest_of_text("a");
    for (int round = 0; round < 2; round++) { /* the second replaces the first */
        struct partial *partial = store_partial_open(fixture->store, &digest, NULL);
        assert_int_equal(pwrite(partial_fd(partial), "a", 1, 0), 1);
        assert_true(partial_set_size(partial, 1, NULL));
        assert_true(partial_commit(partial, NULL));
        partial_free(partial);
        assert_int_equal(usage_of(fixture).blobs, 1);
        assert_int_equal(usage_of(fixture).bytes, 1);
    }
    put_text(fixture, "a");
    assert_int_equal(usage_of(fixture).bytes, 1);
    assert_index_is_what_is_on_disk(fixture, true);
    assert_string_equal(evict(fixture), "a");
}

/* ---- blobs that go or change ---- */

static void test_a_blob_is_removed_though_it_is_read(void **state) {
    struct fixture *fixture = *state;
    struct digest digest = put_text(fixture, "a");
    int old = store_blob_open(fixture->store, &digest, NULL, NULL);
    uint64_t freed = 7;
    assert_true(store_blob_remove(fixture->store, &digest, &freed, NULL));
    assert_int_equal(freed, 1);
    assert_int_equal(usage_of(fixture).blobs, 0);
    struct error error = {0};
    assert_int_equal(store_blob_open(fixture->store, &digest, NULL, &error), -1);
    assert_int_equal(error.kind, ERROR_NOT_FOUND);
    assert_true(store_blob_remove(fixture->store, &digest, &freed, NULL));
    assert_int_equal(freed, 0);
    char byte;
    assert_int_equal(pread(old, &byte, 1, 0), 1);
    /* The reader of the old blob does not count as a reader of the new one. */
    put_text(fixture, "a");
    int new = store_blob_open(fixture->store, &digest, NULL, NULL);
    store_blob_close(fixture->store, &digest, old);
    assert_string_equal(evict(fixture), "");
    store_blob_close(fixture->store, &digest, new);
    assert_index_is_what_is_on_disk(fixture, true);
    assert_string_equal(evict(fixture), "a");
}

static void test_a_file_that_vanished_is_forgotten(void **state) {
    struct fixture *fixture = *state;
    struct digest a = put_text(fixture, "a"), b = put_text(fixture, "b");
    char path[1024];
    path_in(fixture, blob_name(&a), path);
    assert_int_equal(unlink(path), 0);
    path_in(fixture, blob_name(&b), path);
    assert_int_equal(unlink(path), 0);
    struct error error = {0};
    assert_int_equal(store_blob_open(fixture->store, &a, NULL, &error), -1);
    assert_int_equal(error.kind, ERROR_NOT_FOUND);
    assert_int_equal(usage_of(fixture).blobs, 1);
    assert_string_equal(evict(fixture), "b"); /* that its file is gone already is no error */
    assert_int_equal(usage_of(fixture).blobs, 0);
}

static void test_a_blob_of_another_length_is_set_aside(void **state) {
    struct fixture *fixture = *state;
    struct digest digest = put_text(fixture, "abcdef");
    struct error error = {0};
    use_blob(fixture, &digest);
    write_raw(fixture, blob_name(&digest), "abc", 3);
    assert_int_equal(store_blob_open(fixture->store, &digest, NULL, &error), -1);
    assert_int_equal(error.kind, ERROR_NOT_FOUND);
    assert_false(exists(fixture, blob_name(&digest)));
    assert_true(exists(fixture, flat_name("bad", &digest, "")));
    assert_int_equal(usage_of(fixture).bytes, 0);
    put_text(fixture, "abcdef");
    use_blob(fixture, &digest);
    assert_index_is_what_is_on_disk(fixture, true);
}

/* Waits for the next timer tick, whose time the next file gets as its change time. */
static void wait_for_tick(void) {
    struct timespec before, now;
    assert_int_equal(clock_gettime(CLOCK_REALTIME_COARSE, &before), 0);
    do
        assert_int_equal(clock_gettime(CLOCK_REALTIME_COARSE, &now), 0);
    while (now.tv_sec == before.tv_sec && now.tv_nsec == before.tv_nsec);
}

static void test_of_bad_blobs_the_newest_few_are_kept(void **state) {
    struct fixture *fixture = *state;
    char text[32];
    cleanup_buffer struct buffer out = {0};
    for (int i = 0; i < QUARANTINE_FILES_LIMIT + 5; i++) {
        snprintf(text, sizeof text, "blob %02d", i);
        struct digest digest = put_text(fixture, text);
        write_raw(fixture, blob_name(&digest), "BAD bad", 7);
        assert_false(store_blob_read(fixture->store, &digest, 100, &out, NULL));
        wait_for_tick();
    }
    for (int i = 0; i < QUARANTINE_FILES_LIMIT + 5; i++) {
        snprintf(text, sizeof text, "blob %02d", i);
        struct digest digest = digest_of_text(text);
        assert_int_equal(exists(fixture, flat_name("bad", &digest, "")), i >= 5);
    }
    /* The limit of bytes counts as well: one huge file (a hole) makes all older ones go. */
    struct digest huge = put_text(fixture, "huge");
    char path[1024];
    path_in(fixture, blob_name(&huge), path);
    int fd = store_blob_open(fixture->store, &huge, NULL, NULL);
    assert_int_equal(truncate(path, (off_t)QUARANTINE_BYTES_LIMIT), 0);
    assert_true(store_blob_quarantine(fixture->store, &huge, fd, NULL));
    store_blob_close(fixture->store, &huge, fd);
    struct digest last = digest_of_text(text);
    assert_true(exists(fixture, flat_name("bad", &huge, "")));
    assert_false(exists(fixture, flat_name("bad", &last, "")));
    assert_index_is_what_is_on_disk(fixture, true);
}

/* ---- verification ---- */

static void test_verification_finds_wrong_bytes_and_sets_them_aside_if_told_to(void **state) {
    struct fixture *fixture = *state;
    size_t size = 3 << 20; /* several windows and a rest */
    char *bytes = calloc(1, size + 1);
    struct digest digest, absent = digest_of_text("absent");
    struct error error = {0};
    assert_true(digest_of(DIGEST_SHA256, bytes, size + 1, &digest));
    assert_true(store_blob_put(fixture->store, &digest, bytes, size + 1, NULL));
    assert_true(store_blob_verify(fixture->store, &digest, 0, NULL, NULL, &error));
    assert_true(store_blob_verify(fixture->store, &digest, 1 << 30, NULL, NULL, &error));
    bytes[size] = 1;
    write_raw(fixture, blob_name(&digest), bytes, size + 1);
    assert_false(store_blob_verify(fixture->store, &digest, 0, NULL, NULL, &error));
    assert_int_equal(error.kind, ERROR_CORRUPT);
    assert_true(exists(fixture, blob_name(&digest)));
    assert_false(store_blob_verify(fixture->store, &absent, 0, NULL, NULL, &error));
    assert_int_equal(error.kind, ERROR_NOT_FOUND);
    const atomic_bool stopping = true;
    const struct cancel stop = {.stop = &stopping};
    bool set_aside = false;
    assert_false(store_blob_verify(fixture->store, &digest, 0, &stop, &set_aside, &error));
    assert_int_equal(error.kind, ERROR_CLOSED);
    assert_false(set_aside);
    assert_false(store_blob_verify(fixture->store, &digest, 0, NULL, &set_aside, &error));
    assert_int_equal(error.kind, ERROR_CORRUPT);
    assert_true(set_aside);
    assert_false(exists(fixture, blob_name(&digest)));
    free(bytes);
}

/* True twice: then the throttle waits before the second window. */
static bool is_wanted_for_a_while(void *context) {
    return ++*(int *)context <= 2;
}

static void test_a_slow_verification_ends_when_it_is_told_to(void **state) {
    struct fixture *fixture = *state;
    size_t size = 1 << 20;
    char *bytes = calloc(1, size);
    struct digest digest;
    struct error error = {0};
    assert_true(digest_of(DIGEST_SHA256, bytes, size, &digest));
    assert_true(store_blob_put(fixture->store, &digest, bytes, size, NULL));
    free(bytes);
    int asked = 0;
    const struct cancel stop = {.is_wanted = is_wanted_for_a_while, .context = &asked};
    /* To its end it would take 17 minutes. */
    assert_false(store_blob_verify(fixture->store, &digest, 1024, &stop, NULL, &error));
    assert_int_equal(error.kind, ERROR_CLOSED);
    assert_int_equal(asked, 3);
}

/* ---- many ---- */

enum { MANY = 10000 };

static struct digest digest_of_number(int number) {
    char text[32];
    snprintf(text, sizeof text, "%d", number);
    return digest_of_text(text);
}

/* MANY blobs: the last digit of a blob's number is its size, and higher numbers were used earlier.
 */
static void put_many(struct fixture *fixture) {
    time_t begun_s = time(NULL);
    for (int i = 0; i < MANY; i++) {
        struct digest digest = digest_of_number(i);
        char path[PATH_SIZE];
        assert_true(store_path_blob(path, &digest));
        cleanup_close int fd = root_open(fixture->store, path, O_WRONLY | O_CREAT);
        assert_int_equal(write(fd, "123456789", (size_t)(i % 10)), i % 10);
        struct timespec times[2] = {{.tv_sec = begun_s - 100000 - i},
                                    {.tv_sec = begun_s - 100000 - i}};
        assert_int_equal(futimens(fd, times), 0);
    }
}

static void test_every_blob_is_given_once_and_costs_little(void **state) {
    struct fixture *fixture = *state;
    put_many(fixture);
    scan(fixture);
    assert_int_equal(usage_of(fixture).blobs, MANY);
    assert_int_equal(usage_of(fixture).bytes, MANY / 10 * 45);
    assert_in_range(index_bytes(&fixture->store->index), 80 * MANY, 100 * MANY);
    struct store_blob blob;
    unsigned count = 0;
    uint64_t sum = 0;
    for (uint32_t cursor = 0; store_blob_next(fixture->store, &cursor, &blob); count++)
        sum += blob.size;
    assert_int_equal(count, MANY);
    assert_int_equal(sum, MANY / 10 * 45);
    for (int i = 0; i < MANY; i++) {
        struct digest digest = digest_of_number(i);
        assert_true(store_blob_find(fixture->store, &digest, &blob));
        assert_int_equal(blob.size, i % 10);
    }
    size_t bytes = index_bytes(&fixture->store->index);
    for (int i = MANY - 1; i >= 0; i--) {
        struct digest digest = digest_of_number(i);
        assert_true(store_evict(fixture->store, INT64_MAX, &blob, NULL));
        assert_true(digest_equal(&blob.digest, &digest));
    }
    assert_string_equal(evict(fixture), "");
    for (int i = 0; i < 1000; i++) /* freed slots are used again */
        assert_true((put_text(fixture, "a"), evict(fixture))[0] == 'a');
    assert_int_equal(index_bytes(&fixture->store->index), bytes);
}

struct choice {
    struct fixture *fixture;
    int next, left;
};

static bool expect_next(void *context, const struct store_blob *blob) {
    struct choice *choice = context;
    struct digest digest = digest_of_number(choice->next--);
    assert_true(digest_equal(&digest, &blob->digest));
    assert_int_equal(blob->last_used_s <= time(NULL) - 100000, true);
    store_blob_touch(choice->fixture->store, &digest); /* the callback may call the store */
    return --choice->left != 0;
}

static void test_the_choice_can_be_seen_without_doing_it(void **state) {
    struct fixture *fixture = *state;
    put_many(fixture);
    scan(fixture);
    struct choice some = {fixture, MANY - 1, 700};
    assert_true(store_evictable(fixture->store, INT64_MAX, expect_next, &some));
    assert_int_equal(some.left, 0);
    struct choice old = {fixture, MANY - 701, -1};
    assert_true(store_evictable(fixture->store, time(NULL) - 104999, expect_next, &old));
    assert_in_range(old.next, 4990, 5010);
    struct choice rest = {fixture, old.next, -1};
    assert_true(store_evictable(fixture->store, time(NULL) - 1000, expect_next, &rest));
    assert_int_equal(rest.next, -1);
    assert_int_equal(usage_of(fixture).blobs, MANY);
    struct store_blob blob;
    struct digest last = digest_of_number(MANY - 1);
    assert_true(store_evict(fixture->store, INT64_MAX, &blob, NULL));
    assert_true(digest_equal(&blob.digest, &last));
}

/* ---- many threads ---- */

enum { BLOBS = 60, ROUNDS = 1500, OPENERS = 2 };

struct crowd {
    struct fixture *fixture;
    atomic_int begun, done; /* threads that open and put */
    atomic_int reads, wrong;
};

static void *open_and_put(void *argument) {
    struct crowd *crowd = argument;
    struct store *store = crowd->fixture->store;
    unsigned seed = (unsigned)atomic_fetch_add(&crowd->begun, 1) + 1;
    for (int i = 0; i < ROUNDS; i++) {
        char text[32];
        int length = snprintf(text, sizeof text, "blob %d", rand_r(&seed) % BLOBS);
        struct digest digest;
        if (!digest_of(DIGEST_SHA256, text, (size_t)length, &digest))
            continue;
        int fd = store_blob_open(store, &digest, NULL, NULL);
        char found[32] = "";
        if (fd < 0) {
            if (!store_blob_put(store, &digest, text, (size_t)length, NULL))
                atomic_fetch_add(&crowd->wrong, 1);
            continue;
        }
        struct stat info; /* a blob in use keeps its name */
        if (pread(fd, found, sizeof found - 1, 0) != length || strcmp(found, text) != 0 ||
            fstat(fd, &info) < 0 || info.st_nlink != 1)
            atomic_fetch_add(&crowd->wrong, 1);
        store_blob_close(store, &digest, fd);
        store_blob_touch(store, &digest);
        atomic_fetch_add(&crowd->reads, 1);
    }
    atomic_fetch_add(&crowd->done, 1);
    return NULL;
}

static void *evict_all_the_time(void *argument) {
    struct crowd *crowd = argument;
    struct store_blob blob;
    while (atomic_load(&crowd->done) < OPENERS) {
        for (int i = 0; i < 5; i++)
            store_evict(crowd->fixture->store, INT64_MAX, &blob, NULL);
        store_pins_begin(crowd->fixture->store);
        uint32_t cursor = 0;
        if (store_blob_next(crowd->fixture->store, &cursor, &blob))
            store_pin(crowd->fixture->store, &blob.digest);
        store_pins_end(crowd->fixture->store);
    }
    return NULL;
}

static bool count_one(void *context, const struct store_blob *blob) {
    (void)blob;
    ++*(unsigned *)context;
    return true;
}

static void test_evicting_and_opening_at_once(void **state) {
    struct crowd crowd = {.fixture = *state};
    for (int i = 0; i < BLOBS; i++) {
        char text[32];
        snprintf(text, sizeof text, "blob %d", i);
        put_text(crowd.fixture, text);
    }
    reopen(crowd.fixture);
    pthread_t openers[OPENERS], evicter;
    for (int i = 0; i < OPENERS; i++)
        assert_int_equal(pthread_create(&openers[i], NULL, open_and_put, &crowd), 0);
    assert_int_equal(pthread_create(&evicter, NULL, evict_all_the_time, &crowd), 0);
    scan(crowd.fixture);
    unsigned seen = 0;
    for (int i = 0; i < 20; i++)
        assert_true(store_evictable(crowd.fixture->store, INT64_MAX, count_one, &seen));
    for (int i = 0; i < OPENERS; i++)
        assert_int_equal(pthread_join(openers[i], NULL), 0);
    assert_int_equal(pthread_join(evicter, NULL), 0);
    assert_int_equal(atomic_load(&crowd.wrong), 0);
    assert_true(atomic_load(&crowd.reads) > 0);
    assert_index_is_what_is_on_disk(crowd.fixture, true);
    store_pins_begin(crowd.fixture->store);
    store_pins_end(crowd.fixture->store);
    struct store_blob blob;
    while (store_evict(crowd.fixture->store, INT64_MAX, &blob, NULL))
        ;
    assert_int_equal(usage_of(crowd.fixture).blobs, 0);
    assert_int_equal(usage_of(crowd.fixture).bytes, 0);
    assert_int_equal(usage_of(crowd.fixture).pinned_bytes, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        STORE_TEST(test_least_recently_used_goes_first),
        STORE_TEST(test_looking_at_a_blob_is_no_use),
        STORE_TEST(test_what_is_open_is_not_evicted),
        STORE_TEST(test_the_end_of_a_read_is_a_use_too),
        STORE_TEST(test_pinned_ones_are_passed_over),
        STORE_TEST(test_only_what_is_old_enough_is_evicted),
        STORE_TEST(test_order_survives_a_restart),
        STORE_TEST(test_what_was_used_before_the_scan_goes_last),
        STORE_TEST(test_the_scan_counts_blobs_and_nothing_else),
        STORE_TEST(test_partials_that_nobody_has_open_are_counted),
        STORE_TEST(test_the_scan_can_be_interrupted),
        STORE_TEST(test_a_commit_is_counted_once),
        STORE_TEST(test_a_blob_is_removed_though_it_is_read),
        STORE_TEST(test_a_file_that_vanished_is_forgotten),
        STORE_TEST(test_a_blob_of_another_length_is_set_aside),
        STORE_TEST(test_of_bad_blobs_the_newest_few_are_kept),
        STORE_TEST(test_verification_finds_wrong_bytes_and_sets_them_aside_if_told_to),
        STORE_TEST(test_a_slow_verification_ends_when_it_is_told_to),
        STORE_TEST(test_every_blob_is_given_once_and_costs_little),
        STORE_TEST(test_the_choice_can_be_seen_without_doing_it),
        STORE_TEST(test_evicting_and_opening_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
