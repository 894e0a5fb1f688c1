/* The fixture of the tests that warm an image. */
#include "admin/image_world.h"

#include "oci/manifest.h"

int image_world_set_up(void **state) {
    struct image_world *image = calloc(1, sizeof *image);
    char digest[DIGEST_STRING_SIZE];
    void *world;
    assert_non_null(image);
    world_set_up(&world);
    image->world = world;
    struct upstream *upstream = &image->world->upstream;
    image->upstreams.set.only = upstream;
    int length =
        snprintf(image->manifest, sizeof image->manifest,
                 "{\"schemaVersion\":2,\"mediaType\":\"" MEDIA_OCI_MANIFEST "\",\"layers\":"
                 "[{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\","
                 "\"digest\":\"%s\",\"size\":%d}]}",
                 digest_format(&image->world->digest, digest), WORLD_BLOB_SIZE);
    assert_in_range(length, 1, sizeof image->manifest - 1);
    upstream->manifest = image->manifest;
    assert_true(
        digest_of(DIGEST_SHA256, image->manifest, (size_t)length, &upstream->manifest_digest));
    image->size = (uint64_t)length + WORLD_BLOB_SIZE;
    *state = image;
    return 0;
}

int image_world_tear_down(void **state) {
    struct image_world *image = *state;
    void *world = image->world;
    world_tear_down(&world);
    free(image);
    return 0;
}
