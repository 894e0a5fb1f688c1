/* Which kind of place a flight asks next, and which replica. */
#include "cache/flight/course.h"

#include <stdlib.h>
#include "base/clock.h"

struct course_place {
    struct place place;
    struct course_place *next;
};

void course_init(struct course *course, const struct course_start *start) {
    *course = (struct course){
        .stage = COURSE_SOURCES,
        .asker = start->asker,
        .has_bucket = start->has_bucket && start->ask != REPLICA_ASK_FETCH_ABSENT,
        .for_replica = start->ask != REPLICA_ASK_NONE,
        .bucket_absent = start->ask == REPLICA_ASK_FETCH_ABSENT,
    };
    digest_format(start->digest, course->key);
}

void course_finish(struct course *course) {
    for (struct course_place *place = course->places, *next; place; place = next) {
        next = place->next;
        place_finish(&place->place);
        free(place);
    }
    course->places = NULL;
}

void course_distrust(struct course *course, const struct member *member) {
    if (course->distrusted_count < COURSE_DISTRUST)
        course->distrusted[course->distrusted_count++] = *member;
}

bool course_asks_replica(const struct course *course) {
    return course->stage == COURSE_OWNER || course->stage == COURSE_FORMER ||
           course->stage == COURSE_FETCH;
}

/* ---- whom to ask ---- */

static bool is_in(const struct member *list, unsigned count, const struct member *member) {
    for (unsigned i = 0; i < count; i++) {
        if (member_equal(&list[i], member))
            return true;
    }
    return false;
}

static bool is_passed_over(const struct course *course, const struct member *member) {
    return is_in(course->tried, course->tried_count, member) ||
           is_in(course->distrusted, course->distrusted_count, member);
}

static bool may_ask(const struct course *course) {
    return course->asker && !course->for_replica && course->tried_count < COURSE_MEMBERS;
}

/* The first of the ranking that may help. False: it is this replica itself, or there is none. */
static bool find_owner(const struct course *course, struct member *out) {
    struct members *members = replica_asker_members(course->asker);
    struct members_owner owner;
    for (unsigned skipped = 0; skipped < MEMBERS_LIMIT; skipped++) {
        members_owner(members, course->key, skipped, clock_ms(), &owner);
        if (owner.is_nobody || owner.is_self)
            return false;
        *out = owner.member;
        if (!is_passed_over(course, out))
            return true;
    }
    return false;
}

static bool find_former(struct course *course, struct member *out) {
    while (course->former_next < course->former_count) {
        *out = course->former[course->former_next++];
        if (!is_passed_over(course, out) && !replica_asker_is_gone(course->asker, out))
            return true;
    }
    return false;
}

/* Makes the member the place that is asked. False: out of memory. */
static bool turn_to(struct course *course, const struct member *member, enum replica_ask ask,
                    const struct repository *repository) {
    struct course_place *place = calloc(1, sizeof *place);
    if (!place)
        return false;
    place_init_replica(&place->place, course->asker, member, ask, repository);
    place->next = course->places;
    course->places = place;
    course->place = &place->place;
    return true;
}

/* ---- the stages ---- */

/* Whether the stage has somebody to ask, who is then the place. */
static bool enter(struct course *course, enum course_stage stage,
                  const struct repository *repository) {
    struct member member;
    switch (stage) {
    case COURSE_OWNER:
        return may_ask(course) && find_owner(course, &member) &&
               turn_to(course, &member, REPLICA_ASK_ARRIVING, repository);
    case COURSE_BUCKET:
        return course->has_bucket;
    case COURSE_FORMER:
        return may_ask(course) && find_former(course, &member) &&
               turn_to(course, &member, REPLICA_ASK_ARRIVING, repository);
    case COURSE_FETCH:
        return may_ask(course) && find_owner(course, &member) &&
               turn_to(course, &member,
                       course->bucket_absent ? REPLICA_ASK_FETCH_ABSENT : REPLICA_ASK_FETCH,
                       repository);
    case COURSE_SOURCES:
        break;
    }
    return true;
}

/* Goes to the first stage from this one on that has somebody to ask. */
static void go_to(struct course *course, enum course_stage stage,
                  const struct repository *repository) {
    if (course->place)
        atomic_store(&course->place->replica.is_left, true);
    course->place = NULL;
    while (!enter(course, stage, repository))
        stage++;
    course->stage = stage;
}

void course_begin(struct course *course, const struct repository *repository) {
    if (course->asker && !course->for_replica)
        course->former_count = (unsigned)members_former(replica_asker_members(course->asker),
                                                        course->key, clock_ms(), course->former);
    go_to(course, COURSE_OWNER, repository);
}

void course_next(struct course *course, enum replica_outcome outcome,
                 const struct repository *repository) {
    enum course_stage stage = course->stage;
    if (!course_asks_replica(course)) {
        go_to(course, stage == COURSE_SOURCES ? stage : stage + 1, repository);
        return;
    }
    const bool said_no = outcome == REPLICA_SAID_NO && stage != COURSE_FETCH;
    if (!said_no && course->tried_count < COURSE_MEMBERS)
        course->tried[course->tried_count++] = course->place->replica.member;
    if (course->place->replica.has_head)
        stage = COURSE_FETCH; /* it was arriving there: the others know of nothing better */
    else if (said_no && stage == COURSE_OWNER)
        stage = COURSE_BUCKET;
    else if (stage == COURSE_OWNER && outcome != REPLICA_DOWN)
        stage = COURSE_BUCKET;
    go_to(course, stage, repository);
}

void course_start_over(struct course *course, const struct repository *repository) {
    course->tried_count = 0;
    go_to(course, COURSE_FETCH, repository);
}

bool course_change_over(struct course *course, enum replica_ask ask) {
    const bool asked = course_asks_replica(course);
    const bool before_bucket = course->stage == COURSE_OWNER;
    course->for_replica = true;
    if (!asked)
        return false;
    course->has_bucket = course->has_bucket && before_bucket && ask != REPLICA_ASK_FETCH_ABSENT;
    go_to(course, course->has_bucket ? COURSE_BUCKET : COURSE_SOURCES, NULL);
    return true;
}

unsigned course_senders(const struct course *course, struct member out[static COURSE_DISTRUST]) {
    unsigned count = 0;
    for (const struct course_place *place = course->places; place; place = place->next) {
        const struct place_replica *replica = &place->place.replica;
        if (replica->has_sent && count < COURSE_DISTRUST && !is_in(out, count, &replica->member))
            out[count++] = replica->member;
    }
    return count;
}
