/*
 * The thread behind the loaders: it verifies layers of which all spans are here, and posts what
 * starts have read.
 *
 * The indexes say what a span is, and the image says what a layer is: the diff ID is the digest of
 * the whole archive, and the image's configuration, whose digest the manifest has, says it. So a
 * layer is believed as a whole only when its archive has been read once more from the disk.
 */
#include <stdio.h>
#include <stdlib.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "node/spans/private.h"

enum { STACK = 256 << 10 };

/* ---- verification ---- */

/* Whether all of the layer is on the disk. */
static bool is_here(const struct spans_layer *layer) {
    if (layer->is_verified || layer->is_bad || layer->present < layer->count)
        return false;
    for (size_t i = 0; i < layer->count; i++)
        if (layer->slots[i].place != SPAN_KEPT && layer->slots[i].place != SPAN_PRESENT)
            return false;
    return true;
}

/* Reads a span that is on the disk. False: it is not right there. */
static bool read_span(struct spans *spans, struct spans_layer *layer, size_t at, void *bytes) {
    struct spans_slot *slot = &layer->slots[at];
    lock_acquire(&spans->lock);
    bool is_there = slot->place == SPAN_KEPT || slot->place == SPAN_PRESENT;
    slot->pins += is_there;
    lock_release(&spans->lock);
    bool ok = is_there && spans_layer_read(layer, at, bytes);
    lock_acquire(&spans->lock);
    slot->pins -= is_there;
    if (ok && slot->place == SPAN_KEPT)
        slot->place = SPAN_PRESENT;
    else if (is_there && !ok && slot->pins == 0)
        spans_flight_lose(spans, layer, at);
    lock_release(&spans->lock);
    return ok;
}

/* Hashes the archive. False: not all of it is here any more. */
static bool hash_archive(struct spans *spans, struct spans_layer *layer, struct digest *out) {
    uint64_t offset, length, most = 0;
    for (size_t i = 0; i < layer->count; i++) {
        spans_layer_bounds(layer, i, &offset, &length);
        most = length > most ? length : most;
    }
    cleanup_free void *bytes = malloc((size_t)most + 1);
    struct digest_hash *hash = digest_hash_new(layer->diff_id.algorithm);
    bool ok = bytes && hash;
    for (size_t i = 0; ok && i < layer->count; i++) {
        ok = !atomic_load(&spans->stopping) && read_span(spans, layer, i, bytes);
        spans_layer_bounds(layer, i, &offset, &length);
        if (ok)
            digest_hash_update(hash, bytes, (size_t)length);
    }
    if (ok)
        digest_hash_finish(hash, out);
    digest_hash_free(hash);
    return ok;
}

/* The next image that has the layer and that the root still keeps. */
static bool next_image_of(struct spans *spans, const struct spans_layer *layer,
                          char key[static SPANS_KEY_SIZE]) REQUIRES(spans->lock) {
    for (struct spans_image *image = spans->images; image; image = image->next)
        for (size_t i = 0; !image->is_forgotten && i < image->layer_count; i++)
            if (image->layers[i] == layer) {
                image->is_forgotten = true;
                spans_key(&image->digest, key);
                return true;
            }
    return false;
}

/* The layer is not what the image says: nothing of it is used again. */
static void condemn(struct spans *spans, struct spans_layer *layer) {
    char text[DIGEST_STRING_SIZE], key[SPANS_KEY_SIZE];
    lock_acquire(&spans->lock);
    layer->is_bad = true;
    while (next_image_of(spans, layer, key)) {
        lock_release(&spans->lock);
        spans_folder_delete(spans->images_fd, key);
        lock_acquire(&spans->lock);
    }
    lock_release(&spans->lock);
    spans_folder_delete(spans->layers_fd, layer->key);
    log_at(LOG_ERROR, "bad layer", LOG_STRING("layer", digest_format(&layer->digest, text)),
           LOG_STRING("error", "it does not unpack to what the image's configuration says; mount "
                               "the image again to fetch it anew"));
}

static void verify(struct spans *spans, struct spans_layer *layer) {
    struct digest is = {0};
    struct error error = {0};
    bool is_read = hash_archive(spans, layer, &is);
    bool is_right = is_read && digest_equal(&is, &layer->diff_id);
    if (is_read && !is_right)
        condemn(spans, layer);
    if (is_right && !spans_layer_mark(layer, true, &error))
        log_at(LOG_WARN, "cannot keep that a layer was verified", LOG_STRING("error", error.text));
    lock_acquire(&spans->lock);
    layer->is_verifying = false;
    layer->is_verified = is_right && layer->present == layer->count;
    spans_layer_leave(spans, layer);
    lock_release(&spans->lock);
    spans_layer_sweep(spans);
}

/* ---- images that are complete ---- */

static bool is_complete(const struct spans_image *image) {
    bool ok = true;
    for (size_t i = 0; ok && i < image->layer_count; i++)
        ok = image->layers[i]->is_verified;
    return ok;
}

static void note_complete(struct spans *spans) REQUIRES(spans->lock) {
    char text[DIGEST_STRING_SIZE], name[SPANS_NAME_SIZE];
    for (struct spans_image *image = spans->images; image; image = image->next) {
        if (atomic_load(&image->complete_ms) >= 0 || !is_complete(image))
            continue;
        int64_t took_ms = clock_ms() - image->opened_ms;
        atomic_store(&image->complete_ms, took_ms);
        log_at(LOG_INFO, "stream complete", LOG_STRING("image", spans_image_name(image, name)),
               LOG_STRING("manifest", digest_format(&image->digest, text)),
               LOG_NUMBER("bytes", (double)atomic_load(&image->fetched)),
               LOG_NUMBER("seconds", (double)took_ms / 1e3));
    }
}

/* ---- the thread ---- */

static struct spans_layer *next_to_verify(struct spans *spans) REQUIRES(spans->lock) {
    for (struct spans_layer *layer = spans->layers; layer; layer = layer->next)
        if (layer->users && is_here(layer)) {
            layer->is_verifying = true;
            layer->references++;
            return layer;
        }
    return NULL;
}

static void run_keeper(void *context) {
    struct spans *spans = context;
    lock_acquire(&spans->lock);
    while (!spans->is_ending) {
        struct spans_layer *layer = next_to_verify(spans);
        struct spans_errand *errand = NULL;
        int64_t wake_ms = INT64_MAX;
        note_complete(spans);
        if (!layer)
            errand = spans_trace_next(spans, &wake_ms);
        if (!layer && !errand) {
            condition_wait_until(&spans->changed, &spans->lock, wake_ms);
            continue;
        }
        spans->is_posting = errand != NULL;
        lock_release(&spans->lock);
        if (layer)
            verify(spans, layer);
        else
            spans_trace_post(spans, errand);
        lock_acquire(&spans->lock);
        spans->is_posting = false;
        condition_broadcast(&spans->changed);
    }
    lock_release(&spans->lock);
}

bool spans_keeper_start(struct spans *spans, struct error *error) {
    spans->has_keeper = thread_start("spans-keep", STACK, run_keeper, spans, &spans->keeper, error);
    return spans->has_keeper;
}

void spans_keeper_stop(struct spans *spans) {
    lock_acquire(&spans->lock);
    spans->is_ending = true;
    condition_broadcast(&spans->changed);
    lock_release(&spans->lock);
    if (spans->has_keeper)
        pthread_join(spans->keeper, NULL);
    spans->has_keeper = false;
}
