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
#include "replica/ask.h"
#include "retention/upkeep.h"
#include "upstream/upstream.h"

struct bucket;
struct replica_asker;
struct flights; /* all flights of a cache */
struct flight;

#define METRIC_WRONG      "tarn_bucket_wrong_total"
#define METRIC_WRONG_HELP "Objects of the bucket whose bytes were wrong."

#define METRIC_TAKEOVERS      "tarn_replica_takeovers_total"
#define METRIC_TAKEOVERS_HELP "Transfers that went on elsewhere after another replica failed."

enum {
    FLIGHT_KEY_SIZE = 768,
    FLIGHT_REPOSITORIES = 8, /* that a flight remembers */
};

/*
 * The bucket that flights ask before upstream, and who is told what flights find out. The functions
 * are called without any lock, by threads of the flight that the call is about.
 */
struct flights_tier {
    struct bucket *bucket;
    int64_t patience_ms;  /* a first byte that is not here by then is not waited for */
    unsigned connections; /* ranges at once for one blob */
    bool
        heals; /* a blob of which the object is wrong is fetched again at once, for on_verified() */
    void *context;
    /* Writes the key of the blob's object. Returns `out`. */
    const char *(*key)(char out[static FLIGHT_KEY_SIZE], const struct digest *digest);
    /* The flight gets bytes from upstream, and knows the size. Called once for a flight. */
    void (*on_sized)(void *context, struct flight *flight, uint64_t size);
    /* All bytes are here and right. The blob is not in the store yet. */
    void (*on_verified)(void *context, struct flight *flight);
    /* The flight has left the table. `kept`: the blob is in the store. */
    void (*on_end)(void *context, struct flight *flight, bool kept);
};

struct flights_settings {
    unsigned max_flights;     /* blobs under way at once for clients; background flights (those that
                                 flights_fetch() starts) have a quarter as many places beside */
    unsigned max_connections; /* of all flights together */
    unsigned flights_per_upstream;   /* of max_flights, while more than half of it is taken */
    int64_t patience_ms;             /* how long a flight without progress keeps trying */
    const struct flights_tier *tier; /* outlives the flights; NULL: there is no bucket */
    struct replica_asker *replicas;  /* the same; NULL: there are none */
    /* A flight's blob has come into the store. Called without any lock, by the driver. May be NULL.
     */
    void (*on_kept)(void *context, const struct digest *digest);
    void *context;
};

/* Flights into the upkeep's store. `upkeep` outlives them. NULL: no memory. */
struct flights *flights_new(struct upkeep *upkeep, const struct flights_settings *settings);

/* Takes the settings from now on, but patience_ms, `tier` and `replicas`, which stay. Flights under
 * way go on. Any thread. */
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
    enum replica_ask ask;           /* of a replica that wants it; else REPLICA_ASK_NONE */
};

/* Where the bytes of a flight come from now. */
enum flight_place {
    FLIGHT_AT_UPSTREAM,
    FLIGHT_AT_BUCKET,
    FLIGHT_AT_REPLICA,
    FLIGHT_ASKING, /* replicas are asked, and none has given anything yet */
};

struct flight_figures {
    char digest[DIGEST_STRING_SIZE];
    char upstream[HOST_LIMIT + 1];
    char repository[NAME_LIMIT + 1];
    uint64_t size, present; /* bytes; size 0: not known yet */
    double rate;            /* bytes a second since it started */
    unsigned connections, readers, retries;
    double seconds; /* since it started */
    enum flight_place place;
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
/* Whether the flight has failed because of other repositories than this one: one sent wrong bytes,
 * or none gave the blob and this one was not asked for it. */
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

/* ---- the bucket ---- */

/* Whether the bytes come from the bucket. */
bool flight_is_from_bucket(struct flight *flight);
/* Whether the bucket has the blob, even if the rest of the bytes comes from elsewhere. */
bool flight_is_in_bucket(struct flight *flight);
/* Whether the bucket brings the bytes because no upstream does. */
bool flight_is_at_last_stop(struct flight *flight);

/* ---- replicas ---- */

/* Whether the bytes come from another replica. */
bool flight_is_from_replica(struct flight *flight);
/* Whether the flight has failed with what a replica says of upstream. How long it may be believed
 * is not known. */
bool flight_has_heard(struct flight *flight);

/* What is to be done about the bucket, of a flight that is verified. */
struct flight_findings {
    const struct digest *digest;
    bool is_absent;  /* the bucket has not the blob, as far as the flight knows */
    bool was_wrong;  /* what the bucket has is wrong: it must be overwritten */
    int64_t found_s; /* the time of the bucket's object, by our own clock; 0: not known */
    /* The repositories that are known to hold the blob. */
    struct repository_name repositories[FLIGHT_REPOSITORIES];
    unsigned count;
};
void flight_find(struct flight *flight, struct flight_findings *out);

/* The bucket has right bytes again. */
void flights_trust_bucket(struct flights *flights, const struct digest *digest);
/* Counts and logs that the bucket's object is wrong, and asks the bucket for it no more until
 * flights_trust_bucket(). For objects that no flight has read. */
void flights_distrust_bucket(struct flights *flights, const struct digest *digest,
                             const struct error *why);
/* Whether the bucket's object was wrong lately. */
bool flights_distrusts_bucket(struct flights *flights, const struct digest *digest);

/*
 * An upload that follows a flight from its beginning. It keeps the flight's files open. Of a blob
 * that passes through, bytes are kept for the upload from `at` on, as long as it keeps pace with
 * the clients: it slows nobody down. One upload at a time.
 */
void flight_follow(struct flight *flight);
void flight_unfollow(struct flight *flight);
bool flight_is_passing(struct flight *flight);

enum flight_part {
    FLIGHT_PART_COMING,
    FLIGHT_PART_HERE,
    FLIGHT_PART_LOST, /* the upload was too slow, or the bytes are in two files */
};
/* Whether all of [start, end) is here, and in which file, at the blob's own offsets. */
enum flight_part flight_look_at_part(struct flight *flight, uint64_t start, uint64_t end, int *fd);
/* Bytes below `at` are not needed any more. False: the upload has lost bytes, perhaps while it read
 * them. */
bool flight_follow_to(struct flight *flight, uint64_t at);

enum flight_fate { FLIGHT_FATE_OPEN, FLIGHT_FATE_VERIFIED, FLIGHT_FATE_FAILED };
enum flight_fate flight_fate(struct flight *flight);

/* ---- readers ---- */

struct flight_reader; /* one client's way through a blob */

/* Becomes a reader of the blob's flight, the one under way or (*started) a new one. NULL: too many
 * flights (ERROR_BUSY), or no memory; or a replica asks whether the blob is arriving, and it is
 * not, or comes from a replica itself (ERROR_NOT_FOUND). */
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
