/* Which token services may be asked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

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
        {"https://ghcr.io", "http://ghcr.io/token", REALM_IN_CLEAR},
        {"https://ghcr.io", "http://other.example/token", REALM_IN_CLEAR},
        {"https://ghcr.io", "https://ghcr.io:8443/token", REALM_DOMAIN},
        {"https://registry-1.docker.io", "https://auth.docker.io/token", REALM_DOMAIN},
        {"https://registry-1.docker.io", "http://auth.docker.io/token", REALM_IN_CLEAR},
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
                     REALM_IN_CLEAR);
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_which_realms_are_followed),
        cmocka_unit_test(test_listed_hosts_are_followed),
        cmocka_unit_test(test_googles_registries_are_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
