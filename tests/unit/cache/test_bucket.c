/*
 * The cache over a bucket, while tarn's own calls fail. The nth call fails alone, or together with
 * a later one; n is counted up until the scenario ends before its nth call. Whichever call fails:
 * no crash, no leak, no wrong byte in a body that looks whole, and none in the bucket under a
 * blob's key. Afterwards the same cache serves the same things, and brings them to the bucket.
 */
#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>
#include "cache/share.h"
#include "cache_faults.h"
#include "fake_bucket.h"

enum { SIZE = (3 << 20) + 77, STEPS_MOST = 3000 };

static struct bucket bucket;
static char blob_key[SHARE_KEY_SIZE], link_key[SHARE_KEY_SIZE], digest_text[DIGEST_STRING_SIZE];

static const struct repository_name *name(void) {
    static struct repository_name parsed;
    assert_true(repository_name_parse(text_of("fake.test"), text_of("app"), &parsed));
    return &parsed;
}

static int set_up(void **state) {
    atomic_store(&fault.armed, false);
    struct world *world = world_new(access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", SIZE);
    world->settings.patience_ms = 500;
    world->settings.bucket = &bucket;
    fake_bucket_init(&bucket);
    bucket.settings.part_size = 1 << 20;
    digest_format(&world->digest, digest_text);
    share_key_blob(blob_key, &world->digest);
    share_key_layer(link_key, name(), &world->digest);
    *state = world;
    return 0;
}

static int tear_down(void **state) {
    world_free(*state);
    fake_bucket_finish(&bucket);
    return 0;
}

/* ---- what is there ---- */

static void put_blob(struct world *world, const void *bytes, uint64_t length) {
    (void)world;
    fake_bucket_set(&bucket, blob_key, bytes, length, NULL);
    fake_bucket_set(&bucket, link_key, digest_text, strlen(digest_text), NULL);
}

static bool is_shared(struct world *world) {
    return fake_bucket_has(&bucket, blob_key, world->blob, SIZE) &&
           fake_bucket_has(&bucket, link_key, digest_text, strlen(digest_text));
}

/* How many names are in ROOT/pending. */
static unsigned pending(struct world *world) {
    char path[128];
    unsigned count = 0;
    snprintf(path, sizeof path, "%s/pending", world->root);
    DIR *directory = opendir(path);
    for (struct dirent *entry; directory && (entry = readdir(directory));)
        count += entry->d_name[0] != '.';
    if (directory)
        closedir(directory);
    return count;
}

static struct client read_blob(struct world *world) {
    struct client client = {.world = world, .range = {.kind = BLOB_WHOLE}};
    client_read(&client);
    assert_true(!client.complete || client.right);
    return client;
}

/* ---- scenarios ---- */

struct scenario {
    const char *name;
    void (*prepare)(struct world *world);
    uint64_t max_size; /* of the store */
    bool writes;       /* in the end the bucket has the blob */
};

static void prepare_nothing(struct world *world) {
    (void)world;
}

static void prepare_bucket(struct world *world) {
    put_blob(world, world->blob, SIZE);
}

static void prepare_cut(struct world *world) {
    put_blob(world, world->blob, SIZE);
    bucket.cut_at = 1 << 20;
}

static void prepare_wrong(struct world *world) {
    world->blob[SIZE / 2] ^= 1;
    put_blob(world, world->blob, SIZE);
    world->blob[SIZE / 2] ^= 1;
}

static void prepare_old(struct world *world) {
    prepare_bucket(world);
    bucket.age_s = 365 * 86400;
}

static void prepare_down(struct world *world) {
    (void)world;
    bucket.down = true;
}

static const struct scenario scenarios[] = {
    {"from upstream", prepare_nothing, 0, true},
    {"from the bucket", prepare_bucket, 0, true},
    {"from the bucket, in part", prepare_cut, 0, true},
    {"wrong in the bucket", prepare_wrong, 0, true},
    {"old in the bucket", prepare_old, 0, true},
    {"passing through", prepare_nothing, 1 << 20, false},
    {"the bucket is down", prepare_down, 0, true},
};

static void begin(struct world *world, const struct scenario *scenario) {
    world_reset_upstream(world);
    fake_bucket_empty(&bucket);
    bucket.down = false;
    bucket.cut_at = 0;
    bucket.age_s = 0;
    scenario->prepare(world);
    world->max_size = scenario->max_size;
    world_open(world);
    cache_start(world->cache);
}

/* Without faults: the client is served, and what upstream sent comes to the bucket. */
static void check_afterwards(struct world *world, const struct scenario *scenario) {
    struct client client = read_blob(world);
    for (int i = 0; i < 10 && !client.complete; i++) /* a flight that had failed was joined */
        client = read_blob(world);
    if (!client.complete)
        print_message("%s, fault %d: %s\n", scenario->name, fault.nth, client.error.text);
    assert_true(client.complete);
    bucket.down = false;
    cache_drain(world->cache, clock_ms() + 5000);
}

/* Which calls fail. */
struct faults {
    unsigned what;
    int nth, second;
};

/* True: the scenario has ended before its nth call. */
static bool run_once(struct world *world, const struct scenario *scenario,
                     const struct faults *faults) {
    const int nth = faults->nth;
    begin(world, scenario);
    fault.what = faults->what;
    fault.nth = nth;
    fault.second = faults->second;
    fault.reason = ENOSPC;
    fault.lasting = false;
    fault.scenario = scenario->name;
    atomic_store(&fault.calls, 0);
    atomic_store(&fault.armed, true);
    read_blob(world);
    cache_drain(world->cache, clock_ms() + 200);
    atomic_store(&fault.armed, false);
    const bool is_over = atomic_load(&fault.calls) < nth;
    check_afterwards(world, scenario);
    if (scenario->prepare != prepare_wrong)
        assert_true(fake_bucket_is_right(&bucket));
    if (is_over && scenario->writes)
        wait_until(is_shared(world) && pending(world) == 0);
    world_close(world);
    fault.second = 0; /* now, because flights looked at it until here */
    world_empty(world);
    assert_true(mkdir(world->root, 0700) == 0 || errno == EEXIST);
    return is_over;
}

static void run_all(struct world *world, unsigned what) {
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) {
        struct faults faults = {.what = what, .nth = 1};
        while (!run_once(world, &scenarios[i], &faults))
            faults.nth += getenv("TARN_FAULTS") ? 1 : 1 + faults.nth / 16;
        assert_in_range(faults.nth, 1, STEPS_MOST);
    }
}

/* Pairs: what mends the first fault fails as well. The second call is one of the next ones, because
 * those belong to the mending. */
static void run_pairs(struct world *world, unsigned what) {
    static const int distances[] = {1, 2, 5, 13};
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) {
        for (size_t j = 0; j < sizeof distances / sizeof *distances; j++) {
            struct faults faults = {.what = what, .nth = 1, .second = 1 + distances[j]};
            while (!run_once(world, &scenarios[i], &faults)) {
                faults.nth += getenv("TARN_FAULTS") ? 1 : 3 + faults.nth / 4;
                faults.second = faults.nth + distances[j];
            }
            assert_in_range(faults.nth, 1, STEPS_MOST);
        }
    }
}

static void test_memory_and_threads_run_out(void **state) {
    run_all(*state, FAULT_MEMORY | FAULT_THREAD);
}

static void test_the_disk_fails(void **state) {
    run_all(*state, FAULT_DISK_WRITE | FAULT_DISK_READ | FAULT_OPEN);
}

static void test_two_calls_fail(void **state) {
    run_pairs(*state, FAULT_ANY | FAULT_OPEN);
}

/* ---- without faults ---- */

static void test_a_blob_comes_from_the_bucket_without_upstream(void **state) {
    struct world *world = *state;
    begin(world, &scenarios[1]);
    struct client client = read_blob(world);
    assert_true(client.complete);
    assert_int_equal(client.outcome, CACHE_BUCKET);
    assert_int_equal(world->upstream.gets + world->upstream.heads, 0);
    world_close(world);
}

static void test_a_wrong_object_is_healed(void **state) {
    struct world *world = *state;
    begin(world, &scenarios[3]);
    assert_false(read_blob(world).complete);
    wait_until(is_shared(world));
    assert_true(read_blob(world).complete);
    world_close(world);
}

static void test_what_passes_through_goes_in_parts(void **state) {
    struct world *world = *state;
    begin(world, &scenarios[5]);
    world->upstream.pace = 16 << 10;
    world->upstream.pause_ms = 1;
    assert_true(read_blob(world).complete);
    wait_until(is_shared(world));
    assert_int_equal(bucket.parts, 4);
    assert_int_equal(fake_bucket_uploads(&bucket), 0);
    world_close(world);
}

static void test_what_is_wrong_upstream_is_never_in_the_bucket(void **state) {
    struct world *world = *state;
    begin(world, &scenarios[5]);
    world->upstream.wrong_bytes = true;
    assert_false(read_blob(world).complete);
    wait_until(!world_has_flight(world));
    wait_until(fake_bucket_uploads(&bucket) == 0);
    assert_false(is_shared(world));
    assert_int_equal(bucket.completions, 0);
    world_close(world);
}

static void test_what_is_pending_survives_a_restart(void **state) {
    struct world *world = *state;
    begin(world, &scenarios[6]);
    assert_true(read_blob(world).complete);
    wait_until(pending(world) == 1 && world_has_blob(world));
    world_reopen(world, 0);
    assert_false(is_shared(world));
    bucket.down = false;
    cache_start(world->cache);
    wait_until(is_shared(world) && pending(world) == 0);
    world_close(world);
}

int main(void) {
    fault_prepare();
#define bucket_test(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        bucket_test(test_a_blob_comes_from_the_bucket_without_upstream),
        bucket_test(test_a_wrong_object_is_healed),
        bucket_test(test_what_passes_through_goes_in_parts),
        bucket_test(test_what_is_wrong_upstream_is_never_in_the_bucket),
        bucket_test(test_what_is_pending_survives_a_restart),
        bucket_test(test_memory_and_threads_run_out),
        bucket_test(test_the_disk_fails),
        bucket_test(test_two_calls_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
