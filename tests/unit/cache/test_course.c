/* The course of a flight: whom it asks, in which order, and that it never asks in a circle. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/clock.h"
#include "cache/flight/course.h"
#include "client/client.h"
#include "fake_upstream.h"

enum { MEMBERS = 5 };

/* Some members, in the ranking of one digest, and an asker of them that sends nothing. */
struct world {
    struct client *client;
    struct members *members;
    struct replica_asker *asker;
    struct digest digest;
    char key[DIGEST_STRING_SIZE];
    struct member ranked[MEMBERS];
    struct upstream upstream;
    const struct repository *repository;
};

static bool sign(void *context, const struct signed_request *request,
                 char input[static SIGNATURE_INPUT_SIZE], char signature[static SIGNATURE_SIZE]) {
    (void)context, (void)request;
    input[0] = signature[0] = '\0';
    return true;
}

/* `self`: this replica's place in the ranking; -1: it is a guest. */
static void begin(struct world *world, int self, int64_t now_ms) {
    struct member_list list = {0};
    struct ranking ranking;
    struct members_change change;
    *world = (struct world){.upstream = {.host = "fake.test"}};
    world->upstream.settings.connections = 4;
    world->upstream.settings.first_byte_timeout_ms = 5000;
    world->repository = fake_repository(&world->upstream, "app");
    assert_true(digest_of(DIGEST_SHA256, "blob", 4, &world->digest));
    digest_format(&world->digest, world->key);
    for (int i = 0; i < MEMBERS; i++) {
        struct member member;
        char text[24];
        snprintf(text, sizeof text, "10.0.0.%d:5000", i + 1);
        assert_true(member_parse(text_of(text), 0, &member));
        assert_true(member_list_add(&list, &member));
    }
    ranking_of(&list, world->key, &ranking);
    for (int i = 0; i < MEMBERS; i++)
        world->ranked[i] = list.each[ranking.places[i]];
    world->members = members_new(now_ms);
    members_set(world->members, &list, self < 0 ? NULL : &world->ranked[self], now_ms, &change);
    world->client = client_new();
    const struct replica_asker_settings settings = {
        .client = world->client, .members = world->members, .sign = sign};
    world->asker = replica_asker_new(&settings, NULL);
    assert_non_null(world->asker);
}

static void end(struct world *world) {
    replica_asker_free(world->asker);
    members_free(world->members);
    client_free(world->client);
}

/* Long ago, so that no change was made lately. */
static int64_t long_ago(void) {
    return clock_ms() - FORMER_MS - 1;
}

static void start(struct world *world, struct course *course, bool has_bucket,
                  enum replica_ask ask) {
    const struct course_start how = {
        .asker = world->asker, .has_bucket = has_bucket, .ask = ask, .digest = &world->digest};
    course_init(course, &how);
    course_begin(course, world->repository);
}

static void assert_asks(const struct course *course, enum course_stage stage,
                        const struct member *member, enum replica_ask ask) {
    assert_int_equal(course->stage, stage);
    assert_true(course_asks_replica(course));
    assert_string_equal(course->place->replica.member.text, member->text);
    assert_int_equal(course->place->replica.ask, ask);
}

static void test_owner_bucket_owner_again_and_two_more_are_asked_before_upstream(void **state) {
    (void)state;
    struct world world;
    struct course course;
    begin(&world, 4, long_ago());
    start(&world, &course, true, REPLICA_ASK_NONE);
    assert_asks(&course, COURSE_OWNER, &world.ranked[0], REPLICA_ASK_ARRIVING);
    course_next(&course, REPLICA_SAID_NO, world.repository);
    assert_int_equal(course.stage, COURSE_BUCKET);
    course.bucket_absent = true;
    course_next(&course, REPLICA_REFUSED, world.repository);
    for (int i = 0; i < 3; i++) {
        assert_asks(&course, COURSE_FETCH, &world.ranked[i], REPLICA_ASK_FETCH_ABSENT);
        course_next(&course, REPLICA_REFUSED, world.repository);
    }
    assert_int_equal(course.stage, COURSE_SOURCES);
    course_finish(&course);
    end(&world);
}

static void test_former_owners_are_asked_after_a_change_before_anybody_fetches(void **state) {
    (void)state;
    struct world world;
    struct course course;
    begin(&world, 4, clock_ms());
    start(&world, &course, false, REPLICA_ASK_NONE);
    assert_asks(&course, COURSE_OWNER, &world.ranked[0], REPLICA_ASK_ARRIVING);
    course_next(&course, REPLICA_SAID_NO, world.repository);
    assert_asks(&course, COURSE_FORMER, &world.ranked[1], REPLICA_ASK_ARRIVING);
    course_next(&course, REPLICA_SAID_NO, world.repository);
    assert_asks(&course, COURSE_FETCH, &world.ranked[0], REPLICA_ASK_FETCH);
    course_finish(&course);
    end(&world);
}

static void test_the_owner_itself_asks_former_owners_and_then_upstream(void **state) {
    (void)state;
    struct world world;
    struct course course;
    begin(&world, 0, clock_ms());
    start(&world, &course, true, REPLICA_ASK_NONE);
    assert_int_equal(course.stage, COURSE_BUCKET);
    course_next(&course, REPLICA_REFUSED, world.repository);
    assert_asks(&course, COURSE_FORMER, &world.ranked[1], REPLICA_ASK_ARRIVING);
    course_next(&course, REPLICA_SAID_NO, world.repository);
    assert_int_equal(course.stage, COURSE_SOURCES);
    course_finish(&course);
    end(&world);
}

static void test_a_guest_asks_owners_and_owns_nothing(void **state) {
    (void)state;
    struct world world;
    struct course course;
    begin(&world, -1, long_ago());
    start(&world, &course, false, REPLICA_ASK_NONE);
    assert_asks(&course, COURSE_OWNER, &world.ranked[0], REPLICA_ASK_ARRIVING);
    course_next(&course, REPLICA_SAID_NO, world.repository);
    assert_asks(&course, COURSE_FETCH, &world.ranked[0], REPLICA_ASK_FETCH);
    course_finish(&course);
    end(&world);
}

static void test_a_dead_owner_is_followed_by_the_next_owner_until_that_is_this_one(void **state) {
    (void)state;
    struct world world;
    struct course course;
    begin(&world, 1, long_ago());
    start(&world, &course, false, REPLICA_ASK_NONE);
    course.place->replica.has_head = true; /* the blob was arriving there */
    members_note_fault(world.members, &world.ranked[0], clock_ms());
    course_next(&course, REPLICA_CUT, world.repository);
    assert_int_equal(course.stage, COURSE_SOURCES);
    course_finish(&course);
    end(&world);
    begin(&world, 2, long_ago());
    start(&world, &course, false, REPLICA_ASK_NONE);
    members_note_fault(world.members, &world.ranked[0], clock_ms());
    course_next(&course, REPLICA_DOWN, world.repository);
    assert_asks(&course, COURSE_OWNER, &world.ranked[1], REPLICA_ASK_ARRIVING);
    course_finish(&course);
    end(&world);
}

static void test_a_flight_that_a_replica_asked_for_asks_no_replica(void **state) {
    (void)state;
    struct world world;
    struct course course;
    begin(&world, 4, clock_ms());
    start(&world, &course, true, REPLICA_ASK_FETCH);
    assert_int_equal(course.stage, COURSE_BUCKET);
    course_next(&course, REPLICA_REFUSED, world.repository);
    assert_int_equal(course.stage, COURSE_SOURCES);
    course_finish(&course);
    start(&world, &course, true, REPLICA_ASK_FETCH_ABSENT);
    assert_int_equal(course.stage, COURSE_SOURCES);
    course_finish(&course);
    end(&world);
}

static void test_a_flight_changes_over_when_a_replica_asks(void **state) {
    (void)state;
    struct world world;
    struct course course;
    begin(&world, 4, clock_ms());
    start(&world, &course, true, REPLICA_ASK_NONE);
    const struct place *asked = course.place;
    assert_true(course_change_over(&course, REPLICA_ASK_FETCH));
    assert_true(atomic_load(&asked->replica.is_left));
    assert_int_equal(course.stage, COURSE_BUCKET);
    assert_false(course_change_over(&course, REPLICA_ASK_FETCH));
    course_next(&course, REPLICA_REFUSED, world.repository);
    assert_int_equal(course.stage, COURSE_SOURCES);
    course_finish(&course);
    start(&world, &course, true, REPLICA_ASK_NONE);
    assert_true(course_change_over(&course, REPLICA_ASK_FETCH_ABSENT));
    assert_int_equal(course.stage, COURSE_SOURCES);
    course_finish(&course);
    end(&world);
}

static void test_a_member_that_sent_wrong_bytes_is_not_asked(void **state) {
    (void)state;
    struct world world;
    struct course course;
    begin(&world, 4, long_ago());
    const struct course_start how = {.asker = world.asker, .digest = &world.digest};
    course_init(&course, &how);
    course_distrust(&course, &world.ranked[0]);
    course_begin(&course, world.repository);
    assert_asks(&course, COURSE_OWNER, &world.ranked[1], REPLICA_ASK_ARRIVING);
    course_finish(&course);
    end(&world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_owner_bucket_owner_again_and_two_more_are_asked_before_upstream),
        cmocka_unit_test(test_former_owners_are_asked_after_a_change_before_anybody_fetches),
        cmocka_unit_test(test_the_owner_itself_asks_former_owners_and_then_upstream),
        cmocka_unit_test(test_a_guest_asks_owners_and_owns_nothing),
        cmocka_unit_test(test_a_dead_owner_is_followed_by_the_next_owner_until_that_is_this_one),
        cmocka_unit_test(test_a_flight_that_a_replica_asked_for_asks_no_replica),
        cmocka_unit_test(test_a_flight_changes_over_when_a_replica_asks),
        cmocka_unit_test(test_a_member_that_sent_wrong_bytes_is_not_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
