/* Who gets one of an upstream's connections, and when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include "base/clock.h"
#include "upstream/bench.h"
#include "upstream/upstream_private.h"

#define UNTIL(deadline) (&(const struct queue_wait){.deadline_ms = (deadline)})
#define WHILE(flag, deadline)                                                                      \
    (&(const struct queue_wait){.deadline_ms = (deadline), .background = (flag)})

/* How many threads wait for a place. */
static unsigned count_waiting(struct queue *queue) {
    unsigned count = 0;
    lock_acquire(&queue->places_lock);
    for (int rank = 0; rank < QUEUE_RANKS; rank++) {
        for (const struct queue_place *place = queue->first[rank]; place; place = place->next)
            count++;
    }
    lock_release(&queue->places_lock);
    return count;
}

enum { CROWD = 8 };

struct at_once {
    struct bench *bench;
    atomic_uint now, most;
};

/* Holds each request until all others of the crowd have been sent, or wait for a place. */
static bool answer_when_all_have_come(struct server *server, int fd, const char *head) {
    struct at_once *at_once = server->context;
    unsigned now = atomic_fetch_add(&at_once->now, 1) + 1, most = atomic_load(&at_once->most);
    (void)head;
    while (now > most && !atomic_compare_exchange_weak(&at_once->most, &most, now))
        ;
    while (server_count(server, "GET") + count_waiting(&at_once->bench->upstream->own->queue) <
           CROWD)
        clock_sleep_ms(1);
    atomic_fetch_sub(&at_once->now, 1);
    return server_reply(fd, 200, "", "hello");
}

static void test_no_more_requests_at_once_than_allowed(void **state) {
    struct bench *bench = *state;
    struct at_once at_once = {.bench = bench};
    bench->settings.max_connections = 2;
    bench_open(bench, answer_when_all_have_come, &at_once);
    bench_ask_at_once(bench, CROWD);
    assert_int_equal(bench->server->count, CROWD);
    assert_int_equal(atomic_load(&at_once.most), 2);
}

static void test_no_place_in_time_is_busy(void **state) {
    struct bench *bench = *state;
    bench->settings.max_connections = 1;
    bench_open(bench, answer_hello, NULL);
    struct queue *queue = &bench->upstream->own->queue;
    assert_true(
        queue_enter(queue, QUEUE_NAMES, UNTIL(clock_ms()), NULL)); /* another request's place */
    struct upstream_request request = bench_manifest;
    request.deadline_ms = clock_ms() + 100;
    assert_false(bench_ask(bench, &request));
    assert_int_equal(bench->error.kind, ERROR_BUSY);
    assert_int_equal(bench->error.retry_after_s, 1);
    assert_int_equal(bench->server->count, 0);
    queue_leave(queue);
    assert_true(bench_ask(bench, &bench_manifest));
}

struct in_line {
    struct queue *queue;
    enum queue_rank rank;
    _Atomic unsigned *order;
    unsigned came;
    const atomic_bool *background;
};

static void *stand_in_line(void *context) {
    struct in_line *in_line = context;
    struct error error;
    if (queue_enter(in_line->queue, in_line->rank, WHILE(in_line->background, INT64_MAX), &error)) {
        in_line->came = ++*in_line->order;
        queue_leave(in_line->queue);
    }
    return NULL;
}

static void test_manifests_come_before_blobs_and_background_last(void **state) {
    (void)state;
    struct queue queue;
    struct error error;
    _Atomic unsigned order = 0;
    queue_init(&queue, 1);
    atomic_bool background = true;
    struct in_line line[] = {{&queue, QUEUE_BACKGROUND, &order, 0, &background},
                             {&queue, QUEUE_BLOBS, &order, 0, NULL},
                             {&queue, QUEUE_BLOBS, &order, 0, NULL},
                             {&queue, QUEUE_NAMES, &order, 0, NULL}};
    pthread_t threads[4];
    assert_true(queue_enter(&queue, QUEUE_NAMES, UNTIL(clock_ms()), &error));
    for (int i = 0; i < 4; i++) {
        pthread_create(&threads[i], NULL, stand_in_line, &line[i]);
        while (count_waiting(&queue) <= (unsigned)i)
            clock_sleep_ms(1);
    }
    queue_leave(&queue);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(line[3].came, 1);
    assert_int_equal(line[1].came, 2);
    assert_int_equal(line[2].came, 3);
    assert_int_equal(line[0].came, 4);
    queue_finish(&queue);
}

static void test_background_requests_leave_half_of_the_places_free(void **state) {
    (void)state;
    struct queue queue;
    struct error error = {0};
    atomic_bool background = true;
    queue_init(&queue, 4);
    for (int i = 0; i < 2; i++)
        assert_true(queue_enter(&queue, QUEUE_BACKGROUND, WHILE(&background, clock_ms()), &error));
    assert_false(queue_enter(&queue, QUEUE_BACKGROUND, WHILE(&background, clock_ms() + 1), &error));
    assert_int_equal(error.kind, ERROR_BUSY);
    for (int i = 0; i < 2; i++)
        assert_true(queue_enter(&queue, QUEUE_BLOBS, UNTIL(clock_ms()), &error));
    queue_leave(&queue);
    assert_false(queue_enter(&queue, QUEUE_BACKGROUND, WHILE(&background, clock_ms() + 1), &error));
    for (int i = 0; i < 2; i++)
        queue_leave(&queue);
    assert_true(queue_enter(&queue, QUEUE_BACKGROUND, WHILE(&background, clock_ms()), &error));
    queue_finish(&queue);
}

static void
test_a_background_request_that_a_client_waits_for_comes_before_other_blobs(void **state) {
    (void)state;
    struct queue queue;
    struct error error;
    atomic_bool patient = true, wanted = true;
    _Atomic unsigned order = 0;
    queue_init(&queue, 1);
    struct in_line line[] = {{&queue, QUEUE_BACKGROUND, &order, 0, &patient},
                             {&queue, QUEUE_BACKGROUND, &order, 0, &wanted},
                             {&queue, QUEUE_BLOBS, &order, 0, NULL}};
    pthread_t threads[3];
    assert_true(queue_enter(&queue, QUEUE_NAMES, UNTIL(clock_ms()), &error));
    for (int i = 0; i < 3; i++) {
        pthread_create(&threads[i], NULL, stand_in_line, &line[i]);
        while (count_waiting(&queue) <= (unsigned)i)
            clock_sleep_ms(1);
    }
    wanted = false;
    queue_leave(&queue);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(line[1].came, 1);
    assert_int_equal(line[2].came, 2);
    assert_int_equal(line[0].came, 3);
    queue_finish(&queue);
}

static void test_a_background_request_that_a_client_waits_for_takes_a_free_place(void **state) {
    (void)state;
    struct queue queue;
    struct error error;
    atomic_bool background = true;
    _Atomic unsigned order = 0;
    queue_init(&queue, 2);
    assert_true(queue_enter(&queue, QUEUE_BACKGROUND, WHILE(&background, clock_ms()), &error));
    struct in_line line = {&queue, QUEUE_BACKGROUND, &order, 0, &background};
    pthread_t thread;
    pthread_create(&thread, NULL, stand_in_line, &line);
    while (count_waiting(&queue) == 0)
        clock_sleep_ms(1);
    background = false;
    pthread_join(thread, NULL);
    assert_int_equal(line.came, 1);
    queue_leave(&queue);
    queue_finish(&queue);
}

/* A request that waits for a place, with a flag of its own. */
struct flagged {
    struct queue *queue;
    struct queue_wait wait;
    atomic_bool flag;
    struct error error;
    bool entered;
};

static void *wait_with_flag(void *context) {
    struct flagged *flagged = context;
    flagged->entered = queue_enter(flagged->queue, QUEUE_NAMES, &flagged->wait, &flagged->error);
    return NULL;
}

static void start_waiting(pthread_t *thread, struct flagged *flagged, unsigned waiting) {
    pthread_create(thread, NULL, wait_with_flag, flagged);
    while (count_waiting(flagged->queue) < waiting)
        clock_sleep_ms(1);
}

static void test_a_request_that_nobody_waits_for_leaves_the_queue(void **state) {
    (void)state;
    struct queue queue;
    queue_init(&queue, 1);
    assert_true(queue_enter(&queue, QUEUE_NAMES, UNTIL(clock_ms()), NULL));
    struct flagged gone = {.queue = &queue}, stopped = {.queue = &queue};
    gone.wait = (struct queue_wait){.deadline_ms = INT64_MAX, .abandoned = &gone.flag};
    stopped.wait = (struct queue_wait){.deadline_ms = INT64_MAX, .stop = &stopped.flag};
    pthread_t threads[2];
    assert_false(queue_is_awaited(&queue));
    start_waiting(&threads[0], &gone, 1);
    assert_true(queue_is_awaited(&queue));
    atomic_store(&gone.flag, true);
    assert_false(queue_is_awaited(&queue)); /* though it may still be in the queue */
    queue_leave(&queue);
    assert_true(queue_enter(&queue, QUEUE_NAMES, UNTIL(clock_ms()), NULL));
    pthread_join(threads[0], NULL);
    start_waiting(&threads[1], &stopped, 1);
    atomic_store(&stopped.flag, true);
    pthread_join(threads[1], NULL);
    assert_false(gone.entered || stopped.entered);
    assert_int_equal(gone.error.kind, ERROR_CLOSED);
    assert_int_equal(stopped.error.kind, ERROR_CLOSED);
    assert_int_equal(count_waiting(&queue), 0);
    queue_leave(&queue);
    assert_true(queue_enter(&queue, QUEUE_NAMES, UNTIL(clock_ms()), NULL));
    queue_finish(&queue);
}

static void test_only_clients_requests_make_a_queue_awaited(void **state) {
    (void)state;
    struct queue queue;
    queue_init(&queue, 1);
    assert_true(queue_enter(&queue, QUEUE_NAMES, UNTIL(clock_ms()), NULL));
    struct flagged background = {.queue = &queue, .flag = true};
    background.wait = (struct queue_wait){.deadline_ms = INT64_MAX, .background = &background.flag};
    pthread_t thread;
    start_waiting(&thread, &background, 1);
    assert_false(queue_is_awaited(&queue));
    atomic_store(&background.flag, false);
    assert_true(queue_is_awaited(&queue));
    queue_leave(&queue);
    pthread_join(thread, NULL);
    assert_true(background.entered);
    assert_false(queue_is_awaited(&queue));
    queue_finish(&queue);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_BENCH(test_no_more_requests_at_once_than_allowed),
        WITH_BENCH(test_no_place_in_time_is_busy),
        cmocka_unit_test(test_manifests_come_before_blobs_and_background_last),
        cmocka_unit_test(test_background_requests_leave_half_of_the_places_free),
        cmocka_unit_test(
            test_a_background_request_that_a_client_waits_for_comes_before_other_blobs),
        cmocka_unit_test(test_a_background_request_that_a_client_waits_for_takes_a_free_place),
        cmocka_unit_test(test_a_request_that_nobody_waits_for_leaves_the_queue),
        cmocka_unit_test(test_only_clients_requests_make_a_queue_awaited),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
