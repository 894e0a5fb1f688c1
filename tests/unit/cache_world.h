/*
 * A cache on a root of its own, before an upstream that the test controls, and the cache's clients.
 * For tests of cache/.
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

enum { WORLD_BLOB_SIZE = 24 << 20 };

struct world {
    char root[64];
    struct store *store;
    struct upkeep *upkeep;
    struct cache *cache;
    struct upstream upstream;
    unsigned char *blob; /* random bytes */
    struct digest digest;
    /* For the next world_open(): */
    struct cache_settings settings;
    uint64_t max_size;
    const char *const *pin;
};

/* A world in a new folder of `folder`, with a blob of so many bytes. The cache is not open. */
struct world *world_new(const char *folder, uint64_t blob_size);
void world_free(struct world *world); /* deletes the folder */

void world_open(struct world *world);
void world_close(struct world *world);
void world_reopen(struct world *world, uint64_t max_size);

/* Asks for the repository, and never leaves. */
#define CALLER(repository) (&(const struct cache_caller){(repository), NULL})

/* Deletes what is in the root; the cache is closed. */
void world_empty(struct world *world);

/* The upstream has one repository, `app`, with one blob and one manifest, and no faults. */
void world_reset_upstream(struct world *world);

bool world_has_blob(struct world *world); /* in the store */
/* Waits at most 5 s until the blob is in the store. */
bool world_has_blob_soon(struct world *world);
/* How many readers the oldest flight has, and whether there is one. */
unsigned world_readers(struct world *world);
bool world_has_flight(struct world *world);

/* Waits until `condition` holds; fails the test if it does not within 30 s. */
#define wait_until(condition)                                                                      \
    do {                                                                                           \
        bool met_ = false;                                                                         \
        for (int waited_ = 0; !(met_ = (condition)) && waited_ < 30000; waited_++)                 \
            clock_sleep_ms(1);                                                                     \
        assert_true(met_);                                                                         \
    } while (0)

/* For cmocka: an open world with a blob of WORLD_BLOB_SIZE in /tmp. */
int world_set_up(void **state);
int world_tear_down(void **state);
#define world_test(name) cmocka_unit_test_setup_teardown(name, world_set_up, world_tear_down)

/* ---- a client ---- */

struct client {
    struct world *world;
    const char *repository; /* NULL: app */
    struct blob_range range;
    /* What it got: */
    bool opened, complete, right;
    uint64_t got;
    struct error error;
    enum cache_outcome outcome;
};

struct blob_range range_of(uint64_t first, uint64_t length);

/* Reads the range to its end. The argument is a struct client: for pthread_create() as well. */
void *client_read(void *client);

/* A client that has read the whole blob through `app`. */
struct client world_read_whole(struct world *world);
void assert_whole(const struct client *client);

/* How clients read the file; a test in which pread() fails sets another function. */
extern ssize_t (*client_pread)(int fd, void *bytes, size_t length, off_t offset);

#endif
