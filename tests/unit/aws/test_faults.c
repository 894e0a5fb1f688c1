/*
 * Each source of credentials while the calls that it makes fail: the nth allocation or system call
 * alone, or the nth and all after it, for n = 1, 2, ... until nothing fails any more. Whichever
 * call failed, a source gives the right credentials or none, it names itself, no secret is in the
 * error, and no later source is asked. Afterwards it works.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "auth/aws/sources.h"
#include "base/log.h"
#include "client/client.h"
#include "memory_faults.h"
#include "scripted_server.h"

#define KEY_ID "ASIAFAULTS"
#define SECRET "very+secret/key"
#define TOKEN  "a-long-session-token"

enum { STEPS_MOST = 2000 };

/* ---- system calls that fail ---- */

static struct {
    bool armed, lasting, failed;
    int left; /* calls until one fails */
    int reason;
} system_fault;

static bool system_call_fails(void) {
    if (!system_fault.armed || system_fault.left-- > 0 ||
        (system_fault.failed && !system_fault.lasting))
        return false;
    system_fault.failed = true;
    errno = system_fault.reason;
    return true;
}

#define WRAPPED(result, name, ...)                                                                 \
    result __real_##name(__VA_ARGS__);                                                             \
    result __wrap_##name(__VA_ARGS__);                                                             \
    result __wrap_##name(__VA_ARGS__)

WRAPPED(int, open64, const char *path, int flags, ...) {
    return system_call_fails() ? -1 : __real_open64(path, flags);
}
WRAPPED(int, fstat64, int fd, struct stat *out) {
    return system_call_fails() ? -1 : __real_fstat64(fd, out);
}
WRAPPED(ssize_t, read, int fd, void *bytes, size_t length) {
    return system_call_fails() ? -1 : __real_read(fd, bytes, length);
}
WRAPPED(ssize_t, write, int fd, const void *bytes, size_t length) {
    return system_call_fails() ? -1 : __real_write(fd, bytes, length);
}
WRAPPED(int, pipe2, int fds[2], int flags) {
    return system_call_fails() ? -1 : __real_pipe2(fds, flags);
}
WRAPPED(int, pidfd_open, pid_t pid, unsigned flags) {
    return system_call_fails() ? -1 : __real_pidfd_open(pid, flags);
}
WRAPPED(int, poll, struct pollfd *fds, nfds_t count, int timeout_ms) {
    return system_call_fails() ? -1 : __real_poll(fds, count, timeout_ms);
}
WRAPPED(int, posix_spawnp, pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
        const posix_spawnattr_t *attributes, char *const arguments[], char *const variables[]) {
    return system_call_fails()
               ? system_fault.reason
               : __real_posix_spawnp(pid, path, actions, attributes, arguments, variables);
}

/* ---- the machine: its files, its variables, its services ---- */

struct machine {
    struct server *server;
    struct client *client;
    struct aws_settings settings;
    char folder[32], base[64];
    bool is_instance; /* the source is the last one */
};

#define JSON(code)                                                                                 \
    "{" code "\"AccessKeyId\":\"" KEY_ID "\",\"SecretAccessKey\":\"" SECRET                        \
    "\",\"Token\":\"" TOKEN "\",\"SessionToken\":\"" TOKEN                                         \
    "\",\"Expiration\":\"2199-01-01T00:00:00Z\"}"

static const char xml[] =
    "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>" KEY_ID
    "</AccessKeyId><SecretAccessKey>" SECRET "</SecretAccessKey><SessionToken>" TOKEN
    "</SessionToken><Expiration>2199-01-01T00:00:00Z</Expiration></Credentials>"
    "</AssumeRoleResult></AssumeRoleResponse>";

static bool answer(struct server *server, int fd, const char *head) {
    (void)server;
    if (server_asks(head, "POST /"))
        return server_reply(fd, 200, "", xml);
    if (server_asks(head, "GET /container"))
        return server_reply(fd, 200, "", JSON(""));
    if (server_asks(head, "PUT /latest/api/token"))
        return server_reply(fd, 200, "", "token");
    if (server_asks(head, "GET /latest/meta-data/iam/security-credentials/"))
        return server_reply(fd, 200, "", "role");
    if (server_asks(head, "GET /latest/meta-data/iam/security-credentials/role"))
        return server_reply(fd, 200, "", JSON("\"Code\":\"Success\","));
    return server_reply(fd, 200, "", "eu-west-1");
}

static void write_file(const struct machine *machine, const char *name, const char *text) {
    char path[96];
    snprintf(path, sizeof path, "%s/%s", machine->folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void set_path(const struct machine *machine, const char *variable, const char *name) {
    char path[96];
    snprintf(path, sizeof path, "%s/%s", machine->folder, name);
    setenv(variable, path, 1);
}

static int set_up(void **state) {
    static const char *const unset[] = {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_ROLE_ARN",
        "AWS_ROLE_SESSION_NAME",
        "AWS_PROFILE",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_CONFIG_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "AWS_EC2_METADATA_DISABLED",
        "AWS_ENDPOINT_URL_STS",
        "http_proxy",
        "all_proxy",
        "ALL_PROXY",
    };
    struct machine *machine = calloc(1, sizeof *machine);
    assert_non_null(machine);
    for (size_t i = 0; i < sizeof unset / sizeof *unset; i++)
        unsetenv(unset[i]);
    log_configure(LOG_ERROR, LOG_TEXT);
    snprintf(machine->folder, sizeof machine->folder, "/tmp/aws-faults-XXXXXX");
    assert_non_null(mkdtemp(machine->folder));
    machine->server = server_start(answer, machine);
    machine->client = client_new();
    assert_non_null(machine->client);
    snprintf(machine->base, sizeof machine->base, "http://127.0.0.1:%u", machine->server->port);
    setenv("PATH", "/usr/bin:/bin", 1);
    setenv("HOME", machine->folder, 1);
    setenv("AWS_REGION", "eu-west-1", 1);
    /* The last source of all works; it must not be asked in place of one that is broken. */
    setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", machine->base, 1);
    *state = machine;
    return 0;
}

static int tear_down(void **state) {
    static const char *const names[] = {"token", "secret", "credentials", "config", "answer"};
    struct machine *machine = *state;
    char path[96];
    client_free(machine->client);
    server_stop(machine->server);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", machine->folder, names[i]);
        unlink(path);
    }
    rmdir(machine->folder);
    free(machine);
    return 0;
}

/* ---- trying all calls ---- */

static unsigned asked_instance(const struct machine *machine) {
    return server_count(machine->server, "PUT /latest/api/token");
}

/* One search; `what` says which call fails. False: no allocation and no system call has. */
static bool search(const struct machine *machine, bool fails, const char *what, int at) {
    struct aws_question question = {.client = machine->client, .settings = &machine->settings};
    struct aws_answer found;
    struct error error = {0};
    snprintf(question.region, sizeof question.region, "eu-west-1");
    bool ok = aws_search(&question, &found, &error);
    const bool failed = memory_faults_failed() || system_fault.failed;
    memory_faults_set(-1);
    system_fault.armed = system_fault.failed = false;
    if (ok) {
        assert_string_equal(found.credentials.key_id, KEY_ID);
        assert_string_equal(found.credentials.secret, SECRET);
    } else {
        if (!fails)
            fail_msg("%s %d: %s", what, at, error.text);
        assert_true(error.kind == ERROR_MEMORY || error.kind == ERROR_UNAVAILABLE);
        assert_memory_equal(error.text, "aws credentials: ", strlen("aws credentials: "));
        assert_null(strstr(error.text, SECRET));
        assert_null(strstr(error.text, TOKEN));
        assert_null(found.credentials.key_id);
        assert_null(found.credentials.secret);
    }
    aws_credentials_wipe(&found.credentials);
    return failed;
}

static void lose_memory(const struct machine *machine, bool lasting) {
    for (int at = 0;; at++) {
        assert_true(at < STEPS_MOST);
        if (lasting)
            memory_faults_from(at);
        else
            memory_faults_set(at);
        if (!search(machine, true, "allocation", at)) {
            assert_true(at > 0);
            break;
        }
    }
}

static void lose_system(const struct machine *machine, bool lasting, int reason) {
    for (int at = 0;; at++) {
        assert_true(at < STEPS_MOST);
        system_fault.lasting = lasting;
        system_fault.reason = reason;
        system_fault.left = at;
        system_fault.armed = true;
        if (!search(machine, true, "system call", at))
            break;
    }
}

static void try_all(const struct machine *machine) {
    memory_faults_watch_this_thread();
    search(machine, false, "at first", 0);
    lose_memory(machine, false);
    lose_memory(machine, true);
    lose_system(machine, false, EIO);
    lose_system(machine, true, EMFILE);
    search(machine, false, "in the end", 0);
    assert_true((asked_instance(machine) > 0) == machine->is_instance);
}

/* ---- the sources ---- */

static void test_the_key_of_the_configuration(void **state) {
    struct machine *machine = *state;
    char path[96];
    write_file(machine, "secret", SECRET "\n");
    snprintf(path, sizeof path, "%s/secret", machine->folder);
    machine->settings = (struct aws_settings){.key_id = KEY_ID, .secret_file = path};
    try_all(machine);
}

static void test_the_environment(void **state) {
    setenv("AWS_ACCESS_KEY_ID", KEY_ID, 1);
    setenv("AWS_SECRET_ACCESS_KEY", SECRET, 1);
    setenv("AWS_SESSION_TOKEN", TOKEN, 1);
    try_all(*state);
}

static void test_a_web_identity(void **state) {
    struct machine *machine = *state;
    write_file(machine, "token", TOKEN "\n");
    set_path(machine, "AWS_WEB_IDENTITY_TOKEN_FILE", "token");
    setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/tarn", 1);
    setenv("AWS_ENDPOINT_URL_STS", machine->base, 1);
    try_all(machine);
}

static void use_files(const struct machine *machine, const char *credentials, const char *config) {
    write_file(machine, "credentials", credentials);
    write_file(machine, "config", config);
    set_path(machine, "AWS_SHARED_CREDENTIALS_FILE", "credentials");
    set_path(machine, "AWS_CONFIG_FILE", "config");
}

static void test_a_profile_with_a_key(void **state) {
    use_files(*state,
              "[default]\naws_access_key_id = " KEY_ID "\naws_secret_access_key = " SECRET
              "\naws_session_token = " TOKEN "\n",
              "[default]\nregion = eu-west-1\n");
    try_all(*state);
}

static void test_a_role_with_a_source_profile(void **state) {
    struct machine *machine = *state;
    use_files(machine, "[base]\naws_access_key_id = AKIABASE\naws_secret_access_key = other\n",
              "[default]\nrole_arn = arn:aws:iam::123456789012:role/tarn\nsource_profile = base\n");
    setenv("AWS_ENDPOINT_URL_STS", machine->base, 1);
    try_all(machine);
}

static void test_a_program(void **state) {
    struct machine *machine = *state;
    char config[160];
    snprintf(config, sizeof config, "[default]\ncredential_process = /bin/cat '%s/answer'\n",
             machine->folder);
    write_file(machine, "answer", JSON("\"Version\":1,"));
    use_files(machine, "", config);
    try_all(machine);
}

static void test_a_container(void **state) {
    struct machine *machine = *state;
    char url[96];
    write_file(machine, "token", TOKEN "\n");
    snprintf(url, sizeof url, "%s/container", machine->base);
    set_path(machine, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "token");
    setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url, 1);
    try_all(machine);
}

static void test_an_instance(void **state) {
    struct machine *machine = *state;
    machine->is_instance = true;
    try_all(machine);
}

/* ---- the thread that keeps them ---- */

static void test_a_source_is_made_whole_or_not_at_all(void **state) {
    struct machine *machine = *state;
    const struct aws_settings settings = {.key_id = KEY_ID,
                                          .secret_file = "/x",
                                          .secret = SECRET,
                                          .profile = "p",
                                          .file = "/y",
                                          .region = "eu-west-1"};
    memory_faults_watch_this_thread();
    for (int at = 0;; at++) {
        assert_true(at < STEPS_MOST);
        memory_faults_set(at);
        struct aws_source *source = aws_source_new(&settings, machine->client);
        const bool failed = memory_faults_failed();
        memory_faults_set(-1);
        assert_true(failed == !source);
        aws_source_free(source);
        if (!failed)
            break;
    }
}

static void test_what_is_kept_is_given_again_after_a_failure(void **state) {
    struct machine *machine = *state;
    const struct aws_settings settings = {.key_id = KEY_ID, .secret = SECRET};
    struct aws_source *source = aws_source_new(&settings, machine->client);
    assert_non_null(source);
    memory_faults_watch_this_thread();
    for (int at = 0;; at++) {
        struct aws_credentials given;
        struct error error = {0};
        assert_true(at < STEPS_MOST);
        memory_faults_set(at);
        bool ok = aws_source_get(source, INT64_MAX, NULL, &given, &error);
        const bool failed = memory_faults_failed();
        memory_faults_set(-1);
        assert_true(ok == !failed);
        assert_true(ok || error.kind == ERROR_MEMORY);
        assert_true(ok == (given.key_id != NULL));
        aws_credentials_wipe(&given);
        if (!failed)
            break;
    }
    aws_source_free(source);
}

int main(void) {
#define source_test(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        source_test(test_the_key_of_the_configuration),
        source_test(test_the_environment),
        source_test(test_a_web_identity),
        source_test(test_a_profile_with_a_key),
        source_test(test_a_role_with_a_source_profile),
        source_test(test_a_program),
        source_test(test_a_container),
        source_test(test_an_instance),
        source_test(test_a_source_is_made_whole_or_not_at_all),
        source_test(test_what_is_kept_is_given_again_after_a_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
