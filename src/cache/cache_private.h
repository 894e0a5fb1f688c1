/*
 * Documents in memory, and questions to upstream about them. Inside the room.
 *
 * A slot is what is known under one key: a document with the time until which it is fresh, or a
 * real 404 with the time until which it is believed. Slots are bounded by bytes and go by last use.
 *
 * A question is one inquiry of upstream under way. Whoever needs its answer joins it; it runs on a
 * thread of its own, so that a client that holds something stale need not wait for its end.
 */
#ifndef CACHE_CACHE_PRIVATE_H
#define CACHE_CACHE_PRIVATE_H

#include <pthread.h>
#include <uthash.h>
#include "base/metric.h"
#include "cache/cache.h"
#include "cache/flight/flight.h"
#include "retention/pins.h"
#include "retention/space.h"

enum question_kind {
    QUESTION_MANIFEST,      /* the manifest itself */
    QUESTION_MANIFEST_HEAD, /* its digest, type and size */
    QUESTION_BLOB_HEAD,     /* whether this repository has the blob, and its size */
    QUESTION_TAGS,
    QUESTION_REFERRERS
};

enum { KEY_SIZE = HOST_LIMIT + NAME_LIMIT + DIGEST_STRING_SIZE + 16 };

struct question {
    UT_hash_handle hh;
    char key[KEY_SIZE];
    struct cache *cache;
    enum question_kind kind;
    struct upstream *upstream;
    char repository[NAME_LIMIT + 1];
    struct reference reference; /* of a manifest; a blob's or subject's digest */
    struct document *held;      /* what may turn out to be still so; owned; may be NULL */
    int64_t started_ms;

    /* Guarded by the cache's questions_lock: */
    unsigned references;
    bool done;
    bool still;                /* upstream confirmed `held` */
    struct document *document; /* the answer, owned; NULL when it failed */
    struct error error;
};

struct slot;

struct cache {
    struct store *store;
    struct upkeep *upkeep;
    struct flights *flights;
    size_t document_memory;
    int64_t negative_ttl_ms, stale_after_ms;
    struct metric *pulled_bytes;

    pthread_mutex_t slots_lock;  /* guards slots, recent, used */
    struct slot *slots, *recent; /* recent: most recently used first */
    size_t used;

    pthread_mutex_t questions_lock; /* guards questions and the guarded part of each */
    pthread_cond_t answered;
    struct question *questions;
    atomic_bool stopping;
};

/* ---- documents ---- */

/* With `length` bytes of room (uninitialised) if has_bytes. One reference. NULL: no memory. */
struct document *document_new(const struct digest *digest, const char *media_type, uint64_t length,
                              bool has_bytes);
struct document *document_keep(struct document *document); /* one more reference; gives it back */

/* ---- slots ---- */

enum slot_state {
    SLOT_EMPTY, /* nothing known */
    SLOT_FRESH, /* *document is set */
    SLOT_STALE, /* *document is set */
    SLOT_ABSENT /* *error is set: upstream's own 404 */
};
enum slot_state slot_get(struct cache *cache, const char *key, struct document **document,
                         struct error *error);
/* `fresh_ms` from now; INT64_MAX: for ever. Takes a reference of its own. */
void slot_put(struct cache *cache, const char *key, struct document *document, int64_t fresh_ms);
void slot_put_absent(struct cache *cache, const char *key, const struct error *error,
                     int64_t ttl_ms);
void slots_free(struct cache *cache);

/* ---- questions ---- */

/*
 * Asks, or joins who asks the same already (*joined). `held` may be NULL; when it is not, waiting
 * ends stale_after_ms after the question began, with ERROR_TIMEOUT. On success *document is the
 * caller's and *still says whether it is `held` confirmed.
 */
bool question_ask(struct cache *cache, const char *key, enum question_kind kind,
                  struct upstream *upstream, const char *repository,
                  const struct reference *reference, struct document *held,
                  struct document **document, bool *still, bool *joined, struct error *error);

/* The answers, one function a kind; on the question's own thread. True: question->document is set
 * (and `still`). */
bool answer_manifest(struct question *question, struct error *error);
bool answer_manifest_head(struct question *question, struct error *error);
bool answer_blob_head(struct question *question, struct error *error);
bool answer_tags(struct question *question, struct error *error);
bool answer_referrers(struct question *question, struct error *error);

/* The key under which the room knows something: "HOST/REPOSITORY WHAT REFERENCE". */
void lookup_key(char key[static KEY_SIZE], const struct upstream *upstream, const char *repository,
                const char *what, const struct reference *reference);

/* How long upstream's answer about a tag stays fresh. */
int64_t lookup_tag_ttl(const struct upstream *upstream);

/* One request whose body comes back whole, at most `limit` bytes; *head is upstream's final head.
 * When the place at request->location fails, the next is asked, and request->location says which
 * answered last. */
bool lookup_get(struct cache *cache, struct upstream *upstream, struct upstream_request *request,
                size_t limit, struct upstream_head *head, struct buffer *body, struct error *error);

/* A digest as a reference, for keys and requests. */
struct reference lookup_reference(const struct digest *digest);

#endif
