/* Who is down is asked until it answers, and who has gone is known. */
#include "replica/watch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "base/clock.h"

struct world {
    struct members *members;
    struct watch *watch;
    struct member_list list;
    struct member self, other, stranger;
    atomic_uint questions;
    atomic_bool answers;
};

static bool ask(void *context, const struct member *member, const struct cancel *cancel) {
    struct world *world = context;
    (void)cancel;
    assert_true(member_equal(member, &world->other));
    atomic_fetch_add(&world->questions, 1);
    return atomic_load(&world->answers);
}

static void begin(struct world *world) {
    struct members_change change;
    memset(world, 0, sizeof *world);
    assert_true(member_parse(text_of("10.0.0.1:5000"), 0, &world->self));
    assert_true(member_parse(text_of("10.0.0.2:5000"), 0, &world->other));
    assert_true(member_parse(text_of("10.0.0.3:5000"), 0, &world->stranger));
    member_list_add(&world->list, &world->self);
    member_list_add(&world->list, &world->other);
    world->members = members_new(clock_ms());
    members_set(world->members, &world->list, &world->self, clock_ms(), &change);
    world->watch = watch_new(world->members, ask, world);
    assert_non_null(world->watch);
}

static void end(struct world *world) {
    watch_free(world->watch);
    members_free(world->members);
}

static bool is_down(struct world *world) {
    struct member_figures figures[MEMBERS_LIMIT];
    size_t count = members_describe(world->members, clock_ms(), figures);
    for (size_t i = 0; i < count; i++) {
        if (figures[i].state == MEMBER_DOWN)
            return true;
    }
    return false;
}

static void test_a_member_that_is_down_is_asked_until_it_answers(void **state) {
    (void)state;
    struct world world;
    begin(&world);
    members_note_fault(world.members, &world.other, clock_ms());
    watch_begin(world.watch);
    const int64_t until_ms = clock_ms() + 30000;
    while (atomic_load(&world.questions) < 2 && clock_ms() < until_ms)
        clock_sleep_ms(10);
    assert_true(is_down(&world));
    atomic_store(&world.answers, true);
    while (is_down(&world) && clock_ms() < until_ms)
        clock_sleep_ms(10);
    assert_false(is_down(&world));
    assert_true(clock_ms() < until_ms);
    end(&world);
}

static void test_an_end_does_not_wait_for_a_member_that_stays_down(void **state) {
    (void)state;
    struct world world;
    begin(&world);
    members_note_fault(world.members, &world.other, clock_ms());
    watch_begin(world.watch);
    end(&world);
}

static void test_only_who_has_left_the_list_can_be_gone(void **state) {
    (void)state;
    struct world world;
    struct members_change change;
    begin(&world);
    watch_note_silent(world.watch, &world.other);
    assert_false(watch_is_gone(world.watch, &world.other));
    assert_false(watch_is_gone(world.watch, &world.stranger));
    watch_note_silent(world.watch, &world.stranger);
    assert_true(watch_is_gone(world.watch, &world.stranger));
    member_list_add(&world.list, &world.stranger); /* it comes back */
    members_set(world.members, &world.list, &world.self, clock_ms(), &change);
    assert_false(watch_is_gone(world.watch, &world.stranger));
    end(&world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_member_that_is_down_is_asked_until_it_answers),
        cmocka_unit_test(test_an_end_does_not_wait_for_a_member_that_stays_down),
        cmocka_unit_test(test_only_who_has_left_the_list_can_be_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
