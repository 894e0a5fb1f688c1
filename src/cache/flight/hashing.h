/*
 * How far a blob under way is hashed, whose turn it is to hash, and which bytes come next. Private
 * to cache/flight/; hash.c has the verbs.
 *
 * A blob is hashed from its first byte on, so one thread at a time has the turn: a fetcher that
 * hashes the bytes that it has just written, or the driver. The driver hashes a buffer that a
 * fetcher handed to it, or reads back bytes that arrived before it was their turn.
 *
 * Part of struct flight. The owner holds the flight's state_lock. The thread that has the turn uses
 * `hash` without the lock.
 */
#ifndef FLIGHT_HASHING_H
#define FLIGHT_HASHING_H

#include "base/lock.h"
#include "cache/flight/body.h"
#include "oci/digest.h"

enum {
    /* Bytes of each buffer of a flight, and of the largest write. libcurl passes on at most 16 KiB
     * at a time. Writes of that size would make small folios in the page cache, which slow down
     * every later sendfile, and each write would wake readers. */
    FLIGHT_BUFFER = 256 << 10,
    FLIGHT_SPARES = 2, /* buffers kept for later: one may be handed over while one is hashed */
};

/* Bytes [start, end) of the blob, which are present. */
struct portion {
    char *buffer;      /* of FLIGHT_BUFFER bytes, for the next owner of the portion; may be NULL */
    const char *bytes; /* in a buffer; NULL: only the file has them */
    uint64_t start, end;
};

struct hashing {
    struct digest_hash *hash; /* owned; NULL: hashing has not begun */
    bool busy;                /* a thread has the turn: it hashes [body.hashed, ahead) */
    uint64_t ahead;
    struct portion handed;      /* comes next; `buffer` is owned; NULL: nothing was handed over */
    char *spare[FLIGHT_SPARES]; /* owned: buffers that are not in use; NULL: none */
    uint64_t claimed;        /* a fetcher is about to hash or to hand over the bytes from here on;
                                UINT64_MAX: none is */
    struct condition turned; /* a turn has ended, or the handed portion was taken */
};

void hashing_init(struct hashing *hashing);
void hashing_finish(struct hashing *hashing);

/* Frees the buffers. Nothing more will be hashed, but the flight may live on for slow readers. */
void hashing_free_buffers(struct hashing *hashing);

/* The first byte that was neither hashed nor is about to be. */
uint64_t hashing_next(const struct hashing *hashing, const struct body *body);

/* A fetcher has bytes from `start` on: if they come next, they are left to it until it has called
 * flight_hash_written(). */
void hashing_claim(struct hashing *hashing, const struct body *body, uint64_t start);

/* Whether the driver must leave the next bytes to another thread. */
bool hashing_is_taken(const struct hashing *hashing, const struct body *body);

/* Nobody has the turn: the caller has it now, until hashing_end_turn(). */
void hashing_begin_turn(struct hashing *hashing, uint64_t end);
/* The turn ends. `hashed`: its bytes are hashed; otherwise hashing cannot go on. */
void hashing_end_turn(struct hashing *hashing, struct body *body, bool hashed);

/* Hands a portion over, buffer and all. Nothing else is handed over, and it comes next. */
void hashing_hand(struct hashing *hashing, const struct portion *portion);
/* The handed portion, buffer and all. */
struct portion hashing_take(struct hashing *hashing);

/* Keeps a buffer (may be NULL) for later, or frees it if enough are kept. */
void hashing_keep(struct hashing *hashing, char *buffer);
/* A buffer that was kept, which is the caller's now; NULL: none. */
char *hashing_reuse(struct hashing *hashing);

#endif
