/* What the index knows, for the callers of store/. */
#include "store/usage.h"

#include <errno.h>
#include <sys/statvfs.h>
#include "store/store_private.h"

void store_usage(struct store *store, struct store_usage *out) {
    *out = (struct store_usage){
        .unread = atomic_load_explicit(&store->unread, memory_order_relaxed),
        .complete = atomic_load_explicit(&store->scanned, memory_order_acquire)};
    store_partials_usage(store, out);
    index_usage(&store->index, out);
}

bool store_free_bytes(struct store *store, uint64_t *bytes, struct error *error) {
    struct statvfs state;
    if (fstatvfs(store->root, &state) < 0)
        return error_set_errno(error, errno, "ask for the free space of %s", store->path);
    *bytes = (uint64_t)state.f_bavail * state.f_frsize;
    return true;
}

bool store_blob_next(struct store *store, uint32_t *cursor, struct store_blob *out) {
    return index_next(&store->index, cursor, out);
}

bool store_blob_find(struct store *store, const struct digest *digest, struct store_blob *out) {
    return index_find(&store->index, digest, out);
}

bool store_evictable(struct store *store, int64_t before_s,
                     bool (*each)(void *context, const struct store_blob *blob), void *context) {
    return index_evictable(&store->index, before_s, each, context);
}

void store_pins_begin(struct store *store) {
    index_pins_begin(&store->index);
}

void store_pin(struct store *store, const struct digest *digest) {
    index_pin(&store->index, digest);
}

void store_pins_end(struct store *store) {
    index_pins_end(&store->index);
}
