/* Members' addresses in one form, and the ranking of members for a key. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>
#include "replica/ranking.h"

static void test_an_address_has_one_form(void **state) {
    (void)state;
    static const struct {
        const char *text;
        unsigned port;
        const char *expected; /* NULL: it is no member */
    } cases[] = {
        {"10.0.0.1:5000", 0, "10.0.0.1:5000"},
        {"10.0.0.1", 5000, "10.0.0.1:5000"},
        {"10.0.0.1:6000", 5000, "10.0.0.1:6000"},
        {"[fd00::1]:5000", 0, "[fd00::1]:5000"},
        {"[FD00:0:0::1]:5000", 0, "[fd00::1]:5000"},
        {"[fd00::1]", 5000, "[fd00::1]:5000"},
        {"fd00::1", 5000, "[fd00::1]:5000"},
        {"[::ffff:10.0.0.1]:5000", 0, "10.0.0.1:5000"},
        {"::ffff:10.0.0.1", 5000, "10.0.0.1:5000"},
        {"10.0.0.1", 0, NULL},
        {"fd00::1", 0, NULL},
        {"[fd00::1]", 0, NULL},
        {"tarn.example:5000", 0, NULL},
        {"localhost", 5000, NULL},
        {"", 5000, NULL},
        {":5000", 0, NULL},
        {"10.0.0.1:", 5000, NULL},
        {"10.0.0.1:0", 5000, NULL},
        {"10.0.0.1:65536", 5000, NULL},
        {"10.0.0.1:+5", 5000, NULL},
        {"10.0.0.1:5000 ", 0, NULL},
        {"10.0.0.01:5000", 0, NULL},
        {"10.0.1:5000", 0, NULL},
        {"[10.0.0.1]:5000", 0, NULL},
        {"[fd00::1:5000", 0, NULL},
        {"[fd00::1]5000", 0, NULL},
        {"[fd00::1]x:5000", 0, NULL},
        {"fe80::1%eth0", 5000, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct member member = {""};
        bool is_member = member_parse(text_of(cases[i].text), cases[i].port, &member);
        if (is_member != (cases[i].expected != NULL))
            print_message("%s\n", cases[i].text);
        assert_true(is_member == (cases[i].expected != NULL));
        if (is_member)
            assert_string_equal(member.text, cases[i].expected);
    }
}

static struct member numbered(unsigned number) {
    struct member member;
    snprintf(member.text, sizeof member.text, "10.0.%u.%u:5000", number / 256, number % 256);
    return member;
}

static struct member_list list_of(unsigned count) {
    struct member_list list = {0};
    for (unsigned i = 0; i < count; i++) {
        struct member member = numbered(i);
        assert_true(member_list_add(&list, &member));
    }
    return list;
}

static void test_a_list_is_sorted_and_has_nobody_twice(void **state) {
    (void)state;
    struct member_list forth = {0}, back = {0};
    for (unsigned i = 0; i < 10; i++) {
        struct member one = numbered(i), other = numbered(9 - i);
        assert_true(member_list_add(&forth, &one));
        assert_true(member_list_add(&back, &other));
        assert_false(member_list_add(&back, &other));
    }
    assert_true(member_list_equal(&forth, &back));
}

static void test_a_full_list_has_the_first_members(void **state) {
    (void)state;
    struct member_list list = {0};
    struct member low = {"1.0.0.1:5000"}, high = {"99.0.0.1:5000"};
    for (unsigned i = 0; i < MEMBERS_LIMIT; i++) {
        struct member member = numbered(i);
        member_list_add(&list, &member);
    }
    assert_false(member_list_add(&list, &high));
    assert_true(member_list_add(&list, &low));
    assert_int_equal(list.count, MEMBERS_LIMIT);
    assert_string_equal(list.each[0].text, low.text);
}

static void test_all_agree_whatever_order_they_learnt_the_members_in(void **state) {
    (void)state;
    struct member_list forth = {0}, back = {0};
    struct ranking one, other;
    for (unsigned i = 0; i < 7; i++) {
        struct member first = numbered(i), last = numbered(6 - i);
        member_list_add(&forth, &first);
        member_list_add(&back, &last);
    }
    ranking_of(&forth, "ghcr.io/org/app:1", &one);
    ranking_of(&back, "ghcr.io/org/app:1", &other);
    assert_memory_equal(one.places, other.places, one.count);
}

static void test_the_ranking_is_by_sha256(void **state) {
    (void)state;
    /* printf '10.0.0.N:5000\0a key' | sha256sum */
    const struct member_list list = list_of(4);
    struct ranking ranking;
    ranking_of(&list, "a key", &ranking);
    static const unsigned char expected[] = {2, 3, 1, 0};
    assert_int_equal(ranking.count, 4);
    assert_memory_equal(ranking.places, expected, 4);
}

/* Who joins takes keys from each member alike, and the one before is the second. */
static void test_a_member_that_joins_moves_its_own_keys_only(void **state) {
    (void)state;
    enum { KEYS = 5000 };
    const struct member_list five = list_of(5), six = list_of(6);
    unsigned moved = 0, owned[6] = {0};
    for (int i = 0; i < KEYS; i++) {
        char key[32];
        struct ranking before, after;
        snprintf(key, sizeof key, "key %d", i);
        ranking_of(&five, key, &before);
        ranking_of(&six, key, &after);
        owned[after.places[0]]++;
        if (member_equal(&five.each[before.places[0]], &six.each[after.places[0]]))
            continue;
        moved++;
        assert_string_equal(six.each[after.places[0]].text, "10.0.0.5:5000");
        assert_string_equal(six.each[after.places[1]].text, five.each[before.places[0]].text);
    }
    assert_in_range(moved, KEYS / 6 - 120, KEYS / 6 + 120);
    for (int i = 0; i < 6; i++)
        assert_in_range(owned[i], KEYS / 6 - 120, KEYS / 6 + 120);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_address_has_one_form),
        cmocka_unit_test(test_a_list_is_sorted_and_has_nobody_twice),
        cmocka_unit_test(test_a_full_list_has_the_first_members),
        cmocka_unit_test(test_all_agree_whatever_order_they_learnt_the_members_in),
        cmocka_unit_test(test_the_ranking_is_by_sha256),
        cmocka_unit_test(test_a_member_that_joins_moves_its_own_keys_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
