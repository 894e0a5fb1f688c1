/* Which clients may read: only those with a right password, which costs one hash, by a file that
 * may change. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <crypt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "registry/clients.h"
#include "registry/htpasswd.h"

static char file[] = "/tmp/tarn-htpasswd-XXXXXX";

/* ---- the clock and the hash, as clients.c sees them ---- */

static _Atomic int64_t later_ms;     /* added to the clock */
static _Atomic unsigned hashes_made; /* how often a hash was computed */

int64_t __real_clock_ms(void);
int64_t __wrap_clock_ms(void);
int64_t __wrap_clock_ms(void) {
    return __real_clock_ms() + later_ms;
}

char *__real_crypt_rn(const char *phrase, const char *setting, void *data, int size);
char *__wrap_crypt_rn(const char *phrase, const char *setting, void *data, int size);
char *__wrap_crypt_rn(const char *phrase, const char *setting, void *data, int size) {
    hashes_made++;
    return __real_crypt_rn(phrase, setting, data, size);
}

static _Thread_local bool forbidden; /* this thread may neither allocate nor look at a file */

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size) {
    if (forbidden)
        abort();
    return __real_malloc(size);
}

void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size) {
    if (forbidden)
        abort();
    return __real_calloc(count, size);
}

bool __real_htpasswd_changed(const char *path, const struct htpasswd *htpasswd);
bool __wrap_htpasswd_changed(const char *path, const struct htpasswd *htpasswd);
bool __wrap_htpasswd_changed(const char *path, const struct htpasswd *htpasswd) {
    if (forbidden)
        abort();
    return __real_htpasswd_changed(path, htpasswd);
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

static struct clients *clients_of(const char *text) {
    struct error error = {0};
    write_text(text);
    struct clients *clients = clients_new(file, &error);
    if (!clients)
        fail_msg("refused: %s", error.text);
    return clients;
}

static bool allow(struct clients *clients, const char *header) {
    char user[64];
    bool allowed = clients_allow(clients, text_of(header), user, sizeof user);
    assert_true(allowed == (*user != '\0'));
    return allowed;
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
    char user[64];
    assert_true(clients_allow(clients, text_of(ANN_SESAME), user, sizeof user));
    assert_string_equal(user, "ann");
    for (int i = 0; i < 3; i++) { /* also after the right password is remembered */
        assert_true(allow(clients, ANN_SESAME));
        assert_false(allow(clients, ANN_WRONG));
        assert_true(allow(clients, BOB_COLON));
        assert_false(allow(clients, EVE_SESAME));
    }
    clients_free(clients);
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
    assert_false(clients_allow(clients, (struct text){NULL, 0}, NULL, 0));

    cleanup_buffer struct buffer longest = {0};
    buffer_append_string(&longest, "Basic ");
    for (int i = 0; i < 2000; i++)
        buffer_append_string(&longest, "YW5u");
    assert_false(allow(clients, longest.bytes));
    clients_free(clients);
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
        assert_null(clients_new(file, &error));
        assert_int_equal(error.kind, ERROR_INVALID);
        if (!strstr(error.text, cases[i].told) || !strstr(error.text, file))
            fail_msg("%s", error.text);
    }
    struct error error = {0};
    assert_null(clients_new("/not/there", &error));
    assert_int_equal(error.kind, ERROR_NOT_FOUND);

    struct clients *clients = clients_of(""); /* nobody may read */
    assert_false(allow(clients, ANN_SESAME));
    clients_free(clients);
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

    write_text("broken\n"); /* the users known before stay */
    let_a_second_pass();
    assert_true(allow(clients, EVE_SESAME));
    unlink(file);
    let_a_second_pass();
    assert_true(allow(clients, EVE_SESAME));
    write_text(first.bytes);
    let_a_second_pass();
    assert_true(allow(clients, ANN_SESAME));
    assert_false(allow(clients, EVE_SESAME));
    clients_free(clients);
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
    clients_free(clients);
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
    }
    clients_free(clients);
}

/* ---- without waiting ---- */

static enum clients_verdict known(struct clients *clients, const char *header) {
    char user[64];
    forbidden = true;
    enum clients_verdict verdict = clients_known(clients, text_of(header), user, sizeof user);
    forbidden = false;
    assert_true((verdict == CLIENTS_ALLOWED) == (*user != '\0'));
    return verdict;
}

static void test_a_remembered_password_is_known_without_a_hash_or_a_look_at_the_file(void **state) {
    (void)state;
    cleanup_buffer struct buffer text = {0};
    append_user(&text, "ann", "sesame", "$2y$", 4);
    struct clients *clients = clients_of(text.bytes);
    char user[64];
    unsigned before = hashes_made;
    assert_int_equal(known(clients, ANN_SESAME), CLIENTS_MUST_CHECK);
    assert_int_equal(known(clients, ANN_WRONG), CLIENTS_MUST_CHECK);
    assert_int_equal(known(clients, EVE_SESAME), CLIENTS_MUST_CHECK);
    assert_int_equal(known(clients, "Basic YW5u"), CLIENTS_REFUSED);
    assert_int_equal(clients_known(clients, (struct text){NULL, 0}, NULL, 0), CLIENTS_REFUSED);
    assert_int_equal(hashes_made, before);
    assert_true(allow(clients, ANN_SESAME));
    assert_int_equal(clients_known(clients, text_of(ANN_SESAME), user, sizeof user),
                     CLIENTS_ALLOWED);
    assert_string_equal(user, "ann");
    assert_int_equal(known(clients, ANN_WRONG), CLIENTS_MUST_CHECK);
    for (int i = 0; i < 70; i++) { /* the check holds for a minute */
        later_ms += 1000;
        clients_look(clients);
    }
    assert_int_equal(known(clients, ANN_SESAME), CLIENTS_MUST_CHECK);
    clients_free(clients);
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
        assert_int_equal(known(clients, ANN_SESAME), CLIENTS_ALLOWED);
    }
    let_a_second_pass(); /* nobody has looked for three seconds */
    assert_int_equal(known(clients, ANN_SESAME), CLIENTS_MUST_CHECK);
    assert_int_equal(known(clients, ANN_SESAME), CLIENTS_MUST_CHECK);
    clients_look(clients);
    assert_int_equal(known(clients, ANN_SESAME), CLIENTS_ALLOWED);
    clients_free(clients);
}

static void test_a_changed_file_is_heeded_without_waiting_too(void **state) {
    (void)state;
    cleanup_buffer struct buffer first = {0}, second = {0};
    append_user(&first, "ann", "sesame", "$2y$", 4);
    append_user(&second, "eve", "sesame", "$2y$", 4);
    struct clients *clients = clients_of(first.bytes);
    assert_true(allow(clients, ANN_SESAME));
    assert_int_equal(known(clients, ANN_SESAME), CLIENTS_ALLOWED);
    write_text(second.bytes);
    let_a_second_pass();
    clients_look(clients);
    assert_int_equal(known(clients, ANN_SESAME), CLIENTS_MUST_CHECK);
    assert_false(allow(clients, ANN_SESAME));
    clients_free(clients);
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
    clients_free(clients);
}

static int make_file(void **state) {
    (void)state;
    int fd = mkstemp(file);
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state) {
    (void)state;
    return unlink(file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_right_password_and_no_other_is_let_in),
        cmocka_unit_test(test_malformed_credentials_are_refused),
        cmocka_unit_test(test_only_hashes_may_stand_in_the_file),
        cmocka_unit_test(test_the_file_is_read_again_when_it_changes),
        cmocka_unit_test(test_a_right_password_costs_one_hash),
        cmocka_unit_test(test_an_unknown_user_costs_as_much_as_a_wrong_password),
        cmocka_unit_test(test_a_remembered_password_is_known_without_a_hash_or_a_look_at_the_file),
        cmocka_unit_test(test_one_request_a_second_is_left_to_look_at_the_file),
        cmocka_unit_test(test_a_changed_file_is_heeded_without_waiting_too),
        cmocka_unit_test(test_many_threads_ask_at_once),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
