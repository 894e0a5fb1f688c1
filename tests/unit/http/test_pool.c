/* The pool of workers: when a task that waits is overdue. No thread runs here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <string.h>
#include <utlist.h>
#include <cmocka.h>
#include "base/log.h"
#include "base/thread.h"
#include "http/pool.h"

static struct pool pools[6],
    *pool; /* one for each test, because workers that never ran never end */
static struct pool_task tasks[3];
static unsigned started;
static bool refuse; /* the system starts no further thread */

bool __wrap_thread_start(const char *name, size_t stack_bytes, void (*run)(void *), void *argument,
                         pthread_t *thread, struct error *error);
bool __wrap_thread_start(const char *name, size_t stack_bytes, void (*run)(void *), void *argument,
                         pthread_t *thread, struct error *error) {
    (void)name, (void)stack_bytes, (void)run, (void)argument, (void)thread;
    if (refuse)
        return error_set(error, ERROR_IO, "no more threads");
    started++;
    return true;
}

static void serve(void *context, struct pool_task *task) {
    (void)context;
    (void)task;
}

static int set_up(void **state) {
    (void)state;
    log_configure(LOG_ERROR, LOG_TEXT);
    started = 0;
    memset(tasks, 0, sizeof tasks);
    refuse = false;
    pool = pool ? pool + 1 : pools;
    pool_init(pool, &(struct pool_settings){.name = "test", .most_workers = 2, .serve = serve});
    return 0;
}

static void line_up(struct pool_task *task) {
    struct pool_task *list = NULL;
    DL_APPEND(list, task);
    pool_line_up(pool, list);
}

static void test_a_task_is_not_overdue_while_a_worker_is_on_its_way(void **state) {
    (void)state;
    line_up(&tasks[0]);
    assert_int_equal(started, 1);
    assert_null(pool_take_overdue(pool, INT64_MAX));
    line_up(&tasks[1]);
    assert_int_equal(started, 2);
}

static void test_a_task_is_overdue_when_no_worker_can_be_started(void **state) {
    (void)state;
    for (int i = 0; i < 3; i++)
        line_up(&tasks[i]);
    assert_int_equal(started, 2);
    assert_null(pool_take_overdue(pool, 0));
    assert_ptr_equal(pool_take_overdue(pool, INT64_MAX), &tasks[2]); /* two workers are coming */
    assert_null(pool_take_overdue(pool, INT64_MAX));
}

static void test_a_task_is_overdue_when_the_system_refuses_threads(void **state) {
    (void)state;
    refuse = true;
    line_up(&tasks[0]);
    assert_ptr_equal(pool_take_overdue(pool, INT64_MAX), &tasks[0]);
    refuse = false;
    line_up(&tasks[0]);
    assert_null(pool_take_overdue(pool, INT64_MAX));
}

static void test_a_patient_task_is_never_overdue(void **state) {
    (void)state;
    refuse = true;
    tasks[0].is_patient = true;
    line_up(&tasks[0]);
    assert_null(pool_take_overdue(pool, INT64_MAX));
    line_up(&tasks[1]);
    assert_ptr_equal(pool_take_overdue(pool, INT64_MAX), &tasks[1]);
    assert_null(pool_take_overdue(pool, INT64_MAX));
}

static void test_a_list_of_tasks_calls_one_worker_which_calls_the_others(void **state) {
    (void)state;
    struct pool_task *list = NULL;
    for (int i = 0; i < 3; i++)
        DL_APPEND(list, &tasks[i]);
    pool_line_up(pool, list);
    assert_int_equal(started, 1);
}

static void test_a_task_gets_a_worker_as_soon_as_the_system_allows_one(void **state) {
    (void)state;
    refuse = true;
    line_up(&tasks[0]);
    assert_false(pool_is_stable(pool)); /* the server goes on looking after the pool */
    pool_tend(pool);
    assert_int_equal(started, 0);
    refuse = false;
    pool_tend(pool);
    assert_int_equal(started, 1);
    pool_tend(pool);
    assert_int_equal(started, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_a_task_is_not_overdue_while_a_worker_is_on_its_way, set_up),
        cmocka_unit_test_setup(test_a_task_is_overdue_when_no_worker_can_be_started, set_up),
        cmocka_unit_test_setup(test_a_task_is_overdue_when_the_system_refuses_threads, set_up),
        cmocka_unit_test_setup(test_a_patient_task_is_never_overdue, set_up),
        cmocka_unit_test_setup(test_a_list_of_tasks_calls_one_worker_which_calls_the_others,
                               set_up),
        cmocka_unit_test_setup(test_a_task_gets_a_worker_as_soon_as_the_system_allows_one, set_up),
    };
    return cmocka_run_group_tests_name("http_pool", tests, NULL, NULL);
}
