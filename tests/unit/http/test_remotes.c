/* What counts as one client address, and how long the table remembers one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "http/remotes.h"

static struct remotes remotes;

static struct sockaddr_storage address_of(const char *text) {
    struct sockaddr_storage out = {0};
    struct sockaddr_in *v4 = (struct sockaddr_in *)&out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&out;
    if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
        out.ss_family = AF_INET;
        v4->sin_port = 1; /* the port does not matter */
    } else {
        assert_int_equal(inet_pton(AF_INET6, text, &v6->sin6_addr), 1);
        out.ss_family = AF_INET6;
        v6->sin6_port = 2;
    }
    return out;
}

static struct remote *enter(const char *text) {
    const struct sockaddr_storage address = address_of(text);
    struct remote *remote = remotes_enter(&remotes, &address);
    assert_non_null(remote);
    return remote;
}

static void test_which_addresses_are_one_client(void **state) {
    (void)state;
    static const struct {
        const char *one, *other;
        bool same;
    } cases[] = {
        {"10.0.0.1", "10.0.0.1", true},
        {"10.0.0.1", "10.0.0.2", false},
        {"10.0.0.1", "::ffff:10.0.0.1", true}, /* as an IPv6 socket shows it */
        {"::ffff:10.0.0.1", "::ffff:10.0.0.2", false},
        {"2001:db8:1:2::1", "2001:db8:1:2:ffff::9", true},
        {"2001:db8:1:2::1", "2001:db8:1:3::1", false},
        {"::1", "::ffff:0.0.0.1", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct remote *one = enter(cases[i].one), *other = enter(cases[i].other);
        if ((one == other) != cases[i].same)
            fail_msg("%s and %s", cases[i].one, cases[i].other);
        assert_int_equal(atomic_load(&remotes.count), cases[i].same ? 1 : 2);
        remote_leave(one);
        remote_leave(other);
        assert_int_equal(atomic_load(&remotes.count), 0);
    }
}

static void test_a_unix_socket_has_no_address(void **state) {
    (void)state;
    const struct sockaddr_storage address = {.ss_family = AF_UNIX};
    assert_null(remotes_enter(&remotes, &address));
    remote_leave(NULL);
}

static void test_an_entry_lives_as_long_as_something_refers_to_it(void **state) {
    (void)state;
    enum { ADDRESSES = 5000 }; /* many more than there are buckets */
    static struct remote *entered[ADDRESSES];
    char text[32];
    for (int i = 0; i < ADDRESSES; i++) {
        snprintf(text, sizeof text, "10.1.%d.%d", i / 250, i % 250);
        entered[i] = enter(text);
    }
    assert_int_equal(atomic_load(&remotes.count), ADDRESSES);
    for (int i = 0; i < ADDRESSES; i += 2) {
        snprintf(text, sizeof text, "10.1.%d.%d", i / 250, i % 250);
        assert_ptr_equal(enter(text), entered[i]);
        remote_leave(entered[i]);
    }
    assert_int_equal(atomic_load(&remotes.count), ADDRESSES);
    for (int i = 0; i < ADDRESSES; i++)
        remote_leave(entered[i]);
    assert_int_equal(atomic_load(&remotes.count), 0);
}

static int begin(void **state) {
    (void)state;
    return remotes_init(&remotes, 100, NULL) ? 0 : -1;
}

static int end(void **state) {
    (void)state;
    remotes_finish(&remotes);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_which_addresses_are_one_client),
        cmocka_unit_test(test_a_unix_socket_has_no_address),
        cmocka_unit_test(test_an_entry_lives_as_long_as_something_refers_to_it),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
