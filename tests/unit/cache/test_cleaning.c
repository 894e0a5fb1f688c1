/*
 * Cleaning the bucket, and the janitor, over a bucket that exists only in the test: what goes and
 * what stays, how many are deleted at once, and the same while tarn's own calls fail. Whichever
 * call fails, what is young stays, what is said to be gone is gone, and the next cleaning does the
 * rest.
 */
#include <errno.h>
#include "cache/cleaning.h"
#include "cache/janitor.h"
#include "cache/removals.h"
#include "cache/share.h"
#include "cache_faults.h"
#include "fake_bucket.h"

enum { DAY = 86400, OLD = 20, YOUNG = 5, SIZE = 10, MANY = 300, STEPS_MOST = 2000 };

static struct bucket bucket;

static struct digest digest_number(unsigned number) {
    struct digest digest;
    assert_true(digest_of(DIGEST_SHA256, &number, sizeof number, &digest));
    return digest;
}

static void put(unsigned number, int64_t age_s, int64_t used_s) {
    static const char bytes[SIZE] = "0123456789";
    char key[SHARE_KEY_SIZE];
    const struct digest digest = digest_number(number);
    fake_bucket_set_old(&bucket, share_key_blob(key, &digest), bytes, SIZE, age_s);
    if (used_s >= 0)
        fake_bucket_set_old(&bucket, share_key_used(key, &digest), "", 0, used_s);
}

static bool is_there(unsigned number) {
    char key[SHARE_KEY_SIZE];
    const struct digest digest = digest_number(number);
    return fake_bucket_holds(&bucket, share_key_blob(key, &digest));
}

static bool is_marked(unsigned number) {
    char key[SHARE_KEY_SIZE];
    const struct digest digest = digest_number(number);
    return fake_bucket_holds(&bucket, share_key_used(key, &digest));
}

static unsigned count_between(unsigned from, unsigned to) {
    unsigned count = 0;
    for (unsigned i = from; i < to; i++)
        count += is_there(i);
    return count;
}

/* Blobs 0 to OLD - 1 were not used for two days, and YOUNG more were: half of them are old, but
 * have a mark. Every third has a mark. */
static void fill(void) {
    fake_bucket_empty(&bucket);
    for (unsigned i = 0; i < OLD; i++)
        put(i, (3 + i) * DAY, i % 3 ? -1 : 2 * DAY);
    for (unsigned i = OLD; i < OLD + YOUNG; i++)
        put(i, i % 2 ? 3600 : 9 * DAY, i % 2 ? -1 : 3600);
    fake_bucket_begin_upload(&bucket, "old", 2 * DAY);
    fake_bucket_begin_upload(&bucket, "young", 3600);
}

static int set_up(void **state) {
    (void)state;
    atomic_store(&fault.armed, false);
    fake_bucket_init(&bucket);
    bucket.page = 7;
    fill();
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    fake_bucket_finish(&bucket);
    return 0;
}

static const struct cleaning_rule by_age = {.older_than_s = DAY, .to_size = -1};

/* ---- without faults ---- */

static void test_what_is_old_goes_with_its_mark(void **state) {
    (void)state;
    struct cleaning_result result;
    struct error error = {0};
    assert_true(cleaning_run(&bucket, &by_age, &result, &error));
    assert_int_equal(count_between(0, OLD), 0);
    assert_int_equal(count_between(OLD, OLD + YOUNG), YOUNG);
    for (unsigned i = 0; i < OLD; i++)
        assert_false(is_marked(i));
    assert_true(is_marked(OLD));
    assert_int_equal(result.removed_blobs, OLD);
    assert_int_equal(result.removed_bytes, OLD * SIZE);
    assert_int_equal(result.blobs, YOUNG);
    assert_int_equal(result.aborted, 1);
    assert_int_equal(fake_bucket_uploads(&bucket), 1);
    assert_false(result.forbidden);
}

static void test_a_dry_run_deletes_nothing(void **state) {
    (void)state;
    struct cleaning_result result;
    struct cleaning_rule rule = by_age;
    rule.dry_run = true;
    assert_true(cleaning_run(&bucket, &rule, &result, NULL));
    assert_int_equal(result.removed_blobs, OLD);
    assert_int_equal(bucket.deletes + bucket.aborts, 0);
}

static void test_without_the_right_one_delete_is_tried(void **state) {
    (void)state;
    struct cleaning_result result;
    bucket.undeletable = true;
    assert_true(cleaning_run(&bucket, &by_age, &result, NULL));
    assert_true(result.forbidden);
    assert_int_equal(bucket.deletes, 1);
    assert_int_equal(result.blobs, OLD + YOUNG);
    assert_int_equal(result.removed_blobs, 0);
}

static bool note_order(void *context, const struct inventory_entry *blob, struct error *error) {
    struct digest *last = context;
    (void)error;
    assert_true(memcmp(last->bytes, blob->digest.bytes, sizeof last->bytes) < 0);
    *last = blob->digest;
    return true;
}

static atomic_uint inside, most_inside, arrived;

/* All but the first wait until as many are there as may be. */
static bool meet(struct bucket *met, bool ends) {
    (void)met;
    if (ends) {
        atomic_fetch_sub(&inside, 1);
        return true;
    }
    const unsigned now = atomic_fetch_add(&inside, 1) + 1;
    unsigned most = atomic_load(&most_inside);
    while (now > most && !atomic_compare_exchange_weak(&most_inside, &most, now))
        ;
    if (atomic_fetch_add(&arrived, 1) > 0)
        wait_until(atomic_load(&arrived) > REMOVALS_AT_ONCE);
    return true;
}

static void test_several_are_deleted_at_once_and_told_in_order(void **state) {
    (void)state;
    struct cleaning_result result;
    struct digest last = {0};
    struct cleaning_rule rule = by_age;
    for (unsigned i = 0; i < MANY; i++)
        put(1000 + i, 5 * DAY, -1);
    atomic_store(&inside, 0);
    atomic_store(&most_inside, 0);
    atomic_store(&arrived, 0);
    bucket.on_delete = meet;
    rule.on_blob = note_order;
    rule.context = &last;
    assert_true(cleaning_run(&bucket, &rule, &result, NULL));
    assert_int_equal(atomic_load(&most_inside), REMOVALS_AT_ONCE);
    assert_int_equal(result.removed_blobs, OLD + MANY);
    assert_int_equal(count_between(1000, 1000 + MANY), 0);
}

static bool fail_later(struct bucket *failing, bool ends) {
    return ends || failing->deletes < 12;
}

static void test_what_went_before_a_fault_is_told(void **state) {
    (void)state;
    struct cleaning_result result;
    struct error error = {0};
    bucket.on_delete = fail_later;
    assert_false(cleaning_run(&bucket, &by_age, &result, &error));
    assert_int_equal(error.kind, ERROR_RATE_LIMITED);
    assert_in_range(result.removed_blobs, 1, OLD - 1);
    assert_int_equal(OLD - count_between(0, OLD), result.removed_blobs);
}

static atomic_bool stopping;

static bool stop_soon(struct bucket *stopped, bool ends) {
    if (ends && stopped->deletes >= 6)
        atomic_store(&stopping, true);
    return true;
}

static void test_it_can_be_stopped(void **state) {
    (void)state;
    const struct cancel cancel = {.stop = &stopping};
    struct cleaning_result result;
    struct cleaning_rule rule = by_age;
    struct error error = {0};
    atomic_store(&stopping, false);
    bucket.on_delete = stop_soon;
    rule.cancel = &cancel;
    assert_false(cleaning_run(&bucket, &rule, &result, &error));
    assert_int_equal(error.kind, ERROR_CLOSED);
    assert_true(count_between(0, OLD) > 0);
}

/* ---- while calls fail ---- */

static void check_result(const struct cleaning_result *result, bool ok, const struct error *error) {
    assert_int_equal(count_between(OLD, OLD + YOUNG), YOUNG);
    assert_int_equal(OLD - count_between(0, OLD), result->removed_blobs);
    if (ok)
        assert_int_equal(result->removed_blobs, OLD);
    else
        assert_int_equal(error->kind, ERROR_MEMORY);
}

static void lose(const struct cleaning_rule *rule, unsigned what, bool lasting) {
    for (int nth = 1;; nth++) {
        struct cleaning_result result;
        struct error error = {0};
        assert_true(nth < STEPS_MOST);
        fill();
        fault.what = what;
        fault.nth = nth;
        fault.lasting = lasting;
        atomic_store(&fault.calls, 0);
        atomic_store(&fault.armed, true);
        bool ok = cleaning_run(&bucket, rule, &result, &error);
        atomic_store(&fault.armed, false);
        check_result(&result, ok, &error);
        assert_true(cleaning_run(&bucket, rule, &result, &error));
        assert_int_equal(count_between(0, OLD), 0);
        assert_int_equal(count_between(OLD, OLD + YOUNG), YOUNG);
        assert_int_equal(fake_bucket_uploads(&bucket), 1);
        if (atomic_load(&fault.calls) < nth)
            break;
    }
}

static void test_memory_and_threads_run_out(void **state) {
    (void)state;
    const struct cleaning_rule by_size = {.older_than_s = -1, .to_size = YOUNG * SIZE};
    lose(&by_age, FAULT_MEMORY, false);
    lose(&by_age, FAULT_MEMORY, true);
    lose(&by_age, FAULT_THREAD, false);
    lose(&by_age, FAULT_THREAD, true);
    lose(&by_age, FAULT_MEMORY | FAULT_THREAD, true);
    lose(&by_size, FAULT_MEMORY | FAULT_THREAD, false);
    lose(&by_size, FAULT_MEMORY | FAULT_THREAD, true);
}

/* ---- the janitor, for whom time passes at once ---- */

static _Atomic int64_t skipped_ms;

int64_t __real_clock_ms(void);
int64_t __wrap_clock_ms(void);
int64_t __wrap_clock_ms(void) {
    return __real_clock_ms() + atomic_load(&skipped_ms);
}

static void pass_time(int64_t until_ms) {
    const int64_t left_ms = until_ms - clock_ms();
    if (left_ms > 0 && left_ms < (int64_t)DAY * 1000)
        atomic_fetch_add(&skipped_ms, left_ms);
}

static bool has_report(void) {
    return fake_bucket_holds(&bucket, SHARE_JANITOR);
}

static void test_the_janitor_cleans_in_the_end(void **state) {
    (void)state;
    bucket.settings.retention_ms = (int64_t)DAY * 1000;
    bucket.on_watch = pass_time;
    for (int nth = 1;; nth++) {
        assert_true(nth < STEPS_MOST);
        fill();
        fault.what = FAULT_MEMORY | FAULT_THREAD;
        fault.nth = nth;
        fault.lasting = false;
        atomic_store(&fault.calls, 0);
        atomic_store(&fault.armed, true);
        struct janitor *janitor = janitor_new(&bucket, NULL);
        struct error error = {0};
        bool runs = janitor && janitor_start(janitor, &error);
        if (runs)
            wait_until(has_report());
        else if (janitor)
            assert_true(error.kind == ERROR_IO || error.kind == ERROR_MEMORY);
        atomic_store(&fault.armed, false);
        janitor_free(janitor);
        assert_int_equal(count_between(0, OLD), runs ? 0 : OLD);
        assert_int_equal(count_between(OLD, OLD + YOUNG), YOUNG);
        if (atomic_load(&fault.calls) < nth)
            break;
    }
}

int main(void) {
    fault_prepare();
#define cleaning_test(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        cleaning_test(test_what_is_old_goes_with_its_mark),
        cleaning_test(test_a_dry_run_deletes_nothing),
        cleaning_test(test_without_the_right_one_delete_is_tried),
        cleaning_test(test_several_are_deleted_at_once_and_told_in_order),
        cleaning_test(test_what_went_before_a_fault_is_told),
        cleaning_test(test_it_can_be_stopped),
        cleaning_test(test_memory_and_threads_run_out),
        cleaning_test(test_the_janitor_cleans_in_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
