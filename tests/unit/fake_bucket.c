/* A bucket that exists only in the test. */
#include "fake_bucket.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/buffer.h"
#include "base/clock.h"
#include "cache/share.h"
#include "cache_faults.h"

enum { STEP = 64 << 10 };

/* Memory that does not run out. The pointer keeps clang from the thought that malloc() does not
 * look at fault_exempt. */
static void *allocate(uint64_t length) {
    static void *(*volatile const allocator)(size_t size) = malloc;
    fault_exempt++;
    void *bytes = allocator(length ? length : 1);
    fault_exempt--;
    if (!bytes)
        abort();
    return bytes;
}

void fake_bucket_init(struct bucket *bucket) {
    *bucket = (struct bucket){.settings = bucket_settings_default()};
    lock_init(&bucket->lock);
}

static void clear(struct fake_object *object) {
    free(object->bytes);
    *object = (struct fake_object){0};
}

static void clear_upload(struct fake_upload *upload) {
    for (int i = 0; i < FAKE_PARTS; i++)
        clear(&upload->parts[i]);
    upload->used = false;
}

void fake_bucket_empty(struct bucket *bucket) {
    lock_acquire(&bucket->lock);
    for (int i = 0; i < FAKE_OBJECTS; i++)
        clear(&bucket->objects[i]);
    for (int i = 0; i < FAKE_UPLOADS; i++)
        clear_upload(&bucket->uploads[i]);
    lock_release(&bucket->lock);
}

void fake_bucket_finish(struct bucket *bucket) {
    fake_bucket_empty(bucket);
    lock_finish(&bucket->lock);
}

/* ---- objects; the lock is held ---- */

static struct fake_object *find(struct bucket *bucket, const char *key) {
    for (int i = 0; i < FAKE_OBJECTS; i++) {
        if (strcmp(bucket->objects[i].key, key) == 0)
            return &bucket->objects[i];
    }
    return NULL;
}

static void fill(struct fake_object *object, const char *key, const void *bytes, uint64_t length,
                 const char *content_type) {
    unsigned char *copy = allocate(length);
    memcpy(copy, bytes, length);
    clear(object);
    snprintf(object->key, sizeof object->key, "%s", key);
    snprintf(object->content_type, sizeof object->content_type, "%s",
             content_type ? content_type : "application/octet-stream");
    object->bytes = copy;
    object->length = length;
}

static void set(struct bucket *bucket, const char *key, const void *bytes, uint64_t length,
                const char *content_type) {
    struct fake_object *object = find(bucket, key);
    if (!object)
        object = find(bucket, "");
    if (!object)
        abort(); /* the table is too small for the test */
    fill(object, key, bytes, length, content_type);
}

/* ---- for tests ---- */

void fake_bucket_set(struct bucket *bucket, const char *key, const void *bytes, uint64_t length,
                     const char *content_type) {
    lock_acquire(&bucket->lock);
    set(bucket, key, bytes, length, content_type);
    lock_release(&bucket->lock);
}

void fake_bucket_set_old(struct bucket *bucket, const char *key, const void *bytes, uint64_t length,
                         int64_t age_s) {
    lock_acquire(&bucket->lock);
    set(bucket, key, bytes, length, NULL);
    find(bucket, key)->age_s = age_s;
    lock_release(&bucket->lock);
}

bool fake_bucket_holds(struct bucket *bucket, const char *key) {
    lock_acquire(&bucket->lock);
    bool holds = find(bucket, key) != NULL;
    lock_release(&bucket->lock);
    return holds;
}

/* A free place for an upload, which is taken. The lock is held. */
static int take_upload(struct bucket *bucket, const char *key, int64_t age_s) {
    int free_one = 0;
    while (free_one < FAKE_UPLOADS && bucket->uploads[free_one].used)
        free_one++;
    if (free_one == FAKE_UPLOADS)
        abort(); /* the table is too small for the test */
    bucket->uploads[free_one].used = true;
    bucket->uploads[free_one].age_s = age_s;
    snprintf(bucket->uploads[free_one].key, sizeof bucket->uploads[0].key, "%s", key);
    return free_one;
}

void fake_bucket_begin_upload(struct bucket *bucket, const char *key, int64_t age_s) {
    lock_acquire(&bucket->lock);
    take_upload(bucket, key, age_s);
    lock_release(&bucket->lock);
}

bool fake_bucket_has(struct bucket *bucket, const char *key, const void *bytes, uint64_t length) {
    lock_acquire(&bucket->lock);
    const struct fake_object *object = find(bucket, key);
    bool has = object && object->length == length && memcmp(object->bytes, bytes, length) == 0;
    lock_release(&bucket->lock);
    return has;
}

unsigned fake_bucket_uploads(struct bucket *bucket) {
    unsigned count = 0;
    lock_acquire(&bucket->lock);
    for (int i = 0; i < FAKE_UPLOADS; i++)
        count += bucket->uploads[i].used;
    lock_release(&bucket->lock);
    return count;
}

bool fake_bucket_is_right(struct bucket *bucket) {
    bool right = true;
    fault_exempt++;
    lock_acquire(&bucket->lock);
    for (int i = 0; i < FAKE_OBJECTS; i++) {
        const struct fake_object *object = &bucket->objects[i];
        struct digest named, is;
        if (share_parse_blob(text_of(object->key), &named))
            right &= digest_of(named.algorithm, object->bytes, object->length, &is) &&
                     digest_equal(&named, &is);
    }
    lock_release(&bucket->lock);
    fault_exempt--;
    return right;
}

/* ---- what cache/ calls ---- */

const struct bucket_settings *bucket_settings(const struct bucket *bucket) {
    return &bucket->settings;
}

const char *bucket_label(const struct bucket *bucket) {
    (void)bucket;
    return "s3://fake";
}

bool bucket_is_up(const struct bucket *bucket) {
    return !bucket->down;
}

bool bucket_works(const struct bucket *bucket) {
    return bucket_is_up(bucket);
}

int64_t bucket_works_from_ms(struct bucket *bucket) {
    return bucket_asks_from_ms(bucket);
}

int64_t bucket_asks_from_ms(struct bucket *bucket) {
    return bucket->down ? clock_ms() + 20 : 0;
}

/* Fills the answer; false: the bucket is down. */
static bool begin(struct bucket *bucket, struct bucket_answer *answer, struct bucket_answer *own,
                  struct error *error) {
    *own = (struct bucket_answer){.outcome = BUCKET_DONE, .status = 200};
    own->date_s = clock_wall_s();
    own->modified_s = own->date_s - bucket->age_s;
    if (bucket->down) {
        own->outcome = BUCKET_DOWN;
        error_set(error, ERROR_UNAVAILABLE, "the bucket is down");
    }
    if (answer)
        *answer = *own;
    return !bucket->down;
}

static bool end(struct bucket_answer *answer, enum bucket_outcome outcome, enum error_kind kind,
                struct error *error) {
    if (answer)
        answer->outcome = outcome;
    return outcome == BUCKET_DONE || error_set(error, kind, "the fake bucket says %d", outcome);
}

/* A copy of the object's bytes, the caller's; NULL: absent. */
static unsigned char *copy_of(struct bucket *bucket, const char *key, uint64_t *length,
                              char content_type[static 128]) {
    unsigned char *copy = NULL;
    lock_acquire(&bucket->lock);
    const struct fake_object *object = find(bucket, key);
    if (object) {
        copy = allocate(object->length);
        memcpy(copy, object->bytes, object->length);
        memcpy(content_type, object->content_type, 128);
        *length = object->length;
    }
    lock_release(&bucket->lock);
    return copy;
}

static bool send_bytes(struct bucket *bucket, const unsigned char *bytes, uint64_t at,
                       uint64_t until, const struct bucket_sink *sink, struct error *error) {
    const uint64_t from = at, cut_at = bucket->cut_at;
    for (uint64_t step; at < until; at += step) {
        step = until - at < STEP ? until - at : STEP;
        if (cut_at && at - from >= cut_at)
            return error_set(error, ERROR_UNAVAILABLE, "the fake bucket breaks off");
        if (!sink->on_bytes(sink->context, bytes + at, step, error))
            return false;
    }
    return true;
}

bool bucket_get(struct bucket *bucket, const char *key, const struct bucket_range *range,
                const struct bucket_sink *sink, const struct bucket_limits *limits,
                struct bucket_answer *answer, struct error *error) {
    struct bucket_answer own;
    struct bucket_head head = {.status = 200};
    (void)limits;
    bucket->gets++;
    if (!begin(bucket, answer, &own, error))
        return false;
    uint64_t length;
    unsigned char *bytes = copy_of(bucket, key, &length, head.content_type);
    if (!bytes)
        return end(answer, BUCKET_ABSENT, ERROR_NOT_FOUND, error);
    uint64_t at = 0, until = length;
    head.has_total = true;
    head.total = length;
    head.date_s = own.date_s;
    head.modified_s = own.modified_s;
    bool ok;
    if (range->given && range->first >= length) {
        head.status = 416;
        ok = sink->on_head(sink->context, &head, error) &&
             end(answer, BUCKET_OUTSIDE, ERROR_RANGE, error);
    } else {
        if (range->given) {
            at = range->first;
            until = range->last < length ? range->last + 1 : length;
            head.status = 206;
            head.has_range = true;
            head.first = at;
            head.last = until - 1;
        }
        head.has_length = true;
        head.length = until - at;
        ok = sink->on_head(sink->context, &head, error) &&
             send_bytes(bucket, bytes, at, until, sink, error);
    }
    free(bytes);
    return ok;
}

bool bucket_read(struct bucket *bucket, const char *key, size_t most, struct buffer *out,
                 const struct bucket_limits *limits, struct bucket_answer *answer,
                 struct error *error) {
    struct bucket_answer own;
    uint64_t length;
    char content_type[128];
    (void)limits;
    bucket->gets++;
    if (!begin(bucket, answer, &own, error))
        return false;
    unsigned char *bytes = copy_of(bucket, key, &length, content_type);
    if (!bytes)
        return end(answer, BUCKET_ABSENT, ERROR_NOT_FOUND, error);
    bool fits = length <= most && buffer_append(out, bytes, length);
    if (answer)
        memcpy(answer->content_type, content_type, sizeof answer->content_type);
    free(bytes);
    return fits || end(answer, BUCKET_STOPPED, ERROR_MEMORY, error);
}

bool bucket_head(struct bucket *bucket, const char *key, const struct bucket_limits *limits,
                 struct bucket_answer *answer, struct error *error) {
    struct bucket_answer own;
    (void)limits;
    bucket->heads++;
    if (!begin(bucket, answer, &own, error))
        return false;
    lock_acquire(&bucket->lock);
    const struct fake_object *object = find(bucket, key);
    answer->modified_s = object ? answer->modified_s - object->age_s : 0;
    answer->has_length = object != NULL;
    answer->length = object ? object->length : 0;
    lock_release(&bucket->lock);
    return object || end(answer, BUCKET_ABSENT, ERROR_NOT_FOUND, error);
}

/* Reads the body that is sent; NULL: the file cannot be read. */
static unsigned char *receive(const struct client_body *body) {
    unsigned char *bytes = allocate(body->length);
    bool ok = true;
    fault_exempt++;
    if (body->bytes)
        memcpy(bytes, body->bytes, body->length);
    else if (body->length)
        ok = pread(body->fd, bytes, body->length, (off_t)body->offset) == (ssize_t)body->length;
    fault_exempt--;
    if (!ok)
        free(bytes);
    return ok ? bytes : NULL;
}

bool bucket_put(struct bucket *bucket, const struct bucket_put *put,
                const struct bucket_limits *limits, struct bucket_answer *answer,
                struct error *error) {
    struct bucket_answer own;
    (void)limits;
    bucket->puts++;
    if (!begin(bucket, answer, &own, error))
        return false;
    unsigned char *bytes = receive(&put->body);
    if (!bytes)
        return end(answer, BUCKET_STOPPED, ERROR_IO, error);
    lock_acquire(&bucket->lock);
    bool is_present = put->create_only && find(bucket, put->key);
    if (!is_present)
        set(bucket, put->key, bytes, put->body.length, put->content_type);
    lock_release(&bucket->lock);
    free(bytes);
    return !is_present || end(answer, BUCKET_PRESENT, ERROR_INVALID, error);
}

/* ---- in parts ---- */

bool bucket_upload_begin(struct bucket *bucket, struct bucket_upload *upload,
                         const struct bucket_limits *limits, struct bucket_answer *answer,
                         struct error *error) {
    struct bucket_answer own;
    (void)limits;
    if (!begin(bucket, answer, &own, error))
        return false;
    lock_acquire(&bucket->lock);
    snprintf(upload->id, sizeof upload->id, "%d", take_upload(bucket, upload->key, 0));
    lock_release(&bucket->lock);
    return true;
}

bool bucket_upload_part(struct bucket *bucket, const struct bucket_upload *upload, unsigned number,
                        const struct client_body *body, struct bucket_part *part,
                        const struct bucket_limits *limits, struct bucket_answer *answer,
                        struct error *error) {
    struct bucket_answer own;
    (void)limits;
    bucket->parts++;
    if (!begin(bucket, answer, &own, error))
        return false;
    unsigned char *bytes = receive(body);
    if (!bytes)
        return end(answer, BUCKET_STOPPED, ERROR_IO, error);
    lock_acquire(&bucket->lock);
    fill(&bucket->uploads[atoi(upload->id)].parts[number - 1], "part", bytes, body->length, NULL);
    lock_release(&bucket->lock);
    free(bytes);
    snprintf(part->etag, sizeof part->etag, "\"%u\"", number);
    return true;
}

bool bucket_upload_complete(struct bucket *bucket, const struct bucket_upload *upload,
                            const struct bucket_part *parts, unsigned count,
                            const struct bucket_limits *limits, struct bucket_answer *answer,
                            struct error *error) {
    struct bucket_answer own;
    struct fake_upload *unfinished = &bucket->uploads[atoi(upload->id)];
    uint64_t length = 0;
    (void)limits;
    bucket->completions++;
    if (!begin(bucket, answer, &own, error))
        return false;
    lock_acquire(&bucket->lock);
    bool is_present = upload->create_only && find(bucket, upload->key);
    for (unsigned i = 0; i < count; i++)
        length += parts[i].etag[0] ? unfinished->parts[i].length : 0;
    unsigned char *bytes = allocate(length);
    length = 0;
    for (unsigned i = 0; i < count; i++) {
        memcpy(bytes + length, unfinished->parts[i].bytes, unfinished->parts[i].length);
        length += unfinished->parts[i].length;
    }
    if (!is_present) {
        set(bucket, upload->key, bytes, length, NULL);
        clear_upload(unfinished);
    }
    free(bytes);
    lock_release(&bucket->lock);
    return !is_present || end(answer, BUCKET_PRESENT, ERROR_INVALID, error);
}

bool bucket_upload_abort(struct bucket *bucket, const char *key, const char *id,
                         const struct bucket_limits *limits, struct bucket_answer *answer,
                         struct error *error) {
    struct bucket_answer own;
    (void)limits;
    (void)key;
    bucket->aborts++;
    if (!begin(bucket, answer, &own, error))
        return false;
    lock_acquire(&bucket->lock);
    clear_upload(&bucket->uploads[atoi(id)]);
    lock_release(&bucket->lock);
    return true;
}

bool bucket_delete(struct bucket *bucket, const char *key, const struct bucket_limits *limits,
                   struct bucket_answer *answer, struct error *error) {
    struct bucket_answer own;
    bucket->deletes++;
    if (!cancel_check(limits->cancel, error))
        return end(answer, BUCKET_STOPPED, ERROR_CLOSED, error);
    if (!begin(bucket, answer, &own, error))
        return false;
    if (bucket->undeletable)
        return end(answer, BUCKET_FORBIDDEN, ERROR_DENIED, error);
    if (bucket->on_delete && !bucket->on_delete(bucket, false))
        return end(answer, BUCKET_BUSY, ERROR_RATE_LIMITED, error);
    lock_acquire(&bucket->lock);
    struct fake_object *object = find(bucket, key);
    if (object)
        clear(object);
    lock_release(&bucket->lock);
    if (bucket->on_delete)
        bucket->on_delete(bucket, true);
    return true;
}

/* ---- lists ---- */

/* The first object whose key is behind `after`. The lock is held. */
static struct fake_object *next_object(struct bucket *bucket, const char *prefix,
                                       const char *after) {
    struct fake_object *first = NULL;
    for (int i = 0; i < FAKE_OBJECTS; i++) {
        struct fake_object *object = &bucket->objects[i];
        if (object->key[0] && strncmp(object->key, prefix, strlen(prefix)) == 0 &&
            strcmp(object->key, after) > 0 && (!first || strcmp(object->key, first->key) < 0))
            first = object;
    }
    return first;
}

typedef bool entry_taker(void *context, const struct bucket_entry *entry, struct error *error);

static bool list_uploads(struct bucket *bucket, struct bucket_list *list, entry_taker *on_entry,
                         void *context, struct error *error) {
    bool ok = true;
    for (int i = 0; ok && i < FAKE_UPLOADS; i++) {
        const struct fake_upload *upload = &bucket->uploads[i];
        char id[16];
        snprintf(id, sizeof id, "%d", i);
        const struct bucket_entry entry = {
            .key = upload->key, .modified_s = list->date_s - upload->age_s, .upload_id = id};
        ok = !upload->used || on_entry(context, &entry, error);
    }
    list->done = true;
    return ok;
}

static bool list_objects(struct bucket *bucket, struct bucket_list *list, entry_taker *on_entry,
                         void *context, struct error *error) {
    char last[1024] = "";
    if (list->token)
        snprintf(last, sizeof last, "%s", list->token);
    struct fake_object *object = next_object(bucket, list->prefix, last);
    unsigned count = 0;
    for (; object && (!bucket->page || count < bucket->page); count++) {
        const struct bucket_entry entry = {.key = object->key,
                                           .size = object->length,
                                           .modified_s =
                                               list->date_s - bucket->age_s - object->age_s};
        if (!on_entry(context, &entry, error))
            return false;
        snprintf(last, sizeof last, "%s", object->key);
        object = next_object(bucket, list->prefix, last);
    }
    list->done = !object;
    if (!list->token)
        list->token = allocate(sizeof last);
    memcpy(list->token, last, sizeof last);
    return true;
}

bool bucket_list_page(struct bucket *bucket, struct bucket_list *list, entry_taker *on_entry,
                      void *context, const struct bucket_limits *limits,
                      struct bucket_answer *answer, struct error *error) {
    struct bucket_answer own;
    bool ok = begin(bucket, answer, &own, error);
    (void)limits;
    list->date_s = own.date_s;
    lock_acquire(&bucket->lock);
    if (ok && list->uploads)
        ok = list_uploads(bucket, list, on_entry, context, error);
    else if (ok)
        ok = list_objects(bucket, list, on_entry, context, error);
    lock_release(&bucket->lock);
    return ok;
}

void bucket_list_finish(struct bucket_list *list) {
    free(list->token);
    list->token = NULL;
}

/* ---- who watches it ---- */

void bucket_watch(struct bucket *bucket, int64_t until_ms) {
    if (bucket->on_watch)
        bucket->on_watch(until_ms);
}

void bucket_call_watcher(struct bucket *bucket) {
    (void)bucket;
}

void bucket_warn_down(struct bucket *bucket) {
    (void)bucket;
}
