/* Walks over the blobs of the bucket and the marks of their use. */
#include "cache/inventory.h"

#include <stdlib.h>
#include <string.h>
#include "cache/share.h"

enum { PAGE_ENTRIES = 1000 };

struct found {
    struct digest digest;
    uint64_t size;
    int64_t modified_s;
};

/* One of the two lists, as far as it has been read. */
struct reading {
    struct bucket *bucket;
    const struct cancel *cancel;
    bool (*parse)(struct text key, struct digest *digest);
    struct bucket_list list;
    struct found *page; /* PAGE_ENTRIES of them, owned */
    size_t count, next;
    struct digest last; /* of the entry before; of no algorithm at first */
};

static void reading_finish(struct reading *reading) {
    bucket_list_finish(&reading->list);
    free(reading->page);
}

#define cleanup_reading __attribute__((cleanup(reading_finish)))

/* The order of keys is that of the algorithms' names, and then that of the bytes. */
static int compare(const struct digest *a, const struct digest *b) {
    if (a->algorithm != b->algorithm)
        return a->algorithm < b->algorithm ? -1 : 1;
    return memcmp(a->bytes, b->bytes, sizeof a->bytes);
}

static bool take_entry(void *context, const struct bucket_entry *entry, struct error *error) {
    struct reading *reading = context;
    struct digest digest;
    if (!reading->parse(text_of(entry->key), &digest))
        return true; /* not ours */
    if (compare(&reading->last, &digest) >= 0)
        return error_set(error, ERROR_UNAVAILABLE,
                         "the bucket's list is not in the order of its keys");
    if (reading->count == PAGE_ENTRIES)
        return error_set(error, ERROR_UNAVAILABLE, "the bucket's list has pages that are too long");
    reading->last = digest;
    reading->page[reading->count++] = (struct found){digest, entry->size, entry->modified_s};
    return true;
}

/* The next entry; NULL: there is none, or with `failed` an error. */
static const struct found *peek(struct reading *reading, bool *failed, struct error *error) {
    const struct bucket_limits limits = {.cancel = reading->cancel};
    *failed = false;
    while (reading->next == reading->count && !reading->list.done) {
        reading->next = reading->count = 0;
        *failed = !bucket_list_page(reading->bucket, &reading->list, take_entry, reading, &limits,
                                    NULL, error);
        if (*failed)
            return NULL;
    }
    return reading->next < reading->count ? &reading->page[reading->next] : NULL;
}

static void merge(const struct found *blob, const struct found *mark, struct inventory_entry *out) {
    int order = !blob ? 1 : !mark ? -1 : compare(&blob->digest, &mark->digest);
    *out = (struct inventory_entry){.has_blob = order <= 0, .has_mark = order >= 0};
    if (out->has_blob) {
        out->digest = blob->digest;
        out->size = blob->size;
        out->used_s = blob->modified_s;
    }
    if (out->has_mark) {
        out->digest = mark->digest;
        out->used_s = mark->modified_s > out->used_s ? mark->modified_s : out->used_s;
    }
}

bool inventory_walk(struct bucket *bucket, const struct cancel *cancel,
                    bool (*each)(void *context, const struct inventory_entry *entry,
                                 struct error *error),
                    void *context, struct error *error) {
    cleanup_reading struct reading blobs = {
        .bucket = bucket, .cancel = cancel, .parse = share_parse_blob};
    cleanup_reading struct reading marks = {
        .bucket = bucket, .cancel = cancel, .parse = share_parse_used};
    blobs.list.prefix = SHARE_BLOBS;
    marks.list.prefix = SHARE_USED;
    blobs.page = calloc(PAGE_ENTRIES, sizeof *blobs.page);
    marks.page = calloc(PAGE_ENTRIES, sizeof *marks.page);
    if (!blobs.page || !marks.page)
        return error_set(error, ERROR_MEMORY, "out of memory");
    for (;;) {
        struct inventory_entry entry;
        bool blobs_failed, marks_failed = false;
        const struct found *blob = peek(&blobs, &blobs_failed, error);
        const struct found *mark = blobs_failed ? NULL : peek(&marks, &marks_failed, error);
        if (blobs_failed || marks_failed || !cancel_check(cancel, error))
            return false;
        if (!blob && !mark)
            return true;
        merge(blob, mark, &entry);
        entry.now_s = blobs.list.date_s > marks.list.date_s ? blobs.list.date_s : marks.list.date_s;
        blobs.next += entry.has_blob;
        marks.next += entry.has_mark;
        if (!each(context, &entry, error))
            return false;
    }
}
