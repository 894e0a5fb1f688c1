/* Which clients may read: only those with a right password, which costs one hash, by a file that
 * may change. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <crypt.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "login/bench.h"
#include "login/clients.h"
#include "login/htpasswd.h"

static char file[] = "/tmp/tarn-htpasswd-XXXXXX";

/* ---- the hash, as clients.c sees it ---- */

static _Atomic unsigned hashes_made; /* how often a hash was computed */
static atomic_bool hashing_is_held;  /* every hash waits until it is false */

char *__real_crypt_rn(const char *phrase, const char *setting, void *data, int size);
char *__wrap_crypt_rn(const char *phrase, const char *setting, void *data, int size);
char *__wrap_crypt_rn(const char *phrase, const char *setting, void *data, int size) {
    hashes_made++;
    while (hashing_is_held)
        usleep(1000);
    return __real_crypt_rn(phrase, setting, data, size);
}

/* The file is checked at most once a second: moves the clock past that second. */
static void let_a_second_pass(void) {
    later_ms += 1100;
}

/* "user:hash\n" of a bcrypt of the given cost. */
static void append_user(struct buffer *out, const char *user, const char *password,
                        const char *prefix, unsigned long cost) {
    char salt[CRYPT_GENSALT_OUTPUT_SIZE];
    cleanup_free struct crypt_data *data = calloc(1, sizeof *data);
    assert_non_null(crypt_gensalt_rn(prefix, cost, NULL, 0, salt, sizeof salt));
    const char *hash = crypt_rn(password, salt, data, sizeof *data);
    assert_non_null(hash);
    buffer_printf(out, "%s:%s\n", user, hash);
}

static void write_text(const char *text) {
    FILE *out = fopen(file, "w");
    assert_non_null(out);
    fputs(text, out);
    fclose(out);
}

static struct clients_limits limits; /* of the next clients; every test finds the defaults */

static int begin_test(void **state) {
    (void)state;
    limits = clients_limits_default();
    later_ms = 0; /* a condition waits by the real clock */
    return 0;
}

static struct clients *clients_of(const char *text) {
    struct error error = {0};
    write_text(text);
    const struct clients_settings settings = {.htpasswd = file, .limits = limits};
    struct clients *clients = clients_new(&settings, NULL, &error);
    if (!clients)
        fail_msg("refused: %s", error.text);
    return clients;
}

static enum clients_verdict allow_login(struct clients *clients,
                                        const struct clients_login *login) {
    struct clients_identity who;
    struct clients_answer answer = clients_identify(clients, login, &who);
    assert_true((answer.verdict == CLIENTS_LOGGED_IN) == (who.user[0] != '\0'));
    bool comes_again = answer.verdict == CLIENTS_LOCKED_OUT || answer.verdict == CLIENTS_TOO_MANY;
    assert_true(comes_again == (answer.retry_after_s > 0));
    return answer.verdict;
}

static struct clients_login login_of(const char *header) {
    return (struct clients_login){.authorization = text_of(header), .client = "unix"};
}

static bool allow(struct clients *clients, const char *header) {
    const struct clients_login login = login_of(header);
    enum clients_verdict verdict = allow_login(clients, &login);
    assert_true(verdict == CLIENTS_LOGGED_IN || verdict == CLIENTS_REFUSED);
    return verdict == CLIENTS_LOGGED_IN;
}

static enum clients_verdict known(struct clients *clients, const char *header) {
    struct clients_identity who;
    forbidden = true;
    const struct clients_login login = login_of(header);
    enum clients_verdict verdict = clients_known(clients, &login, &who).verdict;
    forbidden = false;
    assert_true((verdict == CLIENTS_LOGGED_IN) == (who.user[0] != '\0'));
    return verdict;
}

/* The same from the address 10.0.0.`last`. */
static enum clients_verdict allow_from(struct clients *clients, unsigned char last,
                                       const char *header) {
    const struct http_address address = {{[10] = 0xff, 0xff, 10, 0, 0, last}};
    struct clients_login login = login_of(header);
    login.address = &address;
    login.client = "10.0.0.x:1";
    return allow_login(clients, &login);
}

#define ANN_SESAME "Basic YW5uOnNlc2FtZQ==" /* ann:sesame */
#define ANN_WRONG  "Basic YW5uOnNlc2Ft"     /* ann:sesam */
#define BOB_COLON  "basic   Ym9iOmE6Yg=="   /* bob:a:b */
#define EVE_SESAME "Basic ZXZlOnNlc2FtZQ==" /* eve:sesame */

static void test_the_right_password_and_no_other_is_let_in(void **state) {
    (void)state;
    cleanup_buffer struct buffer text = {0};
    buffer_append_string(&text, "# people\n\n");
    append_user(&text, "ann", "sesame", "$2y$", 4);
    append_user(&text, "bob", "a:b", "$6$", 1000);
    struct clients *clients = clients_of(text.bytes);
    struct clients_identity who;
    const struct clients_login right = login_of(ANN_SESAME);
    assert_int_equal(clients_identify(clients, &right, &who).verdict, CLIENTS_LOGGED_IN);
    assert_string_equal(who.user, "ann");
    for (int i = 0; i < 3; i++) { /* also after the right password is remembered */
        assert_true(allow(clients, ANN_SESAME));
        assert_false(allow(clients, ANN_WRONG));
        assert_true(allow(clients, BOB_COLON));
        assert_false(allow(clients, EVE_SESAME));
    }
    clients_release(clients);
}

static void test_malformed_credentials_are_refused(void **state) {
    (void)state;
    cleanup_buffer struct buffer text = {0};
    append_user(&text, "ann", "sesame", "$2y$", 4);
    struct clients *clients = clients_of(text.bytes);
    static const char *const headers[] = {"",
                                          "Basic",
                                          "Basic ",
                                          "Bearer YW5uOnNlc2FtZQ==",
                                          "BasicYW5uOnNlc2FtZQ==",
                                          "Basic YW5uOnNlc2FtZQ",
                                          "Basic YW5uOnNlc2FtZQ===",
                                          "Basic YW5uOnNlc2FtZQ== x",
                                          "Basic YW5u OnNlc2FtZQ==",
                                          "Basic YW5u-nNlc2FtZQ==",
                                          "Basic ====",
                                          "Basic YW5u",             /* no colon */
                                          "Basic OnNlc2FtZQ==",     /* no name */
                                          "Basic YW5uOnNlc2FtZQA=", /* a NUL behind it */
                                          "Basic YW5uOg=="};        /* an empty password */
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++)
        assert_false(allow(clients, headers[i]));

    cleanup_buffer struct buffer longest = {0};
    buffer_append_string(&longest, "Basic ");
    for (int i = 0; i < 2000; i++)
        buffer_append_string(&longest, "YW5u");
    assert_false(allow(clients, longest.bytes));
    clients_release(clients);
}

static void test_a_client_without_credentials_is_anonymous(void **state) {
    (void)state;
    cleanup_buffer struct buffer text = {0};
    append_user(&text, "ann", "sesame", "$2y$", 4);
    struct clients *clients = clients_of(text.bytes);
    /* skopeo and podman send an empty user and password when they have none. */
    static const char *const headers[] = {NULL, "Basic Og==", "basic  Og== "};
    unsigned before = hashes_made;
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        const struct clients_login login = login_of(headers[i]);
        assert_int_equal(allow_login(clients, &login), CLIENTS_ANONYMOUS);
        assert_int_equal(known(clients, headers[i]), CLIENTS_ANONYMOUS);
    }
    assert_int_equal(hashes_made, before);
    assert_false(allow(clients, "Basic OmE=")); /* an empty user with a password */
    clients_release(clients);
}

static void test_only_hashes_may_stand_in_the_file(void **state) {
    (void)state;
    static const struct {
        const char *text, *told;
    } cases[] = {
        {"ann:sesame\n", ":1: the password of user ann is not a hash that tarn knows; write it "
                         "with htpasswd -B"},
        {"# x\nann:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n", ":2: the password of user ann is not"},
        {"ann:$apr1$abcdefgh$AAAAAAAAAAAAAAAAAAAAA/\n", ":1: the password of user ann is not"},
        {"ann:\n", ":1: the password of user ann is not"},
        {"ann\n", ":1: expected USER:HASH, as htpasswd -B writes"},
        {":$2y$04$abc\n", ":1: expected USER:HASH"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error error = {0};
        write_text(cases[i].text);
        const struct clients_settings settings = {.htpasswd = file, .limits = limits};
        assert_null(clients_new(&settings, NULL, &error));
        assert_int_equal(error.kind, ERROR_INVALID);
        if (!strstr(error.text, cases[i].told) || !strstr(error.text, file))
            fail_msg("%s", error.text);
    }
    struct error error = {0};
    const struct clients_settings missing = {.htpasswd = "/not/there", .limits = limits};
    assert_null(clients_new(&missing, NULL, &error));
    assert_int_equal(error.kind, ERROR_NOT_FOUND);

    struct clients *clients = clients_of(""); /* nobody may read */
    assert_false(allow(clients, ANN_SESAME));
    clients_release(clients);
}

static void test_the_file_is_read_again_when_it_changes(void **state) {
    (void)state;
    cleanup_buffer struct buffer first = {0}, second = {0};
    append_user(&first, "ann", "sesame", "$2y$", 4);
    append_user(&second, "eve", "sesame", "$2y$", 4);
    struct clients *clients = clients_of(first.bytes);
    assert_true(allow(clients, ANN_SESAME)); /* remembered from here on */
    write_text(second.bytes);
    let_a_second_pass();
    assert_false(allow(clients, ANN_SESAME));
    assert_true(allow(clients, EVE_SESAME));

    write_text("broken\n"); /* a mistake, or half written: the users known before stay */
    let_a_second_pass();
    assert_true(allow(clients, EVE_SESAME));
    write_text(first.bytes);
    let_a_second_pass();
    assert_true(allow(clients, ANN_SESAME));
    assert_false(allow(clients, EVE_SESAME));
    clients_release(clients);
}

static void test_nobody_gets_in_while_the_file_is_gone(void **state) {
    (void)state;
    cleanup_buffer struct buffer text = {0};
    append_user(&text, "ann", "sesame", "$2y$", 4);
    struct clients *clients = clients_of(text.bytes);
    assert_true(allow(clients, ANN_SESAME));
    unlink(file);
    let_a_second_pass();
    for (int i = 0; i < 20; i++) /* which is nobody's fault: no address is locked out */
        assert_int_equal(allow_from(clients, 1, ANN_SESAME), CLIENTS_REFUSED);
    assert_int_equal(known(clients, ANN_SESAME), CLIENTS_MUST_CHECK);
    write_text("broken\n"); /* it comes back, and says nothing yet */
    let_a_second_pass();
    assert_false(allow(clients, ANN_SESAME));
    write_text(text.bytes);
    let_a_second_pass();
    assert_int_equal(allow_from(clients, 1, ANN_SESAME), CLIENTS_LOGGED_IN);
    clients_release(clients);
}

static void test_a_right_password_costs_one_hash(void **state) {
    (void)state;
    cleanup_buffer struct buffer text = {0};
    append_user(&text, "ann", "sesame", "$2y$", 4);
    struct clients *clients = clients_of(text.bytes);
    unsigned before = hashes_made;
    for (int i = 0; i < 50; i++)
        assert_true(allow(clients, ANN_SESAME));
    assert_int_equal(hashes_made - before, 1); /* and not fifty */
    clients_release(clients);
}

/* The hash takes nearly all of the time. A wrong password and an unknown user cost one hash each,
 * of the same kind and cost. */
static void test_an_unknown_user_costs_as_much_as_a_wrong_password(void **state) {
    (void)state;
    cleanup_buffer struct buffer text = {0};
    append_user(&text, "ann", "sesame", "$2y$", 4);
    struct clients *clients = clients_of(text.bytes);
    for (unsigned i = 0; i < 5; i++) {
        unsigned before = hashes_made;
        assert_false(allow(clients, ANN_WRONG));
        assert_int_equal(hashes_made - before, 1);
        assert_false(allow(clients, EVE_SESAME));
        assert_int_equal(hashes_made - before, 2);
        later_ms += 10000; /* until then both are remembered, and cost none */
    }
    clients_release(clients);
}

/* ---- without waiting ---- */

static void test_a_remembered_password_is_known_without_a_hash_or_a_look_at_the_file(void **state) {
    (void)state;
    cleanup_buffer struct buffer text = {0};
    append_user(&text, "ann", "sesame", "$2y$", 4);
    struct clients *clients = clients_of(text.bytes);
    struct clients_identity who;
    unsigned before = hashes_made;
    assert_int_equal(known(clients, ANN_SESAME), CLIENTS_MUST_CHECK);
    assert_int_equal(known(clients, ANN_WRONG), CLIENTS_MUST_CHECK);
    assert_int_equal(known(clients, EVE_SESAME), CLIENTS_MUST_CHECK);
    assert_int_equal(known(clients, "Basic YW5u"), CLIENTS_REFUSED);
    assert_int_equal(hashes_made, before);
    assert_true(allow(clients, ANN_SESAME));
    const struct clients_login right = login_of(ANN_SESAME);
    assert_int_equal(clients_known(clients, &right, &who).verdict, CLIENTS_LOGGED_IN);
    assert_string_equal(who.user, "ann");
    assert_int_equal(known(clients, ANN_WRONG), CLIENTS_MUST_CHECK);
    for (int i = 0; i < 70; i++) { /* the check holds for a minute */
        later_ms += 1000;
        clients_look(clients);
    }
    assert_int_equal(known(clients, ANN_SESAME), CLIENTS_MUST_CHECK);
    clients_release(clients);
}

static void test_one_request_a_second_is_left_to_look_at_the_file(void **state) {
    (void)state;
    cleanup_buffer struct buffer text = {0};
    append_user(&text, "ann", "sesame", "$2y$", 4);
    struct clients *clients = clients_of(text.bytes);
    assert_true(allow(clients, ANN_SESAME));
    for (int second = 0; second < 2; second++) {
        let_a_second_pass();
        assert_int_equal(known(clients, ANN_SESAME), CLIENTS_MUST_CHECK);
        assert_int_equal(known(clients, ANN_SESAME), CLIENTS_LOGGED_IN);
    }
    let_a_second_pass(); /* nobody has looked for three seconds */
    assert_int_equal(known(clients, ANN_SESAME), CLIENTS_MUST_CHECK);
    assert_int_equal(known(clients, ANN_SESAME), CLIENTS_MUST_CHECK);
    clients_look(clients);
    assert_int_equal(known(clients, ANN_SESAME), CLIENTS_LOGGED_IN);
    clients_release(clients);
}

static void test_a_changed_file_is_heeded_without_waiting_too(void **state) {
    (void)state;
    cleanup_buffer struct buffer first = {0}, second = {0};
    append_user(&first, "ann", "sesame", "$2y$", 4);
    append_user(&second, "eve", "sesame", "$2y$", 4);
    struct clients *clients = clients_of(first.bytes);
    assert_true(allow(clients, ANN_SESAME));
    assert_int_equal(known(clients, ANN_SESAME), CLIENTS_LOGGED_IN);
    write_text(second.bytes);
    let_a_second_pass();
    clients_look(clients);
    assert_int_equal(known(clients, ANN_SESAME), CLIENTS_MUST_CHECK);
    assert_false(allow(clients, ANN_SESAME));
    clients_release(clients);
}

static void *ask(void *context) {
    for (int i = 0; i < 20; i++) {
        if (!allow(context, ANN_SESAME) || allow(context, ANN_WRONG) ||
            known(context, ANN_WRONG) != CLIENTS_MUST_CHECK ||
            known(context, ANN_SESAME) == CLIENTS_REFUSED)
            return NULL;
    }
    return context;
}

static void test_many_threads_ask_at_once(void **state) {
    (void)state;
    cleanup_buffer struct buffer text = {0};
    append_user(&text, "ann", "sesame", "$2y$", 4);
    struct clients *clients = clients_of(text.bytes);
    pthread_t threads[8];
    for (int i = 0; i < 8; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ask, clients), 0);
    for (int i = 0; i < 8; i++) {
        void *result = NULL;
        pthread_join(threads[i], &result);
        assert_ptr_equal(result, clients);
    }
    clients_release(clients);
}

/* ---- failed logins ---- */

/* "Basic …" of ann and a wrong password, another one for each number. */
static void wrong_login(unsigned number, char out[static 64]) {
    char plain[32], coded[48];
    int length = snprintf(plain, sizeof plain, "ann:wrong-%08u", number);
    EVP_EncodeBlock((unsigned char *)coded, (const unsigned char *)plain, length);
    snprintf(out, 64, "Basic %s", coded);
}

static struct clients *clients_with_ann(void) {
    cleanup_buffer struct buffer text = {0};
    append_user(&text, "ann", "sesame", "$2y$", 4);
    return clients_of(text.bytes);
}

static void test_a_failed_login_costs_no_second_hash_for_some_seconds(void **state) {
    (void)state;
    struct clients *clients = clients_with_ann();
    unsigned before = hashes_made;
    for (int i = 0; i < 50; i++)
        assert_false(allow(clients, ANN_WRONG));
    assert_int_equal(hashes_made - before, 1);
    later_ms += 10000;
    assert_false(allow(clients, ANN_WRONG));
    assert_int_equal(hashes_made - before, 2);
    clients_release(clients);
}

static void test_a_new_password_is_right_although_it_was_wrong_a_moment_ago(void **state) {
    (void)state;
    cleanup_buffer struct buffer first = {0}, second = {0};
    append_user(&first, "ann", "another", "$2y$", 4);
    append_user(&second, "ann", "sesame", "$2y$", 4);
    struct clients *clients = clients_of(first.bytes);
    assert_false(allow(clients, ANN_SESAME));
    write_text(second.bytes);
    let_a_second_pass();
    assert_true(allow(clients, ANN_SESAME));
    clients_release(clients);
}

static void test_an_address_with_too_many_failures_is_locked_out_for_a_while(void **state) {
    (void)state;
    char wrong[64];
    struct clients *clients = clients_with_ann();
    assert_int_equal(allow_from(clients, 1, ANN_SESAME), CLIENTS_LOGGED_IN);
    for (unsigned i = 0; i < 10; i++) { /* the same one counts again */
        assert_int_equal(allow_from(clients, 1, ANN_SESAME), CLIENTS_LOGGED_IN);
        assert_int_equal(allow_from(clients, 1, "Basic YW5u"), CLIENTS_REFUSED); /* malformed */
        wrong_login(i / 2, wrong);
        assert_int_equal(allow_from(clients, 1, wrong), CLIENTS_REFUSED);
    }
    unsigned before = hashes_made;
    wrong_login(99, wrong);
    assert_int_equal(allow_from(clients, 1, wrong), CLIENTS_LOCKED_OUT);
    assert_int_equal(allow_from(clients, 1, ANN_SESAME), CLIENTS_LOCKED_OUT); /* no oracle */
    assert_int_equal(hashes_made, before);
    assert_int_equal(allow_from(clients, 2, ANN_SESAME), CLIENTS_LOGGED_IN);
    assert_int_equal(allow_from(clients, 2, wrong), CLIENTS_REFUSED);
    assert_true(allow(clients, ANN_SESAME)); /* by the Unix socket */
    later_ms += limits.within_ms - 1000;
    assert_int_equal(allow_from(clients, 1, ANN_SESAME), CLIENTS_LOCKED_OUT);
    later_ms += 1000;
    assert_int_equal(allow_from(clients, 1, ANN_SESAME), CLIENTS_LOGGED_IN);
    assert_int_equal(allow_from(clients, 1, wrong), CLIENTS_REFUSED);
    clients_release(clients);
}

static void test_a_loop_knows_who_is_locked_out(void **state) {
    (void)state;
    limits.failures = 1;
    struct clients *clients = clients_with_ann();
    const struct http_address address = {{[10] = 0xff, 0xff, 10, 0, 0, 1}};
    struct clients_login login = login_of(ANN_SESAME);
    login.address = &address;
    assert_int_equal(allow_from(clients, 1, ANN_WRONG), CLIENTS_REFUSED);
    forbidden = true;
    struct clients_identity who;
    struct clients_answer answer = clients_known(clients, &login, &who);
    forbidden = false;
    assert_int_equal(answer.verdict, CLIENTS_LOCKED_OUT);
    assert_in_range(answer.retry_after_s, 50, 60);
    clients_release(clients);
}

static void test_failures_that_are_long_ago_do_not_count(void **state) {
    (void)state;
    limits.failures = 3;
    struct clients *clients = clients_with_ann();
    for (int i = 0; i < 5; i++) {
        assert_int_equal(allow_from(clients, 1, ANN_WRONG), CLIENTS_REFUSED);
        assert_int_equal(allow_from(clients, 1, ANN_WRONG), CLIENTS_REFUSED);
        later_ms += limits.within_ms;
    }
    for (int i = 0; i < 3; i++)
        assert_int_equal(allow_from(clients, 1, ANN_WRONG), CLIENTS_REFUSED);
    assert_int_equal(allow_from(clients, 1, ANN_WRONG), CLIENTS_LOCKED_OUT);
    clients_release(clients);
}

/* One login on a thread. */
struct attempt {
    struct clients *clients;
    unsigned char from;
    char header[64];
    atomic_bool leaves; /* its client has left */
    enum clients_verdict verdict;
    pthread_t thread;
};

static bool is_there(void *context) {
    const struct attempt *attempt = context;
    return !attempt->leaves;
}

static void *attempt_login(void *context) {
    struct attempt *attempt = context;
    const struct http_address address = {{[10] = 0xff, 0xff, 10, 0, 0, attempt->from}};
    const struct cancel cancel = {.is_wanted = is_there, .context = attempt};
    const struct clients_login login = {.authorization = text_of(attempt->header),
                                        .client = "10.0.0.x:1",
                                        .address = &address,
                                        .cancel = &cancel};
    struct clients_identity who;
    attempt->verdict = clients_identify(attempt->clients, &login, &who).verdict;
    return NULL;
}

static void begin_attempt(struct attempt *attempt, struct clients *clients, unsigned char from,
                          const char *header) {
    attempt->clients = clients;
    attempt->from = from;
    if (attempt->header != header)
        snprintf(attempt->header, sizeof attempt->header, "%s", header);
    assert_int_equal(pthread_create(&attempt->thread, NULL, attempt_login, attempt), 0);
}

static enum clients_verdict end_attempt(struct attempt *attempt) {
    pthread_join(attempt->thread, NULL);
    return attempt->verdict;
}

/* As many hashes as there are processors, each of another wrong password from the address 10.0.0.1.
 */
static unsigned occupy_processors(struct clients *clients, struct attempt attempts[static 64]) {
    unsigned count = (unsigned)sysconf(_SC_NPROCESSORS_ONLN), before = hashes_made;
    assert_in_range(count, 1, 64);
    hashing_is_held = true;
    for (unsigned i = 0; i < count; i++) {
        wrong_login(i, attempts[i].header);
        begin_attempt(&attempts[i], clients, 1, attempts[i].header);
    }
    while (hashes_made - before < count)
        usleep(1000);
    return count;
}

/* Waits until a login from this address would be one too many. */
static void wait_until_full(struct clients *clients, unsigned char from) {
    const struct http_address address = {{[10] = 0xff, 0xff, 10, 0, 0, from}};
    struct clients_login login = login_of("Basic YW5uOm5vdGhpbmc=");
    struct clients_identity who;
    login.address = &address;
    do {
        usleep(1000);
        clients_look(clients);
    } while (clients_known(clients, &login, &who).verdict != CLIENTS_TOO_MANY);
}

static void test_a_bounded_number_of_logins_waits_and_one_address_leaves_room(void **state) {
    (void)state;
    static struct attempt running[64], waiting[8], other;
    limits.failures = 1000;
    limits.waiting = 4;
    struct clients *clients = clients_with_ann();
    unsigned count = occupy_processors(clients, running), before = hashes_made;
    for (unsigned i = 0; i < 3; i++) { /* half, and one more */
        wrong_login(100 + i, waiting[i].header);
        begin_attempt(&waiting[i], clients, 1, waiting[i].header);
    }
    wait_until_full(clients, 1);
    for (unsigned i = 0; i < 5; i++) { /* at once, and without a hash */
        char wrong[64];
        wrong_login(200 + i, wrong);
        assert_int_equal(allow_from(clients, 1, wrong), CLIENTS_TOO_MANY);
    }
    begin_attempt(&other, clients, 2, ANN_SESAME); /* another address still has a place */
    wait_until_full(clients, 3);
    assert_int_equal(hashes_made, before);
    hashing_is_held = false;
    assert_int_equal(end_attempt(&other), CLIENTS_LOGGED_IN);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(end_attempt(&running[i]), CLIENTS_REFUSED);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(end_attempt(&waiting[i]), CLIENTS_REFUSED);
    clients_release(clients);
}

static void test_a_client_that_has_left_costs_no_hash(void **state) {
    (void)state;
    static struct attempt running[64], gone;
    limits.failures = 1000;
    limits.waiting = 1;
    struct clients *clients = clients_with_ann();
    unsigned count = occupy_processors(clients, running), before = hashes_made;
    wrong_login(100, gone.header);
    begin_attempt(&gone, clients, 2, gone.header);
    wait_until_full(clients, 3);
    gone.leaves = true;
    assert_int_equal(end_attempt(&gone), CLIENTS_GONE);
    hashing_is_held = false;
    for (unsigned i = 0; i < count; i++)
        end_attempt(&running[i]);
    assert_int_equal(hashes_made, before);
    clients_release(clients);
}

static void test_the_same_login_of_many_requests_takes_one_turn(void **state) {
    (void)state;
    enum { CROWD = 20 };
    static struct attempt running[64], crowd[CROWD];
    limits.failures = 1000;
    limits.waiting = 1;
    struct clients *clients = clients_with_ann();
    unsigned count = occupy_processors(clients, running), before = hashes_made;
    for (unsigned i = 0; i < CROWD; i++)
        begin_attempt(&crowd[i], clients, (unsigned char)(i + 2), ANN_SESAME);
    wait_until_full(clients, 250);
    hashing_is_held = false;
    for (unsigned i = 0; i < CROWD; i++)
        assert_int_equal(end_attempt(&crowd[i]), CLIENTS_LOGGED_IN);
    for (unsigned i = 0; i < count; i++)
        end_attempt(&running[i]);
    assert_int_equal(hashes_made - before, 1);
    clients_release(clients);
}

/* The hashes of one file may cost differently. */
static void test_the_time_of_a_login_does_not_tell_who_is_a_user(void **state) {
    (void)state;
    static const struct htpasswd_user users[] = {{"ann", "cheap"}, {"bob", "dear"}};
    const struct htpasswd htpasswd = {.users = (struct htpasswd_user *)users, .count = 2};
    char hash[HTPASSWD_HASH_SIZE];
    for (uint64_t secret = 0; secret < 8; secret++) {
        assert_false(htpasswd_find(&htpasswd, "eve", secret, hash));
        assert_string_equal(hash, users[secret % 2].hash);
        assert_true(htpasswd_find(&htpasswd, "bob", secret, hash));
        assert_string_equal(hash, "dear");
    }
    assert_false(htpasswd_find(&(struct htpasswd){0}, "eve", 7, hash));
    assert_string_equal(hash, "");
}

static void test_the_table_of_addresses_is_bounded(void **state) {
    (void)state;
    limits.failures = 2;
    struct clients *clients = clients_with_ann();
    struct http_address address = {{0}};
    struct clients_login login = login_of(ANN_WRONG);
    login.address = &address;
    assert_int_equal(allow_from(clients, 1, ANN_WRONG), CLIENTS_REFUSED);
    assert_int_equal(allow_from(clients, 1, ANN_WRONG), CLIENTS_REFUSED);
    for (unsigned i = 0; i < 50000; i++) { /* one failure each, by more than there are entries */
        memcpy(address.bytes, &i, sizeof i);
        assert_int_equal(allow_login(clients, &login), CLIENTS_REFUSED);
    }
    assert_int_equal(allow_from(clients, 1, ANN_SESAME), CLIENTS_LOCKED_OUT);
    clients_release(clients);
}

/* The clients of another configuration, with the same file. */
static struct clients *next_clients(const struct clients *before) {
    struct error error = {0};
    const struct clients_settings settings = {.htpasswd = file, .limits = limits};
    struct clients *clients = clients_new(&settings, before, &error);
    if (!clients)
        fail_msg("refused: %s", error.text);
    return clients;
}

static void test_other_clients_know_what_those_before_them_knew(void **state) {
    (void)state;
    limits.failures = 3;
    struct clients *before = clients_with_ann();
    assert_int_equal(allow_from(before, 1, ANN_SESAME), CLIENTS_LOGGED_IN);
    for (int i = 0; i < 3; i++)
        assert_int_equal(allow_from(before, 2, ANN_WRONG), CLIENTS_REFUSED);
    unsigned hashes = hashes_made;
    limits.failures = 100;
    struct clients *clients = next_clients(before);
    clients_begin(clients);
    clients_release(before);
    assert_int_equal(known(clients, ANN_SESAME), CLIENTS_LOGGED_IN);
    assert_int_equal(allow_from(clients, 2, ANN_SESAME), CLIENTS_LOCKED_OUT);
    assert_int_equal(hashes_made, hashes);
    clients_release(clients);
}

static void test_clients_that_have_not_begun_change_nothing(void **state) {
    (void)state;
    limits.failures = 3;
    struct clients *before = clients_with_ann();
    limits.failures = 1;
    struct clients *clients = next_clients(before);
    assert_int_equal(allow_from(before, 1, ANN_WRONG), CLIENTS_REFUSED);
    assert_int_equal(allow_from(before, 1, ANN_WRONG), CLIENTS_REFUSED);
    clients_begin(clients); /* an address that has had more failures than it may have now */
    assert_int_equal(allow_from(clients, 1, ANN_SESAME), CLIENTS_LOGGED_IN);
    assert_int_equal(allow_from(clients, 1, ANN_WRONG), CLIENTS_REFUSED);
    assert_int_equal(allow_from(clients, 1, ANN_SESAME), CLIENTS_LOCKED_OUT);
    clients_release(clients);
    assert_int_equal(allow_from(before, 1, ANN_SESAME), CLIENTS_LOCKED_OUT);
    clients_release(before);
}

static int make_file(void **state) {
    (void)state;
    log_configure(LOG_ERROR, LOG_TEXT);
    int fd = mkstemp(file);
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state) {
    (void)state;
    return unlink(file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_the_right_password_and_no_other_is_let_in, begin_test),
        cmocka_unit_test_setup(test_malformed_credentials_are_refused, begin_test),
        cmocka_unit_test_setup(test_a_client_without_credentials_is_anonymous, begin_test),
        cmocka_unit_test_setup(test_only_hashes_may_stand_in_the_file, begin_test),
        cmocka_unit_test_setup(test_the_file_is_read_again_when_it_changes, begin_test),
        cmocka_unit_test_setup(test_nobody_gets_in_while_the_file_is_gone, begin_test),
        cmocka_unit_test_setup(test_a_right_password_costs_one_hash, begin_test),
        cmocka_unit_test_setup(test_an_unknown_user_costs_as_much_as_a_wrong_password, begin_test),
        cmocka_unit_test_setup(
            test_a_remembered_password_is_known_without_a_hash_or_a_look_at_the_file, begin_test),
        cmocka_unit_test_setup(test_one_request_a_second_is_left_to_look_at_the_file, begin_test),
        cmocka_unit_test_setup(test_a_changed_file_is_heeded_without_waiting_too, begin_test),
        cmocka_unit_test_setup(test_many_threads_ask_at_once, begin_test),
        cmocka_unit_test_setup(test_a_failed_login_costs_no_second_hash_for_some_seconds,
                               begin_test),
        cmocka_unit_test_setup(test_a_new_password_is_right_although_it_was_wrong_a_moment_ago,
                               begin_test),
        cmocka_unit_test_setup(test_an_address_with_too_many_failures_is_locked_out_for_a_while,
                               begin_test),
        cmocka_unit_test_setup(test_a_loop_knows_who_is_locked_out, begin_test),
        cmocka_unit_test_setup(test_failures_that_are_long_ago_do_not_count, begin_test),
        cmocka_unit_test_setup(test_a_bounded_number_of_logins_waits_and_one_address_leaves_room,
                               begin_test),
        cmocka_unit_test_setup(test_a_client_that_has_left_costs_no_hash, begin_test),
        cmocka_unit_test_setup(test_the_same_login_of_many_requests_takes_one_turn, begin_test),
        cmocka_unit_test_setup(test_the_time_of_a_login_does_not_tell_who_is_a_user, begin_test),
        cmocka_unit_test_setup(test_the_table_of_addresses_is_bounded, begin_test),
        cmocka_unit_test_setup(test_other_clients_know_what_those_before_them_knew, begin_test),
        cmocka_unit_test_setup(test_clients_that_have_not_begun_change_nothing, begin_test),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
