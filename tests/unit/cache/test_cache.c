/* The promises of cache/, with an upstream whose faults the test chooses. Also run under
 * ThreadSanitizer. */
#include "cache_world.h"

#include "store/partials.h"

enum { BLOB_SIZE = WORLD_BLOB_SIZE };

/* ---- blobs ---- */

static void test_eight_clients_cause_one_transfer(void **state) {
    struct world *world = *state;
    struct client clients[8];
    pthread_t threads[8];
    for (int i = 0; i < 8; i++) {
        clients[i] = (struct client){.world = world};
        pthread_create(&threads[i], NULL, client_read, &clients[i]);
    }
    for (int i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 8; i++)
        assert_whole(&clients[i]);
    assert_int_equal(world->upstream.blob_bytes, BLOB_SIZE);
    assert_int_equal(world->upstream.blob_heads, 0);
    assert_true(world_has_blob_soon(world));
    struct client again = world_read_whole(world);
    assert_whole(&again);
    assert_int_equal(again.outcome, CACHE_HIT);
    assert_int_equal(world->upstream.blob_bytes, BLOB_SIZE);
}

static void test_wrong_bytes_never_reach_a_client_whole(void **state) {
    struct world *world = *state;
    world->upstream.wrong_bytes = true;
    struct client client = world_read_whole(world);
    assert_false(client.complete);
    assert_true(client.got < BLOB_SIZE);
    assert_int_equal(client.error.kind, ERROR_CORRUPT);
    assert_false(world_has_blob(world));
    world->upstream.wrong_bytes = false;
    client = world_read_whole(world);
    assert_whole(&client);
}

static void test_tail_is_held_back_until_the_digest_matches(void **state) {
    struct world *world = *state;
    struct cache_blob blob;
    struct error error = {0};
    const struct blob_range range = {.kind = BLOB_WHOLE};
    world->upstream.no_ranges = true;
    world->upstream.wrong_bytes = true;
    assert_true(cache_blob_open(world->cache, CALLER(fake_repository(&world->upstream, "app")),
                                &world->digest, &range, &blob, &error));
    cache_blob_want(&blob, 0, blob.size, true);
    uint64_t at = 0, end;
    while (cache_blob_wait(&blob, at, &end, NULL, &error)) {
        assert_true(end < BLOB_SIZE);
        at = end;
    }
    assert_int_equal(error.kind, ERROR_CORRUPT);
    cache_blob_close(&blob);
}

static void test_a_cut_transfer_continues_at_the_byte(void **state) {
    struct world *world = *state;
    world->upstream.cuts = 3;
    struct client client = world_read_whole(world);
    assert_whole(&client);
    assert_int_equal(world->upstream.blob_bytes, BLOB_SIZE);
}

static void test_an_upstream_without_ranges_gets_one_stream(void **state) {
    struct world *world = *state;
    world->upstream.no_ranges = true;
    struct client client = world_read_whole(world);
    assert_whole(&client);
    assert_int_equal(world->upstream.blob_gets, 1);
    assert_int_equal(world->upstream.blob_bytes, BLOB_SIZE);
}

static void test_an_unknown_length_is_still_checked(void **state) {
    struct world *world = *state;
    world->upstream.no_ranges = true;
    world->upstream.no_length = true;
    struct client client = world_read_whole(world);
    assert_whole(&client);
    assert_true(world_has_blob_soon(world));
}

static void test_a_cut_stream_without_ranges_is_compared_and_continued(void **state) {
    struct world *world = *state;
    world->upstream.no_ranges = true;
    world->upstream.cuts = 1;
    struct client client = world_read_whole(world);
    assert_whole(&client);
}

static void test_changing_etags_get_one_plain_stream(void **state) {
    struct world *world = *state;
    world->upstream.etag_changes = true;
    struct client client = world_read_whole(world);
    assert_whole(&client);
    assert_true(world_has_blob_soon(world));
}

static void test_the_transfer_goes_on_when_its_client_leaves(void **state) {
    struct world *world = *state;
    struct cache_blob blob;
    struct error error = {0};
    const struct blob_range range = {.kind = BLOB_WHOLE};
    assert_true(cache_blob_open(world->cache, CALLER(fake_repository(&world->upstream, "app")),
                                &world->digest, &range, &blob, &error));
    cache_blob_want(&blob, 0, blob.size, true);
    cache_blob_close(&blob);
    assert_true(world_has_blob_soon(world));
    assert_int_equal(world->upstream.blob_bytes, BLOB_SIZE);
}

static void test_a_cold_range_is_fetched_first(void **state) {
    struct world *world = *state;
    struct client client = {.world = world, .range = range_of(20 << 20, 1000)};
    client_read(&client);
    assert_true(client.complete && client.right);
    assert_int_equal(client.got, 1000);
    assert_int_equal(world->upstream.first_range, 20 << 20);
    assert_true(world_has_blob_soon(world)); /* the rest follows */
    assert_int_equal(world->upstream.blob_bytes, BLOB_SIZE);
}

static void test_without_range_fill_only_the_range_is_fetched(void **state) {
    struct world *world = *state;
    world->upstream.settings.range_fill = false;
    struct client client = {.world = world, .range = range_of(5000, 1000)};
    client_read(&client);
    assert_true(client.complete && client.right);
    wait_until(!world_has_flight(world));
    assert_int_equal(world->upstream.blob_bytes, 1000);
    client = world_read_whole(world); /* the rest is fetched when a client wants it */
    assert_whole(&client);
    assert_int_equal(world->upstream.blob_bytes, BLOB_SIZE);
}

static void test_ranges_of_a_flight_under_way_do_not_wait_for_all_before_them(void **state) {
    struct world *world = *state;
    world->upstream.pace = 16 << 10;
    world->upstream.pause_ms = 1;
    world->upstream.settings.connections = 1;
    world->upstream.hold = true;
    struct client first = {.world = world};
    struct client range = {.world = world, .range = range_of(BLOB_SIZE - 5000, 5000)};
    pthread_t threads[2];
    pthread_create(&threads[0], NULL, client_read, &first);
    wait_until(world_readers(world) == 1);
    pthread_create(&threads[1], NULL, client_read, &range);
    wait_until(world_readers(world) == 2);
    world->upstream.hold = false;
    pthread_join(threads[1], NULL);
    uint64_t sent_before = world->upstream.blob_bytes;
    pthread_join(threads[0], NULL);
    assert_true(range.complete && range.right);
    assert_whole(&first);
    assert_true(sent_before < BLOB_SIZE / 2);
}

static void test_fetched_bytes_survive_a_restart(void **state) {
    struct world *world = *state;
    struct cache_blob blob;
    struct error error = {0};
    const struct blob_range range = {.kind = BLOB_WHOLE};
    world->upstream.pace = 1 << 20;
    world->upstream.pause_ms = 5;
    assert_true(cache_blob_open(world->cache, CALLER(fake_repository(&world->upstream, "app")),
                                &world->digest, &range, &blob, &error));
    cache_blob_want(&blob, 0, blob.size, true);
    uint64_t end;
    assert_true(cache_blob_wait(&blob, 6 << 20, &end, NULL, &error));
    cache_blob_close(&blob);
    world_close(world);
    uint64_t before = world->upstream.blob_bytes;
    assert_true(before < BLOB_SIZE);
    world_open(world);
    struct client client = world_read_whole(world);
    assert_whole(&client);
    assert_true(world->upstream.blob_bytes <= BLOB_SIZE + (16 << 20));
    assert_true(world->upstream.blob_bytes - before < BLOB_SIZE);
}

static void test_another_repository_costs_one_head(void **state) {
    struct world *world = *state;
    world->upstream.second = "other";
    struct client client = world_read_whole(world);
    assert_whole(&client);
    assert_true(world_has_blob_soon(world));
    client = (struct client){.world = world, .repository = "other"};
    client_read(&client);
    assert_whole(&client);
    client = (struct client){.world = world, .repository = "other"};
    client_read(&client);
    assert_whole(&client);
    assert_int_equal(world->upstream.blob_heads, 1);
    assert_int_equal(world->upstream.blob_bytes, BLOB_SIZE);
}

static void test_a_repository_without_the_blob_cannot_read_it(void **state) {
    struct world *world = *state;
    struct client client = world_read_whole(world);
    assert_whole(&client);
    assert_true(world_has_blob_soon(world));
    client = (struct client){.world = world, .repository = "stranger"};
    client_read(&client);
    assert_false(client.opened);
    assert_int_equal(client.error.kind, ERROR_NOT_FOUND);
}

static void test_a_flight_is_not_readable_through_a_stranger(void **state) {
    struct world *world = *state;
    world->upstream.pace = 64 << 10;
    world->upstream.pause_ms = 2;
    struct client first = {.world = world};
    pthread_t thread;
    pthread_create(&thread, NULL, client_read, &first);
    wait_until(world->upstream.blob_bytes > 0);
    struct client stranger = {.world = world, .repository = "stranger"};
    client_read(&stranger);
    assert_false(stranger.opened);
    assert_int_equal(stranger.error.kind, ERROR_NOT_FOUND);
    pthread_join(thread, NULL);
    assert_whole(&first);
}

static void test_head_never_downloads(void **state) {
    struct world *world = *state;
    uint64_t size;
    enum cache_outcome outcome;
    struct error error = {0};
    assert_true(cache_blob_stat(world->cache, CALLER(fake_repository(&world->upstream, "app")),
                                &world->digest, &size, &outcome, &error));
    assert_int_equal(size, BLOB_SIZE);
    assert_int_equal(world->upstream.blob_gets, 0);
    assert_int_equal(world->upstream.blob_heads, 1);
}

static void test_a_failing_upstream_is_an_error_before_any_byte(void **state) {
    struct world *world = *state;
    world->upstream.fail = ERROR_TIMEOUT;
    struct client client = world_read_whole(world);
    assert_false(client.opened);
    assert_int_equal(client.error.kind, ERROR_TIMEOUT);
    world->upstream.fail = ERROR_NONE;
    client = world_read_whole(world);
    assert_whole(&client);
}

/* ---- manifests ---- */

static struct document *get_manifest(struct world *world, const char *name, bool head_only,
                                     enum cache_outcome *outcome, struct error *error) {
    struct reference reference;
    struct cache_result result;
    *error = (struct error){0};
    assert_true(reference_parse(text_of(name), &reference));
    cache_manifest(world->cache, CALLER(fake_repository(&world->upstream, "app")), &reference,
                   head_only, &result, error);
    *outcome = result.outcome;
    return result.document;
}

static void test_a_tag_is_asked_for_once_within_its_ttl(void **state) {
    struct world *world = *state;
    enum cache_outcome outcome;
    struct error error;
    for (int i = 0; i < 5; i++) {
        struct document *document = get_manifest(world, "v1", false, &outcome, &error);
        assert_non_null(document);
        assert_true(document->has_bytes);
        assert_string_equal(document->media_type, world->upstream.media_type);
        assert_int_equal(outcome, i ? CACHE_HIT : CACHE_MISS);
        document_release(document);
    }
    assert_int_equal(world->upstream.gets, 1);
    assert_int_equal(world->upstream.heads, 0);
}

static void test_a_stale_tag_is_revalidated_with_head_and_fetched_only_if_moved(void **state) {
    struct world *world = *state;
    enum cache_outcome outcome;
    struct error error;
    world->upstream.settings.tag_ttl_ms = 0;
    document_release(get_manifest(world, "v1", false, &outcome, &error));
    document_release(get_manifest(world, "v1", false, &outcome, &error));
    assert_int_equal(outcome, CACHE_REVALIDATED);
    assert_int_equal(world->upstream.gets, 1);
    assert_int_equal(world->upstream.heads, 1);
    world->upstream.manifest = "{\"schemaVersion\":2,\"moved\":true}";
    digest_of(DIGEST_SHA256, world->upstream.manifest, strlen(world->upstream.manifest),
              &world->upstream.manifest_digest);
    struct document *document = get_manifest(world, "v1", false, &outcome, &error);
    assert_true(digest_equal(&document->digest, &world->upstream.manifest_digest));
    assert_int_equal(outcome, CACHE_MISS);
    assert_int_equal(world->upstream.gets, 2);
    document_release(document);
}

static void test_a_tag_goes_stale_rather_than_away(void **state) {
    struct world *world = *state;
    enum cache_outcome outcome;
    struct error error;
    world->upstream.settings.tag_ttl_ms = 0;
    document_release(get_manifest(world, "v1", false, &outcome, &error));
    enum error_kind kinds[] = {ERROR_UNAVAILABLE, ERROR_TIMEOUT, ERROR_DENIED, ERROR_RATE_LIMITED};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        world->upstream.fail = kinds[i];
        struct document *document = get_manifest(world, "v1", false, &outcome, &error);
        assert_non_null(document);
        assert_int_equal(outcome, CACHE_STALE);
        document_release(document);
    }
    /* The same after a restart, while the upstream fails. */
    world_close(world);
    world_open(world);
    struct document *document = get_manifest(world, "v1", false, &outcome, &error);
    assert_non_null(document);
    assert_int_equal(outcome, CACHE_STALE);
    document_release(document);
}

static void test_a_real_404_ends_a_tag(void **state) {
    struct world *world = *state;
    enum cache_outcome outcome;
    struct error error;
    world->upstream.settings.tag_ttl_ms = 0;
    document_release(get_manifest(world, "v1", false, &outcome, &error));
    cache_settle(world->cache); /* a 404 is stored behind it, within stale_after_ms */
    world->upstream.fail = ERROR_NOT_FOUND;
    assert_null(get_manifest(world, "v1", false, &outcome, &error));
    assert_int_equal(error.kind, ERROR_NOT_FOUND);
    world->upstream.fail = ERROR_UNAVAILABLE; /* the tag does not come back as stale */
    assert_null(get_manifest(world, "v1", false, &outcome, &error));
}

static void test_a_manifest_by_digest_is_never_asked_for_twice(void **state) {
    struct world *world = *state;
    char digest[DIGEST_STRING_SIZE];
    enum cache_outcome outcome;
    struct error error;
    digest_format(&world->upstream.manifest_digest, digest);
    document_release(get_manifest(world, digest, false, &outcome, &error));
    world->upstream.fail = ERROR_UNAVAILABLE;
    document_release(get_manifest(world, digest, false, &outcome, &error));
    assert_int_equal(outcome, CACHE_HIT);
    world_close(world);
    world_open(world);
    struct document *document = get_manifest(world, digest, false, &outcome, &error);
    assert_non_null(document);
    assert_int_equal(outcome, CACHE_HIT);
    document_release(document);
    assert_int_equal(world->upstream.gets, 1);
}

static void test_a_404_is_believed_for_a_short_while(void **state) {
    struct world *world = *state;
    enum cache_outcome outcome;
    struct error error;
    const char *manifest = world->upstream.manifest;
    world->upstream.manifest = NULL;
    for (int i = 0; i < 3; i++)
        assert_null(get_manifest(world, "none", false, &outcome, &error));
    assert_int_equal(world->upstream.gets, 1);
    world->upstream.manifest = manifest;
    struct document *document;
    wait_until((document = get_manifest(world, "none", false, &outcome, &error)) != NULL);
    document_release(document);
}

static void test_head_of_a_manifest_costs_a_head(void **state) {
    struct world *world = *state;
    enum cache_outcome outcome;
    struct error error;
    struct document *document = get_manifest(world, "v1", true, &outcome, &error);
    assert_non_null(document);
    assert_int_equal(document->length, strlen(world->upstream.manifest));
    document_release(document);
    assert_int_equal(world->upstream.heads, 1);
    assert_int_equal(world->upstream.gets, 0);
    document = get_manifest(world, "v1", false, &outcome, &error);
    assert_true(document->has_bytes);
    document_release(document);
    assert_int_equal(world->upstream.gets, 1);
}

int main(void) {
    log_configure(LOG_ERROR + 1, LOG_TEXT);
    const struct CMUnitTest tests[] = {
        world_test(test_eight_clients_cause_one_transfer),
        world_test(test_wrong_bytes_never_reach_a_client_whole),
        world_test(test_tail_is_held_back_until_the_digest_matches),
        world_test(test_a_cut_transfer_continues_at_the_byte),
        world_test(test_an_upstream_without_ranges_gets_one_stream),
        world_test(test_an_unknown_length_is_still_checked),
        world_test(test_a_cut_stream_without_ranges_is_compared_and_continued),
        world_test(test_changing_etags_get_one_plain_stream),
        world_test(test_the_transfer_goes_on_when_its_client_leaves),
        world_test(test_a_cold_range_is_fetched_first),
        world_test(test_without_range_fill_only_the_range_is_fetched),
        world_test(test_ranges_of_a_flight_under_way_do_not_wait_for_all_before_them),
        world_test(test_fetched_bytes_survive_a_restart),
        world_test(test_another_repository_costs_one_head),
        world_test(test_a_repository_without_the_blob_cannot_read_it),
        world_test(test_a_flight_is_not_readable_through_a_stranger),
        world_test(test_head_never_downloads),
        world_test(test_a_failing_upstream_is_an_error_before_any_byte),
        world_test(test_a_tag_is_asked_for_once_within_its_ttl),
        world_test(test_a_stale_tag_is_revalidated_with_head_and_fetched_only_if_moved),
        world_test(test_a_tag_goes_stale_rather_than_away),
        world_test(test_a_real_404_ends_a_tag),
        world_test(test_a_manifest_by_digest_is_never_asked_for_twice),
        world_test(test_a_404_is_believed_for_a_short_while),
        world_test(test_head_of_a_manifest_costs_a_head),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
