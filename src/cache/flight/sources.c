/* The sources of a flight: which repositories it may fetch through, and which place comes next. */
#include "cache/flight/sources.h"

#include "base/clock.h"

static struct flight_source *append(struct sources *sources, const struct repository *repository,
                                    enum source_state state) {
    struct flight_source *source = &sources->at[sources->count++];
    source->repository = *repository;
    upstream_keep(repository->upstream);
    source->state = state;
    source->since_ms = clock_ms();
    place_init_upstream(&source->place, &source->repository);
    return source;
}

void sources_init(struct sources *sources, const struct repository *repository,
                  const struct flights_tier *tier, const struct course_start *course) {
    *sources = (struct sources){0};
    append(sources, repository, SOURCE_ASKED);
    course_init(&sources->course, course);
    sources->has_bucket = tier != NULL;
    if (tier)
        place_init_bucket(&sources->bucket, tier);
}

void sources_begin(struct sources *sources) {
    course_begin(&sources->course, &sources_current(sources)->repository);
}

void sources_finish(struct sources *sources) {
    course_finish(&sources->course);
    if (sources->has_bucket)
        place_finish(&sources->bucket);
    for (unsigned i = 0; i < sources->count; i++)
        place_finish(&sources->at[i].place);
    for (unsigned i = 0; i < sources->count; i++)
        upstream_release(sources->at[i].repository.upstream);
}

struct flight_source *sources_current(struct sources *sources) {
    return &sources->at[sources->current];
}

struct place *sources_place(struct sources *sources) {
    if (sources_ask_bucket(sources))
        return &sources->bucket;
    return course_asks_replica(&sources->course) ? sources->course.place
                                                 : &sources_current(sources)->place;
}

bool sources_are_asked(const struct sources *sources) {
    return sources->course.stage == COURSE_SOURCES && !sources->is_last_stop;
}

bool sources_ask_bucket(const struct sources *sources) {
    return sources->course.stage == COURSE_BUCKET || sources->is_last_stop;
}

void sources_find_in_bucket(struct sources *sources) {
    sources->in_bucket = true;
    for (unsigned i = 0; i < sources->count; i++)
        sources_give_up(&sources->at[i], NULL);
}

void sources_leave_bucket(struct sources *sources, bool may_return) {
    sources->is_last_stop = false;
    sources->may_return = may_return;
    if (sources->course.stage == COURSE_BUCKET)
        course_next(&sources->course, REPLICA_REFUSED, &sources_current(sources)->repository);
}

void sources_leave_replica(struct sources *sources, enum replica_outcome outcome) {
    course_next(&sources->course, outcome, &sources_current(sources)->repository);
}

bool sources_change_over(struct sources *sources, enum replica_ask ask) {
    return course_change_over(&sources->course, ask);
}

bool sources_take_final(struct sources *sources, const struct error *error) {
    struct flight_source *source = sources_current(sources);
    const bool is_last = sources->current + 1 == sources->count;
    const bool refused = error->kind == ERROR_NOT_FOUND || error->kind == ERROR_DENIED;
    if (source->state == SOURCE_ASKED && (refused || !is_last)) {
        source->state = refused ? SOURCE_REFUSED : SOURCE_FAILED;
        source->refusal = *error;
    }
    if (is_last)
        return false;
    sources->current++;
    course_start_over(&sources->course, &sources_current(sources)->repository);
    return true;
}

struct flight_source *sources_find(struct sources *sources, const struct repository *repository) {
    for (unsigned i = 0; i < sources->count; i++) {
        if (repository_name_equal(&sources->at[i].repository.name, &repository->name))
            return &sources->at[i];
    }
    return NULL;
}

void sources_add(struct sources *sources, const struct repository *repository) {
    struct flight_source *known = sources_find(sources, repository);
    if (known)
        known->state = SOURCE_ANSWERED;
    else if (sources->count < FLIGHT_SOURCES)
        append(sources, repository, SOURCE_ANSWERED);
}

struct flight_source *sources_contender(struct sources *sources, const struct spans *spans,
                                        int64_t silent_ms) {
    for (unsigned i = 0; i < sources->count; i++) {
        struct flight_source *source = &sources->at[i];
        if (i != sources->current && source->state == SOURCE_ANSWERED &&
            source->contended_ms <= silent_ms && !spans_ask(spans, i, true))
            return source;
    }
    return NULL;
}

void sources_turn_to(struct sources *sources, const struct spans *spans, unsigned source) {
    sources->current = source;
    for (unsigned i = 0; i < sources->count; i++) {
        struct flight_source *other = &sources->at[i];
        /* A request that is under way asks one location. Another may know the blob. */
        if (i != source && (other->place.locations > 1 || !spans_ask(spans, i, false)))
            sources_give_up(other, NULL);
    }
}

void sources_give_up(struct flight_source *source, const struct error *error) {
    if (source->state != SOURCE_ASKED)
        return;
    source->state = error ? SOURCE_FAILED : SOURCE_LEFT;
    if (error)
        source->refusal = *error;
}

void sources_pass_over(struct flight_source *source, bool refused) {
    unsigned next = atomic_load(&source->place.location) + 1;
    const bool has_next = next < source->place.locations && !(refused && next == 1);
    place_move(&source->place, has_next ? next : 0);
    if (has_next)
        source->contended_ms = 0;
}

/* All sources have failed: the bucket is asked once more, if it may know better. */
static bool return_to_bucket(struct sources *sources, const struct error *error) {
    if (!sources->may_return)
        return false;
    sources->is_last_stop = true;
    sources->failure = *error;
    return true;
}

bool sources_next_place(struct sources *sources, bool refused, struct error *error) {
    if (sources->is_last_stop) {
        sources_leave_bucket(sources, true);
        *error = sources->failure;
        return false;
    }
    struct flight_source *source = sources_current(sources);
    unsigned location = atomic_load(&source->place.location), next = location + 1;
    if (location == 0)
        source->failure = *error;
    refused = refused && location == 0;
    if (!refused && next < source->place.locations) {
        place_move(&source->place, next);
        return true;
    }
    if (refused && source->state == SOURCE_ASKED) {
        source->state = SOURCE_REFUSED;
        source->refusal = *error;
    }
    if (location > 0)
        *error = source->failure;
    place_move(&source->place, 0);
    if (sources->current + 1 == sources->count)
        return !refused && return_to_bucket(sources, error);
    sources_give_up(source, error);
    sources->current++;
    return true;
}

void sources_start_over(struct sources *sources) {
    sources->current = 0;
}
