/* Where redirects and links lead. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include "client/redirect.h"

#define BASE "https://us-docker.pkg.dev/v2/p/r/i/blobs/sha256:1?x=y"

static void check(const char *reference, const char *expected) {
    struct error error = {0};
    char *url = redirect_resolve(BASE, reference, &error);
    if (!expected) {
        assert_null(url);
        assert_int_equal(error.kind, ERROR_UNAVAILABLE);
        return;
    }
    if (!url)
        fail_msg("%s: %s", reference, error.text);
    assert_string_equal(url, expected);
    free(url);
}

static void test_locations_are_resolved(void **state) {
    (void)state;
    check("/artifacts-downloads/x?a=b%2Fc",
          "https://us-docker.pkg.dev/artifacts-downloads/x?a=b%2Fc");
    check("//other.example/x", "https://other.example/x");
    check("http://other.example:8080/x#part", "http://other.example:8080/x");
    check("sha256:2", NULL); /* a scheme, as it stands */
    check("./sha256:2", "https://us-docker.pkg.dev/v2/p/r/i/blobs/sha256:2");
    check("../../x", "https://us-docker.pkg.dev/v2/p/r/x");
    check("?q", "https://us-docker.pkg.dev/v2/p/r/i/blobs/sha256:1?q");
    check("https://h.example/a b", "https://h.example/a%20b");
}

static void test_other_schemes_and_users_are_refused(void **state) {
    (void)state;
    check("ftp://h.example/x", NULL);
    check("file:///etc/passwd", NULL);
    check("javascript:alert(1)", NULL);
    check("gopher://h.example/", NULL);
    check("https://user@h.example/", NULL);
    check("https://user:pw@h.example/", NULL);
    check("https://h.example:99999/", NULL);
}

static void test_long_locations_are_resolved_up_to_the_limit(void **state) {
    (void)state;
    char *reference = malloc(URL_LIMIT + 2);
    memset(reference, 'a', URL_LIMIT + 1);
    reference[0] = '/';
    reference[1500] = '\0';
    struct error error;
    char *url = redirect_resolve(BASE, reference, &error);
    assert_non_null(url);
    assert_string_equal(url + strlen("https://us-docker.pkg.dev"), reference);
    free(url);
    reference[1500] = 'a';
    reference[URL_LIMIT + 1] = '\0';
    assert_null(redirect_resolve(BASE, reference, &error));
    free(reference);
}

static void test_where_authorization_may_go(void **state) {
    (void)state;
    struct origin origin;
    assert_true(origin_parse("https://us-docker.pkg.dev", &origin));
    assert_true(redirect_keeps_authorization(&origin, "https://US-docker.pkg.dev:443/v2/x"));
    static const char *const not_to[] = {
        "http://us-docker.pkg.dev/v2/x",
        "https://us-docker.pkg.dev:8443/v2/x",
        "https://eu-docker.pkg.dev/v2/x",
        "https://us-docker.pkg.dev/artifacts-downloads/x",
        "https://us-docker.pkg.dev/artifacts%2ddownloads/x",
        "https://us-docker.pkg.dev/a/../artifacts-downloads/x",
    };
    for (size_t i = 0; i < sizeof not_to / sizeof *not_to; i++) {
        if (redirect_keeps_authorization(&origin, not_to[i]))
            fail_msg("%s", not_to[i]);
    }
}

static void check_next(const char *link, const char *expected) {
    char next[128];
    assert_true(redirect_next_page("https://r.example/v2/a/tags/list?n=1", text_of(link), next,
                                   sizeof next));
    assert_string_equal(next, expected);
}

static void check_unreachable(const char *link) {
    char next[128];
    if (redirect_next_page("https://r.example/v2/a/tags/list?n=1", text_of(link), next,
                           sizeof next))
        fail_msg("%s", link);
    assert_string_equal(next, "");
}

static void test_the_next_page(void **state) {
    (void)state;
    check_next("</v2/a/tags/list?n=1&last=x>; rel=\"next\"", "/v2/a/tags/list?n=1&last=x");
    check_next("<list?last=x>;rel=next", "/v2/a/tags/list?last=x");
    check_next("</x>; rel=prev, </y,z>; title=\"a\" ; REL=Next", "/y,z");
    check_next("<https://r.example/x>; rel=\"next\"", "/x");
    check_next("<https://other.example:5000/x?y>; rel=\"next\"", "/x?y");
    check_next("<http://r.example/x>; rel=\"next\"", "/x");
    check_next("<//r.example/x>; rel=\"next\"", "/x");
    check_next("</x>; rel=\"last next\"", "/x");
    check_next("</x>; rel=\"help\", </y>; rel=\"next\"", "/y");
    check_next("<https://r.example>; rel=\"next\"", "/");
    check_next("</x", "");
    check_next("", "");
    check_next("<>", "");
    check_next("</next.css>; rel=\"preload\"", "");
    check_next("no link", "");
}

static void test_a_next_page_that_cannot_be_asked_for_is_not_the_end(void **state) {
    (void)state;
    char longer[300] = "<";
    check_unreachable("</x>; rel=\"nextly\"");
    check_unreachable("</x>; rel=\"next");
    check_unreachable("/x; rel=\"next\"");
    check_unreachable("</x; rel=\"next\"");
    check_unreachable("<https://user:password@r.example/x>; rel=\"next\"");
    check_unreachable("<ftp://r.example/x>; rel=\"next\"");
    memset(longer + 1, 'x', 200);
    strcpy(longer + 201, ">; rel=next");
    check_unreachable(longer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_locations_are_resolved),
        cmocka_unit_test(test_other_schemes_and_users_are_refused),
        cmocka_unit_test(test_long_locations_are_resolved_up_to_the_limit),
        cmocka_unit_test(test_where_authorization_may_go),
        cmocka_unit_test(test_the_next_page),
        cmocka_unit_test(test_a_next_page_that_cannot_be_asked_for_is_not_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
