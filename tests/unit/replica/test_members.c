/* Who owns a key, who owned it before, and who is down. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>
#include "replica/members.h"

enum { KEYS = 200 };

static struct member numbered(unsigned number) {
    struct member member;
    snprintf(member.text, sizeof member.text, "10.0.0.%u:5000", number);
    return member;
}

/* The members with these numbers, which a 0 ends. */
static struct member_list list_of(const unsigned *numbers) {
    struct member_list list = {0};
    for (; *numbers; numbers++) {
        struct member member = numbered(*numbers);
        member_list_add(&list, &member);
    }
    return list;
}
#define LIST(...) list_of((const unsigned[]){__VA_ARGS__, 0})

static struct members_change set(struct members *members, struct member_list list, unsigned self,
                                 int64_t now_ms) {
    struct members_change change;
    struct member own = numbered(self);
    members_set(members, &list, self ? &own : NULL, now_ms, &change);
    return change;
}

static const char *key_of(int number) {
    static char key[32];
    snprintf(key, sizeof key, "key %d", number);
    return key;
}

static struct members_owner owner_of(struct members *members, int key, int64_t now_ms) {
    struct members_owner owner;
    members_owner(members, key_of(key), 0, now_ms, &owner);
    return owner;
}

static bool is_owner(struct members *members, int key, int64_t now_ms,
                     const struct member *member) {
    const struct members_owner owner = owner_of(members, key, now_ms);
    return member_equal(&owner.member, member);
}

/* The place of `member` among the key's former owners; -1: it is none. */
static int former_place(struct members *members, int key, const struct member *member,
                        int64_t now_ms) {
    struct member former[FORMER_OWNERS];
    size_t count = members_former(members, key_of(key), now_ms, former);
    assert_in_range(count, 0, FORMER_OWNERS);
    for (size_t i = 0; i < count; i++) {
        if (member_equal(&former[i], member))
            return (int)i;
    }
    return -1;
}

static int set_up(void **state) {
    *state = members_new(0);
    return *state ? 0 : -1;
}

static int tear_down(void **state) {
    members_free(*state);
    return 0;
}

static void test_without_a_list_nobody_owns_anything(void **state) {
    assert_true(owner_of(*state, 1, 0).is_nobody);
    struct members_change change = set(*state, (struct member_list){0}, 1, 0);
    assert_false(change.is_new);
    assert_true(owner_of(*state, 1, 0).is_nobody);
}

static void test_an_empty_list_keeps_the_last(void **state) {
    set(*state, LIST(1, 2, 3), 1, 0);
    struct members_owner before = owner_of(*state, 5, 0);
    assert_false(set(*state, (struct member_list){0}, 1, 10).is_new);
    assert_string_equal(owner_of(*state, 5, 10).member.text, before.member.text);
}

static void test_a_change_says_who_came_and_who_went(void **state) {
    struct members_change change = set(*state, LIST(1, 2), 1, 0);
    assert_true(change.is_new);
    assert_int_equal(change.added.count, 2);
    assert_false(set(*state, LIST(2, 1), 1, 1).is_new);
    change = set(*state, LIST(2, 3, 4), 2, 2);
    assert_true(change.is_new);
    assert_int_equal(change.added.count, 2);
    assert_string_equal(change.added.each[0].text, "10.0.0.3:5000");
    assert_int_equal(change.removed.count, 1);
    assert_string_equal(change.removed.each[0].text, "10.0.0.1:5000");
}

static void test_each_member_owns_its_keys_and_a_guest_none(void **state) {
    struct members *guest = members_new(0);
    int own = 0;
    set(*state, LIST(1, 2, 3), 2, 0);
    set(guest, LIST(1, 2, 3), 9, 0);
    for (int key = 0; key < KEYS; key++) {
        struct members_owner owner = owner_of(*state, key, 0), seen = owner_of(guest, key, 0);
        assert_string_equal(owner.member.text, seen.member.text);
        assert_true(owner.is_self == (strcmp(owner.member.text, "10.0.0.2:5000") == 0));
        assert_false(seen.is_self);
        own += owner.is_self;
    }
    assert_in_range(own, KEYS / 6, KEYS / 2);
    members_free(guest);
}

static void test_a_member_that_is_down_owns_nothing_until_its_pause_ends(void **state) {
    struct member down = numbered(3);
    set(*state, LIST(1, 2, 3), 1, 0);
    assert_true(members_note_fault(*state, &down, 1000));
    for (int key = 0; key < KEYS; key++)
        assert_string_not_equal(owner_of(*state, key, 5999).member.text, down.text);
    int owned = 0;
    for (int key = 0; key < KEYS; key++)
        owned += is_owner(*state, key, 6000, &down);
    assert_true(owned > 0);
}

static void test_pauses_double_up_to_a_minute_and_an_answer_ends_them(void **state) {
    static const int64_t pauses[] = {5000, 10000, 20000, 40000, 60000, 60000};
    struct member down = numbered(2);
    struct member_figures figures[MEMBERS_LIMIT];
    int64_t now_ms = 0;
    set(*state, LIST(1, 2), 1, 0);
    for (size_t i = 0; i < sizeof pauses / sizeof *pauses; i++) {
        assert_true(members_note_fault(*state, &down, now_ms));
        assert_false(members_note_fault(*state, &down, now_ms + 1)); /* others see the same */
        members_describe(*state, now_ms + pauses[i] - 1, figures);
        assert_int_equal(figures[1].state, MEMBER_DOWN);
        members_describe(*state, now_ms + pauses[i], figures);
        assert_int_equal(figures[1].state, MEMBER_LIVE);
        now_ms += pauses[i];
    }
    assert_true(members_note_fault(*state, &down, now_ms));
    assert_true(members_note_answer(*state, &down, now_ms + 1));
    assert_false(members_note_answer(*state, &down, now_ms + 2));
    members_describe(*state, now_ms + 2, figures);
    assert_int_equal(figures[1].state, MEMBER_LIVE);
    assert_true(members_note_fault(*state, &down, now_ms + 3));
    members_describe(*state, now_ms + 3 + 5000, figures);
    assert_int_equal(figures[1].state, MEMBER_LIVE);
}

static void test_nobody_is_asked_when_all_others_are_down(void **state) {
    struct member other = numbered(2), self = numbered(1);
    set(*state, LIST(1, 2), 1, 0);
    members_note_fault(*state, &other, 0);
    assert_false(members_note_fault(*state, &self, 0)); /* one is not down to oneself */
    for (int key = 0; key < KEYS; key++)
        assert_true(owner_of(*state, key, 1).is_self);
    struct members *guest = members_new(0);
    set(guest, LIST(2), 0, 0);
    members_note_fault(guest, &other, 0);
    assert_true(owner_of(guest, 1, 1).is_nobody);
    members_free(guest);
}

static void test_owners_that_did_not_help_are_passed_over(void **state) {
    struct members_owner owners[4];
    set(*state, LIST(1, 2, 3), 9, 0);
    for (unsigned skipped = 0; skipped < 4; skipped++)
        members_owner(*state, "a key", skipped, 0, &owners[skipped]);
    assert_true(owners[3].is_nobody);
    for (int i = 0; i < 3; i++) {
        assert_false(owners[i].is_nobody);
        assert_string_not_equal(owners[i].member.text, owners[(i + 1) % 3].member.text);
    }
}

static void test_a_member_that_joined_asks_who_owned_the_key_before(void **state) {
    struct members *before = members_new(0);
    const int64_t joined_ms = 1000000;
    int moved = 0;
    set(before, LIST(1, 2, 3), 0, 0);
    set(*state, LIST(1, 2, 3), 4, joined_ms - 1); /* what the new member sees first */
    set(*state, LIST(1, 2, 3, 4), 4, joined_ms);
    for (int key = 0; key < KEYS; key++) {
        if (!owner_of(*state, key, joined_ms).is_self)
            continue;
        struct member former = owner_of(before, key, 0).member;
        assert_int_equal(former_place(*state, key, &former, joined_ms), 0);
        assert_int_equal(former_place(*state, key, &former, joined_ms + FORMER_MS), -1);
        moved++;
    }
    assert_true(moved > 0);
    members_free(before);
}

static void test_a_member_that_left_is_asked_because_it_may_be_draining(void **state) {
    const struct member left = numbered(3);
    struct members *before = members_new(0);
    int seen = 0;
    set(before, LIST(1, 2, 3), 0, 0);
    set(*state, LIST(1, 2, 3), 1, 0);
    set(*state, LIST(1, 2), 1, 500000);
    for (int key = 0; key < KEYS; key++) {
        if (!is_owner(before, key, 0, &left))
            continue;
        assert_in_range(former_place(*state, key, &left, 500001), 0, FORMER_OWNERS);
        assert_int_equal(former_place(*state, key, &left, 500000 + FORMER_MS), -1);
        seen++;
    }
    assert_true(seen > 0);
    members_free(before);
}

/* The own start and a member's return are changes, too. */
static void test_the_second_is_asked_after_a_start_and_after_a_return(void **state) {
    struct member former[FORMER_OWNERS], other = numbered(2);
    set(*state, LIST(1, 2), 1, 0);
    int own = 0;
    while (!owner_of(*state, own, 0).is_self)
        own++;
    assert_int_equal(members_former(*state, key_of(own), FORMER_MS - 1, former), 1);
    assert_string_equal(former[0].text, other.text);
    assert_int_equal(members_former(*state, key_of(own), FORMER_MS, former), 0);
    members_note_fault(*state, &other, FORMER_MS);
    assert_int_equal(members_former(*state, key_of(own), FORMER_MS + 1, former), 0); /* down */
    members_note_answer(*state, &other, FORMER_MS + 2);
    assert_int_equal(members_former(*state, key_of(own), FORMER_MS + 3, former), 1);
    assert_int_equal(members_former(*state, key_of(own), 2 * FORMER_MS + 2, former), 0);
}

static void test_a_member_that_joins_is_not_down(void **state) {
    struct member_figures figures[MEMBERS_LIMIT];
    struct member other = numbered(2);
    set(*state, LIST(1, 2), 1, 0);
    members_note_fault(*state, &other, 0);
    set(*state, LIST(1, 3), 1, 1);
    set(*state, LIST(1, 2, 3), 1, 2);
    assert_int_equal(members_describe(*state, 3, figures), 3);
    assert_int_equal(figures[0].state, MEMBER_SELF);
    assert_int_equal(figures[1].state, MEMBER_LIVE);
}

static void test_shares_are_alike_and_add_up(void **state) {
    struct member_figures figures[MEMBERS_LIMIT];
    double sum = 0;
    set(*state, LIST(1, 2, 3, 4), 1, 0);
    assert_int_equal(members_describe(*state, 0, figures), 4);
    for (int i = 0; i < 4; i++) {
        assert_true(figures[i].share > 0.2 && figures[i].share < 0.3);
        sum += figures[i].share;
    }
    assert_true(sum > 0.999 && sum < 1.001);
}

#define members_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        members_test(test_without_a_list_nobody_owns_anything),
        members_test(test_an_empty_list_keeps_the_last),
        members_test(test_a_change_says_who_came_and_who_went),
        members_test(test_each_member_owns_its_keys_and_a_guest_none),
        members_test(test_a_member_that_is_down_owns_nothing_until_its_pause_ends),
        members_test(test_pauses_double_up_to_a_minute_and_an_answer_ends_them),
        members_test(test_nobody_is_asked_when_all_others_are_down),
        members_test(test_owners_that_did_not_help_are_passed_over),
        members_test(test_a_member_that_joined_asks_who_owned_the_key_before),
        members_test(test_a_member_that_left_is_asked_because_it_may_be_draining),
        members_test(test_the_second_is_asked_after_a_start_and_after_a_return),
        members_test(test_a_member_that_joins_is_not_down),
        members_test(test_shares_are_alike_and_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
