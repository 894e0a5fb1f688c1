/* What is kept for the hosts that a pattern matches. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "upstream/bench.h"
#include "upstream/upstream_private.h"

/* All hosts of "*.peers.example" are the scripted server. */
static struct upstream *open_pattern(struct bench *bench, server_answer *answer, void *context) {
    char host[HOST_LIMIT + 1];
    bench->server = server_start(answer, context);
    snprintf(bench->url, sizeof bench->url, "http://127.0.0.1:%u", bench->server->port);
    bench->settings.host = "*.peers.example";
    bench->settings.url = bench->url;
    assert_true(bench_make(bench, &bench->settings, 1));
    bench->upstream = upstreams_find(bench->upstreams, text_of("a.peers.example"), host);
    assert_non_null(bench->upstream);
    return bench->upstream;
}

static bool ask(struct bench *bench, const char *host, struct error *error) {
    const struct upstream_sink sink = {0};
    struct upstream_request request = bench_manifest;
    request.host = host;
    return upstream_perform(bench->upstream, &request, &sink, error);
}

static struct peer *held(struct bench *bench, const char *host) {
    struct peers *peers = bench->upstream->peers_of_all;
    struct peer *peer;
    lock_acquire(&peers->peers_lock);
    HASH_FIND_STR(bench->upstream->peers, host, peer);
    lock_release(&peers->peers_lock);
    return peer;
}

static unsigned count_peers(struct bench *bench) {
    return HASH_COUNT(bench->upstream->peers);
}

static bool refuse_all(struct server *server, int fd, const char *head) {
    (void)server, (void)fd, (void)head;
    return false; /* the connection closes without a response */
}

static void test_a_host_that_never_answered_leaves_nothing(void **state) {
    struct bench *bench = *state;
    open_pattern(bench, refuse_all, NULL);
    for (unsigned i = 0; i < 40; i++) {
        char host[64];
        snprintf(host, sizeof host, "a%u.peers.example", i);
        assert_false(ask(bench, host, &bench->error));
        assert_int_equal(bench->error.kind, ERROR_UNAVAILABLE);
        assert_non_null(strstr(bench->error.text, host));
    }
    assert_int_equal(count_peers(bench), 0);
    assert_int_equal(bench->upstream->peers_of_all->count, 0);
}

static void test_looking_hosts_up_makes_nothing(void **state) {
    struct bench *bench = *state;
    open_pattern(bench, answer_hello, NULL);
    for (unsigned i = 0; i < 5000; i++) {
        char name[64], host[HOST_LIMIT + 1];
        snprintf(name, sizeof name, "A%u.peers.example", i);
        assert_ptr_equal(upstreams_find(bench->upstreams, text_of(name), host), bench->upstream);
        assert_int_equal(host[0], 'a');
    }
    assert_int_equal(count_peers(bench), 0);
}

static void test_the_least_recently_used_host_goes_at_the_limit(void **state) {
    struct bench *bench = *state;
    open_pattern(bench, answer_hello, NULL)->peers_of_all->limit = 2;
    assert_true(ask(bench, "a.peers.example", &bench->error));
    assert_true(ask(bench, "b.peers.example", &bench->error));
    assert_true(ask(bench, "a.peers.example", &bench->error));
    assert_true(ask(bench, "c.peers.example", &bench->error));
    assert_non_null(held(bench, "a.peers.example"));
    assert_null(held(bench, "b.peers.example"));
    assert_non_null(held(bench, "c.peers.example"));
    assert_int_equal(count_peers(bench), 2);
}

static void test_only_the_hosts_used_last_keep_connections(void **state) {
    struct bench *bench = *state;
    open_pattern(bench, answer_hello, NULL)->peers_of_all->connected_limit = 1;
    assert_true(ask(bench, "a.peers.example", &bench->error));
    assert_non_null(held(bench, "a.peers.example")->lanes.idle);
    assert_true(ask(bench, "b.peers.example", &bench->error));
    assert_null(held(bench, "a.peers.example")->lanes.idle);
    assert_non_null(held(bench, "b.peers.example")->lanes.idle);
    /* It works again, and is the one with connections. */
    assert_true(ask(bench, "a.peers.example", &bench->error));
    assert_non_null(held(bench, "a.peers.example")->lanes.idle);
    assert_null(held(bench, "b.peers.example")->lanes.idle);
}

struct held_request {
    struct bench *bench;
    atomic_bool go_on;
    bool ok;
};

static bool answer_when_told(struct server *server, int fd, const char *head) {
    struct held_request *request = server->context;
    while (!atomic_load(&request->go_on))
        clock_sleep_ms(1);
    return answer_hello(server, fd, head);
}

static void *ask_in_thread(void *context) {
    struct held_request *request = context;
    struct error error;
    request->ok = ask(request->bench, "used.peers.example", &error);
    return NULL;
}

static void test_a_host_in_use_stays_and_another_one_is_told_to_wait(void **state) {
    struct bench *bench = *state;
    struct held_request request = {.bench = bench};
    pthread_t thread;
    open_pattern(bench, answer_when_told, &request)->peers_of_all->limit = 1;
    pthread_create(&thread, NULL, ask_in_thread, &request);
    while (server_count(bench->server, "GET") == 0)
        clock_sleep_ms(1);
    assert_false(ask(bench, "b.peers.example", &bench->error));
    assert_int_equal(bench->error.kind, ERROR_BUSY);
    assert_int_equal(bench->error.retry_after_s, 1);
    assert_non_null(strstr(bench->error.text, "upstream b.peers.example: "));
    atomic_store(&request.go_on, true);
    pthread_join(thread, NULL);
    assert_true(request.ok);
    assert_true(ask(bench, "b.peers.example", &bench->error));
}

static void test_the_hosts_of_a_pattern_are_counted_together(void **state) {
    struct bench *bench = *state;
    cleanup_buffer struct buffer text = {0};
    open_pattern(bench, answer_hello, NULL);
    assert_true(ask(bench, "counted.peers.example", &bench->error));
    metric_write(&text);
    assert_non_null(
        strstr(text.bytes, "tarn_upstream_requests_total{upstream=\"*.peers.example\""));
    assert_null(strstr(text.bytes, "counted.peers.example"));
}

enum { CROWD = 8, ROUNDS = 25, HOSTS = 6 };

struct crowd {
    struct bench *bench;
    unsigned seed;
    unsigned served;
};

static void *ask_for_many(void *context) {
    struct crowd *crowd = context;
    struct error error;
    for (unsigned i = 0; i < ROUNDS; i++) {
        char host[64];
        crowd->seed = crowd->seed * 1103515245 + 12345;
        snprintf(host, sizeof host, "h%u.peers.example", (crowd->seed >> 16) % HOSTS);
        error = (struct error){0};
        if (ask(crowd->bench, host, &error))
            crowd->served++;
        else if (error.kind != ERROR_BUSY && error.kind != ERROR_UNAVAILABLE)
            fail_msg("%s", error.text);
    }
    return NULL;
}

/* Every sixth request gets no response, so that hosts come, go and lose their connections while
 * others use them. */
static bool answer_most(struct server *server, int fd, const char *head) {
    static atomic_uint requests;
    if (atomic_fetch_add(&requests, 1) % 6 == 5)
        return false;
    return answer_hello(server, fd, head);
}

static void test_hosts_come_and_go_while_many_threads_ask(void **state) {
    struct bench *bench = *state;
    struct crowd crowd[CROWD];
    pthread_t threads[CROWD];
    struct peers *peers = open_pattern(bench, answer_most, NULL)->peers_of_all;
    unsigned served = 0;
    peers->limit = 4;
    peers->connected_limit = 1;
    for (unsigned i = 0; i < CROWD; i++) {
        crowd[i] = (struct crowd){.bench = bench, .seed = i + 1};
        pthread_create(&threads[i], NULL, ask_for_many, &crowd[i]);
    }
    for (unsigned i = 0; i < CROWD; i++) {
        pthread_join(threads[i], NULL);
        served += crowd[i].served;
    }
    assert_true(served > 0);
    assert_true(count_peers(bench) <= 4);
    assert_int_equal(peers->count, count_peers(bench));
    assert_null(peers->lists[PEER_USED]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_BENCH(test_a_host_that_never_answered_leaves_nothing),
        WITH_BENCH(test_looking_hosts_up_makes_nothing),
        WITH_BENCH(test_the_least_recently_used_host_goes_at_the_limit),
        WITH_BENCH(test_only_the_hosts_used_last_keep_connections),
        WITH_BENCH(test_a_host_in_use_stays_and_another_one_is_told_to_wait),
        WITH_BENCH(test_the_hosts_of_a_pattern_are_counted_together),
        WITH_BENCH(test_hosts_come_and_go_while_many_threads_ask),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
