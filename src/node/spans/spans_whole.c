/*
 * Images that cannot stream: their layers are pulled whole, unpacked and verified, into the same
 * kind of files as those that stream, and the tree of all of them is made here.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "layer/media_type.h"
#include "layer/refusal.h"
#include "layer/tar.h"
#include "layer/unpack.h"
#include "node/spans/open.h"

enum {
    TRY_LEAST_MS = 200, /* between two tries to go on */
    TRY_MOST_MS = 2000,
};

/* ---- one layer ---- */

/* A layer on its way to the disk. */
struct pull {
    struct spans_opening *opening;
    const struct spans_opened_layer *wanted;
    struct spans_layer *layer; /* for its files and bounds; in no list */
    struct digest_hash *blob_hash, *archive_hash;
    struct layer_spans spans; /* stay empty */
    struct scan *scan;        /* NULL until the first bytes are here */
    uint64_t received;        /* bytes of the blob */
    uint64_t reserved;        /* bytes of the disk */
    struct buffer part;       /* uncompressed, of the span under way */
    size_t parts;             /* spans that are written */
    bool has_progress;        /* since the request began */
};

static bool write_part(struct pull *pull, struct error *error) {
    struct spans *spans = pull->opening->spans;
    const uint64_t room = (pull->part.length + SPANS_PAGE - 1) / SPANS_PAGE * SPANS_PAGE;
    if (!spans_budget_pull(spans, room))
        return error_set(error, ERROR_NO_SPACE,
                         "the image does not fit into cache_size, and cannot be read in parts");
    pull->reserved += room;
    /* What is known of the archive's size is what has come of it. */
    pull->layer->tar_size = (uint64_t)pull->parts * SPANS_WHOLE_SPAN + pull->part.length;
    if (!spans_layer_write(pull->layer, pull->parts, pull->part.bytes, error))
        return false;
    pull->parts++;
    pull->part.length = 0;
    return true;
}

/* Takes bytes of the archive. */
static bool take_archive(void *context, const void *bytes, size_t length, struct error *error) {
    struct pull *pull = context;
    digest_hash_update(pull->archive_hash, bytes, length);
    for (const char *at = bytes; length;) {
        size_t left = SPANS_WHOLE_SPAN - pull->part.length, some = length < left ? length : left;
        if (!buffer_append(&pull->part, at, some))
            return error_set(error, ERROR_MEMORY, "out of memory");
        if (some == left && !write_part(pull, error))
            return false;
        at += some;
        length -= some;
    }
    return true;
}

/* By its first bytes, unless its media type says that it is not compressed. */
static bool begin_scan(struct pull *pull, const void *bytes, size_t length, struct error *error) {
    bool is_plain = false;
    layer_media_type_parse(pull->wanted->media_type, &is_plain);
    pull->scan = scan_new(is_plain ? LAYER_PLAIN : layer_compression_of(bytes, length),
                          &pull->spans, take_archive, pull);
    if (!pull->scan)
        return error_set(error, ERROR_MEMORY, "out of memory");
    scan_without_spans(pull->scan);
    return true;
}

/* Takes bytes of the blob. */
static bool take_blob(void *context, const void *bytes, size_t length, struct error *error) {
    struct pull *pull = context;
    struct spans_opening *opening = pull->opening;
    if (pull->received + length > pull->wanted->size)
        return error_set(error, ERROR_CORRUPT, "the layer has more bytes than the manifest says");
    spans_opening_count(opening, opening->spans->fetched[SPANS_DEMAND], length);
    digest_hash_update(pull->blob_hash, bytes, length);
    pull->received += length;
    pull->has_progress = true;
    return (pull->scan || begin_scan(pull, bytes, length, error)) &&
           scan_feed(pull->scan, bytes, length, error);
}

/* Whether the failure is of the way, so that another try may go on. */
static bool may_go_on(const struct error *error) {
    return error->kind != ERROR_CORRUPT && error->kind != ERROR_INVALID &&
           error->kind != ERROR_MEMORY && error->kind != ERROR_NO_SPACE &&
           error->kind != ERROR_IO && error->kind != ERROR_CLOSED;
}

/* Asks one source after the other for what is missing. */
static bool ask_all(struct pull *pull, struct error *error) {
    struct spans_opening *opening = pull->opening;
    struct error last = {0}, why = {0};
    error_set(&last, ERROR_INVALID, "there is nobody to ask");
    for (unsigned i = 0; i < opening->asked.count; i++) {
        const struct spans_request request = {opening->spans, opening->asked.list[i],
                                              &opening->name, &opening->cancel};
        const struct stream_range range = {
            .layer = &pull->wanted->digest,
            .first = pull->received,
            .length = pull->received ? pull->wanted->size - pull->received : 0};
        if (spans_source_stream(&request, &range, take_blob, pull, &why) &&
            pull->received == pull->wanted->size)
            return true;
        if (why.kind == ERROR_NONE)
            error_set(&why, ERROR_CORRUPT, "the layer has fewer bytes than the manifest says");
        if (why.kind != ERROR_UNSUPPORTED || i == 0)
            last = why;
        if (!may_go_on(&why) || pull->has_progress)
            break;
        error_clear(&why);
    }
    *error = last;
    return false;
}

static bool receive(struct pull *pull, struct error *error) {
    struct spans_opening *opening = pull->opening;
    int64_t until_ms = clock_ms() + opening->spans->settings.wait_ms, wait_ms = TRY_LEAST_MS;
    while (pull->received < pull->wanted->size) {
        struct error why = {0};
        pull->has_progress = false;
        if (ask_all(pull, &why))
            return true;
        if (!may_go_on(&why)) {
            *error = why;
            return false;
        }
        if (pull->has_progress) {
            until_ms = clock_ms() + opening->spans->settings.wait_ms;
            wait_ms = TRY_LEAST_MS;
        } else if (clock_ms() + wait_ms > until_ms || why.kind == ERROR_NOT_FOUND ||
                   why.kind == ERROR_DENIED) {
            *error = why;
            return false;
        }
        if (!cancel_sleep(&opening->cancel, clock_ms() + wait_ms, error))
            return false;
        wait_ms = wait_ms * 2 < TRY_MOST_MS ? wait_ms * 2 : TRY_MOST_MS;
    }
    return true;
}

/* The last part, and both digests. */
static bool finish(struct pull *pull, struct error *error) {
    struct digest blob = {0}, archive = {0};
    if (pull->scan && !scan_finish(pull->scan, error))
        return false;
    if (pull->part.length && !write_part(pull, error))
        return false;
    digest_hash_finish(pull->blob_hash, &blob);
    digest_hash_finish(pull->archive_hash, &archive);
    if (!digest_equal(&blob, &pull->wanted->digest))
        return error_set(error, ERROR_CORRUPT, "the layer does not have its digest");
    return digest_equal(&archive, &pull->wanted->diff_id) ||
           error_set(error, ERROR_CORRUPT,
                     "the layer does not unpack to what the configuration says (diff ID)");
}

/* Says on the disk that the layer is whole. */
static bool record(struct pull *pull, int folder_fd, struct error *error) {
    char digest[DIGEST_STRING_SIZE];
    cleanup_buffer struct buffer text = {0};
    buffer_printf(&text, "{\"diff_id\":\"%s\",\"blob_size\":%" PRIu64 ",\"tar_size\":%" PRIu64 "}",
                  digest_format(&pull->wanted->diff_id, digest), pull->received,
                  pull->layer->tar_size);
    if (text.failed)
        return error_set(error, ERROR_MEMORY, "out of memory");
    return spans_layer_mark(pull->layer, true, error) &&
           spans_file_put(folder_fd, "whole", text.bytes, text.length, error);
}

static bool run_pull(struct pull *pull, int folder_fd, struct error *error) {
    struct spans_layer *layer = pull->layer;
    layer->data_fd = openat(folder_fd, "spans", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    layer->sums_fd = openat(folder_fd, "sums", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (layer->data_fd < 0 || layer->sums_fd < 0)
        return error_set_errno(error, errno, "create a layer's files");
    pull->blob_hash = digest_hash_new(pull->wanted->digest.algorithm);
    pull->archive_hash = digest_hash_new(pull->wanted->diff_id.algorithm);
    if (!pull->blob_hash || !pull->archive_hash)
        return error_set(error, ERROR_MEMORY, "out of memory");
    return receive(pull, error) && finish(pull, error) && record(pull, folder_fd, error);
}

static bool pull_layer(struct spans_opening *opening, const struct spans_opened_layer *wanted,
                       struct error *error) {
    struct spans *spans = opening->spans;
    char key[SPANS_KEY_SIZE], digest[DIGEST_STRING_SIZE];
    struct spans_layer layer = {.spans = spans, .is_whole = true, .data_fd = -1, .sums_fd = -1};
    struct pull pull = {.opening = opening, .wanted = wanted, .layer = &layer};
    spans_layer_key(&wanted->digest, true, key);
    cleanup_close int folder_fd = spans_folder_open(spans->layers_fd, key, true, error);
    bool ok = folder_fd >= 0 && run_pull(&pull, folder_fd, error);
    scan_free(pull.scan);
    layer_spans_finish(&pull.spans);
    digest_hash_free(pull.blob_hash);
    digest_hash_free(pull.archive_hash);
    buffer_finish(&pull.part);
    if (layer.data_fd >= 0)
        close(layer.data_fd);
    if (layer.sums_fd >= 0)
        close(layer.sums_fd);
    if (!ok)
        spans_folder_delete(spans->layers_fd, key);
    lock_acquire(&spans->lock);
    spans->pulling -= pull.reserved;
    lock_release(&spans->lock);
    return ok || error_wrap(error, "layer %s", digest_format(&wanted->digest, digest));
}

/* ---- the tree ---- */

/* The tree of a layer whose archive is on the disk. NULL: the error is set. */
static struct tree *read_tree(struct spans_layer *layer, struct error *error) {
    cleanup_free void *bytes = malloc(SPANS_WHOLE_SPAN);
    struct tree *tree = tree_new(TREE_MEMORY);
    struct tar_reader *reader = tree ? tar_reader_new(unpack_entry, tree) : NULL;
    bool ok = (bytes && reader) || error_set(error, ERROR_MEMORY, "out of memory");
    for (size_t i = 0; ok && i < layer->count; i++) {
        uint64_t offset, length;
        spans_layer_bounds(layer, i, &offset, &length);
        ok = (spans_layer_read(layer, i, bytes) ||
              error_set(error, ERROR_IO, "the disk does not give back what was written")) &&
             tar_reader_feed(reader, bytes, (size_t)length, error);
    }
    ok = ok && tar_reader_finish(reader, error);
    tar_reader_free(reader);
    if (ok)
        return tree;
    tree_free(tree);
    return NULL;
}

static bool add_layer(struct tree *tree, struct spans_layer *layer, uint32_t device,
                      struct image_layer *facts, struct error *error) {
    char digest[DIGEST_STRING_SIZE];
    struct tree *upper = read_tree(layer, error);
    bool ok = upper && tree_merge(tree, upper, device, error);
    tree_free(upper);
    *facts = (struct image_layer){.layer = layer->digest,
                                  .diff_id = layer->diff_id,
                                  .blob_size = layer->blob_size,
                                  .tar_size = layer->tar_size};
    return ok || error_wrap(error, "layer %s", digest_format(&layer->digest, digest));
}

/* ---- all of it ---- */

static struct spans_layer *get_layer(struct spans_opening *opening,
                                     const struct spans_opened_layer *wanted, struct error *error) {
    const struct spans_layer_facts facts = {
        .digest = wanted->digest, .diff_id = wanted->diff_id, .is_whole = true};
    struct error why = {0};
    struct spans_layer *layer = spans_layer_take(opening->spans, &facts, &why);
    if (layer)
        return layer;
    if (why.kind != ERROR_NOT_FOUND) {
        *error = why;
        return NULL;
    }
    return pull_layer(opening, wanted, error) ? spans_layer_take(opening->spans, &facts, error)
                                              : NULL;
}

/* Layers that are open do not leave the disk while the others come. */
static bool get_all(struct spans_opening *opening, struct spans_layer **layers,
                    struct error *error) {
    struct tree *tree = tree_new(TREE_MEMORY);
    cleanup_free struct image_layer *facts = calloc(opening->layer_count + 1, sizeof *facts);
    bool ok = (tree && facts) || error_set(error, ERROR_MEMORY, "out of memory");
    for (size_t i = 0; ok && i < opening->layer_count; i++) {
        layers[i] = get_layer(opening, &opening->layers[i], error);
        ok = layers[i] && add_layer(tree, layers[i], (uint32_t)i + 1, &facts[i], error);
    }
    buffer_finish(&opening->bytes);
    ok = ok &&
         image_index_write(&opening->digest, facts, opening->layer_count, tree, &opening->bytes,
                           error) &&
         image_index_open(opening->bytes.bytes, opening->bytes.length, &opening->index, error);
    tree_free(tree);
    return ok;
}

/* One image at a time is pulled whole, so that no layer is written twice. */
static bool take_turn(struct spans_opening *opening, struct error *error) {
    struct spans *spans = opening->spans;
    enum { LOOK_MS = 200 };
    bool ok = true;
    lock_acquire(&spans->lock);
    while (ok && spans->is_pulling) {
        condition_wait_until(&spans->changed, &spans->lock, clock_ms() + LOOK_MS);
        ok = cancel_check(&opening->cancel, error);
    }
    if (ok)
        spans->is_pulling = true;
    lock_release(&spans->lock);
    return ok;
}

bool spans_whole_pull(struct spans_opening *opening, struct error *error) {
    struct spans *spans = opening->spans;
    opening->pulled = calloc(opening->layer_count + 1, sizeof(struct spans_layer *));
    if (!opening->pulled)
        return error_set(error, ERROR_MEMORY, "out of memory");
    if (!take_turn(opening, error))
        return false;
    bool ok = get_all(opening, opening->pulled, error);
    lock_acquire(&spans->lock);
    spans->is_pulling = false;
    condition_broadcast(&spans->changed);
    lock_release(&spans->lock);
    return ok;
}
