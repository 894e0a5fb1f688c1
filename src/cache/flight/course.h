/*
 * The course of a flight: which kind of place is asked next, and which replica. Private to
 * cache/flight/.
 *
 *   stage            asks                                     then, if it gives nothing
 *   ---------------  ---------------------------------------  -------------------------
 *   COURSE_OWNER     the blob's owner: is it arriving there?  the bucket
 *   COURSE_BUCKET    the bucket                               former owners
 *   COURSE_FORMER    former owners: is it arriving there?     the owner, to fetch it
 *   COURSE_FETCH     the owner to fetch it, then the next     upstream
 *   COURSE_SOURCES   the flight's sources (sources.h)
 *
 * Without a bucket or without replicas, their stages are left out. The owner itself begins with the
 * bucket and goes from former owners to upstream. A flight never goes back.
 *
 * A flight for which a replica has asked asks no replica, so that nobody ever waits in a circle,
 * whatever each believes about the list: if it follows one, it changes over to the bucket or to
 * upstream. A member that does not help is left for the next of the ranking; after three of them
 * the flight turns to upstream.
 *
 * Part of struct flight. The owner holds the flight's state_lock. A place never moves or goes
 * before its flight does, so that it can be used without the lock.
 */
#ifndef FLIGHT_COURSE_H
#define FLIGHT_COURSE_H

#include "cache/flight/place.h"

enum {
    COURSE_MEMBERS = 3,  /* that did not help, before the flight turns to upstream */
    COURSE_DISTRUST = 8, /* members that sent wrong bytes of the blob */
};

enum course_stage { COURSE_OWNER, COURSE_BUCKET, COURSE_FORMER, COURSE_FETCH, COURSE_SOURCES };

struct course_place; /* a place with the next one */

struct course {
    enum course_stage stage;
    struct replica_asker *asker; /* NULL: there are no replicas */
    char key[DIGEST_STRING_SIZE];
    bool has_bucket;
    bool for_replica;    /* a replica has asked for the blob */
    bool bucket_absent;  /* the bucket has said that it has not the blob, here or to who asks */
    struct place *place; /* the replica that is asked now */
    struct course_place *places; /* owned: all so far, the newest first */
    struct member tried[COURSE_MEMBERS];
    unsigned tried_count;
    struct member distrusted[COURSE_DISTRUST];
    unsigned distrusted_count;
    struct member former[FORMER_OWNERS];
    unsigned former_count, former_next;
};

/* What a new course needs to know. */
struct course_start {
    struct replica_asker *asker; /* NULL: there are no replicas */
    bool has_bucket;
    enum replica_ask ask; /* of who wants the blob */
    const struct digest *digest;
};

void course_init(struct course *course, const struct course_start *start);
void course_finish(struct course *course);

/* The member is not asked. Before course_begin(). */
void course_distrust(struct course *course, const struct member *member);
/* Chooses the first place. `repository`: of the first source. */
void course_begin(struct course *course, const struct repository *repository);

/* Whether a replica is asked now. */
bool course_asks_replica(const struct course *course);

/* The current place gives nothing (more): goes on to the next one. `outcome`: of the replica that
 * was asked; REPLICA_REFUSED for the bucket. */
void course_next(struct course *course, enum replica_outcome outcome,
                 const struct repository *repository);
/* The owners are asked anew to fetch, for another repository. */
void course_start_over(struct course *course, const struct repository *repository);

/* A replica asks for the blob. True: the flight asked a replica and does not any more. */
bool course_change_over(struct course *course, enum replica_ask ask);

/* All members of which bytes are here. Returns how many. */
unsigned course_senders(const struct course *course, struct member out[static COURSE_DISTRUST]);

#endif
