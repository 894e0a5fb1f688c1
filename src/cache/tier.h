/*
 * The bucket as the cache's second tier: what it holds is looked for before upstream is asked, and
 * what upstream sends is brought there in the background (upload.h). Private to cache/.
 *
 * Nothing waits for the bucket longer than its patience, unless upstream has failed: then a late
 * answer is better than none. A bucket that is down, forbidden or not there counts as empty. What
 * it sends is believed only with the right digest. A link says that a repository of an upstream
 * holds a digest, as the store's links do; it is written only by a tarn to which upstream has said
 * so.
 *
 * Threads: any. The functions that ask the bucket block.
 */
#ifndef CACHE_TIER_H
#define CACHE_TIER_H

#include "base/buffer.h"
#include "bucket/bucket.h"
#include "cache/flight/flight.h"
#include "cache/upload.h"
#include "store/records.h"

struct tier {
    struct bucket *bucket;
    struct store *store;
    struct flights *table;
    int64_t mark_period_s;       /* 0: uses are not marked */
    struct uploads *uploads;     /* NULL: nothing is written, */
    struct fill *fill;           /* and this is NULL, too */
    struct flights_tier flights; /* what the flights know of the tier */
};

/* NULL: no memory. `bucket` and `store` outlive the tier. */
struct tier *tier_new(struct bucket *bucket, struct store *store);
/* Before any other call: the flights that were made with tier->flights. */
void tier_set_flights(struct tier *tier, struct flights *table);
/* Begins to upload. */
void tier_start(struct tier *tier);
/* Ends the uploads, as uploads_end(). Called before the flights are freed; NULL is allowed. */
bool tier_end(struct tier *tier, int64_t until_ms);
void tier_free(struct tier *tier); /* after the flights were freed; NULL is allowed */

/* ---- reading ---- */

/* How long the bucket is waited for, and whether it has answered. For one or several calls. */
struct tier_visit {
    struct cancel cancel;
    int64_t within_ms; /* for each answer, if that is more than the patience */
    bool is_last;      /* upstream gives nothing: an answer may take longer than the patience, and a
                          bucket that counts as down is asked all the same */
    bool doubts;       /* a link proves something only if `is_last`: upstream is to confirm links */
    bool unanswered;   /* set: the bucket has not answered, so that it may know after all */
};

/* Upstream has failed with `why`: whether it is of use to ask the bucket again, which *visit then
 * does, because it has not answered, or its links were in doubt. Upstream's own word (404, or a
 * refusal) is final. */
bool tier_visit_again(struct tier_visit *visit, const struct error *why);

/* Whether the repository has a link to the digest in the bucket. `media_type` (of at least 128
 * bytes, may be NULL) is that of a manifest, "" if the link does not say. */
bool tier_has_link(struct tier *tier, const struct repository_name *name, enum link_kind kind,
                   const struct digest *digest, char *media_type, struct tier_visit *visit);

/* Whether the bucket has the blob, and its size. */
bool tier_has_blob(struct tier *tier, const struct digest *digest, uint64_t *size,
                   struct tier_visit *visit);

/* Reads a manifest whole, and checks its digest. *found_s: the time of the object, by our own
 * clock; 0: not known. */
bool tier_read(struct tier *tier, const struct digest *digest, struct buffer *out, int64_t *found_s,
               struct tier_visit *visit);

/* What the tag named when a tarn last asked upstream. */
bool tier_read_tag(struct tier *tier, const struct repository_name *name, const char *tag,
                   struct digest *digest, struct tier_visit *visit);

/* Calls `each` for every tag of the repository in the bucket, in the order of their bytes: those
 * that tarns were asked for. False: the bucket does not tell them all, or the error of `each`. */
bool tier_list_tags(struct tier *tier, const struct repository_name *name,
                    bool (*each)(void *context, const char *tag, struct error *error),
                    void *context, struct tier_visit *visit, struct error *error);

/* ---- writing; a tier that is not written to ignores all of it ---- */

/* Upstream has said that the repository holds the blob. */
void tier_note_link(struct tier *tier, const struct repository_name *name,
                    const struct digest *digest);
/* Upstream has sent the manifest; `tag` (may be NULL) names it now. `bytes`: of a manifest that the
 * store could not take; otherwise none. */
void tier_note_manifest(struct tier *tier, const struct repository_name *name,
                        const struct digest *digest, const char *media_type, const char *tag,
                        struct text bytes);

/* Whether the bucket has the blob, as far as is known: nothing is owed to it. NULL: there is no
 * bucket, which has nothing. */
bool tier_is_settled(struct tier *tier, const struct digest *digest);
/* A replica has seen that the bucket has not the blob, which is in the store. NULL is allowed. */
void tier_note_absent(struct tier *tier, const struct repository_name *name,
                      const struct digest *digest);

/* The blob was used. Cheap: memory alone, but once in a while. */
void tier_note_use(struct tier *tier, const struct digest *digest);

#endif
