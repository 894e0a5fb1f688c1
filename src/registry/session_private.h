/* Private to registry/: one upload session, for sessions.c (which sessions there are) and feed.c
 * (its bytes). */
#ifndef REGISTRY_SESSION_PRIVATE_H
#define REGISTRY_SESSION_PRIVATE_H

#include <uthash.h>
#include "base/lock.h"
#include "registry/sessions.h"
#include "store/uploads.h"

enum {
    TAIL_SIZE = 256 << 10, /* bytes that are handed over in memory when the disk is full */
};

struct session {
    UT_hash_handle hh; /* by id; guarded by the sessions' lock, as the next four */
    char id[SEALED_ID_SIZE];
    unsigned references; /* of the table, of who has taken it, and of its thread */
    bool is_taken, is_listed;
    int64_t used_ms;

    struct sessions *sessions;
    struct repository repository; /* its upstream is kept */
    struct push *push;        /* the thread's while it runs, else of who has taken the session */
    struct cancel cancel;     /* of the push */
    uint64_t least_chunk;     /* OCI-Chunk-Min-Length; 0: none */
    struct digest_hash *hash; /* SHA-256 of what was received; NULL: it is `digest` */
    struct digest digest;

    struct lock feed_lock;         /* guards all below */
    struct condition feed_changed; /* anything below */
    int wake;                      /* an eventfd: bytes have come, or an end */
    struct upload *file;           /* NULL: there is none */
    uint64_t kept;                 /* bytes in the file */
    bool passes;                   /* the disk takes no more */
    unsigned char *tail;           /* owned; what follows `kept` or an earlier tail */
    uint64_t tail_start;
    size_t tail_length;
    uint64_t received;
    uint64_t read;      /* up to where the thread has read */
    uint64_t piece_end; /* of the piece under way; SESSION_LENGTH_UNKNOWN */
    bool piece_ended;   /* no more comes of it */
    bool is_cut;        /* because the client was cut */
    bool is_whole;      /* no more comes at all */
    bool one_stream;    /* one PATCH goes on over all pieces */
    bool is_fed;        /* a piece is under way */
    int64_t fed_ms;     /* clock_ms() of the last byte */
    bool is_lost;       /* upstream wants bytes again that are no longer here */
    bool is_sending;    /* the thread runs */
    bool has_failed;
    struct error failure; /* of the thread, when it has failed */
};

/* ---- feed.c ---- */

/* What upstream gets of the session, up to `end`. */
struct push_source session_source(struct session *session, uint64_t end, bool is_whole);
void session_wake(struct session *session) REQUIRES(session->feed_lock);

/* ---- sessions.c ---- */

struct session *session_keep(struct session *session);
void session_release(struct session *session);
struct cache *session_cache(const struct session *session);

#endif
