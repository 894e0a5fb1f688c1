/* As whom a cluster is asked: when files are read again. The test moves the clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/log.h"
#include "kubernetes/identity.h"

static int64_t now_ms = 1000;

int64_t __wrap_clock_ms(void);
int64_t __wrap_clock_ms(void) {
    return now_ms;
}

struct bench {
    char folder[64], token[80], authority[80];
    struct kubeconfig config;
    struct identity *identity;
};

static void write_file(const char *path, const char *text) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int bench_open(void **state) {
    struct bench *bench = calloc(1, sizeof *bench);
    assert_non_null(bench);
    strcpy(bench->folder, "/tmp/tarn-identity-XXXXXX");
    assert_non_null(mkdtemp(bench->folder));
    snprintf(bench->token, sizeof bench->token, "%s/token", bench->folder);
    snprintf(bench->authority, sizeof bench->authority, "%s/ca", bench->folder);
    write_file(bench->token, "one\n");
    write_file(bench->authority, "CA1");
    bench->config.token_file = bench->token;
    bench->config.authority_file = bench->authority;
    bench->identity = identity_new(&bench->config, NULL);
    *state = bench;
    return 0;
}

static int bench_close(void **state) {
    struct bench *bench = *state;
    identity_free(bench->identity);
    unlink(bench->token);
    unlink(bench->authority);
    rmdir(bench->folder);
    free(bench);
    return 0;
}

/* What would be shown now. */
static void expect(struct bench *bench, const char *header, const char *authority) {
    const struct identity_proof *proof = identity_hold(bench->identity, NULL, NULL);
    assert_non_null(proof);
    assert_string_equal(proof->authorization, header);
    assert_string_equal(proof->tls.authorities.at, authority);
    identity_release(proof);
}

static void test_files_are_read_again_after_a_minute_and_not_before(void **state) {
    struct bench *bench = *state;
    expect(bench, "Authorization: Bearer one", "CA1");
    write_file(bench->token, "two");
    write_file(bench->authority, "CA2");
    now_ms += 59000;
    expect(bench, "Authorization: Bearer one", "CA1");
    now_ms += 1000;
    expect(bench, "Authorization: Bearer two", "CA2");
}

static void test_a_refused_proof_is_read_again_at_once_and_by_one_thread_only(void **state) {
    struct bench *bench = *state;
    const struct identity_proof *first = identity_hold(bench->identity, NULL, NULL);
    write_file(bench->token, "two");
    const struct identity_proof *second = identity_hold(bench->identity, first, NULL);
    assert_string_equal(first->authorization, "Authorization: Bearer one");
    assert_string_equal(second->authorization, "Authorization: Bearer two");
    write_file(bench->token, "three");
    /* The first was refused elsewhere too, but has been replaced since. */
    const struct identity_proof *third = identity_hold(bench->identity, first, NULL);
    assert_ptr_equal(second, third);
    identity_release(first);
    identity_release(second);
    identity_release(third);
}

static void test_a_file_that_is_gone_for_a_while_does_not_end_what_was_read(void **state) {
    struct bench *bench = *state;
    log_configure(LOG_ERROR, LOG_TEXT);
    expect(bench, "Authorization: Bearer one", "CA1");
    unlink(bench->token);
    now_ms += 60000;
    expect(bench, "Authorization: Bearer one", "CA1");
    write_file(bench->token, "two");
    now_ms += 5000;
    expect(bench, "Authorization: Bearer two", "CA1");
}

static void test_without_its_first_token_there_is_no_proof(void **state) {
    struct bench *bench = *state;
    struct error error = {0};
    write_file(bench->token, "two words");
    assert_null(identity_hold(bench->identity, NULL, &error));
    assert_non_null(strstr(error.text, "no token"));
    assert_null(strstr(error.text, "two words"));
    unlink(bench->token);
    assert_null(identity_hold(bench->identity, NULL, &error));
    assert_int_equal(error.kind, ERROR_NOT_FOUND);
    bench->config.token = (char *)"spare";
    expect(bench, "Authorization: Bearer spare", "CA1");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_files_are_read_again_after_a_minute_and_not_before,
                                        bench_open, bench_close),
        cmocka_unit_test_setup_teardown(
            test_a_refused_proof_is_read_again_at_once_and_by_one_thread_only, bench_open,
            bench_close),
        cmocka_unit_test_setup_teardown(
            test_a_file_that_is_gone_for_a_while_does_not_end_what_was_read, bench_open,
            bench_close),
        cmocka_unit_test_setup_teardown(test_without_its_first_token_there_is_no_proof, bench_open,
                                        bench_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
