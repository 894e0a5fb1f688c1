/*
 * The readers of a flight, and what they want. Private to cache/flight/; reader.c has the verbs of
 * one reader.
 *
 * Part of struct flight. The owner holds the flight's state_lock.
 */
#ifndef FLIGHT_READERS_H
#define FLIGHT_READERS_H

#include "cache/flight/body.h"

struct flight_reader {
    struct flight *flight; /* the flight that it reads from, referenced; the reader's thread alone
                              changes it */
    struct flight *before; /* the flight that it was evicted from, referenced; NULL: none. Its bytes
                              were sent before their digest was checked. */
    enum replica_ask ask;  /* of a replica that reads */
    uint64_t at, end;      /* still wants [at, end) */
    uint64_t sending_end;  /* [at, sending_end) is being sent now */
    bool whole;            /* the last bytes are held back from it until the digest is checked */
    bool undecided;        /* has not said yet which bytes it wants */
    bool waiting;          /* for bytes at `at` */
    bool evicted; /* it was so slow that a blob that passes through took too much memory: it goes on
                     in another flight */
    struct flight_reader *prev, *next;
};

struct readers {
    struct flight_reader *list;
    unsigned count;
    unsigned waiting;        /* how many of them wait for bytes */
    bool fill;               /* fetch the whole blob, not only what readers want */
    struct blob_range first; /* what the first request asks for */
};

void readers_enter(struct readers *readers, struct flight_reader *reader);
void readers_leave(struct readers *readers, struct flight_reader *reader);

/* The first byte that must come for a reader: its next one; or, if that was dropped before it was
 * hashed, the next byte to be hashed. */
uint64_t reader_front(const struct flight_reader *reader, const struct body *body);

/* The reader begins to wait for bytes, or ends. */
void readers_set_waiting(struct readers *readers, struct flight_reader *reader, bool waiting);
/* Whether a reader waits for bytes that may be sent now. */
bool readers_are_served(const struct readers *readers, const struct body *body);

/* Whether a reader waits for a range, whose bytes it may send before anything is hashed. */
bool readers_await_range(const struct readers *readers);

/* Up to where bytes at reader->at may be sent; reader->at: none. `verified`: the digest of all
 * bytes that the reader got or gets is checked. */
uint64_t reader_released_end(const struct flight_reader *reader, const struct body *body,
                             bool verified);

#endif
