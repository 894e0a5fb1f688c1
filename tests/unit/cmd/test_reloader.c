/* Reloads come one after the other, and end with tarn. Also run under ThreadSanitizer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include "base/clock.h"
#include "cmd/reloader.h"

enum { CALLERS = 4 };

struct work {
    struct reloader *reloader;
    atomic_uint running, most, files, signals, sweeps;
    atomic_bool hold; /* while set, a reload does not end */
};

static bool reload(void *context, const char *file, struct buffer *problems) {
    struct work *work = context;
    unsigned running = atomic_fetch_add(&work->running, 1) + 1;
    if (running > atomic_load(&work->most))
        atomic_store(&work->most, running);
    while (atomic_load(&work->hold))
        clock_sleep_ms(1);
    bool is_bad = file && strcmp(file, "/bad") == 0;
    if (is_bad)
        buffer_append_string(problems, "/bad:1: it is bad\n");
    atomic_fetch_add(file ? &work->files : &work->signals, 1);
    atomic_fetch_sub(&work->running, 1);
    return !is_bad;
}

static void sweep(void *context) {
    atomic_fetch_add(&((struct work *)context)->sweeps, 1);
}

static void start(struct work *work) {
    const struct reloader_work work_of = {reload, sweep, work};
    struct error error = {0};
    *work = (struct work){.reloader = reloader_new(&work_of)};
    assert_non_null(work->reloader);
    assert_true(reloader_start(work->reloader, &error));
}

static void become(const atomic_uint *number, unsigned wanted) {
    for (int i = 0; i < 20000 && atomic_load(number) != wanted; i++)
        clock_sleep_ms(1);
    assert_int_equal(atomic_load(number), wanted);
}

struct caller {
    struct work *work;
    pthread_t thread;
    bool reloaded, explained;
};

static void *ask(void *argument) {
    struct caller *caller = argument;
    cleanup_buffer struct buffer problems = {0};
    caller->reloaded = reloader_ask(caller->work->reloader, "/good", &problems);
    caller->explained = problems.length > 0;
    return NULL;
}

static void begin(struct caller *callers, struct work *work) {
    for (int i = 0; i < CALLERS; i++) {
        callers[i] = (struct caller){.work = work};
        assert_int_equal(pthread_create(&callers[i].thread, NULL, ask, &callers[i]), 0);
    }
}

static void test_callers_get_the_outcome_of_their_own_reload(void **state) {
    (void)state;
    struct work work;
    cleanup_buffer struct buffer problems = {0};
    start(&work);
    assert_false(reloader_ask(work.reloader, "/bad", &problems));
    assert_string_equal(problems.bytes, "/bad:1: it is bad\n");
    buffer_clear(&problems);
    assert_true(reloader_ask(work.reloader, "/good", &problems));
    assert_int_equal(problems.length, 0);
    assert_int_equal(work.files, 2);
    reloader_free(work.reloader);
    assert_true(atomic_load(&work.sweeps) >= 1);
}

static void test_one_reload_runs_at_a_time(void **state) {
    (void)state;
    struct work work;
    struct caller callers[CALLERS];
    start(&work);
    atomic_store(&work.hold, true);
    begin(callers, &work);
    become(&work.running, 1);
    for (int i = 0; i < 10; i++)
        reloader_signal(work.reloader); /* count as one */
    atomic_store(&work.hold, false);
    for (int i = 0; i < CALLERS; i++) {
        pthread_join(callers[i].thread, NULL);
        assert_true(callers[i].reloaded);
    }
    become(&work.signals, 1);
    assert_int_equal(work.files, CALLERS);
    assert_int_equal(work.most, 1);
    reloader_free(work.reloader);
    assert_int_equal(work.signals, 1);
}

static void *end(void *reloader) {
    reloader_end(reloader);
    return NULL;
}

static void test_those_that_wait_at_the_end_fail_with_a_reason(void **state) {
    (void)state;
    struct work work;
    struct caller callers[CALLERS];
    unsigned reloaded = 0, explained = 0;
    start(&work);
    atomic_store(&work.hold, true);
    begin(callers, &work);
    become(&work.running, 1);
    reloader_signal(work.reloader);
    pthread_t ending;
    assert_int_equal(pthread_create(&ending, NULL, end, work.reloader), 0);
    clock_sleep_ms(20); /* the end may come before or after the reload; both are right */
    atomic_store(&work.hold, false);
    pthread_join(ending, NULL);
    for (int i = 0; i < CALLERS; i++) {
        pthread_join(callers[i].thread, NULL);
        reloaded += callers[i].reloaded;
        explained += callers[i].explained;
    }
    assert_true(reloaded >= 1);
    assert_int_equal(reloaded + explained, CALLERS);
    cleanup_buffer struct buffer problems = {0};
    assert_false(reloader_ask(work.reloader, "/late", &problems));
    assert_string_equal(problems.bytes, "tarn is stopping\n");
    reloader_free(work.reloader);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_callers_get_the_outcome_of_their_own_reload),
        cmocka_unit_test(test_one_reload_runs_at_a_time),
        cmocka_unit_test(test_those_that_wait_at_the_end_fail_with_a_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
