/* The fixture of cache/'s tests: a root, a store, a cache, its upstream and its clients. */
#include "cache_world.h"
#include "store/blobs.h"

#include <ftw.h>

enum { STEP = 64 << 10 };

ssize_t (*client_pread)(int fd, void *bytes, size_t length, off_t offset) = pread;

/* ---- life ---- */

static void fill(unsigned char *bytes, uint64_t size) {
    uint32_t random = 12345;
    for (uint64_t i = 0; i < size; i++) {
        random = random * 1664525 + 1013904223;
        bytes[i] = (unsigned char)(random >> 24);
    }
}

void world_reset_upstream(struct world *world) {
    static const char manifest[] = "{\"schemaVersion\":2}";
    uint64_t blob_size = world->upstream.blob_size;
    world->upstream = (struct upstream){
        .host = "fake.test",
        .settings = upstream_settings_default(),
        .repository = "app",
        .blob = world->blob,
        .blob_size = blob_size,
        .manifest = manifest,
        .media_type = "application/vnd.oci.image.manifest.v1+json",
    };
    world->upstream.settings.host = "fake.test";
    assert_true(
        digest_of(DIGEST_SHA256, manifest, strlen(manifest), &world->upstream.manifest_digest));
}

struct world *world_new(const char *folder, uint64_t blob_size) {
    struct world *world = calloc(1, sizeof *world);
    assert_non_null(world);
    snprintf(world->root, sizeof world->root, "%s/tarn-cache-test-XXXXXX", folder);
    assert_non_null(mkdtemp(world->root));
    world->blob = malloc(blob_size);
    assert_non_null(world->blob);
    fill(world->blob, blob_size);
    assert_true(digest_of(DIGEST_SHA256, world->blob, blob_size, &world->digest));
    world->settings = cache_settings_default();
    world->settings.negative_ttl_ms = 1000;
    world->settings.stale_after_ms = 300;
    world->settings.patience_ms = 2000;
    world->upstream.blob_size = blob_size;
    world_reset_upstream(world);
    return world;
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *ftw) {
    (void)info, (void)type;
    return ftw->level > 0 ? remove(path) : 0;
}

void world_empty(struct world *world) {
    assert_int_equal(nftw(world->root, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

void world_free(struct world *world) {
    world_empty(world);
    assert_int_equal(rmdir(world->root), 0);
    free(world->blob);
    free(world);
}

void world_open(struct world *world) {
    const struct upkeep_settings upkeep_settings = {.max_size = world->max_size, .pin = world->pin};
    struct error error = {0};
    world->store = store_open(world->root, &error);
    assert_string_equal(error.text, "");
    world->upkeep = upkeep_new(&upkeep_settings, world->store);
    assert_non_null(world->upkeep);
    world->cache = cache_new(&world->settings, world->upkeep);
    assert_non_null(world->cache);
}

void world_close(struct world *world) {
    assert_true(cache_free(world->cache));
    upkeep_free(world->upkeep);
    store_close(world->store);
}

void world_reopen(struct world *world, uint64_t max_size) {
    world_close(world);
    world->max_size = max_size;
    world_open(world);
}

int world_set_up(void **state) {
    struct world *world = world_new("/tmp", WORLD_BLOB_SIZE);
    world_open(world);
    *state = world;
    return 0;
}

int world_tear_down(void **state) {
    struct world *world = *state;
    world->upstream.hold = false;
    world_close(world);
    world_free(world);
    return 0;
}

/* ---- what the cache has ---- */

bool world_has_blob(struct world *world) {
    uint64_t size;
    return store_blob_has(world->store, &world->digest, &size);
}

bool world_has_blob_soon(struct world *world) {
    for (int i = 0; i < 500 && !world_has_blob(world); i++)
        clock_sleep_ms(10);
    return world_has_blob(world);
}

bool world_has_flight(struct world *world) {
    /* A flight gives its place back a little before it ends. Until then it can be joined, so the
     * table of flights counts as well. */
    struct flight_figures figures = {0};
    return cache_flights(world->cache, &figures, 1) > 0 || figures.digest[0] != '\0';
}

unsigned world_readers(struct world *world) {
    struct flight_figures figures = {0};
    cache_flights(world->cache, &figures, 1);
    return figures.readers;
}

/* ---- clients ---- */

struct blob_range range_of(uint64_t first, uint64_t length) {
    return (struct blob_range){.kind = BLOB_FROM_TO, .first = first, .last = first + length - 1};
}

/* The bytes of the range: [*first, *end); `end` UINT64_MAX: to the end of the blob. */
static void settle_range(const struct client *client, const struct cache_blob *blob,
                         uint64_t *first, uint64_t *end) {
    const struct blob_range *range = &client->range;
    const uint64_t size = client->world->upstream.blob_size;
    *first = 0;
    *end = blob->size_known ? blob->size : UINT64_MAX;
    if (range->kind == BLOB_FROM_TO) {
        *first = range->first;
        *end = range->last + 1;
    } else if (range->kind == BLOB_LAST) {
        *first = size - range->count;
        *end = size;
    }
}

/* Reads the blob's bytes from `first` to `end` as they are released. True: all were read. */
static bool read_to(struct client *client, struct cache_blob *blob, uint64_t first, uint64_t end) {
    const struct upstream *upstream = &client->world->upstream;
    unsigned char bytes[STEP];
    uint64_t at = first, upto;
    while (at < end && cache_blob_wait(blob, at, &upto, NULL, &client->error)) {
        if (upto == at)
            end = at;
        if (upto > end)
            upto = end;
        size_t step = upto - at < STEP ? upto - at : STEP;
        ssize_t got = step ? client_pread(blob->fd, bytes, step, (off_t)at) : 0;
        if (step && got <= 0)
            break;
        client->right &= at + (uint64_t)got <= upstream->blob_size &&
                         memcmp(bytes, client->world->blob + at, (size_t)got) == 0;
        at += (uint64_t)got;
    }
    client->got = at - first;
    return at == end;
}

void *client_read(void *argument) {
    struct client *client = argument;
    struct world *world = client->world;
    const char *path = client->repository ? client->repository : "app";
    struct cache_blob blob;
    uint64_t first, end;
    client->opened = cache_blob_open(world->cache, CALLER(fake_repository(&world->upstream, path)),
                                     &world->digest, &client->range, &blob, &client->error);
    client->outcome = blob.outcome;
    if (!client->opened)
        return NULL;
    client->right = !blob.size_known || blob.size == world->upstream.blob_size;
    settle_range(client, &blob, &first, &end);
    cache_blob_want(&blob, first, end, client->range.kind == BLOB_WHOLE);
    client->complete = read_to(client, &blob, first, end);
    cache_blob_close(&blob);
    return NULL;
}

struct client world_read_whole(struct world *world) {
    struct client client = {.world = world};
    client_read(&client);
    return client;
}

void assert_whole(const struct client *client) {
    assert_string_equal(client->error.text, "");
    assert_true(client->opened);
    assert_true(client->complete);
    assert_true(client->right);
    assert_int_equal(client->got, client->world->upstream.blob_size);
}
