/* The mounts of the agent: added, removed, restored. */
#include "node/agent/mounts.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <utlist.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/thread.h"
#include "node/agent/mount_file.h"
#include "node/agent/removal.h"

enum { RETRY_MS = 3000 };

enum phase { MOUNTING, MOUNTED, UNMOUNTING };

struct mount_entry {
    struct mount_record record;
    enum phase phase;
    bool is_kept;   /* it is in the file */
    bool is_broken; /* it was in the file, and could not be made again yet */
    struct mount_entry *prev, *next;
};

struct mounts {
    const struct supervisor_worker *worker;
    struct spans *spans;
    struct trees *trees;
    atomic_bool stop;
    struct lock entries_lock;
    struct condition changed;
    struct mount_entry *entries GUARDED_BY(entries_lock);
    bool is_saving GUARDED_BY(entries_lock);
    pthread_t restorer;
    bool has_restorer;
};

/* ---- the file ---- */

/* What the file holds of the mounts. NULL: out of memory. */
static json_t *list_records(struct mounts *mounts) REQUIRES(mounts->entries_lock) {
    json_t *list = json_array();
    for (const struct mount_entry *entry = mounts->entries; list && entry; entry = entry->next)
        if (entry->is_kept &&
            json_array_append_new(list, mount_record_write(&entry->record)) != 0) {
            json_decref(list);
            list = NULL;
        }
    return list;
}

/* Writes the file. One thread at a time writes, with what is right then. */
static bool save(struct mounts *mounts, struct error *error) {
    lock_acquire(&mounts->entries_lock);
    while (mounts->is_saving)
        condition_wait(&mounts->changed, &mounts->entries_lock);
    mounts->is_saving = true;
    json_t *list = list_records(mounts);
    lock_release(&mounts->entries_lock);
    bool ok = mount_file_save(mounts->worker->place->root, list, trees_write(mounts->trees), error);
    lock_acquire(&mounts->entries_lock);
    mounts->is_saving = false;
    condition_broadcast(&mounts->changed);
    lock_release(&mounts->entries_lock);
    return ok;
}

/* ---- orders ---- */

static bool send_image(struct mounts *mounts, uint32_t number, struct error *error) {
    struct trees_facts facts;
    struct mount_order order = {.kind = MOUNT_ORDER_IMAGE, .number = number};
    if (!trees_find(mounts->trees, number, &facts))
        return error_set(error, ERROR_NOT_FOUND, "the tree is gone");
    order.files = facts.files;
    return mount_order_send(mounts->worker->supervisor, &order, error);
}

static bool send_folder(struct mounts *mounts, enum mount_order_kind kind,
                        const struct mount_record *record, struct error *error) {
    struct mount_order order = {.kind = kind, .number = record->number};
    if (!text_copy(text_of(record->layer), order.layer, sizeof order.layer) ||
        !text_copy(text_of(record->folder), order.folder, sizeof order.folder))
        return error_set(error, ERROR_INVALID, "%.200s…: the path is too long", record->folder);
    return mount_order_send(mounts->worker->supervisor, &order, error);
}

/* Unmounts and forgets the tree, unless somebody holds it. A tree that somebody still uses, for
 * example by a mount of his own, stays until the next sweep. True: it is gone. */
static bool drop_tree(struct mounts *mounts, uint32_t number) {
    const struct mount_order order = {.kind = MOUNT_ORDER_NO_IMAGE, .number = number};
    struct trees_facts facts;
    bool is_gone = false;
    if (!trees_begin(mounts->trees, number))
        return true;
    if (trees_find(mounts->trees, number, &facts) && facts.holds == 0 &&
        mount_order_send(mounts->worker->supervisor, &order, NULL)) {
        trees_drop(mounts->trees, number);
        is_gone = !trees_find(mounts->trees, number, &facts);
    }
    trees_end(mounts->trees, number);
    return is_gone;
}

/* Ends a hold; without holds the tree goes. */
static void let_go(struct mounts *mounts, uint32_t number) {
    if (trees_release(mounts->trees, number))
        drop_tree(mounts, number);
}

/* Tries once more to unmount trees that nobody holds. */
static void sweep(struct mounts *mounts) {
    struct trees_facts facts;
    size_t at = 0;
    while (trees_at(mounts->trees, at, &facts))
        at += facts.holds > 0 || !drop_tree(mounts, facts.number);
}

/* ---- entries ---- */

static struct mount_entry *find(struct mounts *mounts, const char *folder)
    REQUIRES(mounts->entries_lock) {
    for (struct mount_entry *entry = mounts->entries; entry; entry = entry->next)
        if (strcmp(entry->record.folder, folder) == 0)
            return entry;
    return NULL;
}

static void free_entry(struct mount_entry *entry) {
    if (entry)
        mount_record_finish(&entry->record);
    free(entry);
}

static void drop(struct mounts *mounts, struct mount_entry *entry) {
    lock_acquire(&mounts->entries_lock);
    DL_DELETE(mounts->entries, entry);
    condition_broadcast(&mounts->changed);
    lock_release(&mounts->entries_lock);
    free_entry(entry);
}

static void set_phase(struct mounts *mounts, struct mount_entry *entry, enum phase phase) {
    lock_acquire(&mounts->entries_lock);
    entry->phase = phase;
    condition_broadcast(&mounts->changed);
    lock_release(&mounts->entries_lock);
}

/* ---- adding ---- */

/* A name for the folder of what is written. */
static bool make_layer_name(char out[static MOUNT_ORDER_LAYER_SIZE]) {
    uint8_t random[(MOUNT_ORDER_LAYER_SIZE - 1) / 2];
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        return false;
    for (size_t i = 0; i < sizeof random; i++)
        snprintf(out + 2 * i, 3, "%02x", random[i]);
    return true;
}

static struct mount_entry *new_entry(const struct mounts_wanted *wanted) {
    char layer[MOUNT_ORDER_LAYER_SIZE] = "";
    struct mount_entry *entry = calloc(1, sizeof *entry);
    if (!entry)
        return NULL;
    if ((!wanted->writable || make_layer_name(layer)) &&
        mount_record_init(&entry->record, wanted->folder, wanted->image, layer,
                          wanted->token ? wanted->token : ""))
        return entry;
    free_entry(entry);
    return NULL;
}

/* Enters a mount that is to be made. NULL: `*is_done`: the same order has been carried out; else
 * the error is set. */
static struct mount_entry *begin(struct mounts *mounts, const struct mounts_wanted *wanted,
                                 bool *is_done, struct error *error) {
    struct mount_entry *entry = new_entry(wanted);
    *is_done = false;
    if (!entry) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    lock_acquire(&mounts->entries_lock);
    struct mount_entry *known;
    while ((known = find(mounts, wanted->folder)) && known->phase == MOUNTING && wanted->token &&
           strcmp(known->record.token, wanted->token) == 0 && !atomic_load(&mounts->stop))
        condition_wait(&mounts->changed, &mounts->entries_lock);
    if (!known)
        DL_APPEND(mounts->entries, entry);
    else
        *is_done = known->phase == MOUNTED && wanted->token && *wanted->token &&
                   strcmp(known->record.token, wanted->token) == 0;
    lock_release(&mounts->entries_lock);
    if (!known)
        return entry;
    free_entry(entry);
    if (!*is_done)
        error_set(error, ERROR_BUSY, "%s is a mount of tarn already", wanted->folder);
    return NULL;
}

static bool open_image(struct mounts *mounts, struct mount_entry *entry,
                       const struct mounts_wanted *wanted, struct buffer *note,
                       struct error *error) {
    struct spans_image *image =
        wanted->layers ? spans_image_open_lowest(mounts->spans, wanted->image, wanted->layers,
                                                 &mounts->stop, error)
                       : spans_image_open(mounts->spans, wanted->image, wanted->platform,
                                          wanted->from, &mounts->stop, error);
    if (!image)
        return false;
    const char *reason = spans_image_whole_reason(image);
    if (*reason)
        buffer_printf(note, "%s: cannot stream (%s): it was pulled whole", wanted->image, reason);
    if (wanted->is_wanted && !wanted->is_wanted(wanted->context)) {
        spans_image_release(image);
        return error_set(error, ERROR_CLOSED, "nobody waits for the mount any more");
    }
    entry->record.number =
        trees_hold(mounts->trees, image, wanted->image, wanted->from, (uint32_t)wanted->layers);
    return entry->record.number || error_set(error, ERROR_MEMORY, "out of memory");
}

/* Mounts the tree, unless it is mounted, and shows it at the folder. */
static bool show(struct mounts *mounts, const struct mount_record *record, struct error *error) {
    if (!trees_begin(mounts->trees, record->number))
        return error_set(error, ERROR_NOT_FOUND, "the tree is gone");
    bool done = send_image(mounts, record->number, error) &&
                send_folder(mounts, MOUNT_ORDER_ATTACH, record, error);
    trees_end(mounts->trees, record->number);
    return done;
}

/* Makes the mount of an entry whose image is open. */
static bool make(struct mounts *mounts, struct mount_entry *entry, struct error *error) {
    lock_acquire(&mounts->entries_lock);
    entry->is_kept = true;
    lock_release(&mounts->entries_lock);
    return save(mounts, error) && show(mounts, &entry->record, error);
}

bool mounts_add(struct mounts *mounts, const struct mounts_wanted *wanted, struct buffer *note,
                struct error *error) {
    bool is_done;
    struct mount_entry *entry = begin(mounts, wanted, &is_done, error);
    if (!entry)
        return is_done;
    bool opened = open_image(mounts, entry, wanted, note, error);
    if (opened && make(mounts, entry, error)) {
        set_phase(mounts, entry, MOUNTED);
        return true;
    }
    const uint32_t number = entry->record.number;
    const bool was_kept = entry->is_kept, is_writable = *entry->record.layer;
    char layer[MOUNT_ORDER_LAYER_SIZE];
    text_copy(text_of(entry->record.layer), layer, sizeof layer);
    drop(mounts, entry);
    if (opened)
        let_go(mounts, number);
    if (was_kept)
        save(mounts, NULL);
    if (was_kept && is_writable)
        removal_of_layer(mounts->worker->place->root, layer);
    return false;
}

/* ---- removing ---- */

/* The entry of a folder, which no other order has then. NULL: the error is set. */
static struct mount_entry *begin_removal(struct mounts *mounts, const char *folder,
                                         struct error *error) {
    lock_acquire(&mounts->entries_lock);
    struct mount_entry *entry = find(mounts, folder);
    bool is_free = entry && entry->phase == MOUNTED;
    if (is_free)
        entry->phase = UNMOUNTING;
    lock_release(&mounts->entries_lock);
    if (is_free)
        return entry;
    if (entry)
        error_set(error, ERROR_BUSY, "%s is being mounted or unmounted", folder);
    else
        error_set(error, ERROR_NOT_FOUND, "%s is no mount of tarn", folder);
    return NULL;
}

bool mounts_remove(struct mounts *mounts, const char *folder, struct error *error) {
    struct mount_entry *entry = begin_removal(mounts, folder, error);
    if (!entry)
        return false;
    if (!send_folder(mounts, MOUNT_ORDER_DETACH, &entry->record, error)) {
        set_phase(mounts, entry, MOUNTED);
        return false;
    }
    const uint32_t number = entry->record.number;
    char layer[MOUNT_ORDER_LAYER_SIZE];
    text_copy(text_of(entry->record.layer), layer, sizeof layer);
    drop(mounts, entry);
    let_go(mounts, number);
    sweep(mounts);
    bool saved = save(mounts, error);
    if (saved && *layer)
        removal_of_layer(mounts->worker->place->root, layer);
    return saved;
}

/* ---- restoring ---- */

/* Makes the mount of an entry of the file. */
static bool restore_entry(struct mounts *mounts, const struct mount_record *record, bool by_network,
                          struct error *error) {
    return trees_restore(mounts->trees, record->number, by_network, &mounts->stop, error) &&
           show(mounts, record, error);
}

/* Goes through all entries that are not there. Returns how many are still missing. */
static size_t restore_all(struct mounts *mounts, bool by_network) {
    size_t missing = 0;
    lock_acquire(&mounts->entries_lock);
    struct mount_entry *entry = mounts->entries;
    while (entry && !atomic_load(&mounts->stop)) {
        if (entry->is_broken && entry->phase == MOUNTED) {
            struct error error = {0};
            entry->phase = MOUNTING; /* nobody frees it */
            lock_release(&mounts->entries_lock);
            bool done = restore_entry(mounts, &entry->record, by_network, &error);
            if (!done && !atomic_load(&mounts->stop))
                log_at(LOG_WARN, "mount is not back yet", LOG_STRING("dir", entry->record.folder),
                       LOG_STRING("image", entry->record.image), LOG_STRING("error", error.text));
            lock_acquire(&mounts->entries_lock);
            entry->phase = MOUNTED;
            entry->is_broken = !done;
            missing += !done;
            condition_broadcast(&mounts->changed);
        }
        entry = entry->next;
    }
    lock_release(&mounts->entries_lock);
    return missing;
}

static void keep_restoring(void *context) {
    struct mounts *mounts = context;
    while (!atomic_load(&mounts->stop)) {
        size_t missing = restore_all(mounts, true);
        if (!missing)
            break;
        lock_acquire(&mounts->entries_lock);
        int64_t until_ms = clock_ms() + RETRY_MS;
        while (!atomic_load(&mounts->stop) && clock_ms() < until_ms)
            condition_wait_until(&mounts->changed, &mounts->entries_lock, until_ms);
        lock_release(&mounts->entries_lock);
    }
}

/* Removes what unmounting was cut short of removing. */
static void remove_left_over(struct mounts *mounts) {
    size_t count = 0;
    lock_acquire(&mounts->entries_lock);
    for (const struct mount_entry *entry = mounts->entries; entry; entry = entry->next)
        count++;
    const char **layers = calloc(count + 1, sizeof *layers);
    count = 0;
    for (const struct mount_entry *entry = mounts->entries; layers && entry; entry = entry->next)
        layers[count++] = entry->record.layer;
    lock_release(&mounts->entries_lock);
    if (layers)
        removal_of_others(mounts->worker->place->root, layers);
    free(layers);
}

bool mounts_restore(struct mounts *mounts, struct error *error) {
    remove_left_over(mounts);
    size_t missing = restore_all(mounts, false);
    sweep(mounts);
    if (!missing)
        return true;
    mounts->has_restorer = thread_start("restore", THREAD_STACK_SYSTEM, keep_restoring, mounts,
                                        &mounts->restorer, error);
    return mounts->has_restorer;
}

/* ---- life ---- */

static bool read_entry(struct mounts *mounts, const json_t *json) {
    struct mount_entry *entry = calloc(1, sizeof *entry);
    if (!entry)
        return false;
    if (!mount_record_read(json, &entry->record) ||
        !trees_hold_again(mounts->trees, entry->record.number)) {
        free_entry(entry);
        return false;
    }
    entry->phase = MOUNTED;
    entry->is_kept = entry->is_broken = true;
    lock_acquire(&mounts->entries_lock);
    bool is_new = !find(mounts, entry->record.folder);
    if (is_new)
        DL_APPEND(mounts->entries, entry);
    lock_release(&mounts->entries_lock);
    if (!is_new)
        free_entry(entry);
    return is_new;
}

static bool read_file(struct mounts *mounts, struct error *error) {
    cleanup_json json_t *root = NULL;
    if (!mount_file_read(mounts->worker->place->root, &root, error))
        return false;
    if (!root)
        return true;
    const json_t *each;
    size_t at;
    bool ok = trees_read(mounts->trees, json_object_get(root, "trees"));
    json_array_foreach (json_object_get(root, "mounts"), at, each)
        ok = read_entry(mounts, each) && ok;
    if (!ok)
        log_event(LOG_ERROR, "some mounts are lost, because the file of mounts is damaged", NULL,
                  0);
    return true;
}

struct mounts *mounts_open(const struct supervisor_worker *worker, struct spans *spans,
                           int64_t wait_ms, struct error *error) {
    struct mounts *mounts = calloc(1, sizeof *mounts);
    if (!mounts) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    mounts->worker = worker;
    mounts->spans = spans;
    lock_init(&mounts->entries_lock);
    condition_init(&mounts->changed);
    mounts->trees = trees_new(spans, wait_ms);
    if (mounts->trees ? read_file(mounts, error) : error_set(error, ERROR_MEMORY, "out of memory"))
        return mounts;
    mounts_close(mounts);
    return NULL;
}

void mounts_stop(struct mounts *mounts) {
    atomic_store(&mounts->stop, true);
    lock_acquire(&mounts->entries_lock);
    condition_broadcast(&mounts->changed);
    lock_release(&mounts->entries_lock);
}

void mounts_close(struct mounts *mounts) {
    if (!mounts)
        return;
    mounts_stop(mounts);
    if (mounts->has_restorer)
        pthread_join(mounts->restorer, NULL);
    struct mount_entry *entry, *next;
    DL_FOREACH_SAFE (mounts->entries, entry, next)
        free_entry(entry);
    trees_free(mounts->trees);
    condition_finish(&mounts->changed);
    lock_finish(&mounts->entries_lock);
    free(mounts);
}

struct trees *mounts_trees(struct mounts *mounts) {
    return mounts->trees;
}

/* ---- what is shown ---- */

/* What an image says of itself; of one that is not open, that it streams and has nothing. */
static struct spans_image_state look(struct mounts *mounts, uint32_t number) {
    struct spans_image_state state = {.state = SPANS_STREAMING, .first_read = -1, .complete = -1};
    struct spans_image *image = trees_image(mounts->trees, number);
    if (image)
        spans_image_look(image, &state);
    spans_image_release(image);
    return state;
}

static void write_seconds(struct buffer *out, const char *name, double seconds, bool is_known) {
    if (is_known)
        buffer_printf(out, ",\"%s\":%.6f", name, seconds);
    else
        buffer_printf(out, ",\"%s\":null", name);
}

static void write_line(struct mounts *mounts, const struct mount_record *record,
                       struct buffer *out) {
    const struct spans_image_state state = look(mounts, record->number);
    struct trees_facts facts = {0};
    char digest[DIGEST_STRING_SIZE];
    trees_find(mounts->trees, record->number, &facts);
    buffer_append_string(out, "{\"dir\":\"");
    buffer_append_json(out, text_of(record->folder));
    buffer_append_string(out, "\",\"image\":\"");
    buffer_append_json(out, text_of(record->image));
    buffer_printf(out,
                  "\",\"manifest\":\"%s\",\"state\":\"%s\",\"rw\":%s,\"bytes\":%" PRIu64
                  ",\"fetched\":%" PRIu64 ",\"waits\":%" PRIu64,
                  digest_format(&facts.digest, digest), spans_state_name(state.state),
                  *record->layer ? "true" : "false", state.bytes, state.fetched, state.waits);
    write_seconds(out, "wait_p50", state.wait_p50, state.waits > 0);
    write_seconds(out, "wait_p99", state.wait_p99, state.waits > 0);
    write_seconds(out, "first_read", state.first_read, state.first_read >= 0);
    write_seconds(out, "complete", state.complete, state.complete >= 0);
    buffer_printf(out, ",\"trace\":%s}\n", state.traced ? "true" : "false");
}

/* A copy of the record of a mount that is there; false: there are fewer. */
static bool copy_record(struct mounts *mounts, size_t at, struct mount_record *out) {
    bool is_there = false;
    lock_acquire(&mounts->entries_lock);
    for (const struct mount_entry *entry = mounts->entries; entry && !is_there;
         entry = entry->next) {
        if (entry->phase == MOUNTING && !entry->is_broken)
            continue;
        if (at-- == 0)
            is_there = mount_record_copy(&entry->record, out);
    }
    lock_release(&mounts->entries_lock);
    return is_there;
}

bool mounts_write(struct mounts *mounts, struct buffer *out) {
    struct mount_record record;
    for (size_t at = 0; copy_record(mounts, at, &record); at++) {
        write_line(mounts, &record, out);
        mount_record_finish(&record);
    }
    return !out->failed;
}

void mounts_update_metrics(struct mounts *mounts) {
    int64_t counts[SPANS_BAD + 1] = {0};
    struct mount_record record;
    for (size_t at = 0; copy_record(mounts, at, &record); at++) {
        counts[look(mounts, record.number).state]++;
        mount_record_finish(&record);
    }
    for (int i = 0; i <= SPANS_BAD; i++) {
        char labels[40];
        snprintf(labels, sizeof labels, "state=\"%s\"", spans_state_name((enum spans_state)i));
        metric_set(
            metric_get(METRIC_GAUGE, "tarn_node_mounts", "Mounts of images, by state.", labels),
            counts[i]);
    }
}
