/* Where redirects lead, and what goes along. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "upstream/bench.h"

struct redirects {
    const char *location; /* of the blob */
    bool refuse_download; /* what it led to answers 403 */
    unsigned resolved;
};

static bool answer_redirect(struct server *server, int fd, const char *head) {
    struct redirects *redirects = server->context;
    if (server_asks(head, "GET " BLOB)) {
        char *line = NULL;
        redirects->resolved++;
        assert(asprintf(&line, "Location: %s\r\n", redirects->location) > 0);
        bool ok = server_has(head, "Authorization: Basic")
                      ? server_reply(fd, 307, line, "<html>moved</html>")
                      : server_reply(fd, 401, "WWW-Authenticate: Basic realm=x\r\n", "");
        free(line);
        return ok;
    }
    if (redirects->refuse_download)
        return server_reply(fd, 403, "", "expired");
    return server_reply(fd, 200, "", "hello");
}

/* `leads_to` NULL: the registry itself. */
static void check_redirect(struct bench *bench, const char *location, struct server *leads_to,
                           bool authorized) {
    struct redirects redirects = {.location = location};
    bench->settings.credentials = bench_password(bench);
    bench_open(bench, answer_redirect, &redirects);
    if (!bench_ask(bench, &bench_blob))
        fail_msg("%s", bench->error.text);
    assert_int_equal(bench->got.length, 5);
    struct server *there = leads_to ? leads_to : bench->server;
    const char *download = server_request(there, "GET /", there->count - 1);
    assert_int_equal(server_has(download, "Authorization"), authorized);
    bench_close(bench);
}

static void test_authorization_stays_at_its_origin(void **state) {
    struct bench *bench = *state;
    struct redirects nothing = {0};
    struct server *storage = bench_start_other(bench, answer_redirect, &nothing);
    char url[128];
    snprintf(url, sizeof url, "http://127.0.0.1:%u/layers/1?sig=a%%2Fb", storage->port);
    check_redirect(bench, url, storage, false);
    snprintf(url, sizeof url, "http://localhost:%u/layers/1", storage->port);
    check_redirect(bench, url, storage, false);
    check_redirect(bench, "/layers/1", NULL, true);
    check_redirect(bench, "/artifacts-downloads/namespaces/p/repositories/r/downloads/x", NULL,
                   false);
    check_redirect(bench, "/x/../artifacts-downloads/x", NULL, false);
}

static void test_a_long_relative_redirect_is_followed(void **state) {
    struct bench *bench = *state;
    char location[2048] = "/artifacts-downloads/";
    memset(location + strlen(location), 'a', 1500);
    check_redirect(bench, location, NULL, false);
}

static void test_a_targets_url_is_kept_until_it_is_refused(void **state) {
    struct bench *bench = *state;
    struct redirects redirects = {.location = "/artifacts-downloads/x"};
    bench->settings.credentials = bench_password(bench);
    struct upstream_target target = {0};
    bench_open(bench, answer_redirect, &redirects);
    struct upstream_request request = bench_blob;
    request.target = &target;
    assert_true(bench_ask(bench, &request));
    assert_non_null(target.url);
    assert_non_null(strstr(target.url, "/artifacts-downloads/x"));
    assert_int_equal(redirects.resolved, 2); /* with the challenge */
    assert_true(bench_ask(bench, &request));
    assert_int_equal(redirects.resolved, 2);
    redirects.refuse_download = true;
    assert_false(bench_ask(bench, &request));
    assert_int_equal(bench->error.kind, ERROR_DENIED);
    assert_int_equal(redirects.resolved, 3);
    redirects.refuse_download = false;
    redirects.location = "/artifacts-downloads/y";
    assert_true(bench_ask(bench, &request));
    assert_non_null(strstr(target.url, "/artifacts-downloads/y"));
    upstream_target_finish(&target);
}

static bool answer_loop(struct server *server, int fd, const char *head) {
    (void)head;
    return server_reply(fd, 302, server->context, "");
}

static void test_redirects_end(void **state) {
    struct bench *bench = *state;
    static const struct {
        const char *location;
        enum error_kind kind;
        unsigned asked;
    } cases[] = {
        {"Location: /again\r\n", ERROR_UNAVAILABLE, 6},
        {"", ERROR_UNAVAILABLE, 1},
        {"Location: ftp://127.0.0.1/x\r\n", ERROR_UNAVAILABLE, 1},
        {"Location: file:///etc/passwd\r\n", ERROR_UNAVAILABLE, 1},
        {"Location: http://user:pw@127.0.0.1/x\r\n", ERROR_UNAVAILABLE, 1},
        {"Location: http://169.254.169.254/latest\r\n", ERROR_DENIED, 1},
        {"Location: http://[fe80::1]/x\r\n", ERROR_DENIED, 1},
        {"Location: http://[fd00:ec2::254]/x\r\n", ERROR_DENIED, 1},
        {"Location: http://2852039166/latest\r\n", ERROR_DENIED, 1},
        {"Location: http://[::ffff:169.254.169.254]/x\r\n", ERROR_DENIED, 1},
        {"Location: http://metadata.google.internal/x\r\n", ERROR_DENIED, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char location[128];
        snprintf(location, sizeof location, "%s", cases[i].location);
        bench_open(bench, answer_loop, location);
        assert_false(bench_ask(bench, &bench_blob));
        assert_int_equal(bench->error.kind, cases[i].kind);
        assert_int_equal(bench->server->count, cases[i].asked);
        bench_close(bench);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_BENCH(test_authorization_stays_at_its_origin),
        WITH_BENCH(test_a_long_relative_redirect_is_followed),
        WITH_BENCH(test_a_targets_url_is_kept_until_it_is_refused),
        WITH_BENCH(test_redirects_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
