/*
 * Room: keeps the cache under its limits, and says when something cannot be kept. Inside the room.
 *
 * Who is about to write takes room for it first. What is stored and what is reserved for partials
 * together stay under max_size: the least recently used blobs go to make it so. When they do not
 * suffice, because the rest is pinned or in use, or because the disk is full or failing, the blob
 * is passed through without being kept (flight_pass.c), and that is counted here, and logged once a
 * minute.
 *
 * Until it is known which blobs there are and which of them are pinned, nothing is evicted: what
 * comes in during these first seconds may go over the limit, and room_keep() brings the cache under
 * it afterwards.
 *
 * Threads: all calls from any thread. While one evicts, others who need room wait for it.
 */
#ifndef CACHE_ROOM_H
#define CACHE_ROOM_H

#include <pthread.h>
#include <stdatomic.h>
#include "base/metric.h"
#include "store/store.h"

/* Why a blob is not kept. */
enum unkept {
    UNKEPT_TOO_LARGE, /* larger than the whole cache */
    UNKEPT_FULL,      /* no room: the disk is full, or all that is cached is pinned or in use */
    UNKEPT_FAILING,   /* the disk fails or is read-only */
    UNKEPT_REASONS
};

struct room {
    struct store *store;
    uint64_t max_size; /* bytes; 0: no limit */
    uint64_t min_free; /* bytes left free on the file system */
    int64_t max_age_s; /* since last use; 0: no limit */
    atomic_bool open;  /* room_open() was called, and room_close() not since */

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t made;  /* evicting has become false */
    bool evicting;
    int64_t logged_ms;          /* when trouble was last logged; 0: never */
    uint64_t unlogged;          /* troubles since */
    uint64_t missed;            /* bytes of the largest that was not kept, while degraded */
    int64_t missed_ms;          /* when something was not kept for the last time */
    _Atomic int64_t failing_ms; /* until when bytes on disk are not trusted to come back; 0: fine */

    struct metric *evicted_blobs, *evicted_bytes, *degraded, *unkept[UNKEPT_REASONS];
    struct metric *bytes, *blobs, *limit, *pinned;
};

void room_init(struct room *room, struct store *store, uint64_t max_size, uint64_t min_free,
               int64_t max_age_s);
void room_destroy(struct room *room);

/* Whether a blob of `size` bytes could ever be kept. ERROR_NO_SPACE */
bool room_is_enough(const struct room *room, uint64_t size, struct error *error);

/* Makes room for a partial that will be `bytes` long, of which `missing` are to be written, and
 * reserves it. ERROR_NO_SPACE: there is none to be made, and nothing is reserved any more. */
bool room_reserve(struct room *room, struct partial *partial, uint64_t bytes, uint64_t missing,
                  struct error *error);
/* Makes room for `bytes` that are about to be written at once. ERROR_NO_SPACE */
bool room_find(struct room *room, uint64_t bytes, struct error *error);
/* After the file system had no room for `bytes`: evicts as much, if there is as much. True: trying
 * again makes sense. */
bool room_make(struct room *room, uint64_t bytes);

/* Counts a blob or manifest of so many bytes (0: not known) that was not kept; `why` is for the
 * log. */
void room_note_unkept(struct room *room, enum unkept reason, uint64_t bytes,
                      const struct error *why);
enum unkept room_unkept_by(const struct error *error);  /* FULL or FAILING */
void room_note_kept(struct room *room, uint64_t bytes); /* so many were */

/* Bytes on disk could not be read back: for a while nothing new is trusted to it. */
void room_note_unreadable(struct room *room);
bool room_is_unreadable(const struct room *room);

/* All blobs and pins are known: from now on things may be evicted. */
void room_open(struct room *room);
/* They are not, any more: from now on nothing is. */
void room_close(struct room *room);

/* Evicts what is over a limit or too old. Now and then, from a background thread. */
void room_keep(struct room *room, const atomic_bool *stop);
void room_show(struct room *room); /* sets the gauges */

#endif
