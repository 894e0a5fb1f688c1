/* The parts of a flight's state, each for itself: body, hashing, readers, spans, sources. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "cache/flight/hashing.h"
#include "cache/flight/readers.h"
#include "cache/flight/sources.h"
#include "cache/flight/spans.h"
#include "fake_upstream.h"

/* ---- body ---- */

static _Atomic int64_t held;

static struct body body_of(uint64_t size, uint64_t present) {
    struct body body;
    body_init(&body, &held);
    assert_true(body_learn_size(&body, size, "upstream fake", NULL));
    assert_true(extents_add(&body.present, 0, present));
    return body;
}

static void test_a_size_that_contradicts_what_is_known_is_wrong(void **state) {
    (void)state;
    struct error error = {0};
    struct body body = body_of(1000, 500);
    assert_true(body_learn_size(&body, 1000, "upstream fake", &error));
    assert_false(body_learn_size(&body, 999, "upstream fake", &error));
    assert_int_equal(error.kind, ERROR_CORRUPT);
    body.size_known = false;
    assert_false(
        body_learn_size(&body, 499, "upstream fake", &error)); /* more bytes have arrived */
    assert_true(body_learn_size(&body, 500, "upstream fake", &error));
    assert_true(body_is_complete(&body));
    body_finish(&body);
}

static void test_bytes_are_read_where_they_were_written(void **state) {
    (void)state;
    const struct error why = {.kind = ERROR_NO_SPACE};
    struct error error = {0};
    uint64_t end;
    struct body body = body_of(100000, 40000);
    body.fd = 1000; /* stands for the partial */
    assert_int_equal(body_readable_at(&body, 0, &end), 1000);
    assert_int_equal(end, 40000);
    assert_true(passing_begin(&body.passing, UNKEPT_FULL, &why, &body.present, &error));
    int memory = body_write_fd(&body);
    assert_int_equal(memory, body.passing.memory);
    assert_true(body_record(&body, memory, 40000, 90000));
    assert_int_equal(held, 50000);
    assert_int_equal(body_readable_at(&body, 39999, &end), 1000);
    assert_int_equal(end, 40000);
    assert_int_equal(body_readable_at(&body, 40000, &end), memory);
    assert_int_equal(end, 90000);
    /* Dropped bytes that were hashed count as present, and can be read nowhere. */
    body.hashed = 90000;
    passing_drop(&body.passing, 40960, 81920, body.size, &body.present, body.hashed);
    assert_int_equal(body_readable_at(&body, 40960, &end), -1);
    assert_int_equal(end, 81920);
    assert_int_equal(extents_run_end(&body.present, 0), 90000);
    body.fd = -1;
    body_finish(&body);
    assert_int_equal(held, 0);
}

static void test_only_a_whole_transfer_that_dropped_nothing_is_shared(void **state) {
    (void)state;
    const struct blob_range whole = {.kind = BLOB_WHOLE}, part = {.kind = BLOB_FROM, .first = 5};
    struct passing passing = {0};
    assert_true(passing_accepts(&passing, &part, &part));
    passing.on = true;
    assert_true(passing_accepts(&passing, &whole, &whole));
    assert_false(passing_accepts(&passing, &whole, &part));
    assert_false(passing_accepts(&passing, &part, &whole));
    passing.dropped = true;
    assert_false(passing_accepts(&passing, &whole, &whole));
}

/* ---- hashing ---- */

static void test_bytes_that_come_next_are_left_to_the_thread_that_has_them(void **state) {
    (void)state;
    struct body body = body_of(10000, 3000);
    struct hashing hashing;
    hashing_init(&hashing);
    hashing_claim(&hashing, &body, 1000); /* does not come next */
    assert_false(hashing_is_taken(&hashing, &body));
    hashing_claim(&hashing, &body, 0);
    assert_true(hashing_is_taken(&hashing, &body));
    hashing.claimed = UINT64_MAX;
    hashing_begin_turn(&hashing, 1000);
    assert_true(hashing_is_taken(&hashing, &body));
    assert_int_equal(hashing_next(&hashing, &body), 1000);
    const struct portion portion = {malloc(FLIGHT_BUFFER), "", 1000, 2000};
    hashing_hand(&hashing, &portion);
    assert_int_equal(hashing_next(&hashing, &body), 2000);
    hashing_claim(&hashing, &body, 2000);
    hashing_end_turn(&hashing, &body, true);
    assert_int_equal(body.hashed, 1000);
    assert_false(hashing_is_taken(&hashing, &body)); /* the handed bytes come before the claim */
    struct portion taken = hashing_take(&hashing);
    hashing_begin_turn(&hashing, taken.end);
    hashing_end_turn(&hashing, &body, false);
    assert_int_equal(body.hashed, 1000); /* a turn that failed has hashed nothing */
    hashing_keep(&hashing, taken.buffer);
    assert_ptr_equal(hashing_reuse(&hashing), portion.buffer);
    assert_null(hashing_reuse(&hashing));
    hashing_keep(&hashing, portion.buffer);
    for (int i = 0; i < FLIGHT_SPARES; i++) /* one more than are kept */
        hashing_keep(&hashing, malloc(1));
    hashing_free_buffers(&hashing);
    assert_null(hashing_reuse(&hashing));
    hashing_finish(&hashing);
    body_finish(&body);
}

/* ---- readers ---- */

static void test_the_last_bytes_of_a_whole_blob_are_held_back_until_it_is_verified(void **state) {
    (void)state;
    struct body body = body_of(10000, 10000);
    struct flight_reader reader = {.end = 10000, .whole = true};
    assert_int_equal(reader_released_end(&reader, &body, false), 10000 - 512);
    assert_int_equal(reader_released_end(&reader, &body, true), 10000);
    reader.at = 9800; /* never before the reader's own position */
    assert_int_equal(reader_released_end(&reader, &body, false), 9800);
    reader = (struct flight_reader){.end = 9900}; /* a range */
    assert_int_equal(reader_released_end(&reader, &body, false), 9900);
    body_finish(&body);
    body = body_of(101, 101); /* of a small blob, half is held back */
    reader = (struct flight_reader){.end = 101, .whole = true};
    assert_int_equal(reader_released_end(&reader, &body, false), 50);
    body_finish(&body);
    body = body_of(5000, 3000); /* unknown size: held back from the bytes that have arrived */
    body.size_known = false;
    reader = (struct flight_reader){.end = UINT64_MAX, .whole = true};
    assert_int_equal(reader_released_end(&reader, &body, false), 3000 - 512);
    body_finish(&body);
}

static void test_readers_are_woken_for_bytes_that_one_of_them_waits_for(void **state) {
    (void)state;
    struct body body = body_of(10000, 4000);
    struct flight_reader whole = {.at = 4000, .end = 10000, .whole = true}, range = {.end = 9900};
    struct readers readers = {0};
    readers_enter(&readers, &whole);
    readers_enter(&readers, &range);
    assert_false(readers_are_served(&readers, &body));
    readers_set_waiting(&readers, &whole, true);
    assert_false(readers_are_served(&readers, &body)); /* the range has bytes, but it is sending */
    assert_true(extents_add(&body.present, 6000, 7000));
    assert_false(readers_are_served(&readers, &body)); /* nobody can send what came ahead */
    assert_true(extents_add(&body.present, 4000, 4001));
    assert_true(readers_are_served(&readers, &body));
    readers_set_waiting(&readers, &whole, false);
    whole.at = 10000 - 512;
    readers_set_waiting(&readers, &whole, true);
    assert_true(extents_add(&body.present, 4001, 10000));
    assert_false(readers_are_served(&readers, &body)); /* the last bytes are held back */
    range.at = 9800;
    readers_set_waiting(&readers, &range, true);
    assert_true(readers_are_served(&readers, &body));
    body_finish(&body);
}

/* ---- spans ---- */

static void test_a_span_belongs_to_one_fetcher(void **state) {
    (void)state;
    struct spans spans = {0};
    struct span *first = spans_reserve(&spans, &(struct plan){.start = 0, .end = 100});
    struct span *second = spans_reserve(&spans, &(struct plan){.start = 200, .end = 300});
    assert_int_equal(spans_busy(&spans), 2);
    assert_ptr_equal(spans_holding(&spans, 99), first);
    assert_null(spans_holding(&spans, 100));
    assert_int_equal(spans_next(&spans, 100, 1000), 200);
    assert_int_equal(spans_next(&spans, 200, 1000), 1000);
    second->writing_to = 250;
    assert_true(spans_write_within(&spans, first, 240, 260));
    assert_false(spans_write_within(&spans, first, 250, 260));
    assert_false(spans_write_within(&spans, second, 240, 260));
    spans_keep_first(&spans);
    assert_int_equal(first->end, 100);
    assert_int_equal(second->end, 250); /* a write under way is finished */
    spans_become_plain(&spans, NULL);
    assert_true(spans.plain);
    assert_int_equal(first->end, 0);
    for (int i = 2; i < FLIGHT_SPANS; i++)
        assert_non_null(spans_reserve(&spans, &(struct plan){.end = 1}));
    assert_null(spans_reserve(&spans, &(struct plan){.end = 1}));
}

static void test_a_span_that_is_beaten_ends_at_what_it_is_writing(void **state) {
    (void)state;
    struct spans spans = {.fetchers = 3};
    struct span *silent = spans_reserve(&spans, &(struct plan){.start = 0, .end = 100});
    struct span *writing = spans_reserve(&spans, &(struct plan){.start = 100, .end = 200});
    struct span *contends =
        spans_reserve(&spans, &(struct plan){.end = 100, .source = 1, .contends = true});
    silent->at = silent->writing_to = 50;
    writing->writing_to = 120;
    assert_int_equal(spans_counted_on(&spans), 2);
    assert_true(spans_write(&spans));
    /* A span that writes nothing now is in nobody's way, wherever it stands. */
    assert_false(spans_write_within(&spans, contends, 0, 100));
    assert_true(spans_write_within(&spans, contends, 90, 110));
    spans_take_turn(&spans, 1);
    assert_false(contends->contends);
    spans_beat_others(&spans, 1);
    assert_int_equal(spans_counted_on(&spans), 1);
    assert_int_equal(spans_busy(&spans), 1);
    assert_int_equal(silent->end, 50);
    assert_int_equal(writing->end, 120);
    assert_int_equal(contends->end, 100);
    assert_ptr_equal(spans_holding(&spans, 60), contends);
}

static void test_the_spans_of_one_source_do_not_beat_each_other(void **state) {
    (void)state;
    struct spans spans = {.fetchers = 2};
    const struct span *first = spans_reserve(&spans, &(struct plan){.start = 0, .end = 100});
    const struct span *second = spans_reserve(&spans, &(struct plan){.start = 100, .end = 200});
    spans_beat_others(&spans, 0);
    assert_int_equal(first->end, 100);
    assert_int_equal(second->end, 200);
    assert_int_equal(spans_busy(&spans), 2);
}

static void test_a_span_that_contends_keeps_no_bytes_from_the_others(void **state) {
    (void)state;
    struct spans spans = {.fetchers = 1};
    spans_reserve(&spans, &(struct plan){.end = 100, .source = 1, .contends = true});
    assert_int_equal(spans_busy(&spans), 0);
    assert_null(spans_holding(&spans, 50));
    assert_int_equal(spans_next(&spans, 0, 1000), 1000);
    assert_true(spans_ask(&spans, 1, true));
    assert_false(spans_ask(&spans, 0, false));
    spans_take_turn(&spans, 1); /* the silent one has failed */
    assert_int_equal(spans_busy(&spans), 1);
    assert_non_null(spans_holding(&spans, 50));
    assert_false(spans_ask(&spans, 1, true));
    assert_true(spans_ask(&spans, 1, false));
}

/* ---- sources ---- */

/* Neither a bucket nor replicas. */
static const struct digest nothing = {.algorithm = DIGEST_SHA256};
static const struct course_start alone = {.digest = &nothing};

static void test_a_place_that_fails_is_followed_by_its_fallbacks_and_then_a_source(void **state) {
    (void)state;
    const char *const fallbacks[] = {"https://one.test", "https://two.test", NULL};
    struct upstream upstream = {.host = "fake.test", .settings = {.fallbacks = fallbacks}};
    struct error gone = {.kind = ERROR_UNAVAILABLE};
    struct sources sources;
    sources_init(&sources, fake_repository(&upstream, "app"), NULL, &alone);
    sources_add(&sources, fake_repository(&upstream, "other"));
    struct place *place = &sources.at[0].place;
    assert_string_equal(place->label, "upstream fake.test");
    assert_int_equal(place->locations, 3);
    assert_true(sources_next_place(&sources, false, &gone));
    assert_true(sources_next_place(&sources, false, &gone));
    assert_ptr_equal(sources_current(&sources), &sources.at[0]);
    assert_int_equal(place->location, 2);
    assert_true(sources_next_place(&sources, false, &gone));
    assert_ptr_equal(sources_current(&sources), &sources.at[1]);
    assert_int_equal(place->location, 0);
    assert_int_equal(sources.at[0].state, SOURCE_FAILED); /* nobody waits for its answer */
    for (int i = 0; i < 2; i++)
        assert_true(sources_next_place(&sources, false, &gone));
    assert_false(sources_next_place(&sources, false, &gone));
    sources_start_over(&sources);
    assert_ptr_equal(sources_current(&sources), &sources.at[0]);
    sources_finish(&sources);
}

/* The bucket is asked once more after all sources, if it was only late. */
static void test_a_bucket_that_was_late_is_the_last_place(void **state) {
    (void)state;
    struct upstream upstream = {.host = "fake.test"};
    struct sources sources;
    struct error late = {0}, down = {0}, refused = {0};
    error_set(&late, ERROR_TIMEOUT, "late");
    error_set(&refused, ERROR_NOT_FOUND, "refused");
    sources_init(&sources, fake_repository(&upstream, "app"), NULL, &alone);
    for (unsigned may_return = 0; may_return < 2; may_return++) {
        error_set(&down, ERROR_UNAVAILABLE, "down");
        sources_leave_bucket(&sources, may_return);
        assert_false(sources_next_place(&sources, true, &refused));
        assert_int_equal(sources_next_place(&sources, false, &down), may_return);
        assert_int_equal(sources_ask_bucket(&sources), may_return);
        assert_int_equal(sources.is_last_stop, may_return);
    }
    /* If it fails again, the failure is that of the sources, and they are asked again. */
    assert_false(sources_next_place(&sources, false, &late));
    assert_string_equal(late.text, "down");
    assert_false(sources_ask_bucket(&sources));
    assert_true(sources_next_place(&sources, false, &down));
    assert_true(sources_ask_bucket(&sources));
    sources_finish(&sources);
}

/* A client of the last source that comes late gets the error of the flight, and asks nobody. */
static void test_a_final_word_that_ends_the_flight_leaves_no_source_to_be_asked_anew(void **state) {
    (void)state;
    struct upstream upstream = {.host = "fake.test"};
    static const struct {
        enum error_kind kind;
        enum source_state first, last;
    } cases[] = {{ERROR_UNAVAILABLE, SOURCE_FAILED, SOURCE_ASKED},
                 {ERROR_RATE_LIMITED, SOURCE_FAILED, SOURCE_ASKED},
                 {ERROR_TIMEOUT, SOURCE_FAILED, SOURCE_ASKED},
                 {ERROR_NOT_FOUND, SOURCE_REFUSED, SOURCE_REFUSED},
                 {ERROR_DENIED, SOURCE_REFUSED, SOURCE_REFUSED}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error word = {0};
        struct sources sources;
        error_set(&word, cases[i].kind, "the owner says so");
        sources_init(&sources, fake_repository(&upstream, "app"), NULL, &alone);
        sources_add(&sources, fake_repository(&upstream, "other"));
        sources.at[1].state = SOURCE_ASKED;
        assert_true(sources_take_final(&sources, &word));
        assert_int_equal(sources.at[0].state, cases[i].first);
        assert_string_equal(sources.at[0].refusal.text, "the owner says so");
        assert_false(sources_take_final(&sources, &word));
        assert_int_equal(sources.at[1].state, cases[i].last);
        sources_finish(&sources);
    }
}

static void test_a_source_contends_once_in_a_silence(void **state) {
    (void)state;
    struct upstream upstream = {.host = "fake.test"};
    struct sources sources;
    struct spans spans = {0};
    sources_init(&sources, fake_repository(&upstream, "app"), NULL, &alone);
    assert_null(sources_contender(&sources, &spans, 100));
    sources_add(&sources, fake_repository(&upstream, "other"));
    sources_add(&sources, fake_repository(&upstream, "third"));
    struct flight_source *other = sources_contender(&sources, &spans, 100);
    assert_ptr_equal(other, &sources.at[1]);
    other->contended_ms = 150;
    assert_ptr_equal(sources_contender(&sources, &spans, 100), &sources.at[2]);
    sources.at[2].contended_ms = 180;
    assert_null(sources_contender(&sources, &spans, 100));
    assert_ptr_equal(sources_contender(&sources, &spans, 200), other); /* bytes came between */
    struct span *asked = spans_reserve(&spans, &(struct plan){.source = 1, .contends = true});
    assert_ptr_equal(sources_contender(&sources, &spans, 200), &sources.at[2]); /* is asked still */
    asked->busy = false;
    sources_turn_to(&sources, &spans, 1);
    assert_ptr_equal(sources_current(&sources), other);
    /* The first has not answered: its repository is not known to hold the blob. */
    assert_ptr_equal(sources_contender(&sources, &spans, 200), &sources.at[2]);
    sources_finish(&sources);
}

static void test_the_next_location_of_a_source_contends_after_a_failure(void **state) {
    (void)state;
    const char *const fallbacks[] = {"https://one.test", NULL};
    struct upstream upstream = {.host = "fake.test", .settings = {.fallbacks = fallbacks}};
    struct sources sources;
    struct spans spans = {0};
    sources_init(&sources, fake_repository(&upstream, "app"), NULL, &alone);
    sources_add(&sources, fake_repository(&upstream, "other"));
    struct flight_source *other = &sources.at[1];
    other->contended_ms = 150;
    sources_pass_over(other, false);
    assert_int_equal(other->place.location, 1);
    assert_ptr_equal(sources_contender(&sources, &spans, 100), other);
    other->contended_ms = 160;
    sources_pass_over(other, false);
    assert_int_equal(other->place.location, 0);
    assert_null(sources_contender(&sources, &spans, 100));
    other->contended_ms = 170;
    sources_pass_over(other, true); /* its first location says that it has no such blob */
    assert_int_equal(other->place.location, 0);
    assert_null(sources_contender(&sources, &spans, 100));
    sources_finish(&sources);
}

/* A source that has not answered, when the flight turns to another one. */
static enum source_state state_after_turn(const char *const *fallbacks, bool is_asked) {
    struct upstream upstream = {.host = "fake.test", .settings = {.fallbacks = fallbacks}};
    struct sources sources;
    struct spans spans = {0};
    sources_init(&sources, fake_repository(&upstream, "app"), NULL, &alone);
    sources_add(&sources, fake_repository(&upstream, "other"));
    if (is_asked)
        spans_reserve(&spans, &(struct plan){.end = 100});
    sources_turn_to(&sources, &spans, 1);
    enum source_state state = sources.at[0].state;
    assert_int_equal(sources.at[1].state, SOURCE_ANSWERED);
    sources_finish(&sources);
    return state;
}

static void test_who_waits_for_a_source_that_is_not_asked_any_more_asks_it_himself(void **state) {
    (void)state;
    const char *const fallbacks[] = {"https://one.test", NULL};
    assert_int_equal(state_after_turn(NULL, true), SOURCE_ASKED);
    assert_int_equal(state_after_turn(NULL, false), SOURCE_LEFT);
    assert_int_equal(state_after_turn(fallbacks, true), SOURCE_LEFT);
}

static void test_a_place_that_refuses_is_not_asked_at_its_fallbacks(void **state) {
    (void)state;
    const char *const fallbacks[] = {"https://one.test", NULL};
    struct upstream upstream = {.host = "fake.test", .settings = {.fallbacks = fallbacks}};
    struct error denied = {.kind = ERROR_DENIED, .text = "no"};
    struct sources sources;
    sources_init(&sources, fake_repository(&upstream, "app"), NULL, &alone);
    sources_add(&sources, fake_repository(&upstream, "other"));
    assert_true(sources_next_place(&sources, true, &denied));
    assert_ptr_equal(sources_current(&sources), &sources.at[1]);
    const struct flight_source *app = sources_find(&sources, fake_repository(&upstream, "app"));
    assert_int_equal(app->state, SOURCE_REFUSED);
    assert_string_equal(app->refusal.text, "no");
    assert_false(sources_next_place(&sources, true, &denied));
    assert_int_equal(sources.at[1].state, SOURCE_ANSWERED); /* its earlier answer still counts */
    sources_finish(&sources);
}

static void
test_a_fallback_that_refuses_does_not_outweigh_the_first_locations_failure(void **state) {
    (void)state;
    const char *const fallbacks[] = {"https://one.test", "https://two.test", NULL};
    struct upstream upstream = {.host = "fake.test", .settings = {.fallbacks = fallbacks}};
    struct error down = {.kind = ERROR_UNAVAILABLE, .text = "503"};
    struct error absent = {.kind = ERROR_NOT_FOUND, .text = "404"};
    struct sources sources;
    sources_init(&sources, fake_repository(&upstream, "app"), NULL, &alone);
    assert_true(sources_next_place(&sources, false, &down));
    assert_true(sources_next_place(&sources, true, &absent)); /* the second fallback may have it */
    assert_int_equal(sources.at[0].place.location, 2);
    assert_false(sources_next_place(&sources, true, &absent));
    assert_int_equal(sources.at[0].state, SOURCE_ASKED);
    assert_int_equal(absent.kind, ERROR_UNAVAILABLE);
    assert_string_equal(absent.text, "503");
    sources_finish(&sources);
}

/* ---- a place at an upstream ---- */

/* Fetches four bytes; while the head is handed on, does so once more if `again` is set. */
struct visit {
    struct place *place;
    bool again;
    uint64_t bytes;
};

static void visit(struct visit *visit);

static bool on_head(void *context, const struct place_head *head, struct error *error) {
    struct visit *outer = context;
    (void)error;
    assert_true(head->has_range && head->first == 2 && head->last == 5 && head->total == 10);
    if (outer->again) {
        struct visit inner = {.place = outer->place};
        visit(&inner);
    }
    return true;
}

static bool on_bytes(void *context, const void *bytes, size_t length, struct error *error) {
    struct visit *visit = context;
    (void)error;
    assert_memory_equal(bytes, "2345", length);
    visit->bytes += length;
    return true;
}

static bool on_idle(void *context, struct error *error) {
    (void)context, (void)error;
    return true;
}

static void visit(struct visit *visit) {
    const struct digest digest = {.algorithm = DIGEST_SHA256};
    const struct place_request request = {
        .digest = &digest, .start = 2, .end = 6, .location = visit->place->location};
    const struct place_sink sink = {visit, on_head, on_bytes, on_idle};
    struct error error = {0};
    assert_true(visit->place->kind->fetch(visit->place, &request, &sink, &error));
    assert_int_equal(visit->bytes, 4);
}

static void test_a_redirect_is_followed_once_for_all_ranges_of_a_location(void **state) {
    (void)state;
    struct upstream upstream = {.host = "fake.test",
                                .repository = "app",
                                .blob = (const unsigned char *)"0123456789",
                                .blob_size = 10,
                                .redirect = "https://cdn.test/blob"};
    struct place place;
    place_init_upstream(&place, fake_repository(&upstream, "app"));
    visit(&(struct visit){.place = &place, .again = true}); /* known from the first head on */
    assert_int_equal(upstream.direct_gets, 1);
    visit(&(struct visit){.place = &place});
    assert_int_equal(upstream.direct_gets, 2);
    place_move(&place, 0);
    visit(&(struct visit){.place = &place});
    assert_int_equal(upstream.direct_gets, 2);
    assert_int_equal(upstream.blob_gets, 4);
    place_finish(&place);
}

static void test_what_an_error_of_an_upstream_means(void **state) {
    (void)state;
    static const struct {
        enum error_kind kind;
        enum retry_failure failure;
    } meanings[] = {
        {ERROR_NO_SPACE, FAILURE_OWN_FAULT},        {ERROR_IO, FAILURE_OWN_FAULT},
        {ERROR_MEMORY, FAILURE_OWN_FAULT},          {ERROR_CLOSED, FAILURE_UNWANTED},
        {ERROR_RANGE, FAILURE_NO_RANGES},           {ERROR_CORRUPT, FAILURE_WRONG_RANGES},
        {ERROR_NOT_FOUND, FAILURE_REFUSED},         {ERROR_DENIED, FAILURE_REFUSED},
        {ERROR_RATE_LIMITED, FAILURE_RATE_LIMITED}, {ERROR_UNAVAILABLE, FAILURE_UNAVAILABLE},
        {ERROR_TIMEOUT, FAILURE_UNAVAILABLE},       {ERROR_BUSY, FAILURE_UNAVAILABLE},
    };
    struct upstream upstream = {.host = "fake.test"};
    struct place place;
    place_init_upstream(&place, fake_repository(&upstream, "app"));
    for (size_t i = 0; i < sizeof meanings / sizeof *meanings; i++) {
        const struct error error = {.kind = meanings[i].kind};
        assert_int_equal(place.kind->judge(&error), meanings[i].failure);
    }
    place_finish(&place);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_size_that_contradicts_what_is_known_is_wrong),
        cmocka_unit_test(test_bytes_are_read_where_they_were_written),
        cmocka_unit_test(test_only_a_whole_transfer_that_dropped_nothing_is_shared),
        cmocka_unit_test(test_bytes_that_come_next_are_left_to_the_thread_that_has_them),
        cmocka_unit_test(test_the_last_bytes_of_a_whole_blob_are_held_back_until_it_is_verified),
        cmocka_unit_test(test_readers_are_woken_for_bytes_that_one_of_them_waits_for),
        cmocka_unit_test(test_a_span_belongs_to_one_fetcher),
        cmocka_unit_test(test_a_span_that_is_beaten_ends_at_what_it_is_writing),
        cmocka_unit_test(test_the_spans_of_one_source_do_not_beat_each_other),
        cmocka_unit_test(test_a_span_that_contends_keeps_no_bytes_from_the_others),
        cmocka_unit_test(test_a_place_that_fails_is_followed_by_its_fallbacks_and_then_a_source),
        cmocka_unit_test(test_a_bucket_that_was_late_is_the_last_place),
        cmocka_unit_test(test_a_final_word_that_ends_the_flight_leaves_no_source_to_be_asked_anew),
        cmocka_unit_test(test_a_source_contends_once_in_a_silence),
        cmocka_unit_test(test_the_next_location_of_a_source_contends_after_a_failure),
        cmocka_unit_test(test_who_waits_for_a_source_that_is_not_asked_any_more_asks_it_himself),
        cmocka_unit_test(test_a_place_that_refuses_is_not_asked_at_its_fallbacks),
        cmocka_unit_test(
            test_a_fallback_that_refuses_does_not_outweigh_the_first_locations_failure),
        cmocka_unit_test(test_a_redirect_is_followed_once_for_all_ranges_of_a_location),
        cmocka_unit_test(test_what_an_error_of_an_upstream_means),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
