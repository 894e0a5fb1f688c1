/*
 * What is stored, for the page: the images that were used last, and how many bytes each upstream
 * has. It is read from the store by a thread that may wait for the disk, and then never changes.
 *
 * Only CATALOG_IMAGES images are kept, those used last, and of each the first CATALOG_TAGS tags, so
 * that a catalog takes a bounded amount of memory.
 *
 * Threads: catalog_read() by one thread at a time; a catalog that was read by any number.
 */
#ifndef PAGE_CATALOG_H
#define PAGE_CATALOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/cancel.h"
#include "base/error.h"
#include "oci/digest.h"
#include "oci/reference.h"
#include "store/store.h"

enum { CATALOG_IMAGES = 10000, CATALOG_TAGS = 8, CATALOG_UPSTREAMS = 64 };

struct catalog_image {
    struct digest digest;
    const char *host, *path; /* of the repository; owned by the image, as are the tags */
    const char *tags[CATALOG_TAGS];
    unsigned tags_here; /* how many of them are in `tags` */
    size_t tag_count;
    uint64_t bytes;      /* of the stored parts */
    int64_t last_used_s; /* wall seconds */
    bool complete, pinned;
    char *memory; /* what the texts point into */
};

struct catalog_upstream {
    char host[HOST_LIMIT + 1];
    uint64_t bytes; /* of the blobs that its repositories hold, each once */
    size_t repositories;
};

struct catalog {
    atomic_uint references;
    struct catalog_image *images; /* the last used first */
    size_t count, capacity;
    size_t all_images; /* also those that are not kept */
    size_t all_repositories;
    struct catalog_upstream upstreams[CATALOG_UPSTREAMS]; /* those with most bytes first */
    size_t upstream_count;
    int64_t took_ms;
};

/* NULL: ERROR_MEMORY, ERROR_IO, or ERROR_CLOSED when cancelled. The caller has one reference. */
struct catalog *catalog_read(struct store *store, const struct cancel *cancel, struct error *error);
struct catalog *catalog_keep(struct catalog *catalog); /* one more reference */
void catalog_release(struct catalog *catalog);         /* NULL is allowed */

/* Whether the text (in any case of ASCII letters) is in "HOST/NAME", in a tag or in the digest; or
 * whether all of its words are. An empty text is in every image. */
bool catalog_matches(const struct catalog_image *image, const char *text);

#endif
