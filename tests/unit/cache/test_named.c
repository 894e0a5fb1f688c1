/* Which blobs the manifests of a repository name: what is remembered, what is read from the disk,
 * and what is forgotten. */
#include "cache/named.h"

#include "cache/cache_private.h"
#include "cache/document.h"
#include "cache_world.h"
#include "oci/manifest.h"
#include "store/blobs.h"
#include "store/records.h"

enum { BLOB_SIZE = 1000 };

static int set_up(void **state) {
    struct world *world = world_new("/tmp", BLOB_SIZE);
    world_open(world);
    *state = world;
    return 0;
}

static int tear_down(void **state) {
    struct world *world = *state;
    world_close(world);
    world_free(world);
    return 0;
}

static const struct repository *repository(struct world *world, const char *path) {
    return fake_repository(&world->upstream, path);
}

/* A digest that belongs to nothing but the number. */
static struct digest digest_of_number(unsigned number) {
    struct digest digest;
    assert_true(digest_of(DIGEST_SHA256, &number, sizeof number, &digest));
    return digest;
}

/* A manifest with one layer of `number` bytes, whose digest is that of the number. */
static size_t write_manifest(char *out, size_t size, unsigned number, const char *member) {
    char text[DIGEST_STRING_SIZE];
    struct digest digest = digest_of_number(number);
    return (size_t)snprintf(out, size,
                            "{\"schemaVersion\":2,\"%s\":[{\"mediaType\":\"%s\",\"digest\":\"%s\","
                            "\"size\":%u}]}",
                            member, MEDIA_OCI_MANIFEST, digest_format(&digest, text), number);
}

static void note(struct world *world, const char *path, unsigned number, const char *member) {
    char text[512];
    size_t length = write_manifest(text, sizeof text, number, member);
    struct digest digest;
    assert_true(digest_of(DIGEST_SHA256, text, length, &digest));
    struct document *document = document_new(&digest, MEDIA_OCI_MANIFEST, length, true);
    memcpy(document->bytes, text, length);
    named_note(world->cache, repository(world, path), document,
               atomic_load(&world->cache->forgets));
    document_release(document);
}

static bool is_named(struct world *world, const char *path, unsigned number) {
    uint64_t size;
    struct digest digest = digest_of_number(number);
    bool named = named_find(world->cache, repository(world, path), &digest, &size);
    assert_true(!named || size == number);
    return named;
}

static void test_a_layer_is_named_in_the_repository_of_the_manifest_alone(void **state) {
    note(*state, "app", 1, "layers");
    assert_true(is_named(*state, "app", 1));
    assert_false(is_named(*state, "app", 2));
    assert_false(is_named(*state, "other", 1));
}

static void test_a_child_of_an_index_is_no_blob(void **state) {
    note(*state, "app", 1, "manifests");
    assert_false(is_named(*state, "app", 1));
}

static void test_nothing_is_known_after_a_forget(void **state) {
    struct world *world = *state;
    note(world, "app", 1, "layers");
    cache_forget(world->cache);
    assert_false(is_named(world, "app", 1));
}

static void test_what_is_on_the_disk_is_read_once_in_a_while(void **state) {
    struct world *world = *state;
    char text[512];
    struct digest digest;
    for (unsigned number = 1; number <= 2; number++) {
        size_t length = write_manifest(text, sizeof text, number, "layers");
        assert_true(digest_of(DIGEST_SHA256, text, length, &digest));
        assert_true(store_blob_put(world->store, &digest, text, length, NULL));
        assert_true(store_link_manifest(world->store, &repository(world, "app")->name, &digest,
                                        MEDIA_OCI_MANIFEST, NULL));
        assert_int_equal(is_named(world, "app", number), number == 1);
    }
    world_reopen(world, 0);
    assert_true(is_named(world, "app", 2));
    assert_false(is_named(world, "other", 2));
}

static void test_the_newest_facts_are_kept(void **state) {
    struct world *world = *state;
    enum { MANY = 60000, NEWEST = 1000 };
    for (unsigned number = 1; number <= MANY; number++) {
        note(world, "app", number, "layers");
        assert_true(is_named(world, "app", number));
    }
    unsigned kept = 0;
    for (unsigned number = MANY - NEWEST + 1; number <= MANY; number++)
        kept += is_named(world, "app", number);
    assert_true(kept > NEWEST - NEWEST / 100);
    kept = 0;
    for (unsigned number = 1; number <= NEWEST; number++)
        kept += is_named(world, "app", number);
    assert_true(kept < NEWEST / 10);
}

#define named_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        named_test(test_a_layer_is_named_in_the_repository_of_the_manifest_alone),
        named_test(test_a_child_of_an_index_is_no_blob),
        named_test(test_nothing_is_known_after_a_forget),
        named_test(test_what_is_on_the_disk_is_read_once_in_a_while),
        named_test(test_the_newest_facts_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
