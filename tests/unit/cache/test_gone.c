/* What a request does not wait for once its client has gone, and what goes on for the others. */
#include "cache_world.h"

/* A client on a thread of its own, which asks for the tag or for the blob. */
struct asker {
    struct world *world;
    bool wants_blob;
    atomic_bool gone;
    pthread_t thread;
    bool ok;
    enum cache_outcome outcome;
    struct error error;
};

static bool is_there(void *context) {
    const struct asker *asker = context;
    return !atomic_load(&asker->gone);
}

static bool ask_for_tag(struct asker *asker, const struct cache_caller *caller) {
    const struct reference tag = {.tag = "1"};
    struct cache_result result = {0};
    bool ok = cache_manifest(asker->world->cache, caller, &tag, false, &result, &asker->error);
    asker->outcome = result.outcome;
    document_release(result.document);
    return ok;
}

static bool ask_for_blob(struct asker *asker, const struct cache_caller *caller) {
    const struct blob_range whole = {.kind = BLOB_WHOLE};
    struct cache_blob blob;
    bool ok = cache_blob_open(asker->world->cache, caller, &asker->world->digest, &whole, &blob,
                              &asker->error);
    cache_blob_close(&blob);
    return ok;
}

static void *run(void *argument) {
    struct asker *asker = argument;
    const struct cancel cancel = {.is_wanted = is_there, .context = asker};
    const struct cache_caller caller = {fake_repository(&asker->world->upstream, "app"), &cancel};
    asker->ok = asker->wants_blob ? ask_for_blob(asker, &caller) : ask_for_tag(asker, &caller);
    return NULL;
}

/* Starts a client, and returns when so many wait for the upstream. */
static void start(struct asker *asker, struct world *world, unsigned waiting) {
    asker->world = world;
    assert_int_equal(pthread_create(&asker->thread, NULL, run, asker), 0);
    while (world->upstream.held.waiting < waiting)
        clock_sleep_ms(1);
}

static void assert_gone(struct asker *asker) {
    atomic_store(&asker->gone, true);
    pthread_join(asker->thread, NULL);
    assert_false(asker->ok);
    assert_int_equal(asker->error.kind, ERROR_CLOSED);
}

static void assert_served(struct asker *asker) {
    pthread_join(asker->thread, NULL);
    assert_true(asker->ok);
}

static void wait_for_drop(struct world *world) {
    while (world->upstream.dropped == 0)
        clock_sleep_ms(1);
}

/* For a tag and for a blob. */
static void each(struct world *world, void (*test)(struct world *world, bool wants_blob)) {
    test(world, false);
    world_close(world);
    world_empty(world);
    world_reset_upstream(world);
    world_open(world);
    test(world, true);
}

static void leave_the_queue(struct world *world, bool wants_blob) {
    struct asker asker = {.wants_blob = wants_blob};
    world->upstream.in_queue = true;
    start(&asker, world, 1);
    assert_gone(&asker);
    assert_int_equal(world->upstream.held.waiting, 0);
    wait_for_drop(world);
    world->upstream.in_queue = false;
    struct asker next = {.wants_blob = wants_blob};
    start(&next, world, 0);
    assert_served(&next);
    assert_int_equal(wants_blob ? world->upstream.blob_gets : world->upstream.gets, 1);
}

static void test_a_request_that_nobody_waits_for_leaves_the_queue(void **state) {
    each(*state, leave_the_queue);
}

static void serve_the_other(struct world *world, bool wants_blob) {
    struct asker goes = {.wants_blob = wants_blob}, stays = {.wants_blob = wants_blob};
    world->upstream.in_queue = true;
    start(&goes, world, 1);
    start(&stays, world, 2);
    assert_gone(&goes);
    assert_int_equal(world->upstream.held.waiting, 1);
    world->upstream.in_queue = false;
    assert_served(&stays);
    assert_int_equal(world->upstream.dropped, 0);
}

static void test_who_stays_gets_what_the_one_who_has_gone_asked_for(void **state) {
    each(*state, serve_the_other);
}

/* The request leaves the queue in the moment in which another client comes for its answer. */
static void come_back(struct world *world, bool wants_blob) {
    struct asker goes = {.wants_blob = wants_blob}, comes = {.wants_blob = wants_blob};
    world->upstream.in_queue = true;
    world->upstream.hold_drops = true;
    start(&goes, world, 1);
    assert_gone(&goes);
    wait_for_drop(world);
    start(&comes, world, 1);
    world->upstream.hold_drops = false;
    world->upstream.in_queue = false;
    assert_served(&comes);
}

static void test_who_comes_while_a_request_is_given_up_is_served(void **state) {
    each(*state, come_back);
}

static void test_a_question_goes_on_for_a_tag_that_was_served_stale(void **state) {
    struct world *world = *state;
    world_close(world);
    world->settings.stale_after_ms = 1;
    world_open(world);
    world->upstream.settings.tag_ttl_ms = 0;
    struct asker first = {0}, stale = {0}, goes = {0};
    start(&first, world, 0);
    assert_served(&first);
    cache_settle(world->cache);
    world->upstream.in_queue = true;
    start(&stale, world, 0);
    assert_served(&stale);
    assert_int_equal(stale.outcome, CACHE_STALE);
    atomic_store(&goes.gone, true); /* has gone before it is looked at */
    start(&goes, world, 0);
    assert_gone(&goes);
    world->upstream.in_queue = false;
    while (world->upstream.heads == 0)
        clock_sleep_ms(1);
    assert_int_equal(world->upstream.dropped, 0);
    world->settings.stale_after_ms = cache_settings_default().stale_after_ms;
}

static void test_who_has_gone_before_the_question_asks_nothing(void **state) {
    struct world *world = *state;
    struct asker asker = {.gone = true}, reader = {.gone = true, .wants_blob = true};
    start(&asker, world, 0);
    assert_gone(&asker);
    start(&reader, world, 0);
    assert_gone(&reader);
    assert_int_equal(world->upstream.gets + world->upstream.blob_gets, 0);
}

static struct world *shared;

static int set_up_group(void **state) {
    *state = shared = world_new("/tmp", 1 << 20);
    return 0;
}

static int tear_down_group(void **state) {
    (void)state;
    world_free(shared);
    return 0;
}

static int set_up(void **state) {
    *state = shared;
    world_empty(shared);
    world_reset_upstream(shared);
    world_open(shared);
    return 0;
}

static int tear_down(void **state) {
    world_close(*state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_request_that_nobody_waits_for_leaves_the_queue,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_who_stays_gets_what_the_one_who_has_gone_asked_for,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_who_comes_while_a_request_is_given_up_is_served,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_question_goes_on_for_a_tag_that_was_served_stale,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_who_has_gone_before_the_question_asks_nothing, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, set_up_group, tear_down_group);
}
