/*
 * A layer compressed by several workers: blocks in a ring.
 *
 * The caller fills the blocks in turn. Each block then goes through three hands: it is filled by
 * the caller, compressed by a worker, and written to the sink by the caller again, in the order in
 * which the blocks were filled. The numbers count blocks from the beginning: written <= taken <=
 * filled, and block N stands at N modulo the length of the ring.
 */
#include "copy/compress.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include "base/cleanup.h"
#include "base/lock.h"
#include "base/thread.h"
#include "copy/compress_coder.h"

struct slot {
    struct compress_block block;
    bool is_done, failed; /* under `ring_lock` */
};

struct compress {
    enum compress_kind kind;
    const struct compress_coder *coder; /* NULL: NONE */
    struct sink sink;
    struct digest_hash *plain, *packed; /* `packed` is NULL for NONE: it would be the same */
    uint64_t plain_size, packed_size;
    uint32_t checksum;

    struct slot *slots;
    size_t slot_count;
    uint64_t written;

    struct lock ring_lock;
    struct condition filled_changed, done_changed;
    uint64_t filled GUARDED_BY(ring_lock), taken GUARDED_BY(ring_lock);
    bool is_ending GUARDED_BY(ring_lock);
    pthread_t *threads;
    unsigned thread_count;
};

/* ---- kinds ---- */

static const char *const names[] = {
    [COMPRESS_NONE] = "none", [COMPRESS_GZIP] = "gzip", [COMPRESS_ZSTD] = "zstd"};

const char *compress_name(enum compress_kind kind) {
    return names[kind];
}

bool compress_parse(const char *name, enum compress_kind *kind) {
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(names[i], name) == 0) {
            *kind = (enum compress_kind)i;
            return true;
        }
    }
    return false;
}

/* ---- workers ---- */

/* The next block to compress; NULL: there will be none. */
static struct slot *take_block(struct compress *compress) {
    struct slot *slot = NULL;
    lock_acquire(&compress->ring_lock);
    while (compress->taken == compress->filled && !compress->is_ending)
        condition_wait(&compress->filled_changed, &compress->ring_lock);
    if (!compress->is_ending)
        slot = &compress->slots[compress->taken++ % compress->slot_count];
    lock_release(&compress->ring_lock);
    return slot;
}

static void work(void *argument) {
    struct compress *compress = argument;
    void *state = compress->coder->new_state();
    for (struct slot *slot; (slot = take_block(compress));) {
        const bool ok = state && compress->coder->run(state, &slot->block);
        lock_acquire(&compress->ring_lock);
        slot->is_done = true;
        slot->failed = !ok;
        lock_release(&compress->ring_lock);
        condition_signal(&compress->done_changed);
    }
    compress->coder->free_state(state);
}

/* ---- writing ---- */

static bool out_of_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "out of memory");
}

static bool emit(struct compress *compress, const void *bytes, size_t length, struct error *error) {
    digest_hash_update(compress->packed, bytes, length);
    compress->packed_size += length;
    return sink_write(&compress->sink, bytes, length, error);
}

/* Waits for the oldest block, if `wait`, and writes it. *wrote false: it is not ready. */
static bool write_oldest(struct compress *compress, bool wait, bool *wrote, struct error *error) {
    struct slot *slot = &compress->slots[compress->written % compress->slot_count];
    lock_acquire(&compress->ring_lock);
    const bool is_there = compress->written < compress->filled;
    while (is_there && wait && !slot->is_done)
        condition_wait(&compress->done_changed, &compress->ring_lock);
    *wrote = is_there && slot->is_done;
    const bool failed = slot->failed;
    lock_release(&compress->ring_lock);
    if (!*wrote)
        return true;
    if (failed)
        return out_of_memory(error);
    if (compress->coder->join)
        compress->checksum = compress->coder->join(compress->checksum, &slot->block);
    if (!emit(compress, slot->block.out, slot->block.out_length, error))
        return false;
    slot->is_done = false; /* no worker has the block now */
    slot->block.length = 0;
    compress->written++;
    return true;
}

static uint64_t count_filled(struct compress *compress) {
    lock_acquire(&compress->ring_lock);
    const uint64_t filled = compress->filled;
    lock_release(&compress->ring_lock);
    return filled;
}

/* Makes the next block ready for being filled: its dictionary is the end of the one before. */
static void begin_block(struct compress_block *block, const struct compress_block *before) {
    block->length = 0;
    block->is_first = block->is_last = false;
    block->dictionary_length = COMPRESS_DICTIONARY_SIZE;
    memcpy(block->dictionary, before->bytes + before->length - COMPRESS_DICTIONARY_SIZE,
           COMPRESS_DICTIONARY_SIZE);
}

/* Hands the block that was filled to the workers, and writes those that are done. Then at least one
 * slot is free. */
static bool hand_over(struct compress *compress, bool is_last, struct error *error) {
    const uint64_t number = count_filled(compress);
    struct compress_block *block = &compress->slots[number % compress->slot_count].block;
    block->is_last = is_last;
    if (!is_last) { /* the next slot is free: see below */
        struct slot *next = &compress->slots[(number + 1) % compress->slot_count];
        begin_block(&next->block, block);
    }
    lock_acquire(&compress->ring_lock);
    compress->filled++;
    lock_release(&compress->ring_lock);
    condition_signal(&compress->filled_changed);
    /* One slot is being filled, and the one behind it is kept free. */
    for (bool wrote = true; wrote;) {
        const bool is_full = number + 1 - compress->written + 2 > compress->slot_count;
        if (!write_oldest(compress, is_full || is_last, &wrote, error))
            return false;
    }
    return true;
}

bool compress_write(struct compress *compress, const void *bytes, size_t length,
                    struct error *error) {
    const unsigned char *at = bytes;
    digest_hash_update(compress->plain, bytes, length);
    compress->plain_size += length;
    if (!compress->coder) {
        compress->packed_size += length;
        return sink_write(&compress->sink, bytes, length, error);
    }
    while (length) {
        struct compress_block *block =
            &compress->slots[count_filled(compress) % compress->slot_count].block;
        const size_t left = compress->coder->block_size - block->length;
        const size_t part = length < left ? length : left;
        memcpy(block->bytes + block->length, at, part);
        block->length += part;
        at += part;
        length -= part;
        if (block->length == compress->coder->block_size && !hand_over(compress, false, error))
            return false;
    }
    return true;
}

static bool write_end(struct compress *compress, struct error *error) {
    unsigned char mark[COMPRESS_MARK_SIZE];
    if (!hand_over(compress, true, error))
        return false;
    return !compress->coder->end ||
           emit(compress, mark,
                compress->coder->end(mark, compress->checksum, compress->plain_size), error);
}

bool compress_finish(struct compress *compress, struct compress_result *result,
                     struct error *error) {
    *result = (struct compress_result){0};
    if (compress->coder && !write_end(compress, error))
        return false;
    digest_hash_finish(compress->plain, &result->diff_id);
    result->digest = result->diff_id;
    if (compress->packed)
        digest_hash_finish(compress->packed, &result->digest);
    result->size = compress->packed_size;
    result->plain_size = compress->plain_size;
    return (result->digest.algorithm && result->diff_id.algorithm) ||
           error_set(error, ERROR_IO, "cannot hash the layer: OpenSSL failed");
}

/* ---- life ---- */

static unsigned count_workers(const struct compress_coder *coder, unsigned wanted) {
    cpu_set_t set;
    if (wanted == 0)
        wanted = sched_getaffinity(0, sizeof set, &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
    return wanted < coder->most_workers ? wanted : coder->most_workers;
}

static bool make_slots(struct compress *compress, size_t count) {
    const size_t size = compress->coder->block_size;
    compress->slots = calloc(count, sizeof *compress->slots);
    if (!compress->slots)
        return false;
    compress->slot_count = count;
    for (size_t i = 0; i < count; i++) {
        struct compress_block *block = &compress->slots[i].block;
        block->bytes = malloc(size);
        block->out = malloc(compress->coder->bound(size));
        if (!block->bytes || !block->out)
            return false;
    }
    compress->slots[0].block.is_first = true;
    return true;
}

static bool start_workers(struct compress *compress, unsigned workers, struct error *error) {
    /* Four small blocks for each worker, so that none waits for a thread that fills or writes them
     * and is not running; of large blocks one. Two more are being filled, and kept free. */
    const unsigned each = compress->coder->block_size < 1 << 20 ? 4 : 1;
    compress->threads = calloc(workers, sizeof *compress->threads);
    if (!compress->threads || !make_slots(compress, (size_t)each * workers + 2))
        return out_of_memory(error);
    while (compress->thread_count < workers) {
        if (!thread_start("compress", THREAD_STACK, work, compress,
                          &compress->threads[compress->thread_count], error))
            return false;
        compress->thread_count++;
    }
    return true;
}

static bool start(struct compress *compress, unsigned workers, struct error *error) {
    unsigned char mark[COMPRESS_MARK_SIZE];
    compress->plain = digest_hash_new(DIGEST_SHA256);
    if (!compress->plain)
        return out_of_memory(error);
    if (!compress->coder)
        return true;
    compress->packed = digest_hash_new(DIGEST_SHA256);
    if (!compress->packed)
        return out_of_memory(error);
    return start_workers(compress, count_workers(compress->coder, workers), error) &&
           (!compress->coder->begin || emit(compress, mark, compress->coder->begin(mark), error));
}

struct compress *compress_new(enum compress_kind kind, unsigned workers, const struct sink *sink,
                              struct error *error) {
    struct compress *compress = calloc(1, sizeof *compress);
    if (!compress) {
        out_of_memory(error);
        return NULL;
    }
    compress->kind = kind;
    compress->coder = kind == COMPRESS_GZIP   ? &compress_gzip
                      : kind == COMPRESS_ZSTD ? &compress_zstd
                                              : NULL;
    compress->sink = *sink;
    lock_init(&compress->ring_lock);
    condition_init(&compress->filled_changed);
    condition_init(&compress->done_changed);
    if (!start(compress, workers, error)) {
        compress_free(compress);
        return NULL;
    }
    return compress;
}

void compress_free(struct compress *compress) {
    if (!compress)
        return;
    lock_acquire(&compress->ring_lock);
    compress->is_ending = true;
    lock_release(&compress->ring_lock);
    condition_broadcast(&compress->filled_changed);
    for (unsigned i = 0; i < compress->thread_count; i++)
        pthread_join(compress->threads[i], NULL);
    for (size_t i = 0; i < compress->slot_count; i++) {
        free(compress->slots[i].block.bytes);
        free(compress->slots[i].block.out);
    }
    free(compress->slots);
    free(compress->threads);
    digest_hash_free(compress->plain);
    digest_hash_free(compress->packed);
    condition_finish(&compress->filled_changed);
    condition_finish(&compress->done_changed);
    lock_finish(&compress->ring_lock);
    free(compress);
}
