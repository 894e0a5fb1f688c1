/* The section `replicas`: its settings, and each mistake with its place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "config/bench.h"

#define SECRET "0123456789abcdef0123456789abcdef"

static const char *secrets(struct bench *bench, const char *content) {
    const char *file = write_file(bench, "replicas", content);
    assert_non_null(file);
    assert_int_equal(chmod(file, 0600), 0);
    return file;
}

/* The problems of a text that must be refused. */
static const char *refuse(struct bench *bench, const char *text) {
    if (try_load(bench, text))
        fail_msg("%s is accepted", text);
    return bench->problems.bytes;
}

/* The text with the file's name for %s. */
static const char *with_file(const char *format, const char *file) {
    static char text[1000];
    struct text rest, before = text_cut(text_of(format), '%', &rest);
    assert_non_null(file);
    snprintf(text, sizeof text, "%.*s", TEXT_PRINT(before));
    if (rest.at) {
        strncat(text, file, 200);
        strncat(text, rest.at + 1, 500);
    }
    return text;
}

static void test_without_the_section_there_are_no_replicas(void **state) {
    struct bench *bench = *state;
    assert_false(replicas_settings_are_given(&load(bench, "")->replicas));
}

static void test_every_key_is_read(void **state) {
    struct bench *bench = *state;
    const char *file = secrets(bench, SECRET "\n");
    const struct replicas_settings *replicas =
        &load(bench, with_file("listen: 10.0.0.1:6000\nreplicas:\n  dns: tarn.tarn.svc.\n"
                               "  port: 5001\n  secret_file: %s\n  self: 10.0.0.1\n"
                               "  tls: {ca: /dev/null, name: tarn}\n",
                               file))
             ->replicas;
    assert_true(replicas_settings_are_given(replicas));
    assert_true(replicas_settings_have_tls(replicas));
    assert_string_equal(replicas->dns, "tarn.tarn.svc.");
    assert_null(replicas->peers);
    assert_int_equal(replicas->port, 5001);
    assert_string_equal(replicas->secret_file, file);
    assert_string_equal(replicas->self, "10.0.0.1");
    assert_string_equal(replicas->tls_ca, "/dev/null");
    assert_string_equal(replicas->tls_name, "tarn");
    assert_string_equal(replicas->listen[0], "10.0.0.1:6000");
}

static void test_the_port_is_else_that_of_listen(void **state) {
    struct bench *bench = *state;
    const char *file = secrets(bench, SECRET "\n");
    const struct replicas_settings *replicas =
        &load(bench,
              with_file("listen: [':0', ':6000']\nreplicas: {dns: tarn, secret_file: %s}\n", file))
             ->replicas;
    assert_int_equal(replicas->port, 6000);
    assert_false(replicas_settings_have_tls(replicas));
}

static void test_flags_and_variables_set_them(void **state) {
    struct bench *bench = *state;
    static const char *environment[] = {"HOME=/h", NULL, "TARN_REPLICAS_PORT=5002", NULL};
    char variable[300];
    snprintf(variable, sizeof variable, "TARN_REPLICAS_SECRET_FILE=%s",
             secrets(bench, SECRET "\n"));
    environment[1] = variable;
    bench->environment = environment;
    give_flags(bench, "--replicas-peers=10.0.0.1:5000,[fd00::1]:5000",
               "--replicas-self=[fd00::1]:5000");
    const struct replicas_settings *replicas = &load(bench, "")->replicas;
    assert_string_equal(replicas->peers[0], "10.0.0.1:5000");
    assert_string_equal(replicas->peers[1], "[fd00::1]:5000");
    assert_null(replicas->peers[2]);
    assert_string_equal(replicas->self, "[fd00::1]:5000");
    assert_int_equal(replicas->port, 5002);
}

static void test_each_mistake_is_reported_with_line_and_column(void **state) {
    struct bench *bench = *state;
    static const struct {
        const char *text, *problem;
    } cases[] = {
        {"replicas: {dns: a, peers: ['10.0.0.1:5000'], secret_file: %s}\n",
         "f.yaml:1:11: replicas: dns and peers are both set"},
        {"replicas: {secret_file: %s}\n", "f.yaml:1:11: replicas: neither dns nor peers is set"},
        {"replicas:\n  dns: a\n", "f.yaml:2:3: replicas.secret_file: no file of secrets"},
        {"replicas: {}\n", "f.yaml:1:11: replicas: neither dns nor peers is set"},
        {"replicas: {peers: [], secret_file: %s}\n", "f.yaml:1:19: replicas.peers: the list is "
                                                     "empty"},
        {"replicas:\n  peers: ['10.0.0.1:5000', 'tarn-1:5000']\n  secret_file: %s\n",
         "f.yaml:2:28: replicas.peers[1]: \"tarn-1:5000\" is not the address of a replica"},
        {"replicas: {peers: ['10.0.0.1'], secret_file: %s}\n",
         "f.yaml:1:20: replicas.peers[0]: \"10.0.0.1\" is not the address of a replica"},
        {"replicas: {peers: ['10.0.0.1:0'], secret_file: %s}\n",
         "f.yaml:1:20: replicas.peers[0]: \"10.0.0.1:0\" is not the address of a replica"},
        {"replicas: {peers: ['fd00::1:5000'], secret_file: %s}\n",
         "f.yaml:1:20: replicas.peers[0]: \"fd00::1:5000\" is not the address of a replica"},
        {"replicas: {dns: 'tarn:5000', secret_file: %s}\n",
         "f.yaml:1:17: replicas.dns: \"tarn:5000\" is not a name in DNS"},
        {"replicas: {dns: a, self: tarn-1, secret_file: %s}\n",
         "f.yaml:1:26: replicas.self: \"tarn-1\" is not an address"},
        {"replicas: {dns: a, port: 0, secret_file: %s}\n",
         "f.yaml:1:26: replicas.port: \"0\" is too small"},
        {"replicas: {dns: a, port: 65536, secret_file: %s}\n",
         "f.yaml:1:26: replicas.port: \"65536\" is too large"},
        {"listen: ':0'\nreplicas: {dns: a, secret_file: %s}\n",
         "f.yaml:2:11: replicas.port: no address of listen"},
        {"replicas: {dns: a, secret_file: /not/there}\n",
         "f.yaml:1:33: replicas.secret_file: \"/not/there\" cannot be read: No such file"},
        {"replicas: {dns: a, secret: x, secret_file: %s}\n",
         "f.yaml:1:20: replicas.secret: unknown key \"secret\""},
        {"replicas: {dns: a, tls: {cert: x}, secret_file: %s}\n",
         "f.yaml:1:26: replicas.tls.cert: unknown key \"cert\""},
        {"replicas: 10.0.0.1:5000\n", "f.yaml:1:11: replicas: expected a mapping"},
    };
    const char *file = secrets(bench, SECRET "\n");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *problems = refuse(bench, with_file(cases[i].text, file));
        if (strncmp(problems, cases[i].problem, strlen(cases[i].problem)) != 0)
            fail_msg("%s gives\n%s", cases[i].text, problems);
    }
}

static void test_secrets_that_are_too_short_stop_the_start(void **state) {
    struct bench *bench = *state;
    static const struct {
        const char *content, *problem;
    } cases[] = {
        {"", "the file is empty"},
        {"\n", "the file is empty"},
        {"short\n", "line 1 has 5 bytes"},
        {SECRET "\n\n" SECRET "\n", "line 2 has 0 bytes"},
        {SECRET "\n0123456789abcdef0123456789abcde\n", "line 2 has 31 bytes"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *problems = refuse(bench, with_file("replicas: {dns: a, secret_file: %s}\n",
                                                       secrets(bench, cases[i].content)));
        if (!strstr(problems, "f.yaml:1:33: replicas.secret_file: ") ||
            !strstr(problems, cases[i].problem))
            fail_msg("%s gives\n%s", cases[i].content, problems);
    }
}

static void test_secrets_that_others_may_read_are_a_warning(void **state) {
    struct bench *bench = *state;
    const char *file = secrets(bench, SECRET "\n");
    const char *text = with_file("replicas: {dns: a, secret_file: %s}\n", file);
    char warning[300];
    assert_null(load(bench, text)->warnings);
    assert_int_equal(chmod(file, 0644), 0);
    snprintf(warning, sizeof warning, "secret_file %s can be read by others", file);
    assert_non_null(strstr(load(bench, text)->warnings[0], warning));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_bench(test_without_the_section_there_are_no_replicas),
        with_bench(test_every_key_is_read),
        with_bench(test_the_port_is_else_that_of_listen),
        with_bench(test_flags_and_variables_set_them),
        with_bench(test_each_mistake_is_reported_with_line_and_column),
        with_bench(test_secrets_that_are_too_short_stop_the_start),
        with_bench(test_secrets_that_others_may_read_are_a_warning),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
