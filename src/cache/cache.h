/*
 * The cache: finds what a client asks for in memory, in the store, or at upstream.
 *
 * Documents (manifests, tag lists, referrers) are small and served from memory. A tag is served
 * without asking upstream for its upstream's tag_ttl. After that upstream is asked once, however
 * many clients ask; while upstream fails or stays silent, the stale document is served. A real 404
 * ends a tag.
 *
 * Blobs are files. A cold one is a flight: one transfer into a partial file, followed by any number
 * of readers, each at its own speed, committed only when its digest matches. The last bytes of a
 * whole body are held back until then (design, promise 1).
 *
 * A blob that came through one repository is readable through another only if that one has it too
 * (promise 8): a manifest that the cache holds for the other repository names the blob, or upstream
 * says so when it is asked with HEAD, or by a GET of the first byte where HEAD is refused.
 *
 * Threads: all calls from any thread. Each may block while upstream is asked, except those under
 * "without waiting".
 */
#ifndef CACHE_CACHE_H
#define CACHE_CACHE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/cancel.h"
#include "base/error.h"
#include "base/pot.h"
#include "cache/flight/flight.h"
#include "cache/streams.h"
#include "oci/digest.h"
#include "oci/reference.h"
#include "replica/ask.h"
#include "retention/upkeep.h"
#include "store/store.h"
#include "upstream/upstream.h"

struct bucket;
struct replica_asker;
struct cache;

struct cache_settings {
    size_t document_memory;   /* bytes of documents kept in memory */
    int64_t negative_ttl_ms;  /* how long a real 404 is believed; 0: not at all */
    int64_t stale_after_ms;   /* upstream's silence after which a stale document is served */
    int64_t patience_ms;      /* how long a flight without progress keeps trying while somebody
                                 waits */
    unsigned max_flights;     /* blobs under way at once; more is ERROR_BUSY */
    unsigned max_connections; /* of all flights together */
    /* What one upstream may take while others want it, too (base/pot.h). */
    unsigned waiting_per_upstream; /* requests of clients that wait for it */
    unsigned flights_per_upstream; /* of max_flights */
    struct streams_settings streaming;
    struct bucket *bucket; /* that is looked into before upstream is asked; outlives the cache;
                              NULL: none */
    struct replica_asker *replicas; /* that are asked before upstream is; outlives the cache; NULL:
                                       none */
};

/* Settings with every default. */
struct cache_settings cache_settings_default(void);

/* Names the metrics about the bucket before there are any. */
void cache_declare_metrics(void);

/* A cache on the upkeep's store. `upkeep` must outlive the cache. A call needs its upstream until
 * it returns; what goes on after that refers to the upstream. NULL when out of memory. */
struct cache *cache_new(const struct cache_settings *settings, struct upkeep *upkeep);

/* Begins what the cache does in the background: what is pending goes to the bucket. Without it,
 * nothing is written to the bucket. After the process has given up rights. */
void cache_start(struct cache *cache);

/* Takes the settings from now on, but stale_after_ms, patience_ms, the bucket and the replicas,
 * which stay. What is taken beyond a lower limit is given back when it ends. Any thread. */
void cache_change(struct cache *cache, const struct cache_settings *settings);

/* The pot of the workers that clients' requests run on. Called before the first request; without it
 * waiting_per_upstream binds nobody. `workers` outlives all requests. */
void cache_set_workers(struct cache *cache, const struct pot *workers);

/* Whether nothing new can be kept, because the disk is full, failing or read-only. Never waits. */
bool cache_is_degraded(const struct cache *cache);

/* Sets the gauges of the cache. */
void cache_update_metrics(struct cache *cache);

/* No call waits for an upstream any more: those that wait fail soon, and so does every later one
 * that would have to ask. For the end of the process. */
void cache_stop(struct cache *cache);

/* Waits until what is pending for the bucket is there, as far as that can be done at once, or until
 * `until_ms` (clock_ms()). For the end of the process; what is not done is done after the next
 * start. */
void cache_drain(struct cache *cache, int64_t until_ms);

/* Ends all flights (their partials stay, to be continued) and waits for them at most 5 s. False:
 * some would not end; the cache is then left as it is, for the process to exit with. */
bool cache_free(struct cache *cache);

/* Waits until the manifests that were answered before are on the disk, at most 5 s. A manifest is
 * answered first and then stored. */
void cache_settle(struct cache *cache);

/* How a document or blob was found; for Cache-Status, log and metrics. */
enum cache_outcome {
    CACHE_HIT,           /* held, and fresh or immutable */
    CACHE_MISS,          /* this request made upstream send it */
    CACHE_JOINED,        /* another request had already asked */
    CACHE_REVALIDATED,   /* held; upstream confirmed it */
    CACHE_STALE,         /* held and past its time; upstream failed or is silent */
    CACHE_BUCKET,        /* this request made the bucket send it */
    CACHE_REPLICA,       /* this request made another replica send it */
    CACHE_REPLICA_JOINED /* the same, and another request had already asked */
};
enum { CACHE_OUTCOMES = CACHE_REPLICA_JOINED + 1 };

/*
 * For whom something is looked up. Borrowed for the call.
 *
 * A replica that asks is served from what is held here, or from what this tarn itself gets from
 * the bucket or from upstream, and never from what a replica sends. A flight that it asks for
 * follows no replica, and leaves one that it follows. REPLICA_ASK_ARRIVING is for
 * cache_blob_open() alone; REPLICA_ASK_FETCH_ABSENT counts as REPLICA_ASK_FETCH elsewhere. After a
 * failure, replica_answer_of() says whose word the error is.
 */
struct cache_caller {
    const struct repository *repository; /* through which it is asked for */
    /* When nobody waits for the result any more: a call that waits for upstream then ends within a
     * second with ERROR_CLOSED, and what others wait for goes on. NULL: never. */
    const struct cancel *cancel;
    enum replica_ask ask; /* REPLICA_ASK_NONE: a client asks */
};

/* ---- documents ---- */

/*
 * What a caller derives from a document once, for as long as the document lives: for example the
 * head of the response. The caller makes this the first member of its own struct.
 */
struct document_derived {
    void (*free)(struct document_derived *derived);
};

/* Immutable (but for the first members, which belong to cache/) and shared; released with
 * document_release(). */
struct document {
    _Atomic unsigned references;
    _Atomic unsigned use_round;                  /* cache/uses.h */
    struct document_derived *_Atomic derivation; /* owned; NULL: none */
    _Atomic size_t *counted_in;                  /* its length is part of this sum; NULL: of none */
    struct digest digest;                        /* of the bytes */
    char media_type[128];
    bool has_bytes;  /* false: only the head is known (from a response to HEAD) */
    bool is_schema1; /* the digest is that of a part of the bytes, so the store cannot keep them */
    uint64_t length; /* of the whole, even without bytes */
    char bytes[];
};
struct document *document_keep(struct document *document); /* one more reference; gives it back */
void document_release(struct document *document);          /* NULL is allowed */

/* What was derived from the document; NULL: nothing yet. Valid as long as the caller holds its
 * reference to the document. */
struct document_derived *document_derived(struct document *document);

/* Gives `derived` to the document, which frees it at its own end by derived->free(). The first
 * thread that calls this wins: for every other one, `derived` is freed at once. The result is what
 * the document has now. Nobody changes it from then on, because several threads read it. It may
 * take 512 bytes for which the cache's limit accounts. */
struct document_derived *document_set_derived(struct document *document,
                                              struct document_derived *derived);

/* Drops from memory all documents and all that is known of blobs. What the store holds is read from
 * there again. What another thread has read from the store but not yet kept in memory is not kept.
 */
void cache_forget(struct cache *cache);

/* A document and how it was found. */
struct cache_result {
    struct document *document; /* the caller's to release; NULL after a failure */
    enum cache_outcome outcome;
    /* For a replica that asks: how long ago upstream was asked, and how long what it said then may
     * be served from that moment on; INT64_MAX: for ever. Set after a real 404 as well. What is
     * stale is older than it may be. */
    int64_t age_ms, max_age_ms;
};

/*
 * Finds the manifest that `reference` names. `head_only`: for HEAD; upstream is then asked with
 * HEAD, and the document may be without bytes. Errors: as upstream_perform(), when nothing held can
 * stand in.
 */
bool cache_manifest(struct cache *cache, const struct cache_caller *caller,
                    const struct reference *reference, bool head_only, struct cache_result *result,
                    struct error *error);

/* {"name":…,"tags":[…]} with all tags, in byte order, each once. */
bool cache_tags(struct cache *cache, const struct cache_caller *caller, struct cache_result *result,
                struct error *error);

/* The OCI index of all referrers of `subject`: upstream's own; where upstream has no such endpoint,
 * the index of the fallback tag, or an empty one. */
bool cache_referrers(struct cache *cache, const struct cache_caller *caller,
                     const struct digest *subject, struct cache_result *result,
                     struct error *error);

/* ---- blobs ---- */

/* An open blob: a stored file, or a flight to follow. */
struct cache_blob {
    enum cache_outcome outcome;
    enum replica_answer answer; /* to a replica that asks; also after a failed open, where
                                   REPLICA_ANSWER_NO comes with ERROR_NOT_FOUND */
    int fd; /* for sendfile; the blob's, not the caller's; of a flight it may be another after each
               cache_blob_wait() */
    bool must_copy; /* the bytes just waited for are to be copied, not to be sent by reference
                       (sendfile), because their pages are wiped as soon as the next are waited
                       for */
    bool size_known;
    uint64_t size;
    struct store *store;
    struct digest digest;
    struct cache *cache;
    bool is_wanted_again;         /* it was asked for a moment ago, too */
    struct flight_reader *reader; /* NULL: the blob is in the store, complete and verified */
    struct upstream *upstream;    /* of a blob with a reader: that clients wait for */
};

/* For a replica that asks: how long ago upstream has last confirmed that the repository holds the
 * digest, and for how long that is believed. False: it is believed for ever, or there is no link.
 */
bool cache_link_life(struct cache *cache, const struct repository *repository, bool is_manifest,
                     const struct digest *digest, int64_t *age_ms, int64_t *max_age_ms);

/*
 * Opens a blob for reading. A cold blob is requested from upstream; the function returns as soon as
 * the first response head tells the size, or tells that the size is known only at the end. A range
 * outside of the blob is no error here: the size is then known, and the caller checks the range.
 * ERROR_BUSY: too many flights, or the upstream has its share of flights or of waiting requests.
 */
bool cache_blob_open(struct cache *cache, const struct cache_caller *caller,
                     const struct digest *digest, const struct blob_range *range,
                     struct cache_blob *blob, struct error *error);
/* May read a small blob into memory, for cache_blob_held(). Safe after a failed open. */
void cache_blob_close(struct cache_blob *blob);

/* Says which bytes will be read: [first, end) and whether that is the whole body, whose last bytes
 * are then held back until the digest is checked. Called once, before cache_blob_wait(). */
void cache_blob_want(struct cache_blob *blob, uint64_t first, uint64_t end, bool whole);

/*
 * Waits until bytes at `offset` may be sent; *end says up to where (exclusive). Past the last byte
 * of a blob of unknown size *end == offset. False: the flight failed (wrong bytes, upstream gave
 * up): a caller that has begun to send a body must cut the connection. `cancel` (may be NULL) is
 * checked about once a second while there is nothing to send. ERROR_BUSY: nothing comes, and the
 * upstream has its share of waiting requests.
 */
bool cache_blob_wait(struct cache_blob *blob, uint64_t offset, uint64_t *end,
                     const struct cancel *cancel, struct error *error);

/* Bytes that cache_blob_wait() allowed cannot be read from the disk: gives the blob up, so that the
 * next request fetches it from upstream. */
void cache_blob_unreadable(struct cache_blob *blob, const struct error *why);

/* Waits until a blob that was read to its end is in the store. False: it could not be kept (a full
 * disk, or a blob larger than the cache), as the log says. */
bool cache_blob_settle(struct cache_blob *blob, struct error *error);

/* Size of a blob, for HEAD: from the store, else upstream's, else (where upstream refuses HEAD)
 * what a manifest says; never a download. */
bool cache_blob_stat(struct cache *cache, const struct cache_caller *caller,
                     const struct digest *digest, uint64_t *size, enum cache_outcome *outcome,
                     struct error *error);

/* ---- without waiting ---- */

/*
 * These are for a thread that must not wait, because it serves many connections. They answer from
 * memory alone: they make no system call but the wakeup of a thread, once in a tag's time
 * (refresh.h), call no function of the store that does, and do not allocate; no lock that they take
 * is held over I/O. Each gives the answer that the waiting call would give now, or none.
 */
enum cache_held {
    CACHE_NOT_HELD,   /* only the waiting call can answer; *result has no document */
    CACHE_HELD,       /* *result is set as by the waiting call; the outcome is CACHE_HIT */
    CACHE_HELD_ABSENT /* upstream's 404 is still believed; *error is set */
};

/* A use of the manifest is noted, and the store is told at the next cache_record_uses(). If too
 * many uses are noted, CACHE_NOT_HELD is the result. */
enum cache_held cache_manifest_held(struct cache *cache, const struct repository *repository,
                                    const struct reference *reference, bool head_only,
                                    struct cache_result *result, struct error *error);
enum cache_held cache_tags_held(struct cache *cache, const struct repository *repository,
                                struct cache_result *result, struct error *error);
enum cache_held cache_referrers_held(struct cache *cache, const struct repository *repository,
                                     const struct digest *subject, struct cache_result *result,
                                     struct error *error);

/*
 * Whether the store holds the blob and the repository has a link to it, and the blob's size: for
 * HEAD and for 304. It is known for a minute after cache_blob_stat() or cache_blob_open() found
 * both, but only until the store deletes or quarantines the blob or one of its group
 * (store_blob_removals_like()), or cache_forget() is called. So the answer is wrong for at most a
 * minute, and only if somebody else deletes files below the root.
 */
bool cache_blob_known(struct cache *cache, const struct repository *repository,
                      const struct digest *digest, uint64_t *size);

/*
 * The bytes of a blob that cache_blob_known() knows and that is small (cache/small.h), as a
 * document without a media type. They are in memory after the blob was read twice within a minute.
 * Their digest was checked. A use is noted, as of a manifest. CACHE_NOT_HELD or CACHE_HELD.
 */
enum cache_held cache_blob_held(struct cache *cache, const struct repository *repository,
                                const struct digest *digest, struct cache_result *result);

/* Tells the store of what was served from memory, so that eviction knows it as
 * used. May wait for the disk. cache_manifest(), cache_blob_open() and cache_free() begin with it,
 * so that it is done before each transfer; whoever looks at times of last use calls it first. */
void cache_record_uses(struct cache *cache);

/* ---- streaming ---- */

/* What is known of images that can stream; lives as long as the cache. */
struct streams *cache_streams(struct cache *cache);
struct store *cache_store(struct cache *cache);
/* Whether the repository's readers may have what was made of the digest: a manifest of the
 * repository, or a layer that it links or that such a manifest names. Asks no upstream. */
bool cache_may_stream(struct cache *cache, const struct repository *repository, bool is_manifest,
                      const struct digest *digest);

/* ---- flights ---- */

/* Fills at most `limit` entries, oldest first. The result is how many flights there are. */
size_t cache_flights(struct cache *cache, struct flight_figures *out, size_t limit);

/* Starts to fetch the blob without a reader (prefetch, warming). Does not wait. */
bool cache_blob_fetch(struct cache *cache, const struct repository *repository,
                      const struct digest *digest, struct error *error);

#endif
