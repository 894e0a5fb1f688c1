/*
 * The sources of a flight: the repositories through which its blob may be fetched and read, and
 * the place of each; and the bucket and the other replicas, from which the blob may be fetched for
 * them. Private to cache/flight/.
 *
 * The course of a flight (course.h) says whether replicas, the bucket or the sources are asked now.
 * What replicas and the bucket do not have, do not give in time, or give wrong comes from the
 * sources, one after the other, each from its first location on. The bucket's answer says nothing
 * about who may read the blob: the repositories that were not asked are SOURCE_LEFT then. A
 * replica's answer is one to the repository through which it was asked, as an upstream's is.
 * When all sources have failed, a flight comes back to a bucket that was only too slow or failing:
 * late bytes are better than none. The bucket is then waited for as a source is.
 *
 * Part of struct flight. The owner holds the flight's state_lock. A source never moves or goes
 * before its flight does, so that its place can be used without the lock.
 */
#ifndef FLIGHT_SOURCES_H
#define FLIGHT_SOURCES_H

#include "cache/flight/course.h"
#include "cache/flight/spans.h"

enum { FLIGHT_SOURCES = FLIGHT_REPOSITORIES };

enum source_state {
    SOURCE_ASKED,    /* the repository has not answered yet */
    SOURCE_ANSWERED, /* it holds the blob: a client of the repository may read the blob */
    SOURCE_REFUSED,  /* it does not, or does not give it to us: `refusal` */
    SOURCE_FAILED,   /* it has not answered, and is not waited for any more: `refusal` */
    SOURCE_LEFT      /* as SOURCE_FAILED, but it was not asked to the end, because another source
                        brings the bytes: its clients have to ask it themselves */
};

struct flight_source {
    struct repository repository;
    struct place place;
    enum source_state state;
    struct error refusal;
    struct error failure; /* of the place's first location, while a later one is asked */
    int64_t since_ms;     /* clock_ms() when the flight learned of it */
    int64_t link_age_ms;  /* SOURCE_ANSWERED by a replica: since upstream itself has said so */
    int64_t contended_ms; /* clock_ms() when it was last asked beside a silent one; 0: never, or
                             another location of it is to be asked now */
};

struct sources {
    struct flight_source at[FLIGHT_SOURCES];
    unsigned count;
    unsigned current; /* index of the source that is asked now */
    struct course course;
    struct place bucket;
    bool has_bucket;   /* `bucket` is initialised */
    bool is_last_stop; /* the bucket is asked because all sources have failed, with `failure` */
    bool may_return;   /* the bucket was left because it was slow or failed */
    struct error failure;
    bool in_bucket;    /* the bucket has sent a head that was accepted */
    bool bucket_sent;  /* bytes of the bucket are here */
    bool bucket_wrong; /* what the bucket has is wrong */
    bool wrong_known;  /* that was recorded */
    bool is_final;     /* a replica has told upstream's own word, which the flight failed with */
};

/* `tier` NULL: there is no bucket. sources_begin() follows. */
void sources_init(struct sources *sources, const struct repository *repository,
                  const struct flights_tier *tier, const struct course_start *course);
/* Chooses the first place. */
void sources_begin(struct sources *sources);
void sources_finish(struct sources *sources);

struct flight_source *sources_current(struct sources *sources);
/* The place that is asked now: the bucket, a replica, or the current source's. */
struct place *sources_place(struct sources *sources);
/* Whether it is the current source's. */
bool sources_are_asked(const struct sources *sources);
bool sources_ask_bucket(const struct sources *sources);
/* The bucket has the blob. No source is asked meanwhile. */
void sources_find_in_bucket(struct sources *sources);
/* The bucket is not asked any more. `may_return`: unless all sources fail. */
void sources_leave_bucket(struct sources *sources, bool may_return);
/* The replica that is asked now is not asked any more; `outcome` says what it gave. */
void sources_leave_replica(struct sources *sources, enum replica_outcome outcome);
/* A replica asks for the blob. True: the flight asked a replica and does not any more: its spans
 * are to be given up. */
bool sources_change_over(struct sources *sources, enum replica_ask ask);
/* Upstream's own word came through a replica: the next source is asked. False: there is none, and
 * the flight ends with the error. A source that has failed is then still SOURCE_ASKED: whoever
 * comes to it late gets the error of the flight, and does not ask once more. */
bool sources_take_final(struct sources *sources, const struct error *error);
/* NULL: the flight does not know the repository. */
struct flight_source *sources_find(struct sources *sources, const struct repository *repository);
/* The source that may be asked beside the current one, which has been silent since `silent_ms`
 * (clock_ms()): a repository that is known to hold the blob, has not contended since then, and does
 * not contend now. NULL: none. */
struct flight_source *sources_contender(struct sources *sources, const struct spans *spans,
                                        int64_t silent_ms);
/* The source is the current one from now on. The others are given up, but for those whose answer
 * will come from a request that is under way. */
void sources_turn_to(struct sources *sources, const struct spans *spans, unsigned source);
/* No request to the source will follow soon: who waits for its answer gets the error; NULL: has to
 * ask the source. */
void sources_give_up(struct flight_source *source, const struct error *error);
/* A request to the source beside a silent one failed: if it was not `refused`, the source's next
 * location may contend at once. */
void sources_pass_over(struct flight_source *source, bool refused);
/* The repository holds the blob. It is not remembered if there are too many. */
void sources_add(struct sources *sources, const struct repository *repository);

/*
 * The current place failed with `error`: goes on to its next location; or, if it has none or
 * `refused`, to the next source; or, after the last source unless it has refused, back to the
 * bucket. False: there is none; the current source is then asked again from its first location, and
 * after the bucket's last stop *error becomes the failure of the sources.
 *
 * A later location (a fallback) may hold a part of the blobs, so it refuses for nobody: its refusal
 * counts as a failure, and the first location's failure becomes *error in place of a later one's.
 */
bool sources_next_place(struct sources *sources, bool refused, struct error *error);
/* The first source is the current one again. */
void sources_start_over(struct sources *sources);

#endif
