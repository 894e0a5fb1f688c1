/*
 * A client of an object store: Amazon S3, Google Cloud Storage, and what speaks S3.
 *
 * The room knows keys and bytes; it knows no blob, no upstream and no disk. Each call blocks on the
 * caller's thread, signs (or bears a token), asks, asks again where that helps, and says truthfully
 * what came of it. A key is given without the configured prefix, as
 * "docker/registry/v2/blobs/sha256/ab/…/data".
 *
 * What is learnt of the bucket is kept for all calls: the region that it is really in, how far our
 * clock is off, whether absent keys look forbidden because s3:ListBucket is missing, whether it
 * understands conditional writes. Each is logged once. A refusal that only the operator can mend
 * (403, no such bucket, no credentials) is logged by this room, once a minute at most.
 *
 * Credentials go to the bucket's origin and nowhere else: no redirect is followed, and no error,
 * log line or metric holds one. What the bucket sends is hostile: bounded and checked.
 *
 * A bucket that cannot be reached, forbids everything or does not exist is no reason to fail:
 * bucket_new() asks nothing. Three faults in a row open the breaker: for 5 s, doubling to 60 s,
 * calls end with BUCKET_DOWN at once, but for one probe at a time. A probe that is answered later
 * than `patience` leaves the breaker open, because clients would not wait for the bucket; but then
 * the bucket works, and calls that have time (struct bucket_limits without a deadline) go on. The
 * room itself asks nothing by itself: a probe is somebody's call. Who watches the bucket
 * (bucket_watch()) makes one when there is no other.
 *
 * Metrics of this room: tarn_bucket_requests_total, tarn_bucket_request_seconds,
 * tarn_bucket_bytes_total, tarn_bucket_up. Threads: any.
 */
#ifndef BUCKET_BUCKET_H
#define BUCKET_BUCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/cancel.h"
#include "base/clock.h"
#include "base/error.h"
#include "bucket/settings.h"
#include "client/body.h"
#include "client/client.h"

struct bucket;

/* Copies the settings, which have passed bucket_settings_check(). The client outlives the bucket.
 * Asks nothing and reads no file. NULL: out of memory. */
struct bucket *bucket_new(const struct bucket_settings *settings, struct client *client);
void bucket_free(struct bucket *bucket); /* no call is under way; NULL is fine */

static inline void bucket_free_call(struct bucket **bucket) {
    bucket_free(*bucket);
}
#define cleanup_bucket __attribute__((cleanup(bucket_free_call)))

/* Names the metrics before there are any. */
void bucket_declare_metrics(void);

const struct bucket_settings *bucket_settings(const struct bucket *bucket);
const char *bucket_label(const struct bucket *bucket); /* "s3://NAME": begins every error */

/* Whether the breaker is closed. Never waits. */
bool bucket_is_up(const struct bucket *bucket);
/* Whether calls that have time are made: the bucket is up, or only too slow for clients. */
bool bucket_works(const struct bucket *bucket);
/* When the next call may ask: clock_ms() of the next probe, or 0: now. Never waits. */
int64_t bucket_asks_from_ms(struct bucket *bucket);
/* The same of calls that have time. */
int64_t bucket_works_from_ms(struct bucket *bucket);
/* The bucket is down still: warns of it, once a minute at most. */
void bucket_warn_down(struct bucket *bucket);
/* For one thread that watches the bucket, and makes the probes as soon as they may be made (a call
 * with a deadline), because calls that have time make none then: rests until `until_ms`
 * (clock_ms()), or until the breaker opens, or bucket_call_watcher() is called. What has happened
 * before the call ends it at once. */
void bucket_watch(struct bucket *bucket, int64_t until_ms);
void bucket_call_watcher(struct bucket *bucket);

/* ---- what came of a call ---- */

enum bucket_outcome {
    BUCKET_DONE,
    BUCKET_ABSENT,    /* NOT_FOUND    no such key; or 403 where absent keys look forbidden */
    BUCKET_PRESENT,   /* INVALID      create_only: the key is there already */
    BUCKET_NO_UPLOAD, /* NOT_FOUND    no such multipart upload: begin anew */
    BUCKET_OUTSIDE,   /* RANGE        416: the range lies outside of the object */
    BUCKET_FORBIDDEN, /* DENIED       signature, key or rights; the operator's to mend */
    BUCKET_REFUSED,   /* INVALID      no such bucket, a wrong request: the same would fail again */
    BUCKET_UNSIGNED,  /* DENIED       no credentials could be had: nothing was sent */
    BUCKET_BUSY,      /* RATE_LIMITED "slow down", or 5xx, until the tries were used up */
    BUCKET_UNREACHABLE, /* UNAVAILABLE, TIMEOUT  no connection, no answer in time, nonsense */
    BUCKET_CUT,         /* UNAVAILABLE, TIMEOUT  a body broke off after its head */
    BUCKET_DOWN,        /* UNAVAILABLE  the breaker is open: nothing was sent */
    BUCKET_STOPPED,     /* CLOSED, or what a callback set; out of memory; a file to send fails */
};
/* The words beside the outcomes are the kinds of the error. Every error's text begins with
 * "bucket s3://NAME: VERB KEY: "; of a refusal error.status is the response's. */

enum {
    BUCKET_CODE_SIZE = 64,
    BUCKET_ETAG_SIZE = 160,
    BUCKET_UPLOAD_ID_SIZE = 1024,
    BUCKET_KEY_LIMIT = 1024, /* bytes of a key with its prefix (S3's own limit) */
};

struct bucket_answer {
    enum bucket_outcome outcome;
    int status;                  /* of the last response; 0: none */
    char code[BUCKET_CODE_SIZE]; /* of its error document: "NoSuchKey"; "": none */
    int64_t date_s;     /* its Date, seconds since 1970; 0: none. Ages are counted from it */
    int64_t modified_s; /* GET, HEAD: the object's Last-Modified; 0: none */
    bool has_length;
    uint64_t length; /* HEAD: the object's */
    char content_type[128];
};

/* How long a call may take, and when it ends early. Zeroed: with the defaults. */
struct bucket_limits {
    int64_t
        deadline_ms; /* clock_ms() by which the head must be here (GET), or by which the whole
                        call must be done; 0: 20 s from now, and of what sends bytes 10 minutes */
    unsigned tries;  /* 0: 3; of what writes 8; 1: no retry */
    bool insists;    /* asks even while the breaker is open, because nobody else is left to ask */
    const struct cancel *cancel; /* may be NULL */
};

/* ---- reading ---- */

struct bucket_range {
    bool given;           /* false: the whole object */
    uint64_t first, last; /* inclusive; last UINT64_MAX: to the end */
};

/* The head of an answer to GET. */
struct bucket_head {
    int status; /* 200 or 206; 416: the range lies outside, only `total` and the times count */
    bool has_length;
    uint64_t length; /* of this body; whether it is that of the range is the caller's to judge */
    bool has_range;  /* a 206 whose Content-Range fits the request */
    uint64_t first, last;
    bool has_total;
    uint64_t total; /* bytes of the whole object */
    char content_type[128];
    int64_t modified_s; /* as in struct bucket_answer */
    int64_t date_s;
};

/* When an object was written, by this machine's clock: its age counts by the bucket's own. 0: not
 * known. */
static inline int64_t bucket_written_s(int64_t date_s, int64_t modified_s) {
    return date_s && modified_s ? clock_wall_s() - (date_s - modified_s) : 0;
}

/* Takes a body as it comes. A function that returns false ends the call with the error that it set
 * (BUCKET_STOPPED). All are called by the thread that asked. */
struct bucket_sink {
    void *context;
    /* Called once, before any byte; not for an answer that is asked for again. May be NULL. */
    bool (*on_head)(void *context, const struct bucket_head *head, struct error *error);
    bool (*on_bytes)(void *context, const void *bytes, size_t length, struct error *error);
    /* All bytes that have come were handed on; also called before the head. A caller that has
     * waited for too long fails with ERROR_TIMEOUT: this counts as the bucket's silence. May be
     * NULL. */
    bool (*on_idle)(void *context, struct error *error);
};

/* One GET. True: the whole body was handed on, and it was as long as announced. `answer` may be
 * NULL, here and below. After the head nothing is asked again: the rest is the caller's. */
bool bucket_get(struct bucket *bucket, const char *key, const struct bucket_range *range,
                const struct bucket_sink *sink, const struct bucket_limits *limits,
                struct bucket_answer *answer, struct error *error);

/* A small object whole: appends to `out`, at most `most` bytes (a longer one is BUCKET_REFUSED). */
struct buffer;
bool bucket_read(struct bucket *bucket, const char *key, size_t most, struct buffer *out,
                 const struct bucket_limits *limits, struct bucket_answer *answer,
                 struct error *error);

bool bucket_head(struct bucket *bucket, const char *key, const struct bucket_limits *limits,
                 struct bucket_answer *answer, struct error *error);

/* ---- writing; `read_only` is the caller's to obey ---- */

struct bucket_put {
    const char *key;
    struct client_body body;  /* bytes, or a range of a file, which is read as it is sent */
    const char *sha256;       /* hex; NULL: counted from the body, which is then read twice */
    const char *content_type; /* NULL: application/octet-stream */
    bool create_only;         /* an object that is there is left as it is (BUCKET_PRESENT), where
                                 the bucket understands that; elsewhere it is overwritten */
};
bool bucket_put(struct bucket *bucket, const struct bucket_put *put,
                const struct bucket_limits *limits, struct bucket_answer *answer,
                struct error *error);

/* A key that is absent counts as deleted. */
bool bucket_delete(struct bucket *bucket, const char *key, const struct bucket_limits *limits,
                   struct bucket_answer *answer, struct error *error);

/* ---- writing in parts; one upload at a time by any number of threads ---- */

enum { BUCKET_PARTS_LIMIT = 10000 };

struct bucket_upload {
    const char *key;                /* borrowed */
    const char *content_type;       /* as in struct bucket_put */
    bool create_only;               /* as in struct bucket_put; looked at by the completion */
    char id[BUCKET_UPLOAD_ID_SIZE]; /* set by bucket_upload_begin(); "": not begun */
};

/* What a part was answered with; the completion needs all of them. */
struct bucket_part {
    char etag[BUCKET_ETAG_SIZE];
};

bool bucket_upload_begin(struct bucket *bucket, struct bucket_upload *upload,
                         const struct bucket_limits *limits, struct bucket_answer *answer,
                         struct error *error);
/* Sends the part `number` (1 to BUCKET_PARTS_LIMIT). */
bool bucket_upload_part(struct bucket *bucket, const struct bucket_upload *upload, unsigned number,
                        const struct client_body *body, struct bucket_part *part,
                        const struct bucket_limits *limits, struct bucket_answer *answer,
                        struct error *error);
/* parts[0] is part 1. DONE only when the body of the answer says so; it may take minutes. */
bool bucket_upload_complete(struct bucket *bucket, const struct bucket_upload *upload,
                            const struct bucket_part *parts, unsigned count,
                            const struct bucket_limits *limits, struct bucket_answer *answer,
                            struct error *error);
/* An upload that is not there any more counts as aborted. */
bool bucket_upload_abort(struct bucket *bucket, const char *key, const char *id,
                         const struct bucket_limits *limits, struct bucket_answer *answer,
                         struct error *error);

/* ---- lists, in the byte order of the keys ---- */

struct bucket_entry {
    const char *key; /* without the configured prefix; valid during the callback */
    uint64_t size;
    int64_t modified_s;    /* seconds since 1970; of an upload: when it was begun; 0: unknown */
    const char *upload_id; /* of an unfinished upload; otherwise NULL */
};

/* A list, read page by page, so that several can be read side by side. Zeroed but for what the
 * caller wants; bucket_list_finish() is owed. */
struct bucket_list {
    const char *prefix;      /* of the keys, below the configured prefix; NULL: all */
    const char *start_after; /* only keys behind this one; NULL: from the first */
    bool uploads;            /* unfinished uploads instead of objects; without start_after */
    unsigned page;           /* entries of a page at most; 0: 1,000 */

    /* Set by each page. */
    bool done;              /* the last page has been read */
    int64_t date_s;         /* the Date of the last answer */
    char *token, *id_token; /* private */
};
void bucket_list_finish(struct bucket_list *list);

/* Reads the next page (one request), unless `done`. `on_entry` returning false ends the call with
 * the error that it set (BUCKET_STOPPED). */
bool bucket_list_page(struct bucket *bucket, struct bucket_list *list,
                      bool (*on_entry)(void *context, const struct bucket_entry *entry,
                                       struct error *error),
                      void *context, const struct bucket_limits *limits,
                      struct bucket_answer *answer, struct error *error);

/* ---- what is known of the bucket, for people ---- */

struct bucket_facts {
    char endpoint[512];      /* URL of the origin that is asked */
    char region[64];         /* "": of no importance, or not known yet */
    char credentials[300];   /* the source: "environment", "google (metadata)", "anonymous" */
    int64_t clock_seconds;   /* how far our clock is ahead of the bucket's, as far as is known */
    bool lists_forbidden;    /* s3:ListBucket is missing */
    bool conditions_unknown; /* it answered 501 to a conditional write */
};
void bucket_look(struct bucket *bucket, struct bucket_facts *out);

#endif
