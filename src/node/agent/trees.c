/* The trees that are mounted, by number. */
#include "node/agent/trees.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include "base/clock.h"
#include "base/json.h"
#include "base/lock.h"
#include "base/text.h"

enum { LOOK_MS = 200 }; /* how soon a read that waits for a tree notices that it shall end */

struct tree_entry {
    uint32_t number;
    struct spans_image *image; /* NULL: not open yet */
    struct digest digest;
    char *name, *from; /* of the image; `from` may be NULL */
    uint32_t layers;   /* how many of its lowest layers it has; 0: all */
    bool is_busy;      /* a thread mounts or unmounts it */
    unsigned holds;
    uint32_t files;
    uint64_t *sizes; /* of the files */
    UT_hash_handle hh;
};

struct trees {
    struct spans *spans;
    int64_t wait_ms;
    struct lock entries_lock;
    struct condition changed; /* a tree is open, or not busy any more */
    struct tree_entry *entries GUARDED_BY(entries_lock);
    uint32_t last GUARDED_BY(entries_lock); /* the last number that was given */
};

/* ---- life ---- */

static void free_entry(struct tree_entry *entry) {
    spans_image_release(entry->image);
    free(entry->name);
    free(entry->from);
    free(entry->sizes);
    free(entry);
}

struct trees *trees_new(struct spans *spans, int64_t wait_ms) {
    struct trees *trees = calloc(1, sizeof *trees);
    if (!trees)
        return NULL;
    trees->spans = spans;
    trees->wait_ms = wait_ms;
    lock_init(&trees->entries_lock);
    condition_init(&trees->changed);
    return trees;
}

void trees_free(struct trees *trees) {
    if (!trees)
        return;
    struct tree_entry *entry, *next;
    lock_acquire(&trees->entries_lock);
    HASH_ITER (hh, trees->entries, entry, next) {
        HASH_DEL(trees->entries, entry);
        free_entry(entry);
    }
    lock_release(&trees->entries_lock);
    condition_finish(&trees->changed);
    lock_finish(&trees->entries_lock);
    free(trees);
}

/* ---- entries ---- */

static struct tree_entry *find(struct trees *trees, uint32_t number) REQUIRES(trees->entries_lock) {
    struct tree_entry *entry;
    HASH_FIND(hh, trees->entries, &number, sizeof number, entry);
    return entry;
}

static struct tree_entry *find_digest(struct trees *trees, const struct digest *digest)
    REQUIRES(trees->entries_lock) {
    for (struct tree_entry *entry = trees->entries; entry; entry = entry->hh.next)
        if (digest_equal(&entry->digest, digest))
            return entry;
    return NULL;
}

/* False: out of memory; the entry is not in the table. */
static bool enter(struct trees *trees, struct tree_entry *entry) REQUIRES(trees->entries_lock) {
    HASH_ADD(hh, trees->entries, number, sizeof entry->number, entry);
    return entry->hh.tbl != NULL;
}

static struct tree_entry *new_entry(struct spans_image *image, const char *name, const char *from,
                                    uint32_t layers) {
    struct tree_entry *entry = calloc(1, sizeof *entry);
    if (!entry)
        return NULL;
    entry->files = (uint32_t)spans_image_files(image);
    entry->digest = *spans_image_digest(image);
    entry->layers = layers;
    entry->name = strdup(name);
    entry->from = from ? strdup(from) : NULL;
    entry->sizes = calloc(entry->files + 1, sizeof *entry->sizes);
    if (!entry->name || !entry->sizes || (from && !entry->from)) {
        free_entry(entry);
        return NULL;
    }
    for (uint32_t i = 0; i < entry->files; i++)
        entry->sizes[i] = spans_image_file_size(image, i);
    entry->image = image;
    return entry;
}

uint32_t trees_hold(struct trees *trees, struct spans_image *image, const char *name,
                    const char *from, uint32_t layers) {
    struct tree_entry *entry = new_entry(image, name, from, layers);
    if (!entry) {
        spans_image_release(image);
        return 0;
    }
    struct tree_entry *unused = NULL;
    uint32_t number = 0;
    lock_acquire(&trees->entries_lock);
    struct tree_entry *known = find_digest(trees, &entry->digest);
    if (known) {
        if (!known->image) {
            known->image = entry->image;
            entry->image = NULL;
            condition_broadcast(&trees->changed);
        }
        known->holds++;
        number = known->number;
        unused = entry;
    } else {
        entry->number = ++trees->last;
        entry->holds = 1;
        if (enter(trees, entry))
            number = entry->number;
        else
            unused = entry;
    }
    lock_release(&trees->entries_lock);
    if (unused)
        free_entry(unused);
    return number;
}

bool trees_hold_again(struct trees *trees, uint32_t number) {
    lock_acquire(&trees->entries_lock);
    struct tree_entry *entry = find(trees, number);
    if (entry)
        entry->holds++;
    lock_release(&trees->entries_lock);
    return entry != NULL;
}

bool trees_release(struct trees *trees, uint32_t number) {
    lock_acquire(&trees->entries_lock);
    struct tree_entry *entry = find(trees, number);
    bool is_last = entry && entry->holds > 0 && --entry->holds == 0;
    lock_release(&trees->entries_lock);
    return is_last;
}

bool trees_begin(struct trees *trees, uint32_t number) {
    lock_acquire(&trees->entries_lock);
    struct tree_entry *entry;
    while ((entry = find(trees, number)) && entry->is_busy)
        condition_wait(&trees->changed, &trees->entries_lock);
    if (entry)
        entry->is_busy = true;
    lock_release(&trees->entries_lock);
    return entry != NULL;
}

void trees_end(struct trees *trees, uint32_t number) {
    lock_acquire(&trees->entries_lock);
    struct tree_entry *entry = find(trees, number);
    if (entry)
        entry->is_busy = false;
    condition_broadcast(&trees->changed);
    lock_release(&trees->entries_lock);
}

void trees_drop(struct trees *trees, uint32_t number) {
    lock_acquire(&trees->entries_lock);
    struct tree_entry *entry = find(trees, number);
    if (entry && entry->holds == 0)
        HASH_DEL(trees->entries, entry);
    else
        entry = NULL;
    lock_release(&trees->entries_lock);
    if (entry)
        free_entry(entry);
}

static void fill_facts(const struct tree_entry *entry, struct trees_facts *out) {
    *out = (struct trees_facts){.number = entry->number,
                                .files = entry->files,
                                .is_open = entry->image != NULL,
                                .holds = entry->holds,
                                .digest = entry->digest};
}

bool trees_at(struct trees *trees, size_t at, struct trees_facts *out) {
    lock_acquire(&trees->entries_lock);
    const struct tree_entry *entry = trees->entries;
    while (entry && at-- > 0)
        entry = entry->hh.next;
    if (entry)
        fill_facts(entry, out);
    lock_release(&trees->entries_lock);
    return entry != NULL;
}

bool trees_find(struct trees *trees, uint32_t number, struct trees_facts *out) {
    lock_acquire(&trees->entries_lock);
    const struct tree_entry *entry = find(trees, number);
    if (entry)
        fill_facts(entry, out);
    lock_release(&trees->entries_lock);
    return entry != NULL;
}

struct spans_image *trees_image(struct trees *trees, uint32_t number) {
    lock_acquire(&trees->entries_lock);
    const struct tree_entry *entry = find(trees, number);
    struct spans_image *image = entry && entry->image ? spans_image_keep(entry->image) : NULL;
    lock_release(&trees->entries_lock);
    return image;
}

/* ---- after a restart ---- */

/* The name by which exactly the image of a digest is asked for: HOST/NAME@DIGEST. */
static bool name_by_digest(const char *name, const struct digest *digest, struct buffer *out) {
    char text[DIGEST_STRING_SIZE];
    const char *at = strchr(name, '@'), *slash = strrchr(name, '/');
    const char *colon = strchr(slash ? slash : name, ':');
    size_t length = at ? (size_t)(at - name) : colon ? (size_t)(colon - name) : strlen(name);
    if (at && colon && colon < at)
        length = (size_t)(colon - name);
    return buffer_printf(out, "%.*s@%s", (int)length, name, digest_format(digest, text));
}

/* What of an entry must be known to open its image. */
struct wanted {
    struct digest digest;
    char *name, *from;
    uint32_t layers;
};

static bool copy_wanted(struct trees *trees, uint32_t number, struct wanted *out)
    REQUIRES(trees->entries_lock) {
    const struct tree_entry *entry = find(trees, number);
    *out = (struct wanted){0};
    if (!entry || entry->image)
        return false;
    out->digest = entry->digest;
    out->layers = entry->layers;
    out->name = strdup(entry->name);
    out->from = entry->from ? strdup(entry->from) : NULL;
    return true;
}

static struct spans_image *open_again(struct trees *trees, const struct wanted *wanted,
                                      bool by_network, const atomic_bool *stop,
                                      struct error *error) {
    struct spans_image *image =
        spans_image_restore(trees->spans, &wanted->digest, wanted->name, wanted->from, error);
    if (image || !by_network)
        return image;
    if (wanted->layers)
        return spans_image_open_lowest(trees->spans, wanted->name, wanted->layers, stop, error);
    cleanup_buffer struct buffer name = {0};
    if (!name_by_digest(wanted->name, &wanted->digest, &name)) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    return spans_image_open(trees->spans, name.bytes, NULL, wanted->from, stop, error);
}

bool trees_restore(struct trees *trees, uint32_t number, bool by_network, const atomic_bool *stop,
                   struct error *error) {
    struct wanted wanted;
    lock_acquire(&trees->entries_lock);
    bool is_wanted = copy_wanted(trees, number, &wanted);
    lock_release(&trees->entries_lock);
    if (!is_wanted)
        return true;
    struct spans_image *image =
        wanted.name ? open_again(trees, &wanted, by_network, stop, error) : NULL;
    if (!wanted.name)
        error_set(error, ERROR_MEMORY, "out of memory");
    free(wanted.name);
    free(wanted.from);
    if (!image)
        return false;
    lock_acquire(&trees->entries_lock);
    struct tree_entry *entry = find(trees, number);
    if (entry && !entry->image) {
        entry->image = image;
        image = NULL;
        condition_broadcast(&trees->changed);
    }
    lock_release(&trees->entries_lock);
    spans_image_release(image);
    return true;
}

/* ---- reads ---- */

static bool give_size(void *context, uint32_t number, uint32_t file, uint64_t *size) {
    struct trees *trees = context;
    lock_acquire(&trees->entries_lock);
    const struct tree_entry *entry = find(trees, number);
    bool is_there = entry && file < entry->files;
    if (is_there)
        *size = entry->sizes[file];
    lock_release(&trees->entries_lock);
    return is_there;
}

/* Waits until the image of a tree is open. NULL: the tree is gone, or it takes too long. */
static struct spans_image *await_image(struct trees *trees, const struct reads_read *read) {
    const int64_t until_ms = clock_ms() + trees->wait_ms;
    struct spans_image *image = NULL;
    lock_acquire(&trees->entries_lock);
    struct tree_entry *entry = find(trees, read->number);
    while (entry && !entry->image && clock_ms() < until_ms && !atomic_load(read->stop)) {
        condition_wait_until(&trees->changed, &trees->entries_lock, clock_ms() + LOOK_MS);
        entry = find(trees, read->number);
    }
    if (entry && entry->image)
        image = spans_image_keep(entry->image);
    lock_release(&trees->entries_lock);
    return image;
}

static enum reads_outcome give_bytes(void *context, const struct reads_read *read, void *out) {
    static const atomic_bool at_once = true; /* a read that would have to wait ends at once */
    struct trees *trees = context;
    struct spans_image *image =
        read->may_wait ? await_image(trees, read) : trees_image(trees, read->number);
    if (!image)
        return read->may_wait ? READS_FAILED : READS_MUST_WAIT;
    struct error error = {0};
    bool done = spans_image_read(image, read->file, read->offset, out, read->length,
                                 read->may_wait ? read->stop : &at_once, &error);
    spans_image_release(image);
    return done ? READS_DONE : read->may_wait ? READS_FAILED : READS_MUST_WAIT;
}

struct reads_source trees_source(struct trees *trees) {
    return (struct reads_source){.size = give_size, .read = give_bytes, .context = trees};
}

/* ---- what a file keeps ---- */

static json_t *write_entry(const struct tree_entry *entry) {
    char digest[DIGEST_STRING_SIZE];
    json_t *sizes = json_array();
    for (uint32_t i = 0; i < entry->files; i++)
        json_array_append_new(sizes, json_integer((json_int_t)entry->sizes[i]));
    return json_pack("{s:I, s:s, s:s, s:s?, s:I, s:o}", "number", (json_int_t)entry->number,
                     "digest", digest_format(&entry->digest, digest), "image", entry->name, "from",
                     entry->from, "layers", (json_int_t)entry->layers, "sizes", sizes);
}

json_t *trees_write(struct trees *trees) {
    json_t *list = json_array();
    lock_acquire(&trees->entries_lock);
    json_int_t last = trees->last;
    for (const struct tree_entry *entry = trees->entries; entry; entry = entry->hh.next)
        if (json_array_append_new(list, write_entry(entry)) != 0) {
            json_decref(list);
            list = NULL;
        }
    lock_release(&trees->entries_lock);
    return list ? json_pack("{s:I, s:o}", "last", last, "list", list) : NULL;
}

/* NULL: out of memory, or it is no tree. */
static struct tree_entry *read_entry(const json_t *json) {
    const json_t *sizes = json_object_get(json, "sizes");
    const char *from = json_string_value(json_object_get(json, "from"));
    struct tree_entry *entry = calloc(1, sizeof *entry);
    if (!entry)
        return NULL;
    entry->number = (uint32_t)json_integer_value(json_object_get(json, "number"));
    entry->layers = (uint32_t)json_integer_value(json_object_get(json, "layers"));
    entry->files = (uint32_t)json_array_size(sizes);
    entry->name = strdup(json_member_text(json, "image"));
    entry->from = from ? strdup(from) : NULL;
    entry->sizes = calloc(entry->files + 1, sizeof *entry->sizes);
    bool ok = entry->name && entry->sizes && (!from || entry->from) && entry->number &&
              entry->files && entry->files < READS_FILE_LIMIT &&
              digest_parse(text_of(json_member_text(json, "digest")), &entry->digest);
    for (uint32_t i = 0; ok && i < entry->files; i++)
        entry->sizes[i] = (uint64_t)json_integer_value(json_array_get(sizes, i));
    if (ok)
        return entry;
    free_entry(entry);
    return NULL;
}

bool trees_read(struct trees *trees, const json_t *json) {
    const json_t *list = json_object_get(json, "list"), *each;
    size_t at;
    bool ok = true;
    lock_acquire(&trees->entries_lock);
    trees->last = (uint32_t)json_integer_value(json_object_get(json, "last"));
    json_array_foreach (list, at, each) {
        struct tree_entry *entry = read_entry(each);
        if (entry && entry->number > trees->last)
            trees->last = entry->number;
        if (entry && (find(trees, entry->number) || !enter(trees, entry))) {
            free_entry(entry);
            entry = NULL;
        }
        ok = ok && entry;
    }
    lock_release(&trees->entries_lock);
    return ok;
}
