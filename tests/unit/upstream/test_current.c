/* The set of upstreams is exchanged while requests run. Also run under ThreadSanitizer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "upstream/bench.h"
#include "upstream/upstream_private.h"

static struct upstream *find(const struct upstreams *upstreams, const char *name) {
    char host[HOST_LIMIT + 1];
    return upstreams_find(upstreams, text_of(name), host);
}

static struct upstream_settings settings_of(const char *host, const char *url) {
    struct upstream_settings settings = upstream_settings_default();
    settings.host = host;
    settings.url = url;
    return settings;
}

static void exchange(struct bench *bench, const struct upstream_settings *settings, size_t count) {
    struct upstreams *prepared =
        current_upstreams_prepare(bench->current, settings, count, &bench->error);
    if (!prepared)
        fail_msg("%s", bench->error.text);
    current_upstreams_exchange(bench->current, prepared);
}

/* Holds the set in use in place of the one before. */
static const struct upstreams *hold_again(struct bench *bench) {
    upstreams_release(bench->upstreams);
    bench->upstreams = current_upstreams_hold(bench->current);
    return bench->upstreams;
}

/* Upstreams that have not been freed. */
static unsigned count_upstreams(struct bench *bench) {
    struct upstream *any = upstreams_next(hold_again(bench), NULL), *upstream;
    struct upstream_commons *commons = any->commons;
    unsigned count = 0;
    current_upstreams_sweep(bench->current);
    lock_acquire(&commons->peers.peers_lock);
    for (upstream = commons->entries; upstream; upstream = upstream->after)
        count++;
    lock_release(&commons->peers.peers_lock);
    return count;
}

static void test_only_a_changed_upstream_is_made_anew(void **state) {
    struct bench *bench = *state;
    static const char *const org[] = {"org/**", NULL}, *const other[] = {"other/**", NULL};
    struct upstream_settings settings[4] = {
        settings_of("a.example", NULL), settings_of("b.example", "http://127.0.0.1:1"),
        settings_of("*.c.example", NULL), settings_of("a.example", NULL)};
    settings[3].repositories = org;
    assert_true(bench_make(bench, settings, 4));
    struct upstream *a = find(bench->upstreams, "a.example"),
                    *b = find(bench->upstreams, "b.example");
    struct upstream *c = find(bench->upstreams, "x.c.example");
    struct upstream *a_org = upstream_for(bench->upstreams, a, "org/app");
    assert_ptr_not_equal(a, a_org);

    char url[] = "http://127.0.0.1:2"; /* is copied */
    settings[1].url = url;
    settings[3].repositories = other;
    size_t added, removed;
    struct upstreams *prepared =
        current_upstreams_prepare(bench->current, settings, 4, &bench->error);
    assert_non_null(prepared);
    memset(url, 'x', sizeof url - 1);
    current_upstreams_compare(bench->current, prepared, &added, &removed);
    assert_int_equal(added, 2);
    assert_int_equal(removed, 2);
    current_upstreams_exchange(bench->current, prepared);
    hold_again(bench);
    assert_ptr_equal(find(bench->upstreams, "a.example"), a);
    assert_ptr_equal(find(bench->upstreams, "y.c.example"), c);
    struct upstream *new_b = find(bench->upstreams, "b.example");
    assert_ptr_not_equal(new_b, b);
    assert_string_equal(upstream_settings(new_b)->url, "http://127.0.0.1:2");
    assert_ptr_equal(upstream_for(bench->upstreams, a, "org/app"), a);
    assert_ptr_not_equal(upstream_for(bench->upstreams, a, "other/app"), a_org);
    assert_int_equal(count_upstreams(bench), 4);
}

static void test_a_set_that_is_given_up_leaves_nothing(void **state) {
    struct bench *bench = *state;
    struct upstream_settings settings[2] = {settings_of("a.example", NULL),
                                            settings_of("b.example", "http://127.0.0.1:1")};
    assert_true(bench_make(bench, settings, 1));
    struct upstreams *prepared =
        current_upstreams_prepare(bench->current, settings, 2, &bench->error);
    assert_non_null(prepared);
    current_upstreams_give_up(prepared);
    assert_int_equal(count_upstreams(bench), 1);
    settings[1].url = "ftp://b.example";
    assert_null(current_upstreams_prepare(bench->current, settings, 2, &bench->error));
    assert_int_equal(bench->error.kind, ERROR_INVALID);
    assert_int_equal(count_upstreams(bench), 1);
}

static void test_what_refers_to_a_removed_upstream_keeps_it(void **state) {
    struct bench *bench = *state;
    struct upstream_settings settings[2] = {settings_of("a.example", NULL),
                                            settings_of("b.example", NULL)};
    assert_true(bench_make(bench, settings, 2));
    struct upstream *b = upstream_keep(find(bench->upstreams, "b.example"));
    exchange(bench, settings, 1);
    assert_int_equal(count_upstreams(bench), 2);
    assert_string_equal(upstream_name(b), "b.example");
    assert_null(find(bench->upstreams, "b.example"));
    upstream_release(b);
    assert_int_equal(count_upstreams(bench), 1);
}

static void test_equal_credentials_are_one_source_before_and_after(void **state) {
    struct bench *bench = *state;
    struct credential_source *first = credential_source_static("u", "/nowhere");
    struct credential_source *second = credential_source_static("u", "/nowhere");
    struct credential_source *third = credential_source_static("v", "/nowhere");
    assert_true(credential_source_identify(first, "u\n/nowhere"));
    assert_true(credential_source_identify(second, "u\n/nowhere"));
    assert_true(credential_source_identify(third, "v\n/nowhere"));
    struct upstream_settings settings[2] = {settings_of("a.example", NULL),
                                            settings_of("b.example", NULL)};
    settings[0].credentials = first;
    assert_true(bench_make(bench, settings, 1));
    struct upstream *a = find(bench->upstreams, "a.example");
    settings[0].credentials = settings[1].credentials = second;
    exchange(bench, settings, 2);
    hold_again(bench);
    assert_ptr_equal(find(bench->upstreams, "a.example"), a);
    assert_ptr_equal(upstream_settings(find(bench->upstreams, "b.example"))->credentials, first);
    settings[0].credentials = third;
    exchange(bench, settings, 2);
    hold_again(bench);
    assert_ptr_equal(upstream_settings(find(bench->upstreams, "a.example"))->credentials, third);
    credential_source_free(first);
    credential_source_free(second);
    credential_source_free(third);
    assert_int_equal(count_upstreams(bench), 2);
}

/* ---- under load ---- */

enum { ASKING = 3, EXCHANGES = 200 };

struct load {
    struct bench *bench;
    atomic_bool ends;
    atomic_uint asked, failed;
};

static void *ask_on(void *argument) {
    struct load *load = argument;
    const struct upstream_sink sink = {0};
    while (!atomic_load(&load->ends)) {
        char host[HOST_LIMIT + 1];
        struct error error = {0};
        const struct upstreams *held = current_upstreams_hold(load->bench->current);
        struct upstream_request request = bench_manifest;
        const char *name = atomic_fetch_add(&load->asked, 1) % 2 ? "a.example" : "x.p.example";
        struct upstream *upstream = upstream_keep(upstreams_find(held, text_of(name), host));
        upstreams_release(held); /* as a flight does, which outlives its request */
        request.host = host;
        if (!upstream_perform(upstream, &request, &sink, &error))
            atomic_fetch_add(&load->failed, 1);
        upstream_release(upstream);
    }
    return NULL;
}

static void test_no_request_fails_while_upstreams_change(void **state) {
    struct bench *bench = *state;
    struct load load = {.bench = bench};
    pthread_t threads[ASKING];
    bench->server = server_start(answer_hello, NULL);
    snprintf(bench->url, sizeof bench->url, "http://127.0.0.1:%u", bench->server->port);
    struct upstream_settings settings[2] = {settings_of("a.example", bench->url),
                                            settings_of("*.p.example", bench->url)};
    assert_true(bench_make(bench, settings, 2));
    for (int i = 0; i < ASKING; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ask_on, &load), 0);
    for (int i = 0; i < EXCHANGES; i++) {
        unsigned before = atomic_load(&load.asked);
        settings[i % 2].tag_ttl_ms = 1000 + i;
        exchange(bench, settings, 2);
        current_upstreams_sweep(bench->current);
        while (i % 10 == 0 && atomic_load(&load.asked) == before)
            clock_sleep_ms(1);
    }
    atomic_store(&load.ends, true);
    for (int i = 0; i < ASKING; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&load.failed), 0);
    assert_int_equal(count_upstreams(bench), 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_BENCH(test_only_a_changed_upstream_is_made_anew),
        WITH_BENCH(test_a_set_that_is_given_up_leaves_nothing),
        WITH_BENCH(test_what_refers_to_a_removed_upstream_keeps_it),
        WITH_BENCH(test_equal_credentials_are_one_source_before_and_after),
        WITH_BENCH(test_no_request_fails_while_upstreams_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
