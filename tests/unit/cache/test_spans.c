/* No byte of a blob is asked for twice, whatever ranges are read and whenever readers come. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include "cache/flight/flight_private.h"

enum {
    ROUNDS = 300,
    READERS = 12,
    MIB = 1 << 20,
};

/* One connection of the simulated place. */
struct connection {
    struct span *span;
    bool sent;
    uint64_t asked_end;
};

struct scene {
    struct flight flight;
    struct flight_reader readers[READERS];
    unsigned come; /* readers that have come */
    struct connection connections[FLIGHT_SPANS];
    struct extents asked;
    unsigned allowed;
};

static unsigned allowed_now;

static unsigned allowed(const struct place *place) {
    (void)place;
    return allowed_now;
}

static const struct place_kind kind = {.allowed = allowed};

static uint64_t below(uint64_t limit) {
    return limit ? (((uint64_t)rand() << 31) ^ (uint64_t)rand()) % limit : 0;
}

static void open_scene(struct scene *scene, uint64_t size) {
    struct flight *flight = &scene->flight;
    *scene = (struct scene){0};
    lock_init(&flight->state_lock);
    flight->sources.count = 1;
    flight->sources.course.stage = COURSE_SOURCES;
    flight->sources.at[0].place.kind = &kind;
    flight->spans.allowed = UPSTREAM_CONNECTIONS_LIMIT;
    flight->spans.rate = below(3) ? (double)below(40 * MIB) : 0;
    flight->body.size_known = true;
    flight->body.size = size;
    flight->readers.fill = below(4) > 0;
    allowed_now = 1 + (unsigned)below(8);
}

static void close_scene(struct scene *scene) {
    struct flight *flight = &scene->flight;
    extents_finish(&flight->body.present);
    extents_finish(&scene->asked);
    lock_finish(&flight->state_lock);
}

/* A client comes: for a part of any length at any place, or for all. */
static void let_one_come(struct scene *scene) {
    const uint64_t size = scene->flight.body.size;
    struct flight_reader *reader = &scene->readers[scene->come++];
    reader->at = below(5) ? below(size) : 0;
    reader->end = below(3) ? reader->at + 1 + below(size - reader->at) : size;
    reader->whole = reader->at == 0 && reader->end == size;
    readers_enter(&scene->flight.readers, reader);
}

/* Starts connections as long as the flight wants them. */
static void start_connections(struct scene *scene) REQUIRES(scene->flight.state_lock);
static void start_connections(struct scene *scene) {
    struct plan plan;
    while (flight_wants_fetcher(&scene->flight, &plan)) {
        struct connection *free_one = scene->connections;
        while (free_one->span)
            free_one++;
        struct span *span = spans_reserve(&scene->flight.spans, &plan);
        assert_non_null(span);
        *free_one = (struct connection){.span = span};
        scene->flight.spans.fetchers++;
    }
}

static void end_connection(struct scene *scene, struct connection *connection) {
    connection->span->busy = false;
    connection->span = NULL;
    scene->flight.spans.fetchers--;
}

/* The request is sent: nothing of it may have been asked for before. */
static void send(struct scene *scene, struct connection *connection) {
    struct span *span = connection->span;
    if (!span_send(span)) {
        end_connection(scene, connection);
        return;
    }
    connection->sent = true;
    connection->asked_end = span->end;
    assert_true(span->end <= scene->flight.body.size);
    uint64_t before = extents_total(&scene->asked);
    assert_true(extents_add(&scene->asked, span->at, span->end));
    assert_int_equal(extents_total(&scene->asked) - before, span->end - span->at);
}

static void receive(struct scene *scene, struct connection *connection) {
    struct span *span = connection->span;
    uint64_t left = span->end - span->at, step = 1 + below(left);
    assert_true(extents_add(&scene->flight.body.present, span->at, span->at + step));
    span->at = span->writing_to = span->at + step;
    if (span->at == span->end) {
        assert_int_equal(span->at, connection->asked_end); /* or the rest was sent in vain */
        end_connection(scene, connection);
    }
}

static void read_on(struct scene *scene) {
    for (unsigned i = 0; i < scene->come; i++) {
        struct flight_reader *reader = &scene->readers[i];
        uint64_t end = extents_run_end(&scene->flight.body.present, reader->at);
        if (end > reader->at)
            reader->at += 1 + below((end < reader->end ? end : reader->end) - reader->at);
        if (reader->at > reader->end)
            reader->at = reader->end;
    }
}

static bool is_done(const struct scene *scene) {
    for (unsigned i = 0; i < scene->come; i++) {
        if (scene->readers[i].at < scene->readers[i].end)
            return false;
    }
    return scene->come == READERS && scene->flight.spans.fetchers == 0;
}

static void play(struct scene *scene) REQUIRES(scene->flight.state_lock);
static void play(struct scene *scene) {
    while (!is_done(scene)) {
        if (scene->come < READERS && below(6) == 0)
            let_one_come(scene);
        start_connections(scene);
        struct connection *connection = &scene->connections[below(FLIGHT_SPANS)];
        if (connection->span && connection->sent)
            receive(scene, connection);
        else if (connection->span)
            send(scene, connection);
        read_on(scene);
    }
}

static void test_no_byte_is_asked_for_twice(void **state) {
    (void)state;
    struct scene *scene = malloc(sizeof *scene);
    for (unsigned seed = 1; seed <= ROUNDS; seed++) {
        srand(seed);
        open_scene(scene, 1 + below(below(2) ? 96 * MIB : 3 * MIB));
        lock_acquire(&scene->flight.state_lock);
        play(scene);
        lock_release(&scene->flight.state_lock);
        if (scene->flight.readers.fill)
            assert_int_equal(extents_total(&scene->asked), scene->flight.body.size);
        close_scene(scene);
    }
    free(scene);
}

/* A span that waits for its turn ends where a reader waits, and its request asks for no more. */
static void test_a_request_that_waits_is_cut_and_one_that_was_sent_is_not(void **state) {
    (void)state;
    struct scene *scene = malloc(sizeof *scene);
    for (int sent = 0; sent < 2; sent++) {
        struct plan plan;
        open_scene(scene, 16 * MIB);
        struct flight *flight = &scene->flight;
        flight->spans.rate = 64 * MIB;
        flight->readers.fill = true;
        allowed_now = 1;
        lock_acquire(&flight->state_lock);
        assert_true(flight_wants_fetcher(flight, &plan));
        struct span *span = spans_reserve(&flight->spans, &plan);
        flight->spans.fetchers++;
        const uint64_t end = span->end;
        assert_true(end > 4 * MIB);
        if (sent)
            assert_true(span_send(span));
        scene->readers[0] = (struct flight_reader){.at = 3 * MIB, .end = 4 * MIB};
        readers_enter(&flight->readers, &scene->readers[0]);
        allowed_now = 2;
        assert_true(flight_wants_fetcher(flight, &plan));
        assert_int_equal(span->end, sent ? end : 3 * MIB);
        assert_int_equal(plan.start, sent ? end : 3 * MIB);
        lock_release(&flight->state_lock);
        close_scene(scene);
    }
    free(scene);
}

static void test_nothing_is_asked_for_by_a_span_that_was_taken_back(void **state) {
    (void)state;
    struct spans spans = {0};
    struct span *first = spans_reserve(&spans, &(struct plan){.start = 0, .end = 100});
    struct span *second = spans_reserve(&spans, &(struct plan){.start = 100, .end = 200});
    spans_keep_first(&spans);
    assert_true(span_send(first));
    assert_false(span_send(second));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_byte_is_asked_for_twice),
        cmocka_unit_test(test_a_request_that_waits_is_cut_and_one_that_was_sent_is_not),
        cmocka_unit_test(test_nothing_is_asked_for_by_a_span_that_was_taken_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
