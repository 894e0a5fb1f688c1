/* An image in the store: its parts, their size and their last use. One thread at a time for each
 * struct. */
#ifndef CACHE_IMAGE_H
#define CACHE_IMAGE_H

#include "oci/digest_set.h"
#include "oci/manifest.h"
#include "store/store.h"

struct image {               /* zeroed is empty */
    struct digest_set parts; /* its manifests, configs and layers, stored or not */
    uint64_t bytes;          /* of the stored parts */
    int64_t last_used_s;     /* the latest use of a part; 0: no part is stored */
    bool complete;           /* all parts are stored */
    bool pinned;
};
/* Reads the image whose manifest or index is `digest`. A manifest that cannot be read counts as one
 * without parts. */
bool image_read(struct store *store, const struct digest *digest, struct image *out,
                struct error *error);
void image_finish(struct image *image);
#define cleanup_image __attribute__((cleanup(image_finish)))

/* Reads a manifest without counting that as a use. False: it is not stored, or is no manifest. */
bool image_read_manifest(struct store *store, const struct digest *digest, struct manifest *out);

#endif
