/*
 * A layer on the disk: ROOT/layers/KEY/ has its index, the spans that are here, and a file of their
 * sums, which says which ones those are.
 *
 * A sum is 8 bytes, 0 for a span that is absent. After a crash or a power loss the two files may
 * disagree in any way: the first reader of a span in a process compares it with its sum.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "node/spans/private.h"

enum {
    SUM_SIZE = 8,
    RECORD_LIMIT = 4096, /* bytes of a record */
    READ_BYTES = 64 << 10,
};

#define VERIFIED UINT64_C(0x6465696669726576) /* in front of the sums: all was verified */

#define WHOLE_SUFFIX ".whole"

/* ---- names and files ---- */

const char *spans_key(const struct digest *digest, char out[static SPANS_KEY_SIZE]) {
    char text[DIGEST_STRING_SIZE];
    snprintf(out, SPANS_KEY_SIZE, "%s", digest_format(digest, text));
    char *colon = strchr(out, ':');
    if (colon)
        *colon = '-';
    return out;
}

bool spans_key_parse(const char *key, struct digest *out) {
    char text[SPANS_KEY_SIZE];
    if (!text_copy(text_of(key), text, sizeof text))
        return false;
    char *dash = strchr(text, '-'), *suffix = strstr(text, WHOLE_SUFFIX);
    if (suffix && !suffix[strlen(WHOLE_SUFFIX)])
        *suffix = '\0';
    if (dash)
        *dash = ':';
    return dash && digest_parse(text_of(text), out);
}

const char *spans_layer_key(const struct digest *digest, bool is_whole,
                            char out[static SPANS_KEY_SIZE]) {
    spans_key(digest, out);
    if (is_whole)
        strcat(out, WHOLE_SUFFIX);
    return out;
}

static bool write_file(int folder_fd, const char *name, const void *bytes, size_t length,
                       struct error *error) {
    cleanup_close int fd = openat(folder_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_set_errno(error, errno, "create %s", name);
    if (!file_write_all(fd, bytes, length, error))
        return error_wrap(error, "write %s", name);
    return fsync(fd) == 0 || error_set_errno(error, errno, "write %s to the disk", name);
}

bool spans_file_put(int folder_fd, const char *name, const void *bytes, size_t length,
                    struct error *error) {
    char temporary[80];
    static atomic_uint serial;
    snprintf(temporary, sizeof temporary, "%.40s.%u.new", name, atomic_fetch_add(&serial, 1));
    if (write_file(folder_fd, temporary, bytes, length, error) &&
        (renameat(folder_fd, temporary, folder_fd, name) == 0 ||
         error_set_errno(error, errno, "rename to %s", name)))
        return true;
    unlinkat(folder_fd, temporary, 0);
    return false;
}

void spans_folder_delete(int parent_fd, const char *key) {
    int fd = openat(parent_fd, key, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return;
    cleanup_directory DIR *folder = fdopendir(fd);
    if (!folder) {
        close(fd);
        return;
    }
    for (const struct dirent *entry; (entry = readdir(folder));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            unlinkat(fd, entry->d_name, 0);
    unlinkat(parent_fd, key, AT_REMOVEDIR);
}

int spans_folder_open(int parent_fd, const char *key, bool make, struct error *error) {
    if (make && mkdirat(parent_fd, key, 0700) < 0 && errno != EEXIST) {
        error_set_errno(error, errno, "make the folder %s", key);
        return -1;
    }
    int fd = openat(parent_fd, key, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT)
        error_set(error, ERROR_NOT_FOUND, "%s is not kept", key);
    else if (fd < 0)
        error_set_errno(error, errno, "open the folder %s", key);
    return fd;
}

/* ---- bounds ---- */

void spans_layer_bounds(const struct spans_layer *layer, size_t at, uint64_t *offset,
                        uint64_t *length) {
    if (!layer->is_whole) {
        *offset = layer->index.spans[at].out;
        *length = layer->index.spans[at].out_length;
        return;
    }
    uint64_t left = layer->tar_size - (uint64_t)at * SPANS_WHOLE_SPAN;
    *offset = (uint64_t)at * SPANS_WHOLE_SPAN;
    *length = left < SPANS_WHOLE_SPAN ? left : SPANS_WHOLE_SPAN;
}

size_t spans_layer_find(const struct spans_layer *layer, uint64_t offset) {
    if (layer->is_whole)
        return (size_t)(offset / SPANS_WHOLE_SPAN);
    return (size_t)(layer_index_span(&layer->index, offset) - layer->index.spans);
}

static uint64_t up_to_page(uint64_t bytes) {
    return (bytes + SPANS_PAGE - 1) / SPANS_PAGE * SPANS_PAGE;
}

uint64_t spans_layer_where(const struct spans_layer *layer, size_t at) {
    uint64_t offset, length;
    spans_layer_bounds(layer, at, &offset, &length);
    return up_to_page(offset) + (uint64_t)at * SPANS_PAGE;
}

uint64_t spans_layer_room(const struct spans_layer *layer, size_t at) {
    uint64_t offset, length;
    spans_layer_bounds(layer, at, &offset, &length);
    return up_to_page(length);
}

/* ---- bytes ---- */

/* Not 0, which stands for no bytes. The key is fixed, because a sum is against accidents: whoever
 * may write to the root can do anything. */
static uint64_t sum_of(const void *bytes, size_t length) {
    static const struct siphash_key key = {{UINT64_C(0x7461726e), UINT64_C(0x7370616e73)}};
    uint64_t sum = siphash_of(&key, bytes, length);
    return sum ? sum : 1;
}

static bool put_sum(const struct spans_layer *layer, size_t at, uint64_t sum, struct error *error) {
    return file_write_all_at(layer->sums_fd, &sum, SUM_SIZE, (at + 1) * SUM_SIZE, error);
}

bool spans_layer_write(struct spans_layer *layer, size_t at, const void *bytes,
                       struct error *error) {
    uint64_t offset, length;
    spans_layer_bounds(layer, at, &offset, &length);
    return file_write_all_at(layer->data_fd, bytes, (size_t)length, spans_layer_where(layer, at),
                             error) &&
           put_sum(layer, at, sum_of(bytes, (size_t)length), error);
}

bool spans_layer_read(struct spans_layer *layer, size_t at, void *bytes) {
    uint64_t offset, length, sum = 0;
    spans_layer_bounds(layer, at, &offset, &length);
    return file_read_all_at(layer->data_fd, bytes, (size_t)length, spans_layer_where(layer, at),
                            NULL) &&
           file_read_all_at(layer->sums_fd, &sum, SUM_SIZE, (at + 1) * SUM_SIZE, NULL) &&
           sum == sum_of(bytes, (size_t)length);
}

bool spans_layer_check(struct spans_layer *layer, size_t at) {
    uint64_t offset, length;
    spans_layer_bounds(layer, at, &offset, &length);
    cleanup_free void *bytes = malloc((size_t)length);
    return bytes && spans_layer_read(layer, at, bytes);
}

bool spans_layer_mark(struct spans_layer *layer, bool verified, struct error *error) {
    const uint64_t mark = verified ? VERIFIED : 0;
    if (verified && fdatasync(layer->data_fd) < 0)
        return error_set_errno(error, errno, "write a layer to the disk");
    return file_write_all_at(layer->sums_fd, &mark, SUM_SIZE, 0, error);
}

void spans_layer_punch(struct spans_layer *layer, size_t at) {
    put_sum(layer, at, 0, NULL);
    fallocate(layer->data_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
              (off_t)spans_layer_where(layer, at), (off_t)spans_layer_room(layer, at));
}

/* ---- opening ---- */

bool spans_layer_put_index(struct spans *spans, const struct digest *digest,
                           const struct buffer *bytes, struct error *error) {
    char key[SPANS_KEY_SIZE];
    cleanup_close int fd = spans_folder_open(spans->layers_fd, spans_key(digest, key), true, error);
    return fd >= 0 && spans_file_put(fd, "index", bytes->bytes, bytes->length, error);
}

static void close_layer(struct spans_layer *layer) {
    layer_index_finish(&layer->index);
    if (layer->mapping)
        munmap(layer->mapping, layer->mapped);
    if (layer->data_fd >= 0)
        close(layer->data_fd);
    if (layer->sums_fd >= 0)
        close(layer->sums_fd);
    free(layer->slots);
    free(layer);
}

static bool map_index(struct spans_layer *layer, int folder_fd, struct error *error) {
    struct stat status;
    cleanup_close int fd = openat(folder_fd, "index", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set(error, ERROR_NOT_FOUND, "the layer's index is not kept");
    if (fstat(fd, &status) < 0 || status.st_size < INDEX_HEADER ||
        status.st_size > INDEX_FILE_LIMIT)
        return error_set(error, ERROR_NOT_FOUND, "the layer's index is not whole");
    void *mapping = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (mapping == MAP_FAILED)
        return error_set_errno(error, errno, "map a layer's index");
    layer->mapping = mapping;
    layer->mapped = (size_t)status.st_size;
    if (!layer_index_open(mapping, layer->mapped, &layer->index, error)) {
        error->kind = error->kind == ERROR_INVALID ? ERROR_NOT_FOUND : error->kind;
        return false;
    }
    madvise(mapping, layer->mapped, MADV_DONTNEED); /* of which little is needed again soon */
    return true;
}

/* The record of a layer that was pulled whole. */
static bool read_record(struct spans_layer *layer, int folder_fd, struct error *error) {
    cleanup_close int fd = openat(folder_fd, "whole", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set(error, ERROR_NOT_FOUND, "the layer is not kept");
    size_t length;
    cleanup_free char *text = file_read_open(fd, RECORD_LIMIT, FILE_REGULAR, &length, NULL, error);
    cleanup_json json_t *record = text ? bounded_json_load(text, length, NULL) : NULL;
    const json_int_t blob = json_integer_value(json_object_get(record, "blob_size"));
    const json_int_t tar = json_integer_value(json_object_get(record, "tar_size"));
    if (!record || blob < 0 || tar < 0 ||
        !digest_parse(text_of(json_member_text(record, "diff_id")), &layer->diff_id))
        return error_set(error, ERROR_NOT_FOUND, "the layer's record is damaged");
    layer->blob_size = (uint64_t)blob;
    layer->tar_size = (uint64_t)tar;
    layer->count = (size_t)((layer->tar_size + SPANS_WHOLE_SPAN - 1) / SPANS_WHOLE_SPAN);
    return true;
}

static bool read_facts(struct spans_layer *layer, int folder_fd,
                       const struct spans_layer_facts *facts, struct error *error) {
    if (facts->is_whole)
        return read_record(layer, folder_fd, error);
    if (!map_index(layer, folder_fd, error))
        return false;
    layer->diff_id = layer->index.facts.diff_id;
    layer->blob_size = layer->index.facts.blob_size;
    layer->tar_size = layer->index.facts.tar_size;
    layer->count = layer->index.span_count;
    layer->fixed = up_to_page(layer->mapped);
    return digest_equal(&layer->index.facts.layer, &layer->digest) ||
           error_set(error, ERROR_NOT_FOUND, "the index is of another layer");
}

/* Reads which spans are here. */
static bool read_sums(struct spans_layer *layer, struct error *error) {
    cleanup_free uint64_t *sums = calloc(layer->count + 1, SUM_SIZE);
    layer->slots = calloc(layer->count + 1, sizeof *layer->slots);
    if (!sums || !layer->slots)
        return error_set(error, ERROR_MEMORY, "out of memory");
    ssize_t got = file_read_at(layer->sums_fd, sums, (layer->count + 1) * SUM_SIZE, 0);
    if (got < 0)
        return error_set_errno(error, errno, "read which spans are here");
    for (size_t i = 0; i < layer->count; i++)
        if (sums[i + 1]) {
            layer->slots[i].place = SPAN_KEPT;
            layer->held += spans_layer_room(layer, i);
            layer->present++;
        }
    layer->is_verified = sums[0] == VERIFIED && layer->present == layer->count;
    return !layer->is_whole || layer->is_verified ||
           error_set(error, ERROR_NOT_FOUND, "the layer is not whole");
}

static bool open_files(struct spans_layer *layer, int folder_fd, struct error *error) {
    layer->data_fd = openat(folder_fd, "spans", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    layer->sums_fd = openat(folder_fd, "sums", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (layer->data_fd < 0 || layer->sums_fd < 0)
        return error_set_errno(error, errno, "open a layer's bytes");
    return read_sums(layer, error);
}

static struct spans_layer *open_layer(struct spans *spans, const struct spans_layer_facts *facts,
                                      const char *key, struct error *error) {
    cleanup_close int folder_fd = spans_folder_open(spans->layers_fd, key, false, error);
    struct spans_layer *layer = folder_fd >= 0 ? calloc(1, sizeof *layer) : NULL;
    if (!layer) {
        if (folder_fd >= 0)
            error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    *layer = (struct spans_layer){.spans = spans,
                                  .references = 1,
                                  .digest = facts->digest,
                                  .is_whole = facts->is_whole,
                                  .data_fd = -1,
                                  .sums_fd = -1};
    snprintf(layer->key, sizeof layer->key, "%s", key);
    if (read_facts(layer, folder_fd, facts, error) &&
        (digest_equal(&layer->diff_id, &facts->diff_id) || facts->diff_id.algorithm == 0 ||
         error_set(error, ERROR_NOT_FOUND, "the kept layer has another diff ID")) &&
        open_files(layer, folder_fd, error))
        return layer;
    close_layer(layer);
    return NULL;
}

static struct spans_layer *find(struct spans *spans, const struct spans_layer_facts *facts)
    REQUIRES(spans->lock) {
    for (struct spans_layer *layer = spans->layers; layer; layer = layer->next)
        if (digest_equal(&layer->digest, &facts->digest) && !layer->is_bad &&
            (facts->diff_id.algorithm == 0 || digest_equal(&layer->diff_id, &facts->diff_id)) &&
            (layer->is_whole == facts->is_whole)) {
            layer->references++;
            return layer;
        }
    return NULL;
}

struct spans_layer *spans_layer_take(struct spans *spans, const struct spans_layer_facts *facts,
                                     struct error *error) {
    char key[SPANS_KEY_SIZE];
    lock_acquire(&spans->lock);
    struct spans_layer *found = find(spans, facts);
    lock_release(&spans->lock);
    if (found)
        return found;
    struct spans_layer *opened =
        open_layer(spans, facts, spans_layer_key(&facts->digest, facts->is_whole, key), error);
    if (!opened)
        return NULL;
    lock_acquire(&spans->lock);
    found = find(spans, facts);
    if (!found) {
        spans_budget_wake(spans, key);
        opened->next = spans->layers;
        spans->layers = opened;
        spans->held += opened->held;
        spans->fixed += opened->fixed;
        spans_budget_show(spans);
    }
    lock_release(&spans->lock);
    if (found)
        close_layer(opened);
    return found ? found : opened;
}

void spans_layer_leave(struct spans *spans, struct spans_layer *layer) {
    if (--layer->references)
        return;
    struct spans_layer **at = &spans->layers;
    while (*at != layer)
        at = &(*at)->next;
    *at = layer->next;
    spans->held -= layer->held;
    spans->fixed -= layer->fixed;
    if (!layer->is_bad)
        spans_budget_rest(spans, layer);
    spans_budget_show(spans);
    layer->next = spans->left;
    spans->left = layer;
}

void spans_layer_sweep(struct spans *spans) {
    lock_acquire(&spans->lock);
    struct spans_layer *layer = spans->left, *next;
    spans->left = NULL;
    lock_release(&spans->lock);
    for (; layer; layer = next) {
        next = layer->next;
        close_layer(layer);
    }
}

void spans_layer_release(struct spans_layer *layer) {
    struct spans *spans = layer->spans;
    lock_acquire(&spans->lock);
    spans_layer_leave(spans, layer);
    lock_release(&spans->lock);
    spans_layer_sweep(spans);
}
