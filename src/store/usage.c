/* What the index knows, for the callers of store/. */
#include "store/usage.h"

#include <errno.h>
#include <sys/statvfs.h>
#include "store/root.h"
#include "store/store_private.h"

void store_usage(struct store *store, struct store_usage *out) {
    *out = (struct store_usage){
        .unread = atomic_load_explicit(&store->unread, memory_order_relaxed),
        .complete = atomic_load_explicit(&store->scanned, memory_order_acquire)};
    int64_t record_bytes = atomic_load_explicit(&store->record_bytes, memory_order_relaxed),
            records = atomic_load_explicit(&store->record_entries, memory_order_relaxed),
            bad_bytes = atomic_load_explicit(&store->bad_bytes, memory_order_relaxed);
    out->unit = store->index.unit;
    out->record_bytes = record_bytes > 0 ? (uint64_t)record_bytes : 0;
    out->records = records > 0 ? (uint64_t)records : 0;
    out->bad_bytes = (uint64_t)bad_bytes;
    int64_t aside_bytes = atomic_load_explicit(&store->aside_bytes, memory_order_relaxed);
    out->aside_bytes = aside_bytes > 0 ? (uint64_t)aside_bytes : 0;
    store_partials_usage(store, out);
    index_usage(&store->index, out);
}

uint64_t store_usage_on_disk(const struct store_usage *usage) {
    return usage->disk_bytes + usage->reserved_bytes + usage->partial_bytes + usage->record_bytes +
           usage->bad_bytes + usage->aside_bytes;
}

bool store_free(struct store *store, struct store_free *out, struct error *error) {
    struct statvfs state;
    if (fstatvfs(store->root, &state) < 0)
        return error_set_errno(error, errno, "ask for the free space of %s", store->path);
    *out = (struct store_free){.bytes = (uint64_t)state.f_bavail * state.f_frsize,
                               .all_bytes = (uint64_t)state.f_blocks * state.f_frsize,
                               .counts_files = state.f_files > 0,
                               .files = state.f_favail,
                               .all_files = state.f_files};
    return true;
}

bool store_records_count(struct store *store, const struct cancel *cancel, struct error *error) {
    return root_count_records(store, cancel, error);
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
