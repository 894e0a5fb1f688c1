/*
 * The cache while calls fail. Either the nth call fails alone, or the nth and all later calls fail
 * for as long as the scenario lasts. n is counted up until the scenario ends before its nth call.
 * Whichever call fails: no crash, no leak, no wrong byte in a body that looks whole, no flight that
 * stands still, no descriptor left open. Afterwards the same cache serves the same things.
 *
 * TARN_FAULTS=all tries every n. Otherwise each n of a single fault is tried, and of lasting faults
 * a part.
 */
#include "cache_faults.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include "base/metric.h"
#include "store/blobs.h"
#include "store/partials.h"
#include "store/records.h"
#include "store/usage.h"

/* ---- the world ---- */

enum { LARGE = (5 << 20) + 77, SMALL = 150000, RANGE_AT = 100000, RANGE_LENGTH = 30000 };

static struct digest small_digest, large_digest; /* of the blob's first SMALL bytes, and of all */
static char index_text[400];                     /* a manifest that names the blob as its layer */

static void set_blob(struct world *world, uint64_t size) {
    char digest[DIGEST_STRING_SIZE];
    struct upstream *upstream = &world->upstream;
    upstream->blob_size = size;
    world->digest = size == LARGE ? large_digest : small_digest;
    snprintf(index_text, sizeof index_text,
             "{\"schemaVersion\":2,\"layers\":[{\"mediaType\":\"a\",\"size\":%llu,"
             "\"digest\":\"%s\"}],\"manifests\":[]}",
             (unsigned long long)size, digest_format(&world->digest, digest));
    upstream->manifest = index_text;
    assert_true(
        digest_of(DIGEST_SHA256, index_text, strlen(index_text), &upstream->manifest_digest));
}

static void reset_upstream(struct world *world, uint64_t size) {
    world_reset_upstream(world);
    world->upstream.settings.connections = 3;
    world->upstream.pace = 512 << 10;
    atomic_store(&fault_has_referrers, true);
    fault_recorded_bytes = world->blob;
    set_blob(world, size);
}

static int set_up(void **state) {
    atomic_store(&fault.armed, false); /* a test that failed may have left it true */
    atomic_store(&fault_recorded_falsely, false);
    /* In memory if possible, because thousands of rounds write and delete files. */
    struct world *world = world_new(access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", LARGE);
    large_digest = world->digest;
    assert_true(digest_of(DIGEST_SHA256, world->blob, SMALL, &small_digest));
    world->settings.negative_ttl_ms = 60000;
    world->settings.stale_after_ms = 20000;
    world->settings.patience_ms = 500; /* a busy machine may stop a thread for so long */
    *state = world;
    return 0;
}

static int tear_down(void **state) {
    world_free(*state);
    return 0;
}

/* ---- clients ---- */

static void check_client(const struct client *client, bool must) {
    if (must && !client->complete)
        print_message("%s: %s\n", fault.scenario, client->error.text);
    assert_true(!must || client->complete);
    assert_true(!client->complete || client->right);
    if (!client->opened)
        assert_int_not_equal(client->error.kind, ERROR_NONE);
    /* A failure of tarn's own calls must never look like a 404 of the upstream. */
    assert_int_not_equal(client->error.kind, ERROR_NOT_FOUND);
}

static void get_blob(struct world *world, struct blob_range range, bool must) {
    struct client client = {.world = world, .range = range};
    client_read(&client);
    check_client(&client, must);
}

static const struct blob_range a_range = {
    .kind = BLOB_FROM_TO, .first = RANGE_AT, .last = RANGE_AT + RANGE_LENGTH - 1};

static void check_document(const struct document *document, const char *expected) {
    if (document->length != strlen(expected))
        print_message("%s, fault %d: %.*s\n", fault.scenario, fault.nth,
                      document->has_bytes ? (int)document->length : 0, document->bytes);
    if (document->has_bytes) {
        assert_int_equal(document->length, strlen(expected));
        assert_memory_equal(document->bytes, expected, strlen(expected));
    }
    assert_int_equal(document->length, strlen(expected));
}

static void get_manifest(struct world *world, const char *name, bool head_only, bool must) {
    struct reference reference;
    struct cache_result result;
    struct error error = {0};
    char digest[DIGEST_STRING_SIZE];
    if (!name)
        name = digest_format(&world->upstream.manifest_digest, digest);
    assert_true(reference_parse(text_of(name), &reference));
    bool ok = cache_manifest(world->cache, CALLER(fake_repository(&world->upstream, "app")),
                             &reference, head_only, &result, &error);
    assert_true(ok || !must);
    if (ok)
        check_document(result.document, world->upstream.manifest);
    else
        assert_true(error.kind != ERROR_NONE && error.kind != ERROR_NOT_FOUND);
    document_release(result.document);
}

/* ---- scenarios ----
 *
 * Each runs once while calls fail, and then once more on the same cache, when it must work. While
 * only writes to the disk fail it must work too: a blob that cannot be kept passes through. */

static bool while_failing;

struct scenario {
    const char *name;
    void (*prepare)(struct world *world); /* may be NULL; no faults */
    void (*run)(struct world *world, bool must);
    uint64_t size; /* of the blob; 0: small */
    bool idles;    /* leaves a flight that waits a second for further readers */
};

static void run_whole(struct world *world, bool must) {
    get_blob(world, (struct blob_range){.kind = BLOB_WHOLE}, must);
}

/* A flight that the failing calls ended may be joined just before it is seen to have ended. Then
 * the client asks again. */
static void get_range(struct world *world, struct blob_range range, bool must) {
    struct client client = {.world = world, .range = range};
    client_read(&client);
    if (must && !client.complete) {
        client = (struct client){.world = world, .range = range};
        client_read(&client);
    }
    check_client(&client, must);
}

static void run_range(struct world *world, bool must) {
    world->upstream.settings.range_fill = !while_failing;
    get_range(world, a_range, must);
    get_range(world, (struct blob_range){.kind = BLOB_LAST, .count = 1000}, must);
}

static void run_together(struct world *world, bool must) {
    struct client clients[4];
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        clients[i] = (struct client){.world = world, .range = {.kind = BLOB_WHOLE}};
        if (i % 2)
            clients[i].range = a_range;
        assert_int_equal(fault_start_client(&threads[i], &clients[i]), 0);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 4; i++)
        check_client(&clients[i], must);
}

static void prepare_unknown_length(struct world *world) {
    world->upstream.no_length = world->upstream.no_ranges = true;
}

static void prepare_cuts(struct world *world) {
    world->upstream.cuts = 1;
}

/* An earlier process left half of the blob. */
static void prepare_partial(struct world *world) {
    struct partial *partial = store_partial_open(world->store, &world->digest, NULL);
    assert_non_null(partial);
    uint64_t half = world->upstream.blob_size / 2;
    assert_int_equal(pwrite(partial_fd(partial), world->blob, half, 0), half);
    assert_true(partial_set_size(partial, world->upstream.blob_size, NULL));
    assert_true(partial_record(partial, 0, half, NULL));
    partial_free(partial);
}

static void prepare_wrong_bytes(struct world *world) {
    world->upstream.wrong_bytes = true;
    fault_recorded_bytes = NULL;
}

static void run_wrong_bytes(struct world *world, bool must) {
    /* If the first driver could not hash the bytes, the next flight finds that they are wrong. */
    if (!while_failing)
        run_whole(world, false);
    world->upstream.wrong_bytes = while_failing;
    run_whole(world, must && !while_failing);
}

static void prepare_stored(struct world *world) {
    get_blob(world, (struct blob_range){.kind = BLOB_WHOLE}, true);
    get_manifest(world, "v1", false, true);
}

static void run_stored(struct world *world, bool must) {
    uint64_t size;
    struct error error = {0};
    enum cache_outcome outcome;
    run_whole(world, must);
    bool ok = cache_blob_stat(world->cache, CALLER(fake_repository(&world->upstream, "app")),
                              &world->digest, &size, &outcome, &error);
    assert_true(ok || !must);
    if (ok)
        assert_int_equal(size, world->upstream.blob_size);
    else
        assert_int_not_equal(error.kind, ERROR_NOT_FOUND);
}

static void run_manifest(struct world *world, bool must) {
    get_manifest(world, "v1", true, must);
    get_manifest(world, "v1", false, must);
    get_manifest(world, NULL, false, must);
    get_manifest(world, "v1", false, must);
}

static void prepare_stale(struct world *world) {
    world->upstream.settings.tag_ttl_ms = 0;
    get_manifest(world, "v1", false, true);
}

static void run_stale(struct world *world, bool must) {
    get_manifest(world, "v1", false, must); /* revalidated */
    get_manifest(world, "v1", true, must);
    world->upstream.fail = ERROR_UNAVAILABLE;
    get_manifest(world, "v1", false, must); /* stale */
    world->upstream.fail = ERROR_NONE;
}

/* The state that a new process finds on the disk. */
static void prepare_restarted(struct world *world) {
    prepare_stored(world);
    world_reopen(world, world->max_size);
}

static void run_prefetch(struct world *world, bool must) {
    cache_settle(world->cache); /* a manifest that is still being stored looks at the settings */
    world->upstream.settings.prefetch = true;
    get_manifest(world, "v1", false, must);
    bool ok = cache_blob_fetch(world->cache, fake_repository(&world->upstream, "app"),
                               &world->digest, NULL);
    assert_true(ok || !must);
    run_whole(world, must);
}

static void run_tags(struct world *world, bool must) {
    struct cache_result result;
    struct error error = {0};
    bool ok =
        cache_tags(world->cache, CALLER(fake_repository(&world->upstream, "app")), &result, &error);
    assert_true(ok || !must);
    if (ok) {
        check_document(result.document, "{\"name\":\"app\",\"tags\":[\"v1\",\"v2\",\"v3\"]}");
        document_release(result.document);
    } else {
        assert_int_not_equal(error.kind, ERROR_NOT_FOUND);
    }
}

static void run_referrers(struct world *world, bool must) {
    struct cache_result result;
    struct error error = {0};
    bool ok = cache_referrers(world->cache, CALLER(fake_repository(&world->upstream, "app")),
                              &world->digest, &result, &error);
    assert_true(ok || !must);
    if (ok) {
        check_document(result.document,
                       "{\"schemaVersion\":2,\"mediaType\":\"application/"
                       "vnd.oci.image.index.v1+json\",\"manifests\":[{\"mediaType\":\"a\","
                       "\"digest\":\"b\",\"size\":1}]}");
        document_release(result.document);
    } else {
        assert_int_not_equal(error.kind, ERROR_NOT_FOUND);
    }
}

static void prepare_fallback(struct world *world) {
    struct upstream *upstream = &world->upstream;
    atomic_store(&fault_has_referrers, false);
    upstream->manifest = "{\"manifests\":[{\"mediaType\":\"a\",\"digest\":\"b\",\"size\":1}]}";
    assert_true(digest_of(DIGEST_SHA256, upstream->manifest, strlen(upstream->manifest),
                          &upstream->manifest_digest));
}

static void run_adopted(struct world *world, bool must) {
    uint64_t size;
    enum cache_outcome outcome;
    struct error error = {0};
    world->upstream.second = "second";
    bool ok = cache_blob_stat(world->cache, CALLER(fake_repository(&world->upstream, "second")),
                              &world->digest, &size, &outcome, &error);
    assert_true(ok || !must);
    if (ok)
        assert_int_equal(size, world->upstream.blob_size);
    else
        assert_int_not_equal(error.kind, ERROR_NOT_FOUND);
}

/* ---- a cache that is full, and its own threads ---- */

enum { OLD_BLOBS = 4, OLD_SIZE = 40000 };

static struct digest old_blob(int number) {
    char bytes[OLD_SIZE];
    struct digest digest;
    memset(bytes, number, sizeof bytes);
    fault_exempt++;
    assert_true(digest_of(DIGEST_SHA256, bytes, sizeof bytes, &digest));
    fault_exempt--;
    return digest;
}

/* One of the old blobs is pinned. The new blob leaves space for the pinned one and one other. */
static void prepare_full(struct world *world) {
    static const char *const pins[] = {"fake.test/keep", NULL};
    char bytes[OLD_SIZE];
    struct error error;
    for (int i = 0; i < OLD_BLOBS; i++) {
        struct digest digest = old_blob(i);
        memset(bytes, i, sizeof bytes);
        assert_true(store_blob_put(world->store, &digest, bytes, sizeof bytes, &error));
        if (i == 0)
            assert_true(store_link_blob(
                world->store, &fake_repository(&world->upstream, "keep")->name, &digest, &error));
    }
    world->max_size = SMALL + 2 * OLD_SIZE + 1000;
    world->pin = pins;
    world_reopen(world, world->max_size);
}

/* Waits until the pin is known, for as long as that takes if nothing fails. */
static void wait_for_pin(struct world *world, bool must) {
    struct digest pinned = old_blob(0);
    struct store_blob blob = {0};
    for (int i = 0; i < (must ? 5000 : 20) && !blob.pinned; i++) {
        clock_sleep_ms(1);
        store_blob_find(world->store, &pinned, &blob);
    }
    assert_true(blob.pinned || !must);
}

static void run_full(struct world *world, bool must) {
    struct digest pinned = old_blob(0);
    struct error error = {0};
    struct store_usage usage;
    bool opened = upkeep_start(world->upkeep, &error);
    assert_true(opened || error.kind != ERROR_NONE);
    assert_true(opened || while_failing);
    wait_for_pin(world, !while_failing);
    run_whole(world, must);
    if (!while_failing) {
        store_usage(world->store, &usage);
        for (int i = 0; i < 6000 && usage.bytes > world->max_size; i++) {
            clock_sleep_ms(1);
            store_usage(world->store, &usage);
        }
        assert_true(usage.bytes <= world->max_size);
    }
    upkeep_stop(world->upkeep);
    fault_exempt++;
    assert_true(store_blob_has(world->store, &pinned, NULL));
    fault_exempt--;
    if (while_failing) { /* an upkeep can be started only once */
        fault_exempt++;
        world_reopen(world, world->max_size);
        fault_exempt--;
    }
}

/* ---- the runs ---- */

static void on_alarm(int signal) {
    (void)signal;
    dprintf(STDERR_FILENO, "# %s: makes no progress with fault %d (what %u, lasting %d)\n",
            fault.scenario, fault.nth, fault.what, fault.lasting);
    abort();
}

static int open_descriptors(void) {
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    assert_non_null(directory);
    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

static bool is_at_rest(struct world *world, bool idles) {
    struct flight_figures flight = {0};
    return !world_has_flight(world) ||
           (idles && cache_flights(world->cache, &flight, 1) > 0 && flight.connections == 0);
}

/* Waits until the flights have ended, soon after the last reference is gone. */
static void wait_for_rest(struct world *world, const struct scenario *scenario) {
    bool rests = is_at_rest(world, scenario->idles);
    for (int i = 0; i < 5000 && !rests; i++) {
        clock_sleep_ms(1);
        rests = is_at_rest(world, scenario->idles);
    }
    assert_true(rests); /* it is not asked again, because an idle flight may end by now */
}

/* One round. True: there was an nth call that failed. */
static bool round_of(struct world *world, const struct scenario *scenario, int nth) {
    world_empty(world);
    int descriptors = open_descriptors();
    alarm(30);
    reset_upstream(world, scenario->size ? scenario->size : SMALL);
    world->max_size = 0;
    world->pin = NULL;
    world_open(world);
    if (scenario->prepare)
        scenario->prepare(world);

    fault.nth = nth;
    atomic_store(&fault.calls, 0);
    atomic_store(&fault.armed, true);
    while_failing = true;
    scenario->run(world, fault.what == FAULT_DISK_WRITE);
    while_failing = false;
    if (!fault.lasting) /* calls after the response to the client may fail as well */
        wait_for_rest(world, scenario);
    atomic_store(&fault.armed, false);
    bool fired = atomic_load(&fault.calls) >= nth;

    wait_for_rest(world, scenario);
    scenario->run(world, true);
    wait_for_rest(world, scenario);
    world_close(world);
    alarm(0);
    if (atomic_load(&fault_recorded_falsely))
        print_message("%s, fault %d: bytes are recorded that are not on disk\n", fault.scenario,
                      nth);
    assert_false(atomic_load(&fault_recorded_falsely));
    for (int i = 0; i < 100 && open_descriptors() != descriptors; i++)
        clock_sleep_ms(1); /* the last thread may still close its files */
    assert_int_equal(open_descriptors(), descriptors);
    return fired;
}

static const struct scenario scenarios[] = {
    {"a cold blob, over several connections", NULL, run_whole, LARGE},
    {"ranges of a cold blob", NULL, run_range, 0, true},
    {"several readers of a cold blob", NULL, run_together, 0},
    {"a blob of unknown length", prepare_unknown_length, run_whole, 0},
    {"an upstream that cuts", prepare_cuts, run_whole, 0},
    {"a partial of an earlier process", prepare_partial, run_whole, 0},
    {"wrong bytes", prepare_wrong_bytes, run_wrong_bytes, 0},
    {"a stored blob", prepare_stored, run_stored, 0},
    {"a blob of another repository", prepare_stored, run_adopted, 0},
    {"a cold manifest", NULL, run_manifest, 0},
    {"a stale manifest", prepare_stale, run_stale, 0},
    {"a manifest after a restart", prepare_restarted, run_manifest, 0},
    {"a full cache that is opened", prepare_full, run_full, 0},
    {"prefetching", NULL, run_prefetch, 0},
    {"tags", NULL, run_tags, 0},
    {"referrers", NULL, run_referrers, 0},
    {"referrers by the fallback tag", prepare_fallback, run_referrers, 0},
};

/* Runs every scenario with n counted up by `step`. */
static void run_all(struct world *world, unsigned what, bool lasting, int reason, int step) {
    const char *only = getenv("TARN_FAULTS_SCENARIO");
    const char *exhaustive = getenv("TARN_FAULTS");
    int total = 0;
    fault.what = what;
    fault.lasting = lasting;
    fault.reason = reason;
    if (exhaustive && strcmp(exhaustive, "all") == 0)
        step = 1;
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) {
        const struct scenario *scenario = &scenarios[i];
        if (only && strcmp(only, scenario->name) != 0)
            continue;
        fault.scenario = scenario->name;
        int64_t began = clock_ms();
        int n = 1, rounds = 0;
        for (; round_of(world, scenario, n); n += step)
            rounds++;
        total += rounds;
        if (exhaustive)
            print_message("# %s: %d rounds to %d, %lld ms\n", scenario->name, rounds, n,
                          (long long)(clock_ms() - began));
    }
    assert_true(total > 10 || only); /* the faults did reach the calls */
}

static void test_one_failing_call_breaks_no_promise(void **state) {
    run_all(*state, FAULT_ANY, false, EIO, 1);
}

static void test_memory_that_stays_away_breaks_no_promise(void **state) {
    run_all(*state, FAULT_MEMORY, true, 0, 3);
}

static void test_threads_that_stay_away_break_no_promise(void **state) {
    run_all(*state, FAULT_THREAD, true, 0, 1);
}

static void test_a_full_disk_breaks_no_promise(void **state) {
    run_all(*state, FAULT_DISK_WRITE, true, ENOSPC, 3);
}

static void test_a_disk_that_became_read_only_breaks_no_promise(void **state) {
    run_all(*state, FAULT_DISK_WRITE, true, EROFS, 7);
}

static void test_a_dead_disk_breaks_no_promise(void **state) {
    run_all(*state, FAULT_DISK_READ | FAULT_DISK_WRITE, true, EIO, 5);
}

static int64_t failures_of_the_disk(void) {
    return metric_value(
        metric_get(METRIC_COUNTER, "tarn_passed_through_blobs_total", "", "reason=\"failing\""));
}

static void test_too_many_open_files_are_no_failure_of_the_disk(void **state) {
    int64_t before = failures_of_the_disk();
    run_all(*state, FAULT_OPEN, true, EMFILE, 3);
    assert_int_equal(failures_of_the_disk(), before);
    run_all(*state, FAULT_OPEN, true, EIO, 7); /* the same calls do count when the disk fails */
    assert_true(failures_of_the_disk() > before);
}

#define fault_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    log_configure(LOG_ERROR + 1, LOG_TEXT);
    fault_prepare();
    signal(SIGALRM, on_alarm);
    const struct CMUnitTest tests[] = {
        fault_test(test_one_failing_call_breaks_no_promise),
        fault_test(test_memory_that_stays_away_breaks_no_promise),
        fault_test(test_threads_that_stay_away_break_no_promise),
        fault_test(test_a_full_disk_breaks_no_promise),
        fault_test(test_a_disk_that_became_read_only_breaks_no_promise),
        fault_test(test_a_dead_disk_breaks_no_promise),
        fault_test(test_too_many_open_files_are_no_failure_of_the_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
