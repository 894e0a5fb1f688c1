/* Private to registry/: one upload session, for sessions.c (which sessions there are) and feed.c
 * (its bytes). */
#ifndef REGISTRY_SESSION_PRIVATE_H
#define REGISTRY_SESSION_PRIVATE_H

#include <stdatomic.h>
#include <uthash.h>
#include "base/lock.h"
#include "registry/sessions.h"
#include "store/uploads.h"

enum {
    TAIL_SIZE = 256 << 10, /* bytes that are handed over in memory when the disk is full */
    SESSIONS_ENDED = 256,
};

struct sessions {
    struct cache *cache;
    struct store *store;
    struct replicas *replicas;   /* NULL: there are none */
    struct replica_asker *asker; /* the same */
    atomic_bool stopping;
    struct lock table_lock;
    struct condition table_changed; /* a session was given back, or is gone */
    struct session *table GUARDED_BY(table_lock);
    unsigned alive GUARDED_BY(table_lock); /* sessions that have not been freed */
    /* The ids of those that ended last. */
    char ended[SESSIONS_ENDED][SEALED_ID_SIZE] GUARDED_BY(table_lock);
    unsigned next_ended GUARDED_BY(table_lock);
    bool has_key GUARDED_BY(table_lock);
    unsigned char key[SEALED_KEY_SIZE]; /* without replicas */
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
    struct digest digest;     /* its algorithm is 0: not known */
    /* Bytes at the beginning that only upstream has: this session goes on where another one has
     * stood, whose bytes are lost or at a replica that is gone. */
    uint64_t base;
    uint64_t claimed; /* bytes that the address says which this client has shown */

    struct lock feed_lock;         /* guards all below */
    struct condition feed_changed; /* anything below */
    int wake;                      /* an eventfd: bytes have come, or an end */
    struct upload *file;           /* NULL: there is none */
    uint64_t kept;                 /* the end of what is in the file, which begins at `base` */
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

/* NULL: no memory, or no descriptor. The caller has the one reference. `url`: upstream's session;
 * "": none. */
struct session *session_new(struct sessions *sessions, const struct repository *repository,
                            const char *url, struct error *error);
/* Enters a session, and lets another one go if there are too many. False: all are in use. */
bool sessions_enter(struct sessions *sessions, struct session *session, struct error *error);
/* Takes a session that is in memory. NULL with ERROR_NONE: there is none. */
struct session *sessions_take_known(struct sessions *sessions, const char *id, struct error *error);
bool session_make_id(struct session *session); /* false: no random bytes */
/* Opens the file. Where the disk cannot take it, the blob passes through. */
void session_make_file(struct session *session);
struct session *session_keep(struct session *session);
void session_release(struct session *session);
struct cache *session_cache(const struct session *session);

/* ---- revival.c ---- */

/* False: the addresses of sessions cannot be sealed. */
bool sessions_have_key(struct sessions *sessions, struct error *error);

#endif
