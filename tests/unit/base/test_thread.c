/* A started thread: its name, its stack, its signals, its end. */
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/lock.h"
#include "base/thread.h"
#include "base/trace.h"

struct seen {
    char name[THREAD_NAME_SIZE];
    size_t stack;
    sigset_t blocked;
    struct trace trace;
    pthread_t self;
    bool detached;
    struct lock ended_lock;
    struct condition changed;
    bool ended;
};

static void look(void *argument) {
    struct seen *seen = argument;
    pthread_attr_t attributes;
    int detach_state;
    pthread_getname_np(pthread_self(), seen->name, sizeof seen->name);
    pthread_getattr_np(pthread_self(), &attributes);
    pthread_attr_getstacksize(&attributes, &seen->stack);
    pthread_attr_getdetachstate(&attributes, &detach_state);
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, NULL, &seen->blocked);
    seen->trace = *trace_current();
    seen->self = pthread_self();
    seen->detached = detach_state == PTHREAD_CREATE_DETACHED;
    lock_acquire(&seen->ended_lock);
    seen->ended = true;
    condition_signal(&seen->changed);
    lock_release(&seen->ended_lock);
}

static void test_a_thread_has_its_name_and_its_stack(void **state) {
    (void)state;
    struct seen seen = {.ended_lock = LOCK_INITIALIZER, .changed = CONDITION_INITIALIZER};
    pthread_t thread;
    assert_true(thread_start("fifteen-letters", THREAD_STACK, look, &seen, &thread, NULL));
    pthread_join(thread, NULL);
    assert_string_equal(seen.name, "fifteen-letters");
    assert_in_range(seen.stack, THREAD_STACK / 2, THREAD_STACK * 2);
    assert_false(seen.detached);
}

static void test_a_thread_may_have_the_systems_stack(void **state) {
    (void)state;
    struct seen seen = {.ended_lock = LOCK_INITIALIZER, .changed = CONDITION_INITIALIZER};
    pthread_t thread;
    assert_true(thread_start("test", THREAD_STACK_SYSTEM, look, &seen, &thread, NULL));
    pthread_join(thread, NULL);
    assert_true(seen.stack > THREAD_STACK);
}

static void test_a_thread_blocks_the_processes_signals_but_not_its_own_faults(void **state) {
    (void)state;
    struct seen seen = {.ended_lock = LOCK_INITIALIZER, .changed = CONDITION_INITIALIZER};
    sigset_t before, after;
    pthread_t thread;
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    assert_true(thread_start("test", THREAD_STACK, look, &seen, &thread, NULL));
    pthread_join(thread, NULL);
    assert_true(sigismember(&seen.blocked, SIGTERM));
    assert_true(sigismember(&seen.blocked, SIGINT));
    assert_true(sigismember(&seen.blocked, SIGPIPE));
    assert_true(sigismember(&seen.blocked, SIGCHLD));
    assert_false(sigismember(&seen.blocked, SIGSEGV));
    assert_false(sigismember(&seen.blocked, SIGBUS));
    assert_false(sigismember(&seen.blocked, SIGABRT));
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    for (int signal = 1; signal <= SIGRTMAX; signal++)
        assert_int_equal(sigismember(&before, signal), sigismember(&after, signal));
}

/* Lets a detached thread look, and waits until it has. */
static struct seen look_detached(const char *name) {
    struct seen seen = {.ended_lock = LOCK_INITIALIZER, .changed = CONDITION_INITIALIZER};
    assert_true(thread_start_detached(name, look, &seen, NULL));
    lock_acquire(&seen.ended_lock);
    while (!seen.ended)
        condition_wait(&seen.changed, &seen.ended_lock);
    lock_release(&seen.ended_lock);
    return seen;
}

static void test_a_thread_may_be_nobodys_to_join(void **state) {
    (void)state;
    struct seen seen = look_detached("test");
    assert_true(seen.detached);
    assert_in_range(seen.stack, THREAD_STACK / 2, THREAD_STACK * 2);
}

static void wait_for_rest(void) {
    while (thread_count_resting() == 0)
        sched_yield();
}

static void test_a_thread_at_rest_takes_the_next_work(void **state) {
    static const struct trace trace = {
        .parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"};
    static const struct trace none = {0};
    (void)state;
    thread_allow_rest();
    assert_int_equal(thread_count_resting(), 0);
    trace_set(&trace);
    struct seen first = look_detached("first");
    wait_for_rest();
    trace_set(&none);
    struct seen second = look_detached("second");
    assert_true(pthread_equal(first.self, second.self));
    assert_string_equal(first.name, "first");
    assert_string_equal(second.name, "second");
    assert_string_equal(first.trace.parent, trace.parent);
    assert_string_equal(second.trace.parent, "");
    wait_for_rest();
    assert_int_equal(thread_count_resting(), 1);
}

struct raised {
    bool is_raised;
    int own, started; /* nice values */
};

static void look_at_nice(void *argument) {
    *(int *)argument = getpriority(PRIO_PROCESS, (id_t)gettid());
}

static void raise_and_start(void *argument) {
    struct raised *seen = argument;
    pthread_t thread;
    seen->is_raised = thread_raise(3);
    look_at_nice(&seen->own);
    assert_true(thread_start("started", THREAD_STACK, look_at_nice, &seen->started, &thread, NULL));
    pthread_join(thread, NULL);
}

static void test_a_raised_thread_raises_no_other(void **state) {
    (void)state;
    struct raised seen;
    int before, after;
    pthread_t thread;
    look_at_nice(&before);
    assert_true(thread_start("raised", THREAD_STACK, raise_and_start, &seen, &thread, NULL));
    pthread_join(thread, NULL);
    look_at_nice(&after);
    assert_int_equal(seen.own, seen.is_raised ? before - 3 : before);
    assert_int_equal(seen.started, before);
    assert_int_equal(after, before);
}

static void test_a_stack_that_no_thread_can_have_is_an_error(void **state) {
    (void)state;
    struct seen seen = {0};
    struct error error = {0};
    pthread_t thread;
    assert_false(thread_start("too-small", 1, look, &seen, &thread, &error));
    assert_int_equal(error.kind, ERROR_IO);
    assert_non_null(strstr(error.text, "too-small"));
    assert_false(thread_start("too-large", SIZE_MAX / 2, look, &seen, &thread, &error));
    assert_int_equal(error.kind, ERROR_IO);
    assert_false(seen.ended);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_thread_has_its_name_and_its_stack),
        cmocka_unit_test(test_a_thread_may_have_the_systems_stack),
        cmocka_unit_test(test_a_thread_blocks_the_processes_signals_but_not_its_own_faults),
        /* before any other test starts a detached thread, which may come to rest, too */
        cmocka_unit_test(test_a_thread_at_rest_takes_the_next_work),
        cmocka_unit_test(test_a_thread_may_be_nobodys_to_join),
        cmocka_unit_test(test_a_raised_thread_raises_no_other),
        cmocka_unit_test(test_a_stack_that_no_thread_can_have_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
