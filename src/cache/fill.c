/* Goes through the store, and owes to the bucket what is there. */
#include "cache/fill.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "base/thread.h"
#include "store/blobs.h"
#include "store/note.h"
#include "store/records.h"

#define DONE "done"

enum {
    NAME_SIZE = HOST_LIMIT + 1 + NAME_LIMIT + 1,
    NOTE_LIMIT = BUCKET_LABEL_SIZE + NAME_SIZE + 2,
};

struct fill {
    struct uploads *uploads;
    struct store *store;
    char bucket[BUCKET_LABEL_SIZE]; /* "s3://NAME/PREFIX" */
    char after[NAME_SIZE];          /* "HOST/NAME" that was done before; "": none */
    const struct repository_name *name;
    uint64_t owed;
    bool runs;
    pthread_t thread;
};

/* ---- how far it has come ---- */

static void write_name(char out[static NAME_SIZE], const struct repository_name *name) {
    snprintf(out, NAME_SIZE, "%s/%s", name->host, name->path);
}

/* The note is two lines: the bucket, and how far. False: this bucket has all. */
static bool read_note(struct fill *fill) {
    cleanup_buffer struct buffer note = {.limit = NOTE_LIMIT};
    struct error ignored;
    struct text rest;
    if (!store_note_read(fill->store, NOTE_FILLED, NOTE_LIMIT, &note, &ignored))
        return true;
    const struct text bucket = text_cut((struct text){note.bytes, note.length}, '\n', &rest);
    if (!text_is(bucket, fill->bucket) || !rest.at)
        return true;
    const struct text place = text_cut(rest, '\n', &rest);
    return !text_is(place, DONE) && (text_copy(place, fill->after, sizeof fill->after) || true);
}

/* A note that cannot be written costs the same look at the next start. */
static void write_note(struct fill *fill, const char *place) {
    char note[NOTE_LIMIT + 1];
    struct error ignored;
    int length = snprintf(note, sizeof note, "%s\n%s\n", fill->bucket, place);
    store_note_write(fill->store, NOTE_FILLED, note, (size_t)length, &ignored);
}

/* ---- what is there ---- */

/* Owes one item when there is nothing more urgent. False: the end. */
static bool owe(struct fill *fill, const struct digest *digest, const struct pending_item *item) {
    if (!uploads_wait_idle(fill->uploads))
        return false;
    if (store_blob_has(fill->store, digest, NULL)) {
        uploads_owe(fill->uploads, digest, item, 1, false);
        fill->owed++;
    }
    return true;
}

static bool take_blob(void *context, const struct digest *digest) {
    struct fill *fill = context;
    const struct pending_item item = {.kind = PENDING_BLOB, .name = *fill->name};
    return owe(fill, digest, &item);
}

static bool take_manifest(void *context, const struct digest *digest) {
    struct fill *fill = context;
    struct pending_item item = {.kind = PENDING_MANIFEST, .name = *fill->name};
    return !store_has_link_manifest(fill->store, fill->name, digest, item.text, sizeof item.text) ||
           owe(fill, digest, &item);
}

static bool take_tag(void *context, const char *tag, const struct tag_record *record) {
    struct fill *fill = context;
    struct pending_item item = {.kind = PENDING_TAG, .name = *fill->name};
    text_copy(text_of(tag), item.text, sizeof item.text);
    return owe(fill, &record->digest, &item);
}

/* What a link names goes first. */
static bool take_repository(void *context, const struct repository_name *name) {
    struct fill *fill = context;
    struct error ignored;
    char text[NAME_SIZE];
    write_name(text, name);
    if (strcmp(text, fill->after) <= 0)
        return true;
    fill->name = name;
    store_links(fill->store, name, LINK_BLOB, take_blob, fill, &ignored);
    store_links(fill->store, name, LINK_MANIFEST, take_manifest, fill, &ignored);
    store_tags(fill->store, name, take_tag, fill, &ignored);
    if (!uploads_wait_idle(fill->uploads))
        return false;
    write_note(fill, text);
    return true;
}

static void run(void *context) {
    struct fill *fill = context;
    struct error error = {0};
    if (!read_note(fill))
        return;
    bool ok = store_repositories_all(fill->store, NULL, take_repository, fill, &error);
    if (!uploads_wait_idle(fill->uploads))
        return;
    if (ok)
        write_note(fill, DONE);
    if (fill->owed || !ok)
        log_at(ok ? LOG_INFO : LOG_WARN, "what was here before the bucket was brought there",
               LOG_STRING("bucket", fill->bucket), LOG_NUMBER("links", (double)fill->owed),
               LOG_STRING("error", error.text));
}

/* ---- life ---- */

struct fill *fill_new(struct uploads *uploads, struct store *store, const struct bucket *bucket) {
    struct fill *fill = calloc(1, sizeof *fill);
    if (!fill)
        return NULL;
    fill->uploads = uploads;
    fill->store = store;
    snprintf(fill->bucket, sizeof fill->bucket, "%s/%s", bucket_label(bucket),
             bucket_settings(bucket)->address.prefix);
    return fill;
}

void fill_start(struct fill *fill) {
    struct error ignored;
    fill->runs = thread_start("bucket-fill", THREAD_STACK, run, fill, &fill->thread, &ignored);
}

void fill_free(struct fill *fill) {
    if (fill && fill->runs)
        pthread_join(fill->thread, NULL);
    free(fill);
}
