#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "client/address.h"
#include "client/proxy.h"
#include "upstream/realm.h"

static enum realm_verdict judge(const char *upstream, const char *realm,
                                const char *const *token_hosts, bool own_only) {
    struct realm_rule rule = {.token_hosts = token_hosts, .own_only = own_only};
    struct origin origin;
    assert_true(origin_parse(upstream, &rule.upstream));
    return origin_parse(realm, &origin) ? realm_judge(&rule, &origin) : REALM_REFUSED;
}

static void test_which_realms_are_followed(void **state) {
    (void)state;
    static const struct {
        const char *upstream, *realm;
        enum realm_verdict verdict;
    } cases[] = {
        {"https://ghcr.io", "https://ghcr.io/token", REALM_OWN},
        {"https://ghcr.io", "https://GHCR.io:443/token", REALM_OWN},
        {"https://ghcr.io", "http://ghcr.io/token", REALM_REFUSED},
        {"https://ghcr.io", "https://ghcr.io:8443/token", REALM_DOMAIN},
        {"https://registry-1.docker.io", "https://auth.docker.io/token", REALM_DOMAIN},
        {"https://registry-1.docker.io", "http://auth.docker.io/token", REALM_REFUSED},
        {"https://registry-1.docker.io", "https://auth.docker.io.evil.example/t", REALM_REFUSED},
        {"https://registry-1.docker.io", "https://evildocker.io/t", REALM_REFUSED},
        {"https://registry-1.docker.io", "https://docker.io@evil.example/t", REALM_REFUSED},
        {"https://a.co.uk", "https://b.co.uk/t", REALM_REFUSED},
        {"https://a.github.io", "https://b.github.io/t", REALM_REFUSED},
        {"https://registry.corp.internal", "https://auth.corp.internal/t", REALM_DOMAIN},
        {"http://127.0.0.1:5000", "http://127.0.0.1:5000/token", REALM_OWN},
        {"http://127.0.0.1:5000", "http://127.0.0.1:5001/token", REALM_REFUSED},
        {"http://10.0.0.1", "http://20.0.0.1/token", REALM_REFUSED},
        {"http://[::1]:5000", "http://[::1]:5000/token", REALM_OWN},
        {"http://[2001:db8::1]", "http://[2001:db8::2]/token", REALM_REFUSED},
        {"http://localhost:5000", "http://localhost:5001/t", REALM_REFUSED},
        {"https://ghcr.io", "ftp://ghcr.io/token", REALM_REFUSED},
        {"https://ghcr.io", "/token", REALM_REFUSED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (judge(cases[i].upstream, cases[i].realm, NULL, false) != cases[i].verdict)
            fail_msg("%s -> %s", cases[i].upstream, cases[i].realm);
    }
}

static void test_listed_hosts_are_followed(void **state) {
    (void)state;
    static const char *const hosts[] = {"Auth.example.net", "127.0.0.1:9000", "idp.example:443",
                                        "plain.example:80", NULL};
    assert_int_equal(judge("https://r.example", "https://auth.example.net/t", hosts, false),
                     REALM_LISTED);
    assert_int_equal(judge("https://r.example", "https://auth.example.net:8443/t", hosts, false),
                     REALM_LISTED);
    assert_int_equal(judge("https://r.example", "http://auth.example.net/t", hosts, false),
                     REALM_REFUSED);
    assert_int_equal(judge("https://r.example", "https://x.auth.example.net/t", hosts, false),
                     REALM_REFUSED);
    assert_int_equal(judge("http://r.example", "http://127.0.0.1:9000/t", hosts, false),
                     REALM_LISTED);
    assert_int_equal(judge("http://r.example", "http://127.0.0.1:9001/t", hosts, false),
                     REALM_REFUSED);
    assert_int_equal(judge("https://r.test", "https://idp.example/t", hosts, false), REALM_LISTED);
    assert_int_equal(judge("https://r.test", "http://plain.example/t", hosts, false), REALM_LISTED);
    assert_int_equal(judge("https://us-docker.pkg.dev", "https://auth.example.net/t", hosts, true),
                     REALM_REFUSED);
    assert_int_equal(
        judge("https://us-docker.pkg.dev", "https://us-docker.pkg.dev/v2/token", NULL, true),
        REALM_OWN);
    assert_int_equal(
        judge("https://us-docker.pkg.dev", "https://eu-docker.pkg.dev/v2/token", NULL, true),
        REALM_REFUSED);
}

static void test_googles_registries_are_known(void **state) {
    (void)state;
    assert_true(realm_host_is_google("gcr.io"));
    assert_true(realm_host_is_google("eu.gcr.io"));
    assert_true(realm_host_is_google("us-docker.pkg.dev"));
    assert_false(realm_host_is_google("notgcr.io"));
    assert_false(realm_host_is_google("gcr.io.example"));
}

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

static void test_who_is_exempt_from_the_proxy(void **state) {
    (void)state;
    static const struct {
        const char *list, *host;
        unsigned port;
        bool exempt;
    } cases[] = {
        {"*", "any.example", 443, true},
        {"example", "a.example", 443, true},
        {".example", "a.example", 443, true},
        {"*.example", "a.example", 443, true},
        {".example", "example", 443, true},
        {"example", "notexample", 443, false},
        {"a.example:8080", "a.example", 8080, true},
        {"a.example:8080", "a.example", 443, false},
        {"other, A.Example", "a.example.", 443, true},
        {"10.0.0.0/8", "10.1.2.3", 80, true},
        {"10.0.0.0/8", "11.1.2.3", 80, false},
        {"10.0.0.0/33", "10.1.2.3", 80, false},
        {"127.0.0.1", "127.0.0.1", 5000, true},
        {"127.0.0.1:5000", "127.0.0.1", 5000, true},
        {"::1", "::1", 80, true},
        {"[::1]:80", "::1", 80, true},
        {"2001:db8::/32", "2001:db8:1::2", 80, true},
        {"2001:db8::/32", "2001:db9:1::2", 80, false},
        {"0.0.1", "10.0.0.1", 80, false},
        {"", "a.example", 443, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (proxy_exempt(cases[i].list, cases[i].host, cases[i].port) != cases[i].exempt)
            fail_msg("\"%s\" and %s:%u", cases[i].list, cases[i].host, cases[i].port);
    }
}

static void test_proxies_come_from_either_case(void **state) {
    (void)state;
    static const char *const names[] = {"http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY",
                                        "all_proxy",  "ALL_PROXY",  "no_proxy",    "NO_PROXY"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unsetenv(names[i]);
    assert_null(proxy_for("http", "a.example", 80));
    setenv("HTTP_PROXY", "http://one:1", 1);
    assert_string_equal(proxy_for("http", "a.example", 80), "http://one:1");
    assert_null(proxy_for("https", "a.example", 443));
    setenv("http_proxy", "http://two:2", 1);
    assert_string_equal(proxy_for("http", "a.example", 80), "http://two:2");
    setenv("ALL_PROXY", "http://three:3", 1);
    assert_string_equal(proxy_for("https", "a.example", 443), "http://three:3");
    setenv("NO_PROXY", "a.example", 1);
    assert_null(proxy_for("https", "a.example", 443));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unsetenv(names[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_which_realms_are_followed),
        cmocka_unit_test(test_listed_hosts_are_followed),
        cmocka_unit_test(test_googles_registries_are_known),
        cmocka_unit_test(test_addresses_are_what_they_are),
        cmocka_unit_test(test_the_address_connected_to_is_checked),
        cmocka_unit_test(test_who_is_exempt_from_the_proxy),
        cmocka_unit_test(test_proxies_come_from_either_case),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
