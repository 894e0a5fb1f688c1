/*
 * A cache on a root of its own before an upstream that the test controls, and its clients. For
 * tests of cache/.
 */
#ifndef TESTS_UNIT_CACHE_WORLD_H
#define TESTS_UNIT_CACHE_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/clock.h"
#include "base/log.h"
#include "cache/cache.h"
#include "fake_upstream.h"

#ifndef WORLD_BLOB_SIZE
#define WORLD_BLOB_SIZE (24 << 20)
#endif

enum { BLOB_SIZE = WORLD_BLOB_SIZE };

struct world {
    char root[64];
    struct store *store;
    struct upkeep *upkeep;
    struct cache *cache;
    struct upstream upstream;
    unsigned char *blob;
    struct digest digest;
    uint64_t max_size;      /* of the cache, for the next open_cache() */
    const char *const *pin; /* the same */
};

static inline void open_cache(struct world *world) {
    const struct cache_settings settings = {
        .negative_ttl_ms = 1000, .stale_after_ms = 300, .patience_ms = 2000};
    const struct upkeep_settings upkeep_settings = {.max_size = world->max_size, .pin = world->pin};
    struct error error = {0};
    world->store = store_open(world->root, &error);
    assert_string_equal(error.text, "");
    world->upkeep = upkeep_new(&upkeep_settings, world->store);
    assert_non_null(world->upkeep);
    world->cache = cache_new(&settings, world->upkeep);
    assert_non_null(world->cache);
}

static inline void close_cache(struct world *world) {
    assert_true(cache_free(world->cache));
    upkeep_free(world->upkeep);
    store_close(world->store);
}

static inline int set_up(void **state) {
    struct world *world = calloc(1, sizeof *world);
    snprintf(world->root, sizeof world->root, "/tmp/tarn-cache-test-XXXXXX");
    assert_non_null(mkdtemp(world->root));
    world->blob = malloc(BLOB_SIZE);
    uint32_t random = 12345;
    for (size_t i = 0; i < BLOB_SIZE; i++) {
        random = random * 1664525 + 1013904223;
        world->blob[i] = (unsigned char)(random >> 24);
    }
    digest_of(DIGEST_SHA256, world->blob, BLOB_SIZE, &world->digest);
    world->upstream = (struct upstream){
        .host = "fake.test",
        .settings = {.host = "fake.test",
                     .range_fill = true,
                     .tag_ttl_ms = 60000,
                     .connections = 4,
                     .first_byte_timeout_ms = 25000},
        .repository = "app",
        .blob = world->blob,
        .blob_size = BLOB_SIZE,
        .manifest = "{\"schemaVersion\":2}",
        .media_type = "application/vnd.oci.image.manifest.v1+json",
    };
    digest_of(DIGEST_SHA256, world->upstream.manifest, strlen(world->upstream.manifest),
              &world->upstream.manifest_digest);
    open_cache(world);
    *state = world;
    return 0;
}

static inline int tear_down(void **state) {
    struct world *world = *state;
    char command[128];
    world->upstream.hold = false;
    close_cache(world);
    snprintf(command, sizeof command, "rm -rf %s", world->root);
    assert_int_equal(system(command), 0);
    free(world->blob);
    free(world);
    return 0;
}

/* ---- a client ---- */

struct client {
    struct world *world;
    const char *repository;
    uint64_t first, length; /* length 0: whole */
    /* what it got: */
    bool opened, complete, right;
    uint64_t got;
    struct error error;
    enum cache_outcome outcome;
};

static inline void *read_blob(void *argument) {
    struct client *client = argument;
    struct world *world = client->world;
    struct cache_blob blob;
    struct blob_range range = {.kind = BLOB_WHOLE};
    if (client->length)
        range = (struct blob_range){.kind = BLOB_FROM_TO,
                                    .first = client->first,
                                    .last = client->first + client->length - 1};
    client->opened =
        cache_blob_open(world->cache, fake_repository(&world->upstream, client->repository),
                        &world->digest, &range, &blob, &client->error);
    client->outcome = blob.outcome;
    if (!client->opened)
        return NULL;
    uint64_t end = client->length ? client->first + client->length
                                  : (blob.size_known ? blob.size : UINT64_MAX);
    uint64_t at = client->first, upto;
    unsigned char *bytes = malloc(1 << 20);
    client->right = true;
    cache_blob_want(&blob, at, end, client->length == 0);
    while (at < end) {
        if (!cache_blob_wait(&blob, at, &upto, NULL, &client->error))
            break;
        if (upto == at) {
            end = at;
            break;
        }
        uint64_t step = upto - at < 1 << 20 ? upto - at : 1 << 20;
        ssize_t got = pread(blob.fd, bytes, step, (off_t)at);
        assert_true(got > 0);
        client->right &= memcmp(bytes, world->blob + at, (size_t)got) == 0;
        at += (uint64_t)got;
    }
    client->got = at - client->first;
    client->complete = at == end;
    cache_blob_close(&blob);
    free(bytes);
    return NULL;
}

static inline struct client whole(struct world *world) {
    struct client client = {.world = world, .repository = "app"};
    read_blob(&client);
    return client;
}

static inline void assert_whole(const struct client *client) {
    assert_string_equal(client->error.text, "");
    assert_true(client->opened);
    assert_true(client->complete);
    assert_true(client->right);
    assert_int_equal(client->got, BLOB_SIZE);
}

static inline bool is_stored(struct world *world) {
    uint64_t size;
    return store_blob_has(world->store, &world->digest, &size);
}

static inline bool is_stored_soon(struct world *world) {
    for (int i = 0; i < 500 && !is_stored(world); i++)
        clock_sleep_ms(10);
    return is_stored(world);
}

#define world_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
