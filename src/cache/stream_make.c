/* Makes indexes: reads blobs, and puts what comes of it beside them. */
#include "cache/stream_make.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/metric.h"
#include "layer/build.h"
#include "store/aside.h"
#include "store/blobs.h"

enum { PART = 256 << 10 /* bytes that are read at once */ };

static struct metric *read_bytes(void) {
    return metric_get(METRIC_COUNTER, "tarn_streaming_read_bytes_total",
                      "Bytes of layers that were read to make their indexes.", "");
}

static struct metric *cpu_seconds(void) {
    return metric_get(METRIC_SECONDS_COUNTER, "tarn_streaming_cpu_seconds_total",
                      "Processor time that making indexes took.", "");
}

void stream_make_declare_metrics(void) {
    read_bytes();
    cpu_seconds();
}

/* Processor time of this thread. */
static int64_t cpu_us(void) {
    struct timespec now;
    if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) < 0)
        return 0;
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static bool keep(const struct stream_maker *maker, const struct digest *digest,
                 enum aside_kind kind, const struct buffer *bytes, struct error *error) {
    struct store *store = maker->upkeep->store;
    return space_ensure(&maker->upkeep->space, bytes->length, error) &&
           store_aside_put(store, digest, kind, bytes->bytes, bytes->length, error);
}

/* ---- layers ---- */

/* The copy of a layer, which is written while the layer is read. */
struct copy {
    const struct stream_maker *maker;
    int fd;
    char path[PATH_SIZE];
    uint64_t reserved; /* bytes for which space was made */
    uint64_t written;
};

static bool write_copy(void *context, const void *bytes, size_t length, struct error *error) {
    struct copy *copy = context;
    enum { STEP = 64 << 20 };
    copy->written += length;
    if (copy->written > copy->reserved) {
        if (!space_ensure(&copy->maker->upkeep->space, STEP, error))
            return false;
        copy->reserved += STEP;
    }
    return file_write_all(copy->fd, bytes, length, error);
}

static bool feed_blob(const struct stream_maker *maker, struct build *build, int fd, uint64_t size,
                      struct error *error) {
    cleanup_free char *part = malloc(PART);
    if (!part)
        return error_set(error, ERROR_MEMORY, "out of memory");
    for (uint64_t at = 0; at < size;) {
        size_t length = size - at < PART ? (size_t)(size - at) : PART;
        if (!cancel_check(maker->cancel, error) || !file_read_all_at(fd, part, length, at, error) ||
            !build_feed(build, part, length, error))
            return false;
        metric_add(read_bytes(), (int64_t)length);
        at += length;
    }
    return true;
}

/* One pass over the blob. *needs_copy: it has to be made again with a copy. */
static bool make_pass(const struct stream_maker *maker, const struct build_recipe *recipe, int fd,
                      uint64_t size, struct buffer *out, bool *needs_copy, struct error *error) {
    struct build *build = build_new(recipe);
    *needs_copy = false;
    if (!build)
        return error_set(error, ERROR_MEMORY, "out of memory");
    bool ok = feed_blob(maker, build, fd, size, error) && build_finish(build, out, error);
    *needs_copy = !ok && !recipe->copy && build_needs_copy(build);
    build_free(build);
    return ok;
}

static bool make_with_copy(const struct stream_maker *maker, const struct build_recipe *base,
                           int fd, uint64_t size, struct buffer *out, struct error *error) {
    struct store *store = maker->upkeep->store;
    struct copy copy = {.maker = maker};
    bool ignored;
    copy.fd = store_aside_begin(store, copy.path, error);
    if (copy.fd < 0)
        return false;
    struct build_recipe recipe = *base;
    recipe.copy = write_copy;
    recipe.context = &copy;
    bool ok = make_pass(maker, &recipe, fd, size, out, &ignored, error);
    if (ok)
        ok = store_aside_commit(store, &recipe.layer, ASIDE_COPY, copy.fd, copy.path, error);
    else
        store_aside_abandon(store, copy.path);
    close(copy.fd);
    return ok;
}

static bool make_index(const struct stream_maker *maker, const struct stream_layer *layer, int fd,
                       uint64_t size, struct error *error) {
    cleanup_buffer struct buffer out = {0};
    const struct build_recipe recipe = {
        .layer = layer->digest, .diff_id = layer->diff_id, .is_plain = layer->is_plain};
    bool needs_copy;
    bool ok = make_pass(maker, &recipe, fd, size, &out, &needs_copy, error);
    if (needs_copy)
        ok = make_with_copy(maker, &recipe, fd, size, &out, error);
    return ok && keep(maker, &layer->digest, ASIDE_INDEX, &out, error);
}

/* Keeps and logs why something has no index. */
static void refuse(const struct stream_maker *maker, const struct digest *digest,
                   const struct digest *diff_id, enum layer_refusal why,
                   const struct error *error) {
    char text[DIGEST_STRING_SIZE];
    struct error ignored;
    log_at(why == LAYER_ERROR ? LOG_WARN : LOG_INFO, "cannot stream",
           LOG_STRING("digest", digest_format(digest, text)),
           LOG_STRING("why", layer_refusal_word(why)), LOG_STRING("error", error->text));
    stream_refuse(maker->upkeep->store, digest, diff_id, why, &ignored);
}

/* What a failure means. True: it says something about the layer or about us, which is kept. */
static bool settle(const struct stream_maker *maker, const struct digest *digest,
                   const struct digest *diff_id, enum layer_refusal *why,
                   const struct error *error) {
    if (error->kind == ERROR_CLOSED || error->kind == ERROR_NOT_FOUND)
        return false;
    *why = layer_refusal_of(error);
    refuse(maker, digest, diff_id, *why, error);
    return true;
}

bool stream_make_layer(const struct stream_maker *maker, const struct stream_layer *layer,
                       enum layer_refusal *why, struct error *error) {
    struct store *store = maker->upkeep->store;
    char text[DIGEST_STRING_SIZE];
    uint64_t size;
    int64_t began_us = cpu_us();
    *why = LAYER_FINE;
    int fd = store_blob_open(store, &layer->digest, &size, error);
    if (fd < 0)
        return false;
    bool ok = make_index(maker, layer, fd, size, error);
    if (!ok && error->kind == ERROR_CORRUPT) {
        struct error ignored;
        store_blob_quarantine(store, &layer->digest, fd, &ignored);
    }
    store_blob_close(store, &layer->digest, fd);
    metric_add(cpu_seconds(), cpu_us() - began_us);
    if (ok) {
        log_at(LOG_INFO, "layer indexed", LOG_STRING("digest", digest_format(&layer->digest, text)),
               LOG_NUMBER("bytes", (double)size),
               LOG_NUMBER("cpu_seconds", (double)(cpu_us() - began_us) / 1e6));
        return true;
    }
    return settle(maker, &layer->digest, &layer->diff_id, why, error);
}

/* ---- images ---- */

/* Lays one layer over the others. */
static bool add_layer(const struct stream_maker *maker, const struct stream_layer *layer,
                      uint32_t device, struct tree *tree, struct image_layer *facts,
                      struct error *error) {
    cleanup_buffer struct buffer bytes = {0};
    struct layer_index index;
    struct store *store = maker->upkeep->store;
    if (!cancel_check(maker->cancel, error) ||
        !store_aside_read(store, &layer->digest, ASIDE_INDEX, INDEX_FILE_LIMIT, &bytes, error))
        return false;
    if (!layer_index_open(bytes.bytes, bytes.length, &index, error)) {
        /* The disk damaged it; the next look at the image makes it again. */
        store_aside_delete(store, &layer->digest, ASIDE_INDEX);
        return error_set(error, ERROR_NOT_FOUND, "an index was damaged");
    }
    *facts = (struct image_layer){.layer = index.facts.layer,
                                  .diff_id = index.facts.diff_id,
                                  .blob_size = index.facts.blob_size,
                                  .tar_size = index.facts.tar_size};
    struct tree *upper = layer_index_tree(&index, error);
    bool ok = upper && tree_merge(tree, upper, device, error);
    tree_free(upper);
    layer_index_finish(&index);
    return ok;
}

static bool make_image_index(const struct stream_maker *maker, const struct digest *manifest,
                             const struct stream_parts *parts, struct error *error) {
    cleanup_buffer struct buffer out = {0};
    cleanup_free struct image_layer *layers = calloc(parts->count + 1, sizeof *layers);
    struct tree *tree = tree_new(TREE_MEMORY);
    bool ok = (layers && tree) || error_set(error, ERROR_MEMORY, "out of memory");
    for (size_t i = 0; ok && i < parts->count; i++)
        ok = add_layer(maker, &parts->layers[i], (uint32_t)i + 1, tree, &layers[i], error);
    ok = ok && image_index_write(manifest, layers, parts->count, tree, &out, error);
    tree_free(tree);
    return ok && keep(maker, manifest, ASIDE_IMAGE, &out, error);
}

bool stream_make_image(const struct stream_maker *maker, const struct digest *manifest,
                       const struct stream_parts *parts, enum layer_refusal *why,
                       struct error *error) {
    static const struct digest none = {0};
    int64_t began_us = cpu_us();
    *why = LAYER_FINE;
    bool ok = make_image_index(maker, manifest, parts, error);
    metric_add(cpu_seconds(), cpu_us() - began_us);
    return ok || settle(maker, manifest, &none, why, error);
}
