/* A layer made by a thread of its own, and taken by its destination. */
#include "copy/layer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "base/lock.h"
#include "base/thread.h"

enum { BUFFER_SIZE = 1 << 20 };

struct layer {
    struct layer_settings settings;
    struct copy_body body;
    uint64_t skipping; /* bytes of this making that the destination has already */
    uint64_t taken;    /* where the destination stands */

    bool is_making;
    pthread_t maker;
    struct compress_result result; /* the maker's until `has_ended` */

    struct lock bytes_lock;
    struct condition room_changed; /* the maker waits for room */
    struct condition made_changed; /* finish() waits for bytes that nobody expects, or the end */
    char *bytes GUARDED_BY(bytes_lock); /* a ring of BUFFER_SIZE */
    size_t start GUARDED_BY(bytes_lock), length GUARDED_BY(bytes_lock);
    bool has_ended GUARDED_BY(bytes_lock);  /* all bytes were made, or it failed */
    bool is_dropped GUARDED_BY(bytes_lock); /* nobody takes the bytes any more */
    struct error failure GUARDED_BY(bytes_lock);
};

/* ---- the maker ---- */

/* Tells the destination that reading is worth a call. */
static void wake(struct layer *layer) {
    const uint64_t one = 1;
    /* It fails only when the counter is at its end, and then the destination is awake. */
    const ssize_t written = write(layer->body.wake_fd, &one, sizeof one);
    (void)written;
}

/* Puts as many of the bytes into the ring as there is room for. */
static size_t put_some(struct layer *layer, const char *bytes, size_t length)
    REQUIRES(layer->bytes_lock) {
    const size_t end = (layer->start + layer->length) % BUFFER_SIZE;
    const size_t left = BUFFER_SIZE - layer->length, straight = BUFFER_SIZE - end;
    size_t part = length < left ? length : left;
    part = part < straight ? part : straight;
    memcpy(layer->bytes + end, bytes, part);
    layer->length += part;
    return part;
}

static bool put(void *context, const void *bytes, size_t length, struct error *error) {
    struct layer *layer = context;
    const char *at = bytes;
    lock_acquire(&layer->bytes_lock);
    while (length && !layer->is_dropped) {
        if (layer->length == BUFFER_SIZE) {
            condition_wait(&layer->room_changed, &layer->bytes_lock);
            continue;
        }
        const bool was_empty = layer->length == 0;
        const size_t part = put_some(layer, at, length);
        at += part;
        length -= part;
        if (was_empty) {
            condition_signal(&layer->made_changed);
            wake(layer);
        }
    }
    const bool is_dropped = layer->is_dropped;
    lock_release(&layer->bytes_lock);
    return !is_dropped || error_set(error, ERROR_CLOSED, "the layer is not wanted any more");
}

static bool pack_to(void *context, const void *bytes, size_t length, struct error *error) {
    return compress_write(context, bytes, length, error);
}

static bool pack(const struct layer *layer, struct compress *compress, struct error *error) {
    const struct layer_content *content = &layer->settings.content;
    const struct sink sink = {pack_to, compress};
    return content->folder
               ? pack_folder(content->folder, content->inside, &layer->settings.pack, &sink, error)
               : pack_removals(content->removals, content->removal_count, &layer->settings.pack,
                               &sink, error);
}

static void make(void *argument) {
    struct layer *layer = argument;
    const struct sink sink = {put, layer};
    struct error error = {0};
    struct compress *compress = compress_new(layer->settings.compression, 0, &sink, &error);
    if (compress && pack(layer, compress, &error))
        compress_finish(compress, &layer->result, &error);
    compress_free(compress);
    lock_acquire(&layer->bytes_lock);
    layer->has_ended = true;
    layer->failure = error;
    condition_signal(&layer->made_changed);
    wake(layer);
    lock_release(&layer->bytes_lock);
}

/* ---- the destination's side ---- */

static void stop_making(struct layer *layer) {
    if (!layer->is_making)
        return;
    lock_acquire(&layer->bytes_lock);
    layer->is_dropped = true;
    lock_release(&layer->bytes_lock);
    condition_broadcast(&layer->room_changed);
    pthread_join(layer->maker, NULL);
    layer->is_making = false;
}

static void tell(const struct layer *layer) {
    if (layer->settings.on_progress)
        layer->settings.on_progress(layer->settings.context, layer->taken);
}

static bool seek(void *context, uint64_t offset, struct error *error) {
    struct layer *layer = context;
    uint64_t count;
    if (layer->is_making && layer->skipping == 0 && offset == layer->taken)
        return true;
    stop_making(layer);
    const ssize_t drained = read(layer->body.wake_fd, &count, sizeof count);
    (void)drained; /* nothing to drain is fine */
    lock_acquire(&layer->bytes_lock);
    layer->start = layer->length = 0;
    layer->has_ended = layer->is_dropped = false;
    layer->failure = (struct error){0};
    lock_release(&layer->bytes_lock);
    layer->skipping = layer->taken = offset;
    tell(layer);
    layer->is_making = thread_start("layer", THREAD_STACK, make, layer, &layer->maker, error);
    return layer->is_making;
}

/* Takes bytes out of the ring, to `bytes` or, if that is NULL, to nowhere. */
static size_t take_some(struct layer *layer, char *bytes, size_t size) REQUIRES(layer->bytes_lock) {
    const size_t straight = BUFFER_SIZE - layer->start;
    size_t part = size < layer->length ? size : layer->length;
    part = part < straight ? part : straight;
    if (bytes)
        memcpy(bytes, layer->bytes + layer->start, part);
    layer->start = (layer->start + part) % BUFFER_SIZE;
    layer->length -= part;
    return part;
}

static void skip(struct layer *layer) REQUIRES(layer->bytes_lock) {
    while (layer->skipping && layer->length) {
        const size_t most = layer->skipping < BUFFER_SIZE ? (size_t)layer->skipping : BUFFER_SIZE;
        layer->skipping -= take_some(layer, NULL, most);
    }
}

static bool refuse_changed(const struct layer *layer, const char *how, struct error *error) {
    const char *folder = layer->settings.content.folder;
    return error_set(error, ERROR_CORRUPT,
                     "%s: the folder changed between two tries to send it: the layer is %s now",
                     folder ? folder : "layer", how);
}

/* Under the lock: what there is, or the end, or the failure. */
static bool take(struct layer *layer, char *bytes, size_t size, size_t *length, bool *ended,
                 struct error *error) REQUIRES(layer->bytes_lock) {
    uint64_t count;
    skip(layer);
    while (*length < size && layer->length && layer->skipping == 0)
        *length += take_some(layer, bytes + *length, size - *length);
    if (layer->length)
        return true;
    *ended = layer->has_ended && !layer->failure.kind && layer->skipping == 0;
    if (layer->has_ended && layer->failure.kind && *length == 0) {
        if (error)
            *error = layer->failure;
        return false;
    }
    if (layer->has_ended && layer->skipping && !layer->failure.kind)
        return refuse_changed(layer, "shorter", error);
    if (!layer->has_ended) {
        const ssize_t drained = read(layer->body.wake_fd, &count, sizeof count);
        (void)drained; /* nothing to drain is fine */
    }
    return true;
}

static bool read_some(void *context, void *bytes, size_t size, size_t *length, bool *ended,
                      struct error *error) {
    struct layer *layer = context;
    *length = 0;
    *ended = false;
    lock_acquire(&layer->bytes_lock);
    const bool ok = take(layer, bytes, size, length, ended, error);
    lock_release(&layer->bytes_lock);
    condition_signal(&layer->room_changed);
    layer->taken += *length;
    if (*length)
        tell(layer);
    return ok;
}

/* A destination that knows the length from an earlier try takes so many bytes, and does not see the
 * end. Only at the end is there a result. */
static bool await_end(struct layer *layer, struct error *error) {
    lock_acquire(&layer->bytes_lock);
    while (!layer->has_ended && layer->length == 0)
        condition_wait(&layer->made_changed, &layer->bytes_lock);
    const bool is_longer = layer->length > 0;
    const struct error failure = layer->failure;
    lock_release(&layer->bytes_lock);
    if (is_longer)
        return refuse_changed(layer, "longer", error);
    if (failure.kind && error)
        *error = failure;
    return !failure.kind;
}

static bool finish(void *context, struct digest *digest, uint64_t *size, struct error *error) {
    struct layer *layer = context;
    if (!await_end(layer, error))
        return false;
    *digest = layer->result.digest;
    *size = layer->result.size;
    return true;
}

/* ---- life ---- */

struct layer *layer_new(const struct layer_settings *settings, struct error *error) {
    struct layer *layer = calloc(1, sizeof *layer);
    char *bytes = malloc(BUFFER_SIZE);
    const int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!layer || !bytes || fd < 0) {
        if (fd < 0)
            error_set_errno(error, errno, "cannot make a layer");
        else
            error_set(error, ERROR_MEMORY, "out of memory");
        if (fd >= 0)
            close(fd);
        free(layer);
        free(bytes);
        return NULL;
    }
    layer->settings = *settings;
    layer->bytes = bytes;
    layer->body = (struct copy_body){
        .context = layer,
        .seek = seek,
        .read = read_some,
        .wake_fd = fd,
        .finish = finish,
        .stop = settings->stop,
    };
    lock_init(&layer->bytes_lock);
    condition_init(&layer->room_changed);
    condition_init(&layer->made_changed);
    return layer;
}

void layer_free(struct layer *layer) {
    if (!layer)
        return;
    stop_making(layer);
    close(layer->body.wake_fd);
    condition_finish(&layer->made_changed);
    condition_finish(&layer->room_changed);
    lock_finish(&layer->bytes_lock);
    free(layer->bytes);
    free(layer);
}

struct copy_body *layer_body(struct layer *layer) {
    return &layer->body;
}

const struct compress_result *layer_result(const struct layer *layer) {
    return &layer->result;
}
