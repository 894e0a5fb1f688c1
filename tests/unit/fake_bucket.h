/*
 * A bucket that exists only in the test. It replaces the functions of bucket/bucket.h that cache/
 * calls. What it does never fails by the faults of cache_faults.h.
 */
#ifndef TESTS_UNIT_FAKE_BUCKET_H
#define TESTS_UNIT_FAKE_BUCKET_H

#include <stdatomic.h>
#include "base/lock.h"
#include "bucket/bucket.h"

enum { FAKE_OBJECTS = 640, FAKE_UPLOADS = 16, FAKE_PARTS = 64 };

struct fake_object {
    char key[1024];
    char content_type[128];
    unsigned char *bytes;
    uint64_t length;
    int64_t age_s; /* beside the bucket's own */
};

struct fake_upload {
    bool used;
    char key[1024];
    int64_t age_s;
    struct fake_object parts[FAKE_PARTS];
};

struct bucket {
    struct bucket_settings settings;
    struct lock lock; /* guards the objects and uploads */
    struct fake_object objects[FAKE_OBJECTS];
    struct fake_upload uploads[FAKE_UPLOADS];
    _Atomic bool down;        /* every call ends with BUCKET_DOWN */
    _Atomic uint64_t cut_at;  /* a body breaks off after so many bytes; 0: never */
    _Atomic int64_t age_s;    /* of every object */
    _Atomic bool undeletable; /* there is no right to delete */
    unsigned page;            /* entries of a page of a list; 0: all */
    /* A delete begins or has ended. May be NULL. Returning false lets it fail. */
    bool (*on_delete)(struct bucket *bucket, bool ends);
    /* The thread that watches the bucket rests until then. May be NULL. */
    void (*on_watch)(int64_t until_ms);
    atomic_uint gets, heads, puts, parts, completions, aborts, deletes;
};

void fake_bucket_init(struct bucket *bucket);
void fake_bucket_finish(struct bucket *bucket);
void fake_bucket_empty(struct bucket *bucket);

void fake_bucket_set(struct bucket *bucket, const char *key, const void *bytes, uint64_t length,
                     const char *content_type);
/* The same, as old as `age_s`. */
void fake_bucket_set_old(struct bucket *bucket, const char *key, const void *bytes, uint64_t length,
                         int64_t age_s);
bool fake_bucket_holds(struct bucket *bucket, const char *key);
/* An upload that nobody completes. */
void fake_bucket_begin_upload(struct bucket *bucket, const char *key, int64_t age_s);
/* Whether the object is there and has these bytes. */
bool fake_bucket_has(struct bucket *bucket, const char *key, const void *bytes, uint64_t length);
unsigned fake_bucket_uploads(struct bucket *bucket); /* that are unfinished */
/* Whether every object that is a blob has the digest that its key says. */
bool fake_bucket_is_right(struct bucket *bucket);

#endif
