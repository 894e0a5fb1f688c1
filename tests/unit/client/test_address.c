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
        {"fd20:ce::254", ADDRESS_LINK_LOCAL},
        {"[fd20:ce:0::254]", ADDRESS_LINK_LOCAL},
        {"100.100.100.200", ADDRESS_LINK_LOCAL},
        {"0x64646464.", ADDRESS_ORDINARY}, /* no address, so a name */
        {"1684301000", ADDRESS_LINK_LOCAL},
        {"::ffff:100.100.100.200", ADDRESS_LINK_LOCAL},
        {"168.63.129.16", ADDRESS_LINK_LOCAL},
        {"64:ff9b::168.63.129.16", ADDRESS_LINK_LOCAL},
        {"192.0.0.192", ADDRESS_LINK_LOCAL},
        {"2002:a9fe:a9fe::1", ADDRESS_LINK_LOCAL},
        {"2002:7f00:1::1", ADDRESS_LOOPBACK},
        {"10.0.0.1", ADDRESS_PRIVATE},
        {"10.255.255.255", ADDRESS_PRIVATE},
        {"172.16.0.1", ADDRESS_PRIVATE},
        {"172.31.255.255", ADDRESS_PRIVATE},
        {"192.168.1.1", ADDRESS_PRIVATE},
        {"100.64.0.1", ADDRESS_PRIVATE},
        {"100.127.255.255", ADDRESS_PRIVATE},
        {"100.100.100.201", ADDRESS_PRIVATE},
        {"192.0.0.193", ADDRESS_PRIVATE},
        {"198.19.0.1", ADDRESS_PRIVATE},
        {"255.255.255.255", ADDRESS_PRIVATE},
        {"::ffff:10.0.0.1", ADDRESS_PRIVATE},
        {"64:ff9b::a00:1", ADDRESS_PRIVATE},
        {"64:ff9b:1::a00:1", ADDRESS_PRIVATE},
        {"fd00:ec2::253", ADDRESS_PRIVATE},
        {"fc00::1", ADDRESS_PRIVATE},
        {"fec0::1", ADDRESS_PRIVATE},
        {"9.255.255.255", ADDRESS_ORDINARY},
        {"11.0.0.0", ADDRESS_ORDINARY},
        {"172.15.255.255", ADDRESS_ORDINARY},
        {"172.32.0.0", ADDRESS_ORDINARY},
        {"192.169.0.0", ADDRESS_ORDINARY},
        {"100.63.255.255", ADDRESS_ORDINARY},
        {"100.128.0.0", ADDRESS_ORDINARY},
        {"168.63.129.17", ADDRESS_ORDINARY},
        {"64:ff9b::8.8.8.8", ADDRESS_ORDINARY},
        {"8.8.8.8", ADDRESS_ORDINARY},
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
    assert_true(fd >= 0);
    close(fd);
    watch = (struct address_watch){.rule.allow_loopback = true};
    assert_int_equal(open_address(&watch, "10.1.2.3"), CURL_SOCKET_BAD);
    watch = (struct address_watch){.rule.allow_private = true};
    fd = open_address(&watch, "10.1.2.3");
    assert_true(fd >= 0);
    close(fd);
    watch = (struct address_watch){.proxied = true}; /* the proxy's own address */
    fd = open_address(&watch, "127.0.0.1");
    assert_true(fd >= 0);
    close(fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses_are_what_they_are),
        cmocka_unit_test(test_the_address_connected_to_is_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
