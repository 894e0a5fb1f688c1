/* Which proxy a URL goes through. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdbool.h>
#include <stdlib.h>
#include "client/proxy.h"

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
        cmocka_unit_test(test_who_is_exempt_from_the_proxy),
        cmocka_unit_test(test_proxies_come_from_either_case),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
