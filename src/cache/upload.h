/*
 * Brings into the bucket what flights and questions got from upstream, in the background. Private
 * to cache/.
 *
 * What is not in the bucket yet is a name in ROOT/pending/, with what has to be written there
 * (pending.h). A few threads work the names off, each as soon as it is due, after a restart as
 * well; after a failure with growing pauses. A name whose blob is not in the store any more is
 * dropped. So a slow or dead bucket holds up nobody, and costs no memory beyond UPLOADS_TASKS
 * tasks: further names wait on the disk.
 *
 * The order of what is written makes a reader of the bucket find everything that a link names: the
 * bytes, then the links of blobs, then those of manifests, then tags. What is known to be there
 * already is not written again.
 *
 * A blob of up to UPLOADS_WHOLE bytes is one PUT of its file, with the digest as the signed hash of
 * the body, so that the service checks it. A larger one, and one that the disk cannot keep, is sent
 * in parts while its flight lasts (parts.h).
 *
 * Also here: the marks of use. A mark is an empty object whose date says when a blob was used; it
 * is written when the last use that is known is more than an eighth of the retention ago.
 *
 * Threads: any. Lock: uploads_lock; a flight's state_lock may be taken after it.
 */
#ifndef CACHE_UPLOAD_H
#define CACHE_UPLOAD_H

#include "bucket/bucket.h"
#include "cache/flight/flight.h"
#include "cache/pending.h"
#include "store/store.h"

#define METRIC_UPLOADS      "tarn_bucket_uploads_total"
#define METRIC_UPLOADS_HELP "Blobs and manifests that were brought into the bucket, by outcome."
#define METRIC_PENDING      "tarn_bucket_pending"
#define METRIC_PENDING_HELP                                                                        \
    "Blobs and manifests of which something is still to be written to the bucket."

struct uploads;

enum {
    UPLOADS_TASKS = 4096,     /* digests in memory for which something is to be done */
    UPLOADS_WHOLE = 64 << 20, /* bytes of a blob that is sent as one */
};

struct uploads_settings {
    struct bucket *bucket; /* outlives the uploads, as do the store and the context */
    struct store *store;
    unsigned threads;      /* that upload at once */
    uint64_t part_size;    /* bytes */
    int64_t mark_period_s; /* 0: uses are not marked */
    void *context;
    /* The bucket has the right bytes of a blob that it had wrong. */
    void (*on_healed)(void *context, const struct digest *digest);
};

/* NULL: no memory. */
struct uploads *uploads_new(const struct uploads_settings *settings);
/* Reads ROOT/pending, and begins. Nothing is written before. */
void uploads_start(struct uploads *uploads);
/* Waits until there is nothing to do that can be done at once, the bucket works, and few tries have
 * failed. False: the uploads end. */
bool uploads_wait_idle(struct uploads *uploads);
/* Waits until there is nothing to do that can be done at once, or `until_ms` (clock_ms()). */
void uploads_drain(struct uploads *uploads, int64_t until_ms);
/* Begins nothing more, and ends what is under way soon. What is not done stays in ROOT/pending. */
void uploads_stop(struct uploads *uploads);
/* Stops, and waits for the threads until `until_ms`. True: they have ended, and no flight is
 * referred to any more. */
bool uploads_end(struct uploads *uploads, int64_t until_ms);
/* After uploads_end(), or if the uploads were never started. NULL is allowed. */
void uploads_free(struct uploads *uploads);
void uploads_update_metrics(struct uploads *uploads);

/* Something has to be written about the digest. `waits`: not before uploads_go_on(). */
void uploads_owe(struct uploads *uploads, const struct digest *digest,
                 const struct pending_item *items, size_t count, bool waits);
/* The same of a manifest that the disk does not take: its bytes are copied, if there is room for
 * them, and kept until they are in the bucket or tarn ends. */
void uploads_owe_bytes(struct uploads *uploads, const struct digest *digest,
                       const struct pending_item *items, size_t count, struct text bytes);
void uploads_go_on(struct uploads *uploads, const struct digest *digest);

/* Whether something is still to be written about the digest, or may be. */
bool uploads_owes(struct uploads *uploads, const struct digest *digest);

/* Sends the flight's blob while it arrives, if there is room for one more such upload. It is
 * completed after uploads_owe() for the digest, and then only what else is owed is written. */
void uploads_follow(struct uploads *uploads, struct flight *flight, const struct digest *digest,
                    uint64_t size, bool overwrite);

/* The blob was used: marks that, after a look at what the bucket knows. `known`: the last use that
 * is known is too long ago; false: the last use is not known. */
void uploads_mark(struct uploads *uploads, const struct digest *digest, bool known);

#endif
