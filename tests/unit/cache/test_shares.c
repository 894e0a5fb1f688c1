/* What one upstream may take of what all share: workers that wait for it, and flights. */
#include "cache_world.h"

#include "base/pot.h"

/* Another upstream than the world's, with other bytes. */
struct other {
    struct upstream upstream;
    unsigned char bytes[100];
    struct digest digest;
};

static void other_init(struct other *other, const struct world *world) {
    memset(other, 0, sizeof *other);
    other->upstream = world->upstream;
    other->upstream.host = "other.test";
    other->upstream.held = (struct upstream_held){0};
    other->upstream.hold = false;
    memset(other->bytes, 7, sizeof other->bytes);
    other->upstream.blob = other->bytes;
    other->upstream.blob_size = sizeof other->bytes;
    assert_true(digest_of(DIGEST_SHA256, other->bytes, sizeof other->bytes, &other->digest));
}

static struct digest made_up(unsigned char number) {
    struct digest digest;
    assert_true(digest_of(DIGEST_SHA256, &number, 1, &digest));
    return digest;
}

static bool open_blob(struct world *world, struct upstream *upstream, const struct digest *digest,
                      struct cache_blob *blob, struct error *error) {
    const struct blob_range whole = {.kind = BLOB_WHOLE};
    *error = (struct error){0};
    return cache_blob_open(world->cache, CALLER(fake_repository(upstream, "app")), digest, &whole,
                           blob, error);
}

/* A client of the world's blob on a thread of its own, which begins to wait. */
static pthread_t start_client(struct client *client) {
    pthread_t thread;
    unsigned before = client->world->upstream.held.waiting;
    assert_int_equal(pthread_create(&thread, NULL, client_read, client), 0);
    wait_until(client->world->upstream.held.waiting > before);
    return thread;
}

static void test_over_its_share_nobody_waits_for_a_silent_upstream(void **state) {
    struct world *world = *state;
    struct pot workers;
    struct error error;
    struct cache_blob blob;
    struct other other;
    pot_init(&workers, 4);
    world_close(world);
    world->settings.waiting_per_upstream = 1;
    world_open(world);
    cache_set_workers(world->cache, &workers);
    world->upstream.hold = true;
    other_init(&other, world);

    /* While half of the workers are idle, the upstream may have more than its share. */
    struct client clients[2] = {{.world = world}, {.world = world}};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) {
        pot_take(&workers);
        threads[i] = start_client(&clients[i]);
    }
    pot_take(&workers);
    /* Now neither who joins nor who asks for another blob may wait, and nothing is asked. */
    wait_until(world->upstream.blob_gets > 0); /* a client waits before its flight has asked */
    unsigned asked = world->upstream.blob_gets;
    struct digest digest = made_up(1);
    assert_false(open_blob(world, &world->upstream, &world->digest, &blob, &error));
    assert_int_equal(error.kind, ERROR_BUSY);
    assert_true(error.retry_after_s > 0);
    assert_false(open_blob(world, &world->upstream, &digest, &blob, &error));
    assert_int_equal(error.kind, ERROR_BUSY);
    assert_int_equal(world->upstream.blob_gets, asked);
    assert_int_equal(world->upstream.held.waiting, 2);
    /* Whoever waits for another upstream is not concerned. */
    assert_true(open_blob(world, &other.upstream, &other.digest, &blob, &error));
    cache_blob_close(&blob);

    pot_give_back(&workers);
    world->upstream.hold = false;
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        assert_whole(&clients[i]);
    }
    assert_int_equal(world->upstream.held.waiting, 0);
    assert_int_equal(other.upstream.held.waiting, 0);
    world_close(world); /* nothing of `other` is left */
    world_open(world);
}

static void test_a_stale_manifest_is_served_over_the_share(void **state) {
    struct world *world = *state;
    struct pot workers;
    struct error error = {0};
    struct cache_result result;
    struct reference tag = {.tag = "1"};
    const struct repository *app = fake_repository(&world->upstream, "app");
    pot_init(&workers, 1);
    world_close(world);
    world->settings.waiting_per_upstream = 1;
    world_open(world);
    cache_set_workers(world->cache, &workers);
    world->upstream.settings.tag_ttl_ms = 0;
    assert_true(cache_manifest(world->cache, CALLER(app), &tag, false, &result, &error));
    document_release(result.document);
    cache_settle(world->cache);

    pot_take(&workers);
    world->upstream.held.waiting = 1; /* somebody waits for it already */
    assert_true(cache_manifest(world->cache, CALLER(app), &tag, false, &result, &error));
    assert_int_equal(result.outcome, CACHE_STALE);
    document_release(result.document);
    struct reference unknown = {.tag = "2"};
    assert_false(cache_manifest(world->cache, CALLER(app), &unknown, false, &result, &error));
    assert_int_equal(error.kind, ERROR_BUSY);
    world->upstream.held.waiting = 0;
    assert_true(cache_manifest(world->cache, CALLER(app), &tag, false, &result, &error));
    assert_int_equal(result.outcome, CACHE_REVALIDATED);
    document_release(result.document);
    assert_int_equal(world->upstream.held.waiting, 0);
}

static void test_readers_of_a_flight_that_stands_still_make_room(void **state) {
    struct world *world = *state;
    struct pot workers;
    struct error error = {0};
    struct cache_blob blob;
    uint64_t end = 0;
    pot_init(&workers, 1);
    world_close(world);
    world->settings.waiting_per_upstream = 1;
    world_open(world);
    cache_set_workers(world->cache, &workers);
    world->upstream.cuts = 1;
    world->upstream.cut_at = 1 << 20;
    world->upstream.pause_ms = 1;
    assert_true(open_blob(world, &world->upstream, &world->digest, &blob, &error));
    cache_blob_want(&blob, 0, blob.size, true);
    assert_true(cache_blob_wait(&blob, 0, &end, NULL, &error));
    world->upstream.hold = true;
    pot_take(&workers);
    world->upstream.held.waiting = 1;
    while (cache_blob_wait(&blob, end, &end, NULL, &error))
        assert_true(end < blob.size);
    assert_int_equal(error.kind, ERROR_BUSY);
    cache_blob_close(&blob);
    world->upstream.held.waiting = 0;
    world->upstream.hold = false;
    struct client client = world_read_whole(world);
    assert_whole(&client);
    assert_int_equal(world->upstream.held.waiting, 0);
}

/* Clients of made-up digests of a silent upstream, each on a thread of its own. */
struct asker {
    struct world *world;
    unsigned char number;
    bool ok;
    struct error error;
};

static void *ask(void *argument) {
    struct asker *asker = argument;
    struct digest digest = made_up(asker->number);
    struct cache_blob blob;
    asker->ok = open_blob(asker->world, &asker->world->upstream, &digest, &blob, &asker->error);
    cache_blob_close(&blob);
    return NULL;
}

static void test_a_silent_upstream_leaves_flights_to_the_others(void **state) {
    struct world *world = *state;
    struct error error;
    struct cache_blob blob;
    struct other other;
    world_close(world);
    world->settings.max_flights = 4;
    world->settings.flights_per_upstream = 1;
    world_open(world);
    world->upstream.hold = true;
    other_init(&other, world);

    struct asker askers[3];
    pthread_t threads[3];
    for (unsigned i = 0; i < 3; i++) {
        askers[i] = (struct asker){.world = world, .number = (unsigned char)i};
        assert_int_equal(pthread_create(&threads[i], NULL, ask, &askers[i]), 0);
        wait_until(world->upstream.held.flights == i + 1);
    }
    struct digest one_more = made_up(9);
    assert_false(open_blob(world, &world->upstream, &one_more, &blob, &error));
    assert_int_equal(error.kind, ERROR_BUSY);
    assert_true(open_blob(world, &other.upstream, &other.digest, &blob, &error));
    cache_blob_close(&blob);
    wait_until(other.upstream.held.flights == 0);

    world->upstream.hold = false;
    for (unsigned i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    world_close(world);
    assert_int_equal(world->upstream.held.flights, 0);
    world_open(world);
}

static void test_background_flights_take_no_place_of_a_client(void **state) {
    struct world *world = *state;
    struct error error = {0};
    world_close(world);
    world->settings.max_flights = 1;
    world_open(world);
    world->upstream.hold = true;
    const struct repository *app = fake_repository(&world->upstream, "app");
    struct digest first = made_up(1), second = made_up(2);
    assert_true(cache_blob_fetch(world->cache, app, &first, &error));
    assert_false(cache_blob_fetch(world->cache, app, &second, &error));
    assert_int_equal(error.kind, ERROR_BUSY);
    assert_int_equal(world->upstream.held.background, 1);
    /* The one place for clients is still free. */
    struct client client = {.world = world};
    pthread_t thread = start_client(&client);
    assert_int_equal(world->upstream.held.flights, 1);
    world->upstream.hold = false;
    pthread_join(thread, NULL);
    assert_whole(&client);
    world_close(world);
    assert_int_equal(world->upstream.held.background, 0);
    world_open(world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        world_test(test_over_its_share_nobody_waits_for_a_silent_upstream),
        world_test(test_a_stale_manifest_is_served_over_the_share),
        world_test(test_readers_of_a_flight_that_stands_still_make_room),
        world_test(test_a_silent_upstream_leaves_flights_to_the_others),
        world_test(test_background_flights_take_no_place_of_a_client),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
