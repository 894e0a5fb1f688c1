/* Reads an image's parts from its manifests in the store. */
#include "cache/image.h"

#include <stdlib.h>
#include "base/cleanup.h"
#include "oci/manifest.h"
#include "store/blobs.h"
#include "store/records.h"
#include "store/usage.h"

enum {
    DEPTH_LIMIT = 4,      /* indexes inside indexes */
    PARTS_LIMIT = 100000, /* of one image; an index of large indexes could name any number */
};

bool image_read_manifest(struct store *store, const struct digest *digest, struct manifest *out) {
    cleanup_buffer struct buffer bytes = {0};
    return store_blob_peek(store, digest, MANIFEST_SIZE_LIMIT, &bytes, NULL) &&
           manifest_parse(bytes.bytes ? bytes.bytes : "", bytes.length, out, NULL);
}

/* Adds a part once; *held: it is new and in the store. */
static bool add_part(struct store *store, struct image *image, const struct digest *digest,
                     bool *held) {
    struct store_blob blob;
    bool added;
    *held = false;
    if (image->parts.count >= PARTS_LIMIT) {
        image->complete = false;
        return true;
    }
    if (!digest_set_add(&image->parts, digest, &added))
        return false;
    if (!added)
        return true;
    *held = store_blob_find(store, digest, &blob);
    image->complete = image->complete && *held;
    if (!*held)
        return true;
    image->bytes += blob.size;
    if (blob.last_used_s > image->last_used_s)
        image->last_used_s = blob.last_used_s;
    return true;
}

static bool add_manifests(struct store *store, struct image *image, const struct digest *digest,
                          unsigned depth) {
    struct manifest manifest = {0};
    bool held, ok = add_part(store, image, digest, &held);
    if (!ok || !held)
        return ok;
    if (depth > DEPTH_LIMIT || !image_read_manifest(store, digest, &manifest)) {
        image->complete = false;
        return true;
    }
    for (size_t i = 0; ok && i < manifest.count; i++) {
        const struct descriptor *part = &manifest.descriptors[i];
        if (part->role == DESCRIPTOR_MANIFEST)
            ok = add_manifests(store, image, &part->digest, depth + 1);
        else if (part->role != DESCRIPTOR_SUBJECT) /* the subject is an image of its own */
            ok = add_part(store, image, &part->digest, &held);
    }
    manifest_finish(&manifest);
    return ok;
}

bool image_read(struct store *store, const struct digest *digest, struct image *out,
                struct error *error) {
    struct store_blob blob;
    *out = (struct image){.complete = true};
    out->pinned = store_blob_find(store, digest, &blob) && blob.pinned;
    return add_manifests(store, out, digest, 0) || error_set(error, ERROR_MEMORY, "out of memory");
}

void image_finish(struct image *image) {
    digest_set_finish(&image->parts);
}
