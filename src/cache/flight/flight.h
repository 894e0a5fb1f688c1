/*
 * A flight: the one transfer of a cold blob, from the first client that asks until the blob is in
 * the store or has failed. The main header of cache/flight/. Its only caller is cache/, of which it
 * knows nothing.
 *
 * The threads of a flight:
 *
 * - Fetchers are threads, one for each connection. A fetcher takes a span (a stretch of the blob
 *   that is neither here nor being fetched, see plan.c), asks a place for it and writes it to the
 *   partial file. When a span fails, its missing bytes are free for the next fetcher. The fetcher
 *   that brings the next bytes to hash hashes them, or hands its buffer to the driver (hash.c).
 * - The driver is one thread. It hashes what the fetchers hand over, and reads back what arrived
 *   out of order. When the whole is hashed and the digest is right, the driver releases the bytes
 *   that were held back and commits the blob to the store.
 * - Readers are the clients' own threads. A reader waits for its next bytes and sends them from the
 *   file.
 *
 * The life of a flight:
 *
 *   phase      begins when                          moved by (file)                  on the thread
 *   ---------  -----------------------------------  -------------------------------  -------------
 *   started    a client wants the blob, and no      flights_join() (join.c)          of the client
 *              flight can be joined
 *   opened     the partial is open; or there can    open_partial() (drive.c)         of the driver
 *              be none, and the blob passes through
 *   answered   a place has sent a head: the size    fetch_take_head() (fetch.c)      of a fetcher
 *              is known, or will be at the end
 *   moving     bytes come in, are hashed and sent   fetch_take_bytes() (fetch.c),    of fetchers,
 *                                                   flight_hash_written(),           driver and
 *                                                   flight_hash_next() (hash.c),     readers
 *                                                   flight_reader_wait() (reader.c)
 *   verified   all bytes are hashed and the digest  end_hashing() (drive.c)          of the driver
 *              is right: the last bytes go out
 *   or failed  a fault ends the flight: readers     flight_fail() (flight.c)         any
 *              cut their connections
 *   left       the blob is in the store or given    flights_leave() (flights.c)      of the driver
 *              up; or bytes were dropped that a                                      or of that
 *              new reader needs. Another flight                                      reader
 *              for the digest may start.
 *   freed      nobody refers to the flight          flight_release() (flight.c)      that refers
 *                                                                                    to it last
 *
 * From `started` to `moving` the state is FLIGHT_MOVING. A flight in any of these phases may begin
 * to pass through (pass.c): its blob cannot be kept, because the disk is full or fails or because
 * the blob is larger than the cache.
 *
 * Bytes that are present are never overwritten, so that the bytes that were hashed are the bytes
 * that readers got. A place that sends the same stretch a second time with other bytes fails the
 * flight.
 *
 * Threads: all functions here may be called by any thread; those of a reader by one thread at a
 * time. Locks, in the order in which they may be taken: table_lock of the flights, state_lock of a
 * flight, target_lock of a place. None is held for I/O.
 */
#ifndef FLIGHT_FLIGHT_H
#define FLIGHT_FLIGHT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/cancel.h"
#include "base/error.h"
#include "oci/digest.h"
#include "retention/upkeep.h"
#include "upstream/upstream.h"

struct flights; /* all flights of a cache */
struct flight;

struct flights_settings {
    unsigned max_flights;     /* blobs under way at once for clients; background flights (those that
                                 flights_fetch() starts) have a quarter as many places beside */
    unsigned max_connections; /* of all flights together */
    unsigned flights_per_upstream; /* of max_flights, while more than half of it is taken */
    int64_t patience_ms;           /* how long a flight without progress keeps trying */
};

/* Flights into the upkeep's store. `upkeep` outlives them. NULL: no memory. */
struct flights *flights_new(struct upkeep *upkeep, const struct flights_settings *settings);

/* Takes the settings from now on, but patience_ms, which stays. Flights under way go on. Any
 * thread. */
void flights_change(struct flights *flights, const struct flights_settings *settings);

/* Ends all flights soon, as failed, and starts no more. */
void flights_stop(struct flights *flights);
/* Ends all flights (their partials stay and are continued by a later process) and waits for their
 * threads at most 5 s. False: some threads have not ended, and nothing is freed. */
bool flights_free(struct flights *flights);

/* Part of a blob, given before the blob's size is known, so that a cold range is fetched first. */
struct blob_range {
    enum { BLOB_WHOLE, BLOB_FROM, BLOB_FROM_TO, BLOB_LAST } kind;
    uint64_t first, last; /* inclusive; `last` of BLOB_FROM_TO only */
    uint64_t count;       /* BLOB_LAST: bytes from the end */
};

/* A wish for a blob. Everything is borrowed for the call. */
struct flight_wish {
    const struct repository *repository; /* through which a new flight fetches */
    const struct digest *digest;
    const struct blob_range *range; /* what a new flight fetches first */
};

struct flight_figures {
    char digest[DIGEST_STRING_SIZE];
    char upstream[HOST_LIMIT + 1];
    char repository[NAME_LIMIT + 1];
    uint64_t size, present; /* bytes; size 0: not known yet */
    double rate;            /* bytes a second since it started */
    unsigned connections, readers, retries;
    double seconds; /* since it started */
};

/* Describes at most `limit` flights, the oldest first. The result is how many flights there are. */
size_t flights_describe(struct flights *flights, struct flight_figures *out, size_t limit);

/* Whether there is a flight of the digest, and bytes of it have come within the last second. */
bool flights_is_moving(struct flights *flights, const struct digest *digest);

/* ---- one flight ---- */

/* Starts a background flight for the blob, or joins the one under way, which then fetches the whole
 * blob even if nobody reads it. Does not wait. False: too many flights (ERROR_BUSY), or no memory.
 */
bool flights_fetch(struct flights *flights, const struct flight_wish *wish, struct error *error);

/* Waits until a place has answered for this repository. False: the repository does not hold the
 * blob, the flight failed, or `cancel` (may be NULL; looked at about once a second) ended the wait.
 * *found is false if the flight does not fetch through this repository: the caller asks the
 * upstream itself. */
bool flight_wait_permission(struct flight *flight, const struct repository *repository,
                            const struct cancel *cancel, bool *found, struct error *error);
/* Whether the flight has failed because another repository than this one sent wrong bytes. */
bool flight_was_misled(struct flight *flight, const struct repository *repository);
/* Says that the repository holds the blob: the flight may fetch through it as well. */
void flight_add_source(struct flight *flight, const struct repository *repository);

/* Waits until the size is known, or is known to come only at the end. False: the flight failed, or
 * `cancel` ended the wait. */
bool flight_wait_size(struct flight *flight, const struct cancel *cancel, struct error *error);
/* False: the size is not known yet. */
bool flight_read_size(struct flight *flight, uint64_t *size);

/* Whether bytes have come within the last second. */
bool flight_is_moving(struct flight *flight);

/* Waits until the flight has left the table: a verified blob is then in the store, or could not be
 * kept. */
void flight_wait_end(struct flight *flight);

/* A reader could not read bytes that were written: the flight fails, and the disk is not trusted
 * for a while. */
void flight_give_up(struct flight *flight, const struct error *why);

/* ---- readers ---- */

struct flight_reader; /* one client's way through a blob */

/* Becomes a reader of the blob's flight, the one under way or (*started) a new one. NULL: too many
 * flights (ERROR_BUSY), or no memory. */
struct flight_reader *flight_reader_open(struct flights *flights, const struct flight_wish *wish,
                                         bool *started, struct error *error);
void flight_reader_close(struct flight_reader *reader); /* NULL is allowed */

/* The flight that it reads from now. Valid until the next flight_reader_wait(). */
struct flight *flight_reader_flight(const struct flight_reader *reader);

/* Says which bytes will be read: [first, end), and whether that is the whole blob. Of the whole
 * blob the last bytes are held back until the digest is checked, and `end` is the size, or
 * UINT64_MAX if the size was not known. Called once, before flight_reader_wait(). */
void flight_reader_want(struct flight_reader *reader, uint64_t first, uint64_t end, bool whole);

/* Bytes that may be sent. */
struct flight_bytes {
    int fd;         /* the flight's, not the caller's */
    uint64_t end;   /* exclusive */
    bool must_copy; /* to be copied to the client, because the pages behind `fd` are wiped as soon
                       as the reader waits for the next bytes: sendfile would send zeros */
};

/* Waits for bytes at `offset`. Past the last byte of a blob of unknown size `end` is `offset`.
 * False: the flight failed, or `cancel` (may be NULL; looked at about once a second) ended the
 * wait. */
bool flight_reader_wait(struct flight_reader *reader, uint64_t offset, struct flight_bytes *bytes,
                        const struct cancel *cancel, struct error *error);

#endif
