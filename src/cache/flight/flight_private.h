/*
 * struct flight and the table of all flights, for the files of cache/flight/.
 *
 * The files, each calling only those before it: extents (base/), passing, body, hashing, spans,
 * place, course, sources, readers (the state's parts, without a lock of their own); flight (one
 * flight), flights (the table), tier (the bucket); plan, pass (what to do next); hash, fetch,
 * fetchers, drive (the threads); join, reader (the clients).
 */
#ifndef FLIGHT_FLIGHT_PRIVATE_H
#define FLIGHT_FLIGHT_PRIVATE_H

#include <stdatomic.h>
#include <uthash.h>
#include "base/lock.h"
#include "base/metric.h"
#include "base/pot.h"
#include "cache/flight/body.h"
#include "cache/flight/flight.h"
#include "cache/flight/hashing.h"
#include "cache/flight/readers.h"
#include "cache/flight/sources.h"
#include "cache/flight/spans.h"

enum {
    FLIGHTS_DISTRUSTED = 16,
    FLIGHTS_WRONG = 64,
    FLIGHT_PACE = 4 << 10,   /* fewer bytes than this in FLIGHT_SILENT_MS are silence, too */
    FLIGHT_SILENT_MS = 2000, /* of silence after which another source is asked beside; much longer
                                than a quick upstream takes for its first byte */
};

/* A blob that came with wrong bytes, and the location of the upstream that sent them. */
struct distrusted {
    struct digest digest;
    char host[HOST_LIMIT + 1];
    unsigned location;
};

/* A blob that came with wrong bytes from another replica. */
struct wrong_replica {
    struct digest digest;
    struct member member;
};

struct flights {
    struct store *store;
    struct space *space;
    struct pins *pins;
    atomic_uint max_connections, flights_per_upstream; /* flights_settings */
    int64_t patience_ms;
    const struct flights_tier *tier; /* NULL: there is no bucket */
    struct metric *wrong_objects;    /* of the bucket */
    struct replica_asker *replicas;  /* NULL: there are none */
    struct metric *takeovers;        /* flights that went on after a replica failed them */
    struct log_pause refused_asks;   /* replicas that refuse what they are asked */
    void (*on_kept)(void *context, const struct digest *digest); /* or NULL */
    void *context;
    struct metric *failed_digests;
    struct metric *refused; /* flights, because their upstream has its share */

    struct lock table_lock;
    struct condition ended; /* a flight left the table */
    struct flight *table GUARDED_BY(table_lock);
    struct pot places, background_places; /* of flights that have not ended; changed under
                                             table_lock */
    struct distrusted distrusted[FLIGHTS_DISTRUSTED] GUARDED_BY(table_lock);
    unsigned distrusted_next GUARDED_BY(table_lock);
    struct digest wrong[FLIGHTS_WRONG] GUARDED_BY(table_lock); /* blobs that the bucket has wrong */
    unsigned wrong_next GUARDED_BY(table_lock);
    struct wrong_replica wrong_replicas[FLIGHTS_WRONG] GUARDED_BY(table_lock);
    unsigned wrong_replicas_next GUARDED_BY(table_lock);

    atomic_uint connections; /* fetchers of all flights */
    atomic_uint unanswered;  /* flights under way without any head yet */
    atomic_uint threads;     /* drivers and fetchers that have not ended */
    _Atomic int64_t held;    /* bytes in memory, of all flights that pass through */
    atomic_bool stopping;
};

enum flight_state {
    FLIGHT_MOVING,
    FLIGHT_VERIFIED, /* all bytes are here and the digest is right */
    FLIGHT_FAILED    /* `failure` says why */
};

struct flight {
    struct flights *flights;
    struct digest digest;
    UT_hash_handle hh;
    atomic_uint references;     /* the driver's, each fetcher's, each reader's and caller's */
    int64_t started_ms;         /* clock_ms() */
    bool in_table;              /* guarded by the flights' table_lock */
    bool in_background;         /* flights_fetch() started it: which places it has */
    atomic_bool background;     /* no client has asked for it; cleared by the first reader */
    atomic_bool abandoned;      /* no place has answered, and all clients that asked for it have
                                   gone; changed with the state_lock held */
    struct upstream_held *held; /* of the upstream whose place it has */

    bool heals;    /* the driver's: the bucket's object was wrong, and is to be overwritten */
    int stored_fd; /* the driver's: holds the blob in the store once it is there; -1: it is not */

    struct lock write_lock;          /* held while bytes are written to the body's file: the kernel
                                        lets one thread write, and others would spin there */
    struct lock state_lock;          /* guards all that follows */
    struct condition changed;        /* for fetchers, readers and callers */
    struct condition driven;         /* for the driver: see flight_wake() */
    _Atomic enum flight_state state; /* also read without the lock, by readers that were evicted */
    struct error failure;
    bool opened;   /* the driver has opened the partial */
    bool resumed;  /* an earlier flight's bytes were found */
    bool answered; /* a place has sent a head: the size is known, or will be at the end */
    bool gave_up;  /* the driver logged that the blob passes through, and dropped the partial */
    struct partial *partial; /* freed by the driver, or with the flight if a fetcher outlives it;
                                NULL: none */
    uint64_t reserved;       /* bytes reserved of flights->space; set by the driver */
    struct body body;
    struct hashing hashing;
    struct spans spans;
    struct sources sources;
    struct readers readers;
    int64_t progress_ms; /* clock_ms() of the last new byte, or of the start */
    int64_t silent_ms;   /* clock_ms() of the start, or of the last time that bytes worth the name
                            had come (FLIGHT_PACE): since then the current source is silent */
    unsigned paced;      /* bytes that have come since */
    unsigned failures;   /* in a row, without a byte between */
    unsigned at_once;    /* tries at once in a row, without a byte between */
    bool told_size;      /* on_sized() of the bucket's tier was called */
    bool followed;       /* by an upload, which needs the bytes from `follow_at` on */
    bool follow_lost;    /* the upload was too slow: bytes that it needs may be gone */
    uint64_t follow_at;
    unsigned arrivals; /* readers that have come */
    unsigned retries;
};

/* ---- flight.c: one flight ---- */

/* Referenced twice: for the driver and for the caller. NULL: no memory. */
struct flight *flight_new(struct flights *flights, const struct flight_wish *wish);
void flight_keep(struct flight *flight); /* one more reference */
/* The last one frees the flight. NULL is allowed. */
void flight_release(struct flight *flight);

/* Ends the flight as failed, unless it has ended already. */
void flight_fail(struct flight *flight, const struct error *error) REQUIRES(flight->state_lock);

/* The first head is here. May be called again. */
void flight_record_answer(struct flight *flight) REQUIRES(flight->state_lock);

/* Wakes all that wait for a change of the flight, the driver too. */
void flight_wake(struct flight *flight) REQUIRES(flight->state_lock);

void flight_admit(struct flight *flight, struct flight_reader *reader) REQUIRES(flight->state_lock);
/* The same, and takes the lock. */
void flight_enter(struct flight *flight, struct flight_reader *reader) EXCLUDES(flight->state_lock);
void flight_leave(struct flight *flight, struct flight_reader *reader) EXCLUDES(flight->state_lock);

/* A copy of the repository through which the flight fetches now. */
struct repository flight_repository(struct flight *flight) EXCLUDES(flight->state_lock);
void flight_describe(struct flight *flight, struct flight_figures *out)
    EXCLUDES(flight->state_lock);

/* ---- flights.c: the table ---- */

/* The flight of the digest that new readers may join; NULL: none. */
struct flight *flights_find(struct flights *flights, const struct digest *digest)
    REQUIRES(flights->table_lock);
/* False: no memory. */
bool flights_enter(struct flights *flights, struct flight *flight) REQUIRES(flights->table_lock);
/* New readers do not find the flight any more. */
void flights_leave(struct flights *flights, struct flight *flight) REQUIRES(flights->table_lock);

/* Takes a place for a flight that fetches from the upstream that `held` is of. False: ERROR_BUSY.
 */
bool flights_take_place(struct flights *flights, struct upstream_held *held, bool background,
                        struct error *error) REQUIRES(flights->table_lock);
void flights_give_back_place(struct flights *flights, struct upstream_held *held, bool background)
    REQUIRES(flights->table_lock);

/* The blob came with wrong bytes: the next flight for it through the same upstream begins at
 * another location, with one plain stream. */
void flights_distrust(struct flights *flights, struct flight *flight);
/* For a new flight, which no other thread knows yet. */
void flights_apply_distrust(struct flights *flights, struct flight *flight)
    REQUIRES(flights->table_lock);

/* How many fetchers the flight may have now. */
unsigned flight_allowed(struct flight *flight) REQUIRES(flight->state_lock);

/* ---- tier.c: the bucket ---- */

/* What the bucket has of the blob is wrong. The next flight for it does not ask the bucket. */
void flights_record_wrong(struct flights *flights, const struct digest *digest,
                          const struct error *why) EXCLUDES(flights->table_lock);
/* For a new flight, which no other thread knows yet: whether the bucket is to be asked. */
void flights_choose_tier(struct flights *flights, struct flight *flight)
    REQUIRES(flights->table_lock);

/* ---- replicas.c: other replicas ---- */

/* The member has sent wrong bytes of the blob: it is not asked for the blob any more. */
void flights_distrust_replica(struct flights *flights, const struct digest *digest,
                              const struct member *member, const struct error *why)
    EXCLUDES(flights->table_lock);
/* For a new flight, which no other thread knows yet: which replicas are not to be asked. */
void flights_choose_replicas(struct flights *flights, struct flight *flight)
    REQUIRES(flights->table_lock);
/* A replica has refused what it was asked: logged once a minute. */
void flights_log_refusal(struct flights *flights, const struct place_replica *replica,
                         const struct error *why);
/* A replica wants the blob: the flight asks no replica from now on. */
void flight_serve_replica(struct flight *flight, enum replica_ask ask) REQUIRES(flight->state_lock);
/* A link of the source was made: makes it as old as what the replica has said. */
void flight_date_link(struct flight *flight, const struct flight_source *source)
    EXCLUDES(flight->state_lock);

/* ---- plan.c: which span is fetched next ---- */

/* The next span worth fetching. False: there is nothing to do now. */
bool flight_plan(struct flight *flight, struct plan *plan) REQUIRES(flight->state_lock);
/* If the current source has been silent for a while and another repository is known to hold the
 * blob: what to ask that one for, beside. */
bool flight_wants_contender(struct flight *flight, struct plan *plan) REQUIRES(flight->state_lock);
/* Whether one more fetcher is worth starting, and for which span. May shorten a span if a reader
 * would have to wait too long for the bytes at its end. */
bool flight_wants_fetcher(struct flight *flight, struct plan *plan) REQUIRES(flight->state_lock);

/* ---- pass.c: passing through ---- */

/* From now on nothing more of the blob is written to disk. Ends the flight as failed if nobody
 * reads it, or if there is no memory either. */
void flight_pass(struct flight *flight, enum unkept reason, const struct error *why)
    REQUIRES(flight->state_lock);
/* Whether a fetcher may write [at, end) now. May drop bytes that nobody needs and evict a reader.
 * False: wait until the readers have read on. */
bool flight_may_write(struct flight *flight, uint64_t at, uint64_t end)
    REQUIRES(flight->state_lock);
/* Whether a reader waits for bytes that no fetcher is about to bring. */
bool flight_is_wanted_elsewhere(struct flight *flight) REQUIRES(flight->state_lock);

/* ---- fetchers.c ---- */

/* Starts as many fetchers as there is work for. */
void flight_start_fetchers(struct flight *flight) REQUIRES(flight->state_lock);

/* ---- hash.c ---- */

/* A fetcher has written the portion. If it has claimed its bytes (hashing_claim()), hashes them or
 * hands them to the driver; otherwise leaves them in the file. `more_waits`: the bytes after them
 * have arrived already. True: the buffer was handed over, and is not the caller's any more.
 * Releases the lock meanwhile. */
bool flight_hash_written(struct flight *flight, struct portion *portion, bool more_waits)
    REQUIRES(flight->state_lock);
/* Hashes what comes next; the caller has seen that it is present and that nobody has the turn.
 * Releases the lock meanwhile. False: it could not be read back. */
bool flight_hash_next(struct flight *flight, struct error *error) REQUIRES(flight->state_lock);

/* ---- drive.c: the thread of a new flight, whose reference it takes over ---- */

void flight_drive(void *flight);

/* Whether the driver must reserve more space, or log that there is none. */
bool flight_is_space_due(struct flight *flight) REQUIRES(flight->state_lock);

/* ---- join.c ---- */

/* The flight of the wish, referenced: the one under way, or (*started) a new one. `reader`, if not
 * NULL, becomes one of its readers, undecided. NULL: too many flights (ERROR_BUSY), or no memory.
 */
struct flight *flights_join(struct flights *flights, const struct flight_wish *wish,
                            struct flight_reader *reader, bool *started, struct error *error);

#endif
