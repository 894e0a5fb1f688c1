/*
 * The sources of a flight: the repositories through which its blob may be fetched and read, and
 * the place of each. Private to cache/flight/.
 *
 * Part of struct flight. The owner holds the flight's state_lock. A source never moves or goes
 * before its flight does, so that its place can be used without the lock.
 */
#ifndef FLIGHT_SOURCES_H
#define FLIGHT_SOURCES_H

#include "cache/flight/place.h"
#include "cache/flight/spans.h"

enum { FLIGHT_SOURCES = 8 }; /* repositories that a flight remembers */

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
    int64_t contended_ms; /* clock_ms() when it was last asked beside a silent one; 0: never, or
                             another location of it is to be asked now */
};

struct sources {
    struct flight_source at[FLIGHT_SOURCES];
    unsigned count;
    unsigned current; /* index of the source that is asked now */
};

void sources_init(struct sources *sources, const struct repository *repository);
void sources_finish(struct sources *sources);

struct flight_source *sources_current(struct sources *sources);
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
 * `refused`, to the next source. False: there is none; the current source is then asked again from
 * its first location.
 *
 * A later location (a fallback) may hold a part of the blobs, so it refuses for nobody: its refusal
 * counts as a failure, and the first location's failure becomes *error in place of a later one's.
 */
bool sources_next_place(struct sources *sources, bool refused, struct error *error);
/* The first source is the current one again. */
void sources_start_over(struct sources *sources);

#endif
