/*
 * A place from which the bytes of blobs can be fetched. Private to cache/flight/.
 *
 * A flight fetches from a place and does not know of which kind the place is. Three kinds exist: a
 * repository at an upstream (place_upstream.c), the bucket (place_bucket.c), and another replica
 * (place_replica.c). A kind says how a range is fetched, and what an error of such a request means.
 * Which place is asked next is said in sources.h.
 *
 * Threads: several fetchers use one place at the same time.
 */
#ifndef FLIGHT_PLACE_H
#define FLIGHT_PLACE_H

#include <stdatomic.h>
#include "base/lock.h"
#include "cache/flight/flight.h"
#include "client/retry.h"
#include "replica/asker.h"
#include "upstream/upstream.h"

struct place;

/* What a fetcher asks of a place. */
struct place_request {
    const struct digest *digest;
    const struct repository_name *name; /* through which it is asked for */
    enum replica_outcome *outcome;      /* set by a replica alone */
    bool plain;                         /* the whole blob as one stream */
    bool suffix;                        /* the last `end` bytes; otherwise [start, end) */
    uint64_t start, end;                /* `end` UINT64_MAX: to the end of the blob */
    unsigned location;                  /* which of the place's locations is asked */
    bool is_first;           /* no place has answered yet: the kind may try several times */
    bool is_last;            /* no other place is left: this one may take longer than usual */
    int64_t deadline_ms;     /* clock_ms() by which a head must be here; 0: the place's own time */
    const atomic_bool *stop; /* set: the request soon ends with ERROR_CLOSED */
    const atomic_bool *background; /* while set, no client waits for the bytes */
    const atomic_bool *abandoned;  /* of struct upstream_request */
};

/* The head of what a place sends. */
struct place_head {
    bool is_outside; /* the range lies outside of the blob: no byte follows, and fetch() fails */
    bool has_range;  /* [first, last] of the blob follows; false: the blob from its first byte on */
    uint64_t first, last;
    bool has_total;
    uint64_t total;   /* bytes of the blob */
    const char *etag; /* "": none; ends with the call */
    int64_t age_ms;   /* since upstream has confirmed that the repository holds the blob */
};

/* Receives what a place sends, on the thread that called fetch(). A callback that returns false
 * ends the request with the error that it set. */
struct place_sink {
    void *context;
    /* Once, before any byte. */
    bool (*on_head)(void *context, const struct place_head *head, struct error *error);
    bool (*on_bytes)(void *context, const void *bytes, size_t length, struct error *error);
    /* All bytes that have arrived were handed on, and more are not here yet. Not called at the
     * end. */
    bool (*on_idle)(void *context, struct error *error);
    /* The request has its turn and is sent next: makes *start and *end what is still wanted of the
     * range. Not called for a plain or a suffix request. May be NULL. */
    bool (*on_turn)(void *context, uint64_t *start, uint64_t *end, struct error *error);
};

struct place_kind {
    /* Fetches a range, blocking. True: the whole range was handed to the sink. */
    bool (*fetch)(struct place *place, const struct place_request *request,
                  const struct place_sink *sink, struct error *error);
    enum retry_failure (*judge)(const struct error *error);
    /* How many requests at once for one blob the place takes now. */
    unsigned (*allowed)(const struct place *place);
    /* It has refused a further request while `others` were at work. */
    void (*lower)(struct place *place, unsigned others);
    /* Forgets what earlier requests learned about the way to the blob. */
    void (*reset)(struct place *place);
    void (*finish)(struct place *place);
    uint64_t first_span; /* bytes of the first range; 0: the planner's own measure */
    uint64_t most_span;  /* bytes of each further range; 0: the same */
};

/* A repository at an upstream, as place_upstream.c knows it. */
struct place_upstream {
    const struct repository *repository;
    struct lock target_lock;
    struct upstream_target target GUARDED_BY(target_lock);
};

/* The bucket, as place_bucket.c knows it. */
struct place_bucket {
    const struct flights_tier *tier;
    _Atomic int64_t found_s; /* the time of the object, by our own clock; 0: not known */
};

/* Another replica and what it is asked, as place_replica.c knows it. */
struct place_replica {
    struct replica_asker *asker;
    struct member member;
    enum replica_ask ask;
    unsigned connections;    /* requests at once */
    atomic_bool is_left;     /* it is not asked any more: requests under way end soon */
    bool has_head, has_sent; /* a head of it was accepted; bytes of it are here. Guarded by the
                                flight's state_lock */
};

struct place {
    const struct place_kind *kind;
    char label[HOST_LIMIT + 16]; /* for messages: "upstream docker.io" */
    int64_t first_byte_ms;       /* how long a first answer may take, of all locations together */
    bool fills;                  /* after a range, the rest of the blob is fetched as well */
    unsigned locations;          /* addresses that have the same bytes */
    atomic_uint location;        /* the one that is asked now; changed with the flight's state_lock
                                    held */
    struct place_upstream upstream;
    struct place_bucket bucket;
    struct place_replica replica;
};

/* `repository` outlives the place. */
void place_init_upstream(struct place *place, const struct repository *repository);
/* `tier` outlives the place. */
void place_init_bucket(struct place *place, const struct flights_tier *tier);
/* `asker` outlives the place. `repository`: of the upstream whose settings count. */
void place_init_replica(struct place *place, struct replica_asker *asker,
                        const struct member *member, enum replica_ask ask,
                        const struct repository *repository);
bool place_is_replica(const struct place *place);
void place_finish(struct place *place);

/* For kinds with upstreams behind them: what such a place does not take is no fault of ours,
 * because another one may do better; it is left when it refuses; and nothing is learned about the
 * way to it. */
enum retry_failure place_judge_leniently(const struct error *error);
void place_lower_never(struct place *place, unsigned others);
void place_keeps_nothing(struct place *place);

/* From now on requests go to this location, and nothing is known about the way there. */
void place_move(struct place *place, unsigned location);

#endif
