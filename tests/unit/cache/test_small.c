/* Small blobs in memory: which are read, that their bytes are checked, and how much memory they
 * take. */
#include "cache/small.h"

#include "cache/cache_private.h"
#include "cache/document.h"
#include "cache_world.h"
#include "store/blobs.h"

enum { MEMORY = 16 * SMALL_MOST };

static struct world *open_world(uint64_t blob_size, uint64_t memory) {
    struct world *world = world_new("/tmp", blob_size);
    world->settings.document_memory = memory;
    world_open(world);
    struct client client = world_read_whole(world);
    assert_whole(&client);
    assert_true(world_has_blob_soon(world));
    world_reopen(world, 0); /* it waits for the end of the flight, which has the blob open */
    return world;
}

static void end(struct world *world) {
    world_close(world);
    world_free(world);
}

static bool is_in_memory(struct world *world) {
    struct document *document = small_find(world->cache, &world->digest);
    bool is = document != NULL;
    assert_true(!is || document->length > 0);
    document_release(document);
    return is;
}

static void read_twice(struct world *world) {
    for (int i = 0; i < 2; i++) {
        struct client client = world_read_whole(world);
        assert_whole(&client);
    }
}

static void test_a_blob_of_64_kib_is_small_and_one_byte_more_is_not(void **state) {
    (void)state;
    struct world *world = open_world(SMALL_MOST, MEMORY);
    read_twice(world);
    assert_true(is_in_memory(world));
    end(world);
    world = open_world(SMALL_MOST + 1, 2 * MEMORY);
    read_twice(world);
    assert_false(is_in_memory(world));
    end(world);
}

static void test_no_blob_takes_more_than_a_sixteenth_of_the_memory(void **state) {
    (void)state;
    struct world *world = open_world(SMALL_MOST, MEMORY - 16);
    read_twice(world);
    assert_false(is_in_memory(world));
    end(world);
}

/* Changes a byte of the blob's file. */
static void damage(struct world *world) {
    char path[256], text[DIGEST_STRING_SIZE];
    digest_format(&world->digest, text);
    snprintf(path, sizeof path, "%s/blobs/sha256/%.2s/%s", world->root, text + 7, text + 7);
    FILE *file = fopen(path, "r+");
    assert_non_null(file);
    assert_int_equal(fputc(world->blob[0] ^ 1, file), world->blob[0] ^ 1);
    assert_int_equal(fclose(file), 0);
}

static void test_wrong_bytes_do_not_come_into_memory_and_are_quarantined(void **state) {
    (void)state;
    struct world *world = open_world(1000, MEMORY);
    struct client client = world_read_whole(world);
    assert_whole(&client);
    damage(world);
    client = world_read_whole(world);
    assert_false(client.right);
    assert_false(is_in_memory(world));
    assert_false(world_has_blob(world));
    client = world_read_whole(world); /* upstream is asked again */
    assert_whole(&client);
    end(world);
}

static void test_memory_that_clients_still_refer_to_is_counted(void **state) {
    (void)state;
    struct world *world = open_world(1000, MEMORY);
    atomic_fetch_add(&world->cache->small_bytes, MEMORY); /* others have so much */
    read_twice(world);
    assert_true(is_in_memory(world)); /* the last that fits */
    struct document *document = small_find(world->cache, &world->digest);
    cache_forget(world->cache);
    assert_int_equal(atomic_load(&world->cache->small_bytes), MEMORY + 1000);
    read_twice(world);
    assert_false(is_in_memory(world));
    document_release(document);
    assert_int_equal(atomic_load(&world->cache->small_bytes), MEMORY);
    read_twice(world);
    assert_true(is_in_memory(world));
    end(world);
}

static void test_while_one_blob_is_read_another_one_is_left_to_a_later_use(void **state) {
    (void)state;
    struct world *world = open_world(1000, MEMORY);
    atomic_store(&world->cache->is_reading_small, true);
    read_twice(world);
    assert_false(is_in_memory(world));
    atomic_store(&world->cache->is_reading_small, false);
    read_twice(world);
    assert_true(is_in_memory(world));
    end(world);
}

int main(void) {
    log_configure(LOG_ERROR + 1, LOG_TEXT);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_blob_of_64_kib_is_small_and_one_byte_more_is_not),
        cmocka_unit_test(test_no_blob_takes_more_than_a_sixteenth_of_the_memory),
        cmocka_unit_test(test_wrong_bytes_do_not_come_into_memory_and_are_quarantined),
        cmocka_unit_test(test_memory_that_clients_still_refer_to_is_counted),
        cmocka_unit_test(test_while_one_blob_is_read_another_one_is_left_to_a_later_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
