/* The list of members and the secrets, while tarn runs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/clock.h"
#include "base/file_reader.h"
#include "base/metric.h"
#include "replica/replicas.h"
#include "replica/resolve.h"

#define SECRET_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define SECRET_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

enum { PATIENCE_MS = 60000 };

static char folder[] = "/tmp/tarn-replicas-XXXXXX", file[64];

static int make_folder(void **state) {
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(file, sizeof file, "%s/secrets", folder);
    return 0;
}

static int remove_folder(void **state) {
    (void)state;
    unlink(file);
    return rmdir(folder);
}

/* Another file takes the place of the one before, as Kubernetes does it. */
static void write_secrets(const char *text) {
    char other[80];
    snprintf(other, sizeof other, "%s.new", file);
    FILE *out = fopen(other, "w");
    assert_non_null(out);
    assert_true(fputs(text, out) >= 0);
    assert_int_equal(fclose(out), 0);
    assert_int_equal(chmod(other, 0600), 0);
    assert_int_equal(rename(other, file), 0);
}

static const struct signed_request request = {
    .method = {"GET", 3}, .path = {"/v2/", 4}, .ask = {"fetch", 5}};

static bool signs_with(struct replicas *replicas, const char *secret) {
    char input[SIGNATURE_INPUT_SIZE], signature[SIGNATURE_SIZE];
    struct secrets *own = secrets_parse(text_of(secret), NULL);
    assert_true(replicas_sign(replicas, &request, input, signature));
    const bool is_good =
        signature_is_good(own, &request, text_of(input), text_of(signature), clock_wall_s());
    secrets_free(own);
    return is_good;
}

static bool accepts(struct replicas *replicas, const char *secret) {
    char input[SIGNATURE_INPUT_SIZE], signature[SIGNATURE_SIZE];
    struct secrets *own = secrets_parse(text_of(secret), NULL);
    assert_true(signature_make(own, &request, clock_wall_s(), input, signature));
    secrets_free(own);
    return replicas_verify(replicas, &request, text_of(input), text_of(signature));
}

static const char *const peers[] = {"10.9.8.1:5000", "10.9.8.2:5000", "10.9.8.3:5000", NULL};

static struct replicas_settings settings_of_peers(void) {
    return (struct replicas_settings){.peers = peers, .secret_file = file, .port = 5000};
}

static struct replicas *make(const struct replicas_settings *settings) {
    struct error error = {0};
    struct replicas *replicas = replicas_new(settings, &error);
    assert_string_equal(error.text, "");
    assert_non_null(replicas);
    return replicas;
}

/* The text of the own member; "": a guest. */
static const char *self_of(struct replicas *replicas) {
    static struct member_figures figures[MEMBERS_LIMIT];
    size_t count = members_describe(replicas_members(replicas), clock_ms(), figures);
    for (size_t i = 0; i < count; i++) {
        if (figures[i].state == MEMBER_SELF)
            return figures[i].member.text;
    }
    return "";
}

/* ---- the list ---- */

static void test_peers_are_the_members_at_once(void **state) {
    (void)state;
    write_secrets(SECRET_A "\n");
    const struct replicas_settings settings = settings_of_peers();
    struct member_figures figures[MEMBERS_LIMIT];
    struct replicas *replicas = make(&settings);
    assert_int_equal(members_describe(replicas_members(replicas), clock_ms(), figures), 3);
    assert_string_equal(figures[0].member.text, "10.9.8.1:5000");
    assert_int_equal(figures[0].state, MEMBER_LIVE);
    assert_string_equal(self_of(replicas), "");
    assert_true(replicas_free(replicas));
}

static void test_self_is_the_configured_member_else_the_literal_listener(void **state) {
    (void)state;
    static const char *const listen[] = {"0.0.0.0:5000", "10.9.8.3:5000", NULL};
    static const char *const other_port[] = {"10.9.8.3:5001", ":0", NULL};
    write_secrets(SECRET_A "\n");
    struct replicas_settings settings = settings_of_peers();
    static const struct {
        const char *self;
        const char *const *listen;
        const char *expected;
    } cases[] = {
        {"10.9.8.2", listen, "10.9.8.2:5000"},
        {"10.9.8.2:5000", NULL, "10.9.8.2:5000"},
        {"10.9.8.2:5001", listen, ""},
        {"10.9.8.9", listen, ""},
        {NULL, listen, "10.9.8.3:5000"},
        {NULL, other_port, ""},
        {NULL, NULL, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        settings.self = cases[i].self;
        settings.listen = cases[i].listen;
        struct replicas *replicas = make(&settings);
        assert_string_equal(self_of(replicas), cases[i].expected);
        assert_true(replicas_free(replicas));
    }
}

static void test_self_is_else_the_address_of_an_interface_with_the_own_port(void **state) {
    (void)state;
    static const char *const with_loopback[] = {"10.9.8.1:5000", "127.0.0.1:5000", NULL};
    static const char *const any[] = {"[::]:5000", NULL}, *const other[] = {"0.0.0.0:5001", NULL};
    write_secrets(SECRET_A "\n");
    struct replicas_settings settings = settings_of_peers();
    settings.peers = with_loopback;
    settings.listen = any;
    struct replicas *replicas = make(&settings);
    assert_string_equal(self_of(replicas), "127.0.0.1:5000");
    assert_true(replicas_free(replicas));
    settings.listen = other;
    replicas = make(&settings);
    assert_string_equal(self_of(replicas), "");
    assert_true(replicas_free(replicas));
}

static void test_a_name_is_resolved_before_the_start_ends(void **state) {
    (void)state;
    static const char *const listen[] = {"127.0.0.1:5000", NULL};
    struct member own = {"127.0.0.1:5000"};
    struct member_figures figures[MEMBERS_LIMIT];
    struct error error = {0};
    write_secrets(SECRET_A "\n");
    const struct replicas_settings settings = {
        .dns = "localhost", .port = 5000, .secret_file = file, .listen = listen};
    struct replicas *replicas = make(&settings);
    assert_int_equal(members_describe(replicas_members(replicas), clock_ms(), figures), 0);
    assert_true(replicas_own(replicas, "janitor")); /* nobody else can do it */
    assert_true(replicas_start(replicas, &error));
    const int64_t until_ms = clock_ms() + PATIENCE_MS; /* a machine may be very busy */
    while (strcmp(self_of(replicas), own.text) != 0 && clock_ms() < until_ms)
        clock_sleep_ms(10);
    assert_string_equal(self_of(replicas), own.text);
    assert_true(replicas_free(replicas));
}

static void test_a_name_without_an_address_is_an_error(void **state) {
    (void)state;
    struct member_list list;
    struct error error = {0};
    size_t left_out;
    assert_false(resolve_members("tarn-replicas.invalid", 5000, &list, &left_out, &error));
    assert_int_equal(list.count, 0);
    assert_non_null(strstr(error.text, "tarn-replicas.invalid"));
    assert_true(resolve_members("127.0.0.7", 5000, &list, &left_out, &error));
    assert_int_equal(list.count, 1);
    assert_string_equal(list.each[0].text, "127.0.0.7:5000");
    assert_int_equal(left_out, 0);
}

static void test_work_for_all_is_done_by_one_member(void **state) {
    (void)state;
    write_secrets(SECRET_A "\n");
    struct replicas_settings settings = settings_of_peers();
    unsigned owners = 0;
    for (size_t i = 0; peers[i]; i++) {
        settings.self = peers[i];
        struct replicas *replicas = make(&settings);
        owners += replicas_own(replicas, "janitor");
        assert_true(replicas_free(replicas));
    }
    assert_int_equal(owners, 1);
    settings.self = NULL; /* a guest */
    struct replicas *replicas = make(&settings);
    assert_false(replicas_own(replicas, "janitor"));
    assert_true(replicas_free(replicas));
    assert_true(replicas_own(NULL, "janitor"));
}

/* ---- secrets ---- */

static void test_wrong_secrets_are_refused_with_a_reason(void **state) {
    (void)state;
    static const struct {
        const char *text, *why;
    } cases[] = {{"", "the file is empty"},
                 {"\n\n", "the file is empty"},
                 {"short\n", "line 1 has 5 bytes"},
                 {SECRET_A "\nshort\n", "line 2 has 5 bytes"}};
    const struct replicas_settings settings = settings_of_peers();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error error = {0};
        write_secrets(cases[i].text);
        assert_null(replicas_new(&settings, &error));
        assert_non_null(strstr(error.text, cases[i].why));
        assert_non_null(strstr(error.text, file));
    }
    struct error error = {0};
    unlink(file);
    assert_null(replicas_new(&settings, &error));
    assert_int_equal(error.kind, ERROR_NOT_FOUND);
}

static void test_a_file_that_others_may_read_is_noticed(void **state) {
    (void)state;
    bool is_open;
    struct error error = {0};
    struct file_reader *files = file_reader_new();
    assert_non_null(files);
    write_secrets(SECRET_A "\n");
    static const struct {
        mode_t mode;
        bool is_open;
    } cases[] = {{0600, false}, {0640, false}, {0644, true}, {0604, true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(chmod(file, cases[i].mode), 0);
        struct secrets *secrets = replicas_read_secrets(files, file, &is_open, &error);
        assert_non_null(secrets);
        assert_int_equal(is_open, cases[i].is_open);
        secrets_free(secrets);
    }
    file_reader_free(files);
}

static void wait_until(bool (*holds)(struct replicas *, const char *), struct replicas *replicas,
                       const char *secret) {
    const int64_t until_ms = clock_ms() + PATIENCE_MS;
    while (!holds(replicas, secret) && clock_ms() < until_ms)
        clock_sleep_ms(10);
    assert_true(holds(replicas, secret));
}

static bool refuses(struct replicas *replicas, const char *secret) {
    return !accepts(replicas, secret);
}

static void test_secrets_are_exchanged_while_tarn_runs(void **state) {
    (void)state;
    struct error error = {0};
    write_secrets(SECRET_A "\n");
    const struct replicas_settings settings = settings_of_peers();
    struct replicas *replicas = make(&settings);
    assert_true(replicas_start(replicas, &error));
    assert_true(accepts(replicas, SECRET_A));
    assert_false(accepts(replicas, SECRET_B));
    write_secrets(SECRET_A "\n" SECRET_B "\n");
    wait_until(accepts, replicas, SECRET_B);
    assert_true(accepts(replicas, SECRET_A));
    assert_true(signs_with(replicas, SECRET_A));
    write_secrets(SECRET_B "\n");
    wait_until(refuses, replicas, SECRET_A);
    assert_true(accepts(replicas, SECRET_B));
    assert_true(signs_with(replicas, SECRET_B));
    assert_true(replicas_free(replicas));
}

static void test_a_file_that_is_wrong_or_gone_changes_nothing(void **state) {
    (void)state;
    struct error error = {0};
    write_secrets(SECRET_A "\n");
    const struct replicas_settings settings = settings_of_peers();
    struct replicas *replicas = make(&settings);
    assert_true(replicas_start(replicas, &error));
    write_secrets("short\n");
    clock_sleep_ms(1500); /* it looks every second; a later look would change as little */
    assert_true(accepts(replicas, SECRET_A));
    unlink(file);
    clock_sleep_ms(1500);
    assert_true(accepts(replicas, SECRET_A));
    write_secrets(SECRET_B);
    wait_until(accepts, replicas, SECRET_B);
    assert_true(replicas_free(replicas));
}

static void test_states_of_members_are_counted(void **state) {
    (void)state;
    cleanup_buffer struct buffer out = {0};
    write_secrets(SECRET_A "\n");
    struct replicas_settings settings = settings_of_peers();
    settings.self = peers[0];
    struct replicas *replicas = make(&settings);
    const struct member down = {"10.9.8.2:5000"};
    assert_true(members_note_fault(replicas_members(replicas), &down, clock_ms()));
    replicas_update_metrics(replicas);
    metric_write(&out);
    assert_non_null(strstr(out.bytes, "tarn_replicas{state=\"self\"} 1\n"));
    assert_non_null(strstr(out.bytes, "tarn_replicas{state=\"live\"} 1\n"));
    assert_non_null(strstr(out.bytes, "tarn_replicas{state=\"down\"} 1\n"));
    assert_non_null(strstr(out.bytes, "\ntarn_replica_list_changes_total "));
    assert_true(replicas_free(replicas));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_peers_are_the_members_at_once),
        cmocka_unit_test(test_self_is_the_configured_member_else_the_literal_listener),
        cmocka_unit_test(test_self_is_else_the_address_of_an_interface_with_the_own_port),
        cmocka_unit_test(test_a_name_is_resolved_before_the_start_ends),
        cmocka_unit_test(test_a_name_without_an_address_is_an_error),
        cmocka_unit_test(test_work_for_all_is_done_by_one_member),
        cmocka_unit_test(test_wrong_secrets_are_refused_with_a_reason),
        cmocka_unit_test(test_a_file_that_others_may_read_is_noticed),
        cmocka_unit_test(test_secrets_are_exchanged_while_tarn_runs),
        cmocka_unit_test(test_a_file_that_is_wrong_or_gone_changes_nothing),
        cmocka_unit_test(test_states_of_members_are_counted),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
