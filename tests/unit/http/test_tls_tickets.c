/* Tickets of TLS sessions: they are resumed while their key is new or was the newest a moment ago,
 * and not for longer. The test moves the clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/log.h"
#include "certificate.h"
#include "http/tls.h"

enum { HOUR_MS = 60 * 60 * 1000, ALMOST_MS = HOUR_MS - 60 * 1000 };

static char certificate_path[64], key_path[64];
static _Atomic int64_t later_ms; /* the clock is ahead by so much */
static bool refresh_hangs;       /* nobody refreshes the identity */

int64_t __real_clock_ms(void);
int64_t __wrap_clock_ms(void);
int64_t __wrap_clock_ms(void) {
    return __real_clock_ms() + later_ms;
}

/* ---- a client that keeps its newest ticket ---- */

struct ticket_client {
    struct tls_identity *identity;
    SSL_CTX *context;
    SSL_SESSION *ticket; /* NULL: none */
    unsigned tickets;    /* how many have come */
};

static int take_ticket(SSL *session, SSL_SESSION *ticket) {
    struct ticket_client *client = SSL_get_app_data(session);
    SSL_SESSION_free(client->ticket);
    client->ticket = ticket;
    client->tickets++;
    return 1; /* the reference is ours */
}

static void client_begin(struct ticket_client *client, int version) {
    struct error error = {0};
    *client = (struct ticket_client){0};
    client->identity = tls_identity_new(certificate_path, key_path, NULL, HTTP_TLS_1_2, &error);
    assert_string_equal(error.text, "");
    client->context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(client->context, version);
    SSL_CTX_set_max_proto_version(client->context, version);
    SSL_CTX_set_session_cache_mode(client->context, SSL_SESS_CACHE_CLIENT);
    SSL_CTX_sess_set_new_cb(client->context, take_ticket);
}

static void client_end(struct ticket_client *client) {
    SSL_SESSION_free(client->ticket);
    SSL_CTX_free(client->context);
    tls_identity_free(client->identity);
}

/* Both ends of one connection, in turns, until the server's handshake is done and the client has
 * read a byte. */
static void shake_hands(SSL *session, SSL *ours) {
    enum tls_step step = TLS_WAITS_TO_READ;
    char byte;
    SSL_do_handshake(session);
    for (int turn = 0; turn < 10 && step != TLS_DONE; turn++) {
        step = tls_handshake(ours);
        assert_int_not_equal(step, TLS_FAILED);
        SSL_do_handshake(session);
    }
    assert_int_equal(step, TLS_DONE);
    assert_int_equal(tls_send(ours, "x", 1), 1);
    assert_int_equal(SSL_read(session, &byte, 1), 1); /* and with it the tickets of TLS 1.3 */
}

/* OpenSSL does not tell of a ticket that TLS 1.2 replaced. */
static void look_for_ticket(SSL *session, SSL_SESSION *before) {
    const unsigned char *old = NULL, *new = NULL;
    size_t old_size = 0, new_size = 0;
    SSL_SESSION *after = SSL_get1_session(session);
    SSL_SESSION_get0_ticket(before, &old, &old_size);
    SSL_SESSION_get0_ticket(after, &new, &new_size);
    if (new_size != old_size || memcmp(old, new, old_size) != 0)
        take_ticket(session, after);
    else
        SSL_SESSION_free(after);
}

/* Connects with `ticket` (NULL: without). The result is whether the session was resumed. */
static bool connect_with(struct ticket_client *client, SSL_SESSION *ticket) {
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    if (!refresh_hangs)
        tls_identity_refresh(client->identity);
    SSL *ours = tls_session_new(client->identity, ends[0]);
    SSL *session = SSL_new(client->context);
    assert_non_null(ours);
    SSL_set_fd(session, ends[1]);
    SSL_set_app_data(session, client);
    SSL_set_connect_state(session);
    SSL_SESSION *copy = ticket ? SSL_SESSION_dup(ticket) : NULL; /* a replaced one is spoilt */
    if (copy)
        SSL_set_session(session, copy);
    SSL_SESSION_free(copy);
    client->tickets = 0;
    shake_hands(session, ours);
    bool resumed = SSL_session_reused(session);
    assert_int_equal(resumed, SSL_session_reused(ours));
    if (resumed && SSL_version(session) < TLS1_3_VERSION)
        look_for_ticket(session, ticket);
    SSL_set_quiet_shutdown(session, 1); /* after a cut connection OpenSSL does not resume */
    SSL_shutdown(session);
    SSL_free(session);
    tls_session_free(ours);
    close(ends[0]);
    close(ends[1]);
    return resumed;
}

/* Takes the newest ticket out of the client. */
static SSL_SESSION *ticket_of(struct ticket_client *client) {
    SSL_SESSION *ticket = client->ticket;
    client->ticket = NULL;
    assert_non_null(ticket);
    return ticket;
}

static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

/* ---- the tests ---- */

static void test_a_ticket_resumes_a_session(void **state) {
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct ticket_client client;
        client_begin(&client, versions[i]);
        assert_false(connect_with(&client, NULL));
        SSL_SESSION *ticket = ticket_of(&client);
        assert_true(connect_with(&client, ticket));
        /* TLS 1.3 replaces each ticket that is used, TLS 1.2 only those of an old key. */
        assert_int_equal(client.tickets > 0, versions[i] == TLS1_3_VERSION);
        SSL_SESSION_free(ticket);
        client_end(&client);
    }
}

static void test_after_one_rotation_a_ticket_is_resumed_and_replaced(void **state) {
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct ticket_client client;
        client_begin(&client, versions[i]);
        assert_false(connect_with(&client, NULL));
        SSL_SESSION *first = ticket_of(&client);
        later_ms += HOUR_MS;
        assert_true(connect_with(&client, first));
        assert_true(client.tickets > 0);
        SSL_SESSION *second = ticket_of(&client);
        later_ms += ALMOST_MS; /* the next rotation has not come */
        assert_true(connect_with(&client, first));
        later_ms += HOUR_MS;
        assert_true(connect_with(&client, second)); /* the newer key reads for another hour */
        assert_false(connect_with(&client, first));
        SSL_SESSION_free(first);
        SSL_SESSION_free(second);
        client_end(&client);
    }
}

static void test_after_two_rotations_a_ticket_is_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct ticket_client client;
        client_begin(&client, versions[i]);
        assert_false(connect_with(&client, NULL));
        SSL_SESSION *ticket = ticket_of(&client);
        later_ms += HOUR_MS;
        assert_false(connect_with(&client, NULL));
        later_ms += HOUR_MS;
        assert_false(connect_with(&client, ticket));
        SSL_SESSION_free(ticket);
        client_end(&client);
    }
}

static void test_a_rotation_that_comes_late_refuses_old_tickets_too(void **state) {
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct ticket_client client;
        client_begin(&client, versions[i]);
        assert_false(connect_with(&client, NULL));
        SSL_SESSION *ticket = ticket_of(&client);
        later_ms += 5 * (int64_t)HOUR_MS; /* nobody connected for so long */
        assert_false(connect_with(&client, ticket));
        SSL_SESSION_free(ticket);
        client_end(&client);
    }
}

static void test_an_old_key_reads_no_ticket_even_if_nobody_replaces_it(void **state) {
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct ticket_client client;
        client_begin(&client, versions[i]);
        assert_false(connect_with(&client, NULL));
        SSL_SESSION *ticket = ticket_of(&client);
        refresh_hangs = true;
        later_ms += 2 * HOUR_MS;
        assert_false(connect_with(&client, ticket));
        refresh_hangs = false;
        SSL_SESSION_free(ticket);
        client_end(&client);
    }
}

static void test_a_new_certificate_leaves_tickets_valid(void **state) {
    (void)state;
    struct ticket_client client;
    client_begin(&client, TLS1_3_VERSION);
    assert_false(connect_with(&client, NULL));
    SSL_SESSION *ticket = ticket_of(&client);
    certificate_write(certificate_path, key_path, "localhost");
    later_ms += 2000; /* the files are looked at once a second */
    assert_true(connect_with(&client, ticket));
    SSL_SESSION_free(ticket);
    client_end(&client);
}

static void test_a_ticket_of_another_server_costs_only_a_whole_handshake(void **state) {
    (void)state;
    struct ticket_client client, other;
    client_begin(&client, TLS1_2_VERSION);
    client_begin(&other, TLS1_2_VERSION);
    assert_false(connect_with(&other, NULL));
    assert_false(connect_with(&client, other.ticket));
    client_end(&client);
    client_end(&other);
}

static atomic_bool all_resumed;

static void *resume_often(void *argument) {
    struct ticket_client client = {.identity = argument, .context = NULL};
    client.context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_session_cache_mode(client.context, SSL_SESS_CACHE_CLIENT);
    SSL_CTX_sess_set_new_cb(client.context, take_ticket);
    connect_with(&client, NULL);
    for (int i = 0; i < 30; i++) {
        SSL_SESSION *ticket = ticket_of(&client);
        if (!connect_with(&client, ticket))
            all_resumed = false;
        SSL_SESSION_free(ticket);
    }
    SSL_SESSION_free(client.ticket);
    SSL_CTX_free(client.context);
    return NULL;
}

static void test_threads_resume_while_keys_change(void **state) {
    (void)state;
    struct ticket_client client;
    pthread_t threads[4];
    all_resumed = true;
    client_begin(&client, TLS1_3_VERSION);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, resume_often, client.identity), 0);
    later_ms += HOUR_MS;
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_true(all_resumed);
    client_end(&client);
}

static int set_up(void **state) {
    (void)state;
    snprintf(certificate_path, sizeof certificate_path, "/tmp/test-tickets-%d.crt", (int)getpid());
    snprintf(key_path, sizeof key_path, "/tmp/test-tickets-%d.key", (int)getpid());
    certificate_write(certificate_path, key_path, "localhost");
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    unlink(certificate_path);
    unlink(key_path);
    return 0;
}

int main(void) {
    log_configure(LOG_ERROR + 1, LOG_TEXT);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_ticket_resumes_a_session),
        cmocka_unit_test(test_after_one_rotation_a_ticket_is_resumed_and_replaced),
        cmocka_unit_test(test_after_two_rotations_a_ticket_is_refused),
        cmocka_unit_test(test_a_rotation_that_comes_late_refuses_old_tickets_too),
        cmocka_unit_test(test_an_old_key_reads_no_ticket_even_if_nobody_replaces_it),
        cmocka_unit_test(test_a_new_certificate_leaves_tickets_valid),
        cmocka_unit_test(test_a_ticket_of_another_server_costs_only_a_whole_handshake),
        cmocka_unit_test(test_threads_resume_while_keys_change),
    };
    return cmocka_run_group_tests_name("http_tls_tickets", tests, set_up, tear_down);
}
