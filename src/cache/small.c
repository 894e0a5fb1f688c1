/* Keeps small blobs in memory. */
#include "cache/small.h"

#include "base/file.h"
#include "cache/cache_private.h"
#include "cache/slot.h"
#include "store/blobs.h"

enum { SHARE = 16 }; /* a blob may take this part of the documents' memory */

/* No other key is a digest alone. */
struct document *small_find(struct cache *cache, const struct digest *digest) {
    char key[DIGEST_STRING_SIZE];
    struct document *document;
    slot_get(cache, digest_format(digest, key), &document, NULL);
    return document;
}

static bool is_small(const struct cache *cache, uint64_t size) {
    return size <= SMALL_MOST && size <= cache->document_memory / SHARE;
}

/* False: `document` has no memory, or the bytes cannot be read; the blob stays as it is. */
static bool read_bytes(const struct cache_blob *blob, struct document *document) {
    return document &&
           file_read_at(blob->fd, document->bytes, blob->size, 0) == (ssize_t)blob->size;
}

static void keep(struct cache_blob *blob, struct document *document,
                 const struct slot_moment *moment) {
    char key[DIGEST_STRING_SIZE];
    struct digest actual;
    if (!digest_of(blob->digest.algorithm, document->bytes, document->length, &actual))
        return; /* out of memory */
    if (digest_equal(&actual, &blob->digest)) {
        slot_put_loaded(blob->cache, digest_format(&blob->digest, key), document, INT64_MAX, 0,
                        moment);
        return;
    }
    struct error error;
    error_set(&error, ERROR_CORRUPT, "the bytes on disk are not %s",
              digest_format(&blob->digest, key));
    cache_blob_unreadable(blob, &error);
}

void small_read(struct cache_blob *blob) {
    struct cache *cache = blob->cache;
    struct document *known = NULL;
    if (!is_small(cache, blob->size) || atomic_load(&cache->small_bytes) > cache->document_memory ||
        (known = small_find(cache, &blob->digest)) ||
        atomic_exchange(&cache->is_reading_small, true)) {
        document_release(known);
        return;
    }
    const struct slot_moment moment = slot_moment_now(cache, NULL);
    struct document *document = document_new(&blob->digest, "", blob->size, true);
    if (document) {
        document->counted_in = &cache->small_bytes;
        atomic_fetch_add(&cache->small_bytes, document->length);
    }
    if (read_bytes(blob, document))
        keep(blob, document, &moment);
    document_release(document);
    atomic_store(&cache->is_reading_small, false);
}
