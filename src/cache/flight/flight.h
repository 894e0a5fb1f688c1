/*
 * A flight: the one transfer of a cold blob, from the first client that asks until the blob is
 * committed or has failed. Private to cache/; cache.h is the front door.
 *
 * The parts of a flight and who moves them:
 *
 * - Fetchers are threads, one per upstream connection. Each takes a span (a stretch that nobody has
 *   or is fetching, see flight_plan.c), asks upstream for it and writes it to the partial file. A
 *   failed span's missing rest simply becomes a gap again.
 *
 * - The driver is one thread. It hashes the growing prefix in order; when all is hashed and the
 *   digest matches, it releases the held-back tail, commits and ends the flight.
 *
 * - Readers are the clients' own threads. They wait for their next byte and send it from the file.
 *
 * Bytes that are present are never overwritten: what the hash vouches for is what readers got. An
 * upstream that sends the same stretch twice with other bytes fails the flight.
 *
 * A blob that cannot be kept (a full or failing disk, or it is larger than the cache) is passed
 * through, from the start or from where the disk gave up: see flight_pass.c.
 *
 * Locks, in the order in which they may be taken: flights.table_lock, then flight.state_lock.
 * Neither is held for I/O.
 */
#ifndef FLIGHT_FLIGHT_H
#define FLIGHT_FLIGHT_H

#include <pthread.h>
#include <stdatomic.h>
#include <uthash.h>
#include "base/extents.h"
#include "base/metric.h"
#include "cache/cache.h"
#include "retention/pins.h"
#include "retention/space.h"

enum {
    FLIGHT_SPANS = UPSTREAM_CONNECTIONS_LIMIT + 4, /* one for each connection, and some spare */
    FLIGHT_SOURCES = 8, /* repositories a flight remembers to fetch through */
};

enum flight_state {
    FLIGHT_MOVING,
    FLIGHT_VERIFIED, /* all bytes are there and the digest matches */
    FLIGHT_FAILED    /* `failure` says why */
};

/* A stretch that one fetcher is getting: [start, at) is written, [at, end) is to come. */
struct span {
    bool busy;
    uint64_t start, at, end; /* end UINT64_MAX: as far as upstream sends */
    uint64_t writing_to;     /* a write up to here is under way; else == at */
    int64_t since_ms;
};

/* A repository at an upstream through which the blob may be fetched. */
struct flight_source {
    struct repository repository;
    enum { SOURCE_ASKED, SOURCE_ANSWERED, SOURCE_REFUSED } state;
    struct error refusal;
};

struct flight_reader {
    uint64_t at, end; /* still wants [at, end) */
    uint64_t lent;    /* [at, lent) is being sent just now */
    bool whole;       /* the last bytes are held back from it until the digest is checked */
    bool undecided;   /* has not said yet what it wants */
    bool put_out;     /* it held up more memory than a blob passed through may take, and goes on in
                         another flight */
    struct flight_reader *prev, *next;
};

/* A blob that is passed through: what has come of it since it is. */
struct passing {
    bool on;
    enum unkept reason;
    struct error why;
    int memory; /* a memory file with the blob's offsets; closed with the flight; -1: none */
    struct extents on_disk, in_memory; /* of what is present; what is in neither is gone again */
    bool forgot; /* something is gone: who comes later needs a flight of his own */
};

struct flights {
    struct store *store;
    struct space *space;
    struct pins *pins; /* may be NULL */
    unsigned max_flights, max_connections;
    int64_t patience_ms;
    struct metric *pulled_bytes, *failed_digests;
    pthread_mutex_t table_lock; /* guards table, count and distrusted */
    pthread_cond_t ended;       /* a flight left the table */
    struct flight *table;
    unsigned count; /* of flights in the table that have not ended */
    struct {
        struct digest digest;
        unsigned location;
    } distrusted[16]; /* blobs that came wrong: next time one plain stream, from elsewhere */
    unsigned distrusted_next;
    atomic_uint connections;       /* fetchers of all flights */
    _Atomic int64_t passing_bytes; /* in memory, of all flights that pass through */
    atomic_uint threads;           /* drivers and fetchers that have not ended */
    atomic_bool stopping;
};

struct flight {
    struct flights *flights;
    struct digest digest;
    UT_hash_handle hh;
    bool in_table;          /* guarded by table_lock */
    atomic_uint references; /* the driver's, each fetcher's, each reader's and caller's */

    pthread_mutex_t state_lock; /* guards everything below */
    pthread_cond_t changed;
    _Atomic enum flight_state state; /* read without the lock by who is no reader of it any more */
    struct error failure;
    bool opened;  /* the driver has opened the partial */
    bool resumed; /* an earlier flight's bytes were found */
    struct partial
        *partial; /* freed by the driver, or with the flight when a fetcher outlives it */
    int fd;       /* of the partial file; closed with the flight; -1: there is none */
    struct passing passing;
    uint64_t reserved; /* bytes reserved of flights->space; the driver's alone, as what follows */
    bool gave_up;      /* said that the blob passes through, and dropped the partial */
    int stored_fd;     /* holds the blob in the store once it is there; -1: it is not */

    bool answered; /* upstream has sent a head: size is known, or will be at the end */
    bool size_known;
    uint64_t size;
    bool plain; /* no ranges: one stream from the first byte */
    char etag[160];
    struct extents present;
    uint64_t hashed; /* the prefix that the driver has hashed */

    struct span spans[FLIGHT_SPANS];
    unsigned fetchers;
    unsigned allowed; /* fetchers at once; fewer after upstream refused a further connection */
    struct flight_source sources[FLIGHT_SOURCES];
    unsigned source_count, source;
    unsigned location;             /* 0: the upstream's URL, 1…: its fallbacks */
    struct upstream_target target; /* where blobs of the current source are redirected to */

    struct flight_reader *readers;
    unsigned reader_count;
    bool fill;                     /* fetch all of it, not only what readers want */
    struct blob_range first_range; /* what the first request asks for */

    int64_t started_ms, progress_ms; /* clock_ms() of start and of the last byte */
    unsigned failures;               /* in a row, without a byte between */
    unsigned retries;
    double rate; /* bytes a second of one connection, smoothed; 0: not known */
};

struct flights *flights_new(struct upkeep *upkeep, const struct cache_settings *settings);
bool flights_free(
    struct flights *flights); /* false: some threads would not end; nothing is freed */

/*
 * The flight of `digest`, referenced: the one under way, or (*started) a new one that fetches
 * through `repository` at `upstream`, `range` first. `reader` becomes one of its readers, undecided
 * (NULL: nobody reads). NULL: too many flights (ERROR_BUSY) or no memory.
 */
struct flight *flights_join(struct flights *flights, const struct repository *repository,
                            const struct digest *digest, const struct blob_range *range,
                            struct flight_reader *reader, bool *started, struct error *error);
void flight_release(struct flight *flight); /* NULL is allowed */
struct flight_source flight_current_source(struct flight *flight);
/* Its blob came wrong: the next flight begins elsewhere, with one plain stream. */
void flight_distrust(struct flight *flight);
void flight_leave_table(struct flight *flight); /* if it is there; table_lock held */

/* ---- flight_drive.c: the thread of a new flight, whose reference it takes over ---- */

void *flight_drive(void *flight);

/* ---- flight_read.c, with cache_blob_want() and cache_blob_wait() ---- */

/* Waits until upstream has answered for this source. False: it refused or the flight failed.
 * *found is false when the flight does not fetch through this source: ask upstream yourself. */
bool flight_wait_permission(struct flight *flight, const struct repository *repository, bool *found,
                            struct error *error);
/* The blob may be fetched through this repository as well: upstream said so. */
void flight_add_source(struct flight *flight, const struct repository *repository);

/* Waits until the size is known, or known to come only at the end. */
bool flight_wait_size(struct flight *flight, struct error *error);

/* Waits until the flight has left the table: what was verified is then kept, or failed to be. */
void flight_wait_end(struct flight *flight);

void flight_want_all(struct flight *flight); /* fill, whether anybody reads or not */
/* Becomes a reader, state_lock held; is none any more. */
void flight_enter(struct flight *flight, struct flight_reader *reader);
void flight_leave(struct flight *flight, struct flight_reader *reader);

/* ---- flight_plan.c: who fetches what next; called with state_lock held ---- */

struct plan {
    bool plain;  /* ask without a range */
    bool suffix; /* ask for the last `end` bytes; size not known yet */
    uint64_t start, end;
};

/* The next span worth fetching; false when there is nothing to do now. */
bool flight_plan(const struct flight *flight, struct plan *plan);
/* Whether one more fetcher is worth starting, and for which span. May shorten a span whose front a
 * reader would have to wait for too long. */
bool flight_wants_fetcher(struct flight *flight, struct plan *plan);
/* The first byte that has to come for a reader: its next; or, when what passes through is no longer
 * held, the next to be hashed for it. */
uint64_t flight_front(const struct flight *flight, const struct flight_reader *reader);
/* Whether all bytes are present. */
bool flight_is_complete(const struct flight *flight);

/* ---- flight_pass.c; called with state_lock held ---- */

/* From now on nothing more of the blob is written to disk. Ends the flight as failed when nobody
 * reads it, or when there is no memory either. */
void flight_pass(struct flight *flight, enum unkept reason, const struct error *why);
/* Where the present bytes at `offset` are: the descriptor and, in *end, up to where they are there.
 * -1: gone. */
int flight_medium(const struct flight *flight, uint64_t offset, uint64_t *end);
/* Where bytes are to be written that come now. */
int flight_sink(const struct flight *flight);
/* Notes that [start, end) was written to `sink`; false when out of memory. */
bool flight_note_written(struct flight *flight, int sink, uint64_t start, uint64_t end);
/* Whether a fetcher at `at` may write on, forgetting what nobody needs any more if that makes it
 * so. False: wait until readers have read. */
bool flight_may_write(struct flight *flight, uint64_t at, uint64_t end);
/* Whether a reader waits for bytes that no fetcher is about to bring. */
bool flight_is_wanted_elsewhere(const struct flight *flight);
/* Whether who wants `range` can join; false: what it needs is or will be gone. */
bool flight_is_joinable(const struct flight *flight, const struct blob_range *range);
void flight_pass_end(struct flight *flight); /* with the flight */

/* ---- flight_fetch.c ---- */

/* Starts as many fetchers as there is work for; state_lock held. */
void flight_staff(struct flight *flight);
/* Ends the flight as failed, unless it has ended already; state_lock held. */
void flight_fail(struct flight *flight, const struct error *error);

#endif
