/* A world whose upstream has one image: a manifest with the world's blob as its only layer. */
#ifndef TESTS_UNIT_ADMIN_IMAGE_WORLD_H
#define TESTS_UNIT_ADMIN_IMAGE_WORLD_H

#include "cache_world.h"

#define IMAGE "fake.test/app:latest"

struct image_world {
    struct world *world;
    struct current_upstreams upstreams;
    char manifest[512];
    uint64_t size; /* of the manifest and the blob */
};

/* For cmocka: an open world with the image, of which nothing is cached. */
int image_world_set_up(void **state);
int image_world_tear_down(void **state);
#define image_test(name)                                                                           \
    cmocka_unit_test_setup_teardown(name, image_world_set_up, image_world_tear_down)

#endif
