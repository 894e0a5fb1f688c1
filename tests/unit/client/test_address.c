/* Which addresses may be connected to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <string.h>
#include <unistd.h>
#include "client/address.h"

static void test_addresses_are_what_they_are(void **state) {
    (void)state;
    static const struct {
        const char *host;
        enum address_class class;
    } cases[] = {
        {"127.0.0.1", ADDRESS_LOOPBACK},
        {"127.255.0.3", ADDRESS_LOOPBACK},
        {"0.0.0.0", ADDRESS_LOOPBACK},
        {"0", ADDRESS_LOOPBACK},
        {"127.1", ADDRESS_LOOPBACK},
        {"0x7f000001", ADDRESS_LOOPBACK},
        {"017700000001", ADDRESS_LOOPBACK},
        {"::1", ADDRESS_LOOPBACK},
        {"[::1]", ADDRESS_LOOPBACK},
        {"::", ADDRESS_LOOPBACK},
        {"::ffff:127.0.0.1", ADDRESS_LOOPBACK},
        {"64:ff9b::7f00:1", ADDRESS_LOOPBACK},
        {"localhost", ADDRESS_LOOPBACK},
        {"LOCALHOST.", ADDRESS_LOOPBACK},
        {"x.localhost", ADDRESS_LOOPBACK},
        {"169.254.169.254", ADDRESS_LINK_LOCAL},
        {"2852039166", ADDRESS_LINK_LOCAL},
        {"::ffff:a9fe:a9fe", ADDRESS_LINK_LOCAL},
        {"fe80::1%eth0", ADDRESS_LINK_LOCAL},
        {"febf::1", ADDRESS_LINK_LOCAL},
        {"fd00:ec2::254", ADDRESS_LINK_LOCAL},
        {"metadata.google.internal", ADDRESS_LINK_LOCAL},
        {"metadata", ADDRESS_LINK_LOCAL},
        {"10.0.0.1", ADDRESS_ORDINARY},
        {"8.8.8.8", ADDRESS_ORDINARY},
        {"fd00:ec2::253", ADDRESS_ORDINARY},
        {"2001:db8::1", ADDRESS_ORDINARY},
        {"notlocalhost", ADDRESS_ORDINARY},
        {"ghcr.io", ADDRESS_ORDINARY},
        {"", ADDRESS_ORDINARY},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (address_classify_host(cases[i].host) != cases[i].class)
            fail_msg("%s", cases[i].host);
    }
}

static curl_socket_t open_address(struct address_watch *watch, const char *text) {
    struct curl_sockaddr address = {.family = AF_INET, .socktype = SOCK_STREAM};
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    assert_int_equal(inet_pton(AF_INET, text, &v4.sin_addr), 1);
    address.addrlen = sizeof v4;
    memcpy(&address.addr, &v4, sizeof v4);
    return address_open(watch, CURLSOCKTYPE_IPCXN, &address);
}

static void test_the_address_connected_to_is_checked(void **state) {
    (void)state;
    struct address_watch watch = {0};
    assert_int_equal(open_address(&watch, "127.0.0.1"), CURL_SOCKET_BAD);
    assert_true(watch.refused);
    assert_string_equal(watch.refused_address, "127.0.0.1");
    watch = (struct address_watch){.rule.allow_loopback = true};
    assert_int_equal(open_address(&watch, "169.254.169.254"), CURL_SOCKET_BAD);
    int fd = open_address(&watch, "127.0.0.1");
    assert_true(fd >= 0 && watch.was_loopback);
    close(fd);
    watch = (struct address_watch){.proxied = true}; /* the proxy's own address */
    fd = open_address(&watch, "127.0.0.1");
    assert_true(fd >= 0 && !watch.was_loopback);
    close(fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses_are_what_they_are),
        cmocka_unit_test(test_the_address_connected_to_is_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
