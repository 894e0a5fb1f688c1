/* The room as a whole: settings, life, reads of files, and what is shown. */
#include "node/spans/spans.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "node/spans/private.h"

enum {
    LOCK_MS = 5000, /* that another process may take to let go of the root */
    LOOK_MS = 50,
    ERRANDS_MS = 1500, /* that traces may still take when all is closed */
    LARGE = 512 << 10, /* bytes of an allocation that gets pages of its own */
};

/* ---- settings ---- */

struct spans_settings spans_settings_default(void) {
    static const char *const from[] = {STREAM_DEFAULT_URL, NULL};
    return (struct spans_settings){.from = from,
                                   .cache_size = UINT64_C(20) << 30,
                                   .background = 32 << 20,
                                   .wait_ms = 300000,
                                   .trace = true,
                                   .trace_time_ms = 60000};
}

static void make_metrics(struct spans *spans) {
    static const char *const whys[] = {"why=\"background\"", "why=\"trace\"", "why=\"readahead\"",
                                       "why=\"demand\""};
    static const char name[] = "tarn_node_fetched_bytes_total";
    static const char help[] = "Bytes that came from tarns and registries, by why.";
    for (unsigned i = 0; i < SPANS_WHYS; i++)
        spans->fetched[i] = metric_get(METRIC_COUNTER, name, help, whys[i]);
    spans->fetched_metadata = metric_get(METRIC_COUNTER, name, help, "why=\"metadata\"");
    spans->bad_spans = metric_get(METRIC_COUNTER, "tarn_node_bad_spans_total",
                                  "Parts of layers that came with a wrong digest.", "");
    spans->read_errors = metric_get(METRIC_COUNTER, "tarn_node_read_errors_total",
                                    "Reads of mounted images that failed.", "");
    spans->waits = metric_get(METRIC_HISTOGRAM, "tarn_node_wait_seconds",
                              "How long reads waited for the network.", "");
    spans->cache_bytes = metric_get(METRIC_GAUGE, "tarn_node_cache_bytes",
                                    "Bytes of images on the node's disk.", "");
}

/* ---- life ---- */

static bool lock_root(struct spans *spans, struct error *error) {
    int64_t until_ms = clock_ms() + LOCK_MS;
    spans->lock_fd = openat(spans->root_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (spans->lock_fd < 0)
        return error_set_errno(error, errno, "create a file in it");
    while (flock(spans->lock_fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK)
            return error_set_errno(error, errno, "lock it");
        if (clock_ms() > until_ms)
            return error_set(error, ERROR_BUSY, "another process uses it");
        clock_sleep_ms(LOOK_MS);
    }
    return true;
}

static bool open_root(struct spans *spans, struct error *error) {
    const char *root = spans->settings.root;
    if (mkdir(root, 0700) < 0 && errno != EEXIST)
        return error_set_errno(error, errno, "make it");
    spans->root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (spans->root_fd < 0)
        return error_set_errno(error, errno, "open it");
    if (!lock_root(spans, error))
        return false;
    spans->layers_fd = spans_folder_open(spans->root_fd, "layers", true, error);
    spans->images_fd = spans_folder_open(spans->root_fd, "images", true, error);
    return spans->layers_fd >= 0 && spans->images_fd >= 0 && spans_budget_scan(spans, error);
}

static bool open_sources(struct spans *spans, const struct spans_settings *settings,
                         struct error *error) {
    for (size_t i = 0; settings->from && settings->from[i]; i++) {
        struct spans_source *source = spans_source_find(spans, settings->from[i], error);
        if (!source)
            return false;
        spans->defaults.list[spans->defaults.count++] = source;
    }
    if (settings->upstream_count == 0)
        return true;
    spans->upstreams =
        current_upstreams_new(spans->client, settings->upstreams, settings->upstream_count, error);
    if (!spans->upstreams)
        return false;
    spans->defaults.list[spans->defaults.count++] = &spans->upstream_source;
    return true;
}

struct spans *spans_open(const struct spans_settings *settings, struct error *error) {
    struct spans *spans = calloc(1, sizeof *spans);
    if (!spans) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    spans->root_fd = spans->layers_fd = spans->images_fd = spans->lock_fd = -1;
    /* The bytes of spans go back to the system at once. Otherwise malloc() would keep some for each
     * thread that loads. */
    mallopt(M_MMAP_THRESHOLD, LARGE);
    lock_init(&spans->lock);
    condition_init(&spans->work);
    condition_init(&spans->changed);
    make_metrics(spans);
    spans->cancel.stop = &spans->stopping;
    spans->settings = *settings;
    spans->settings.root = strdup(settings->root);
    spans->settings.from = NULL;
    spans->settings.upstreams = NULL;
    spans->client = client_new();
    bool ok =
        (spans->settings.root && spans->client) || error_set(error, ERROR_MEMORY, "out of memory");
    ok = ok && (open_root(spans, error) || error_wrap(error, "the root %s", settings->root)) &&
         open_sources(spans, settings, error) && spans_loader_start(spans, error) &&
         spans_keeper_start(spans, error);
    if (ok)
        return spans;
    spans_close(spans);
    return NULL;
}

static void close_fd(int fd) {
    if (fd >= 0)
        close(fd);
}

/* What starts have read is posted first, if a tarn takes it soon. */
static void await_errands(struct spans *spans) {
    int64_t until_ms = clock_ms() + ERRANDS_MS;
    lock_acquire(&spans->lock);
    /* A loader may be the last to release an image. */
    while (spans->has_keeper && (spans->images || spans->errands || spans->is_posting) &&
           clock_ms() < until_ms)
        condition_wait_until(&spans->changed, &spans->lock, clock_ms() + LOOK_MS);
    lock_release(&spans->lock);
}

void spans_close(struct spans *spans) {
    if (!spans)
        return;
    await_errands(spans);
    atomic_store(&spans->stopping, true);
    spans_loader_stop(spans);
    spans_keeper_stop(spans);
    lock_acquire(&spans->lock);
    spans_flight_end_all(spans);
    lock_release(&spans->lock);
    spans_layer_sweep(spans);
    current_upstreams_free(spans->upstreams);
    for (unsigned i = 0; i < spans->source_count; i++)
        spans_source_free(spans->sources[i]);
    while (spans->idle) {
        struct spans_idle *idle = spans->idle;
        spans->idle = idle->next;
        free(idle);
    }
    spans_errand_free(spans->errands);
    client_free(spans->client);
    close_fd(spans->layers_fd);
    close_fd(spans->images_fd);
    close_fd(spans->lock_fd);
    close_fd(spans->root_fd);
    condition_finish(&spans->work);
    condition_finish(&spans->changed);
    lock_finish(&spans->lock);
    free((void *)(uintptr_t)spans->settings.root);
    free(spans);
}

/* ---- reads ---- */

static void note_first_read(struct spans_image *image) {
    int64_t none = -1, took_ms = clock_ms() - image->opened_ms;
    char text[DIGEST_STRING_SIZE], name[SPANS_NAME_SIZE];
    if (!atomic_compare_exchange_strong(&image->first_read_ms, &none, took_ms))
        return;
    log_at(LOG_INFO, "stream first read", LOG_STRING("image", spans_image_name(image, name)),
           LOG_STRING("manifest", digest_format(&image->digest, text)),
           LOG_NUMBER("bytes", (double)atomic_load(&image->fetched)),
           LOG_NUMBER("seconds", (double)took_ms / 1e3));
}

struct spans_space {
    char *at;
    size_t length;
};

/* Reads what lies within the archive. */
static bool read_layer(struct spans_image *image, struct spans_layer *layer, uint64_t offset,
                       struct spans_space out, const atomic_bool *stop, struct error *error) {
    while (out.length) {
        uint64_t begin, length;
        struct spans_part part = {.at = spans_layer_find(layer, offset), .out = out.at};
        spans_layer_bounds(layer, part.at, &begin, &length);
        part.offset = offset - begin;
        part.length =
            length - part.offset < out.length ? (size_t)(length - part.offset) : out.length;
        if (!spans_flight_read(image, layer, &part, stop, error))
            return false;
        offset += part.length;
        out.at += part.length;
        out.length -= part.length;
    }
    return true;
}

bool spans_image_read(struct spans_image *image, size_t file, uint64_t offset, void *out,
                      size_t length, const atomic_bool *stop, struct error *error) {
    uint64_t size = spans_image_file_size(image, file);
    if (offset > size || length > size - offset)
        return error_set(error, ERROR_RANGE, "the bytes lie outside of the file");
    uint64_t end = file == 0 ? image->tree_size : image->layers[file - 1]->tar_size;
    size_t within = offset >= end ? 0 : end - offset < length ? (size_t)(end - offset) : length;
    memset((char *)out + within, 0, length - within);
    bool ok = true;
    if (within && file == 0)
        ok = file_read_all_at(image->tree_fd, out, within, offset, error);
    else if (within)
        ok = read_layer(image, image->layers[file - 1], offset, (struct spans_space){out, within},
                        stop, error);
    if (!ok && error->kind != ERROR_CLOSED)
        metric_add(image->spans->read_errors, 1);
    if (!ok)
        return false;
    if (file > 0)
        note_first_read(image);
    return true;
}

/* ---- what is shown ---- */

const char *spans_state_name(enum spans_state state) {
    static const char *const names[] = {"streaming", "complete", "whole", "bad"};
    return names[state];
}

/* The wait that so many of 1000 waits do not exceed, in seconds. */
static double quantile(struct spans_image *image, unsigned per_mille) {
    uint64_t total = 0, sum = 0;
    for (unsigned i = 0; i < SPANS_WAIT_BUCKETS; i++)
        total += atomic_load(&image->wait_buckets[i]);
    for (unsigned i = 0; total && i < SPANS_WAIT_BUCKETS; i++) {
        sum += atomic_load(&image->wait_buckets[i]);
        if (sum * 1000 >= total * per_mille)
            return (double)((UINT64_C(5) + i % 4) << i / 4) / 1e6;
    }
    return 0;
}

static double seconds(int64_t ms) {
    return ms < 0 ? -1 : (double)ms / 1e3;
}

void spans_image_look(struct spans_image *image, struct spans_image_state *out) {
    bool is_verified = true, is_bad = false;
    *out = (struct spans_image_state){0};
    lock_acquire(&image->spans->lock);
    for (size_t i = 0; i < image->layer_count; i++) {
        out->bytes += image->layers[i]->blob_size;
        is_verified = is_verified && image->layers[i]->is_verified;
        is_bad = is_bad || image->layers[i]->is_bad;
    }
    out->traced = image->traced;
    lock_release(&image->spans->lock);
    out->state = is_bad                   ? SPANS_BAD
                 : image->whole_reason[0] ? SPANS_WHOLE
                 : is_verified            ? SPANS_COMPLETE
                                          : SPANS_STREAMING;
    out->fetched = atomic_load(&image->fetched);
    out->waits = atomic_load(&image->waits);
    out->wait_p50 = quantile(image, 500);
    out->wait_p99 = quantile(image, 990);
    out->first_read = seconds(atomic_load(&image->first_read_ms));
    out->complete = seconds(atomic_load(&image->complete_ms));
}
