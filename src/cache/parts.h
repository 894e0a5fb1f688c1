/*
 * One blob on its way into the bucket in parts. Private to cache/.
 *
 * The bytes are those of a flight that is under way, or of a blob in the store. A part is begun
 * when all of it is here, so that no request stalls; two parts at most are sent at once. The upload
 * is completed only after the flight's digest was checked, and is aborted otherwise: nothing that
 * is not verified ever has a name in the bucket. The bytes are read from the file as they are sent.
 *
 * The caller (upload.c) has a lock that guards the struct; parts_next() is called with it, the
 * parts_do() that follows without. Several threads may be in parts_do() for one upload.
 */
#ifndef CACHE_PARTS_H
#define CACHE_PARTS_H

#include "bucket/bucket.h"
#include "cache/flight/flight.h"
#include "cache/share.h"

struct parts_source {
    struct bucket *bucket;
    struct digest digest;
    uint64_t size;
    struct flight *flight; /* followed until parts_free(); NULL: `fd` */
    int fd;                /* of the blob in the store; closed by parts_free() */
    bool overwrite;
};

struct parts {
    struct parts_source source;
    char key[SHARE_KEY_SIZE];
    uint64_t part_size;
    struct bucket_upload upload;
    char forgotten_id[BUCKET_UPLOAD_ID_SIZE]; /* of the upload before; "": none */
    struct bucket_part *sent;                 /* `count` of them */
    bool *is_sent;                            /* of each: it is in the bucket */
    unsigned count, next, active;
    unsigned low; /* the parts below are in the bucket */
    unsigned restarts;
    bool begun;
    bool forgotten;   /* the bucket does not know the upload any more: it begins anew */
    bool is_present;  /* another tarn was quicker */
    bool alone;       /* a step that must be alone is under way */
    bool is_recorded; /* what follows the completion is known: it may come */
    bool failed;
    struct parts *previous_, *next_; /* of the caller's list */
};

enum parts_step {
    PARTS_WAIT,
    PARTS_BEGIN,
    PARTS_SEND,
    PARTS_COMPLETE,
    PARTS_ABORT,
};

/* What one thread is to do. */
struct parts_job {
    enum parts_step step;
    unsigned number; /* of PARTS_SEND, from 0 */
    int fd;
};

enum parts_end {
    PARTS_GOES_ON,
    PARTS_STORED,
    PARTS_PRESENT, /* another tarn was quicker */
    PARTS_FAILED,
};

/* NULL: no memory; what the source refers to is then still the caller's. */
struct parts *parts_new(const struct parts_source *source, uint64_t part_size);
void parts_free(struct parts *parts);

/* Chooses what to do next, and records that it is being done. */
struct parts_job parts_next(struct parts *parts);
/* Does it, without the lock. */
bool parts_do(struct parts *parts, const struct parts_job *job, const struct cancel *cancel,
              struct bucket_answer *answer, struct error *error);
/* Records what came of it. */
enum parts_end parts_done(struct parts *parts, const struct parts_job *job, bool ok,
                          const struct bucket_answer *answer);

#endif
