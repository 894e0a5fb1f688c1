/* Sources of credentials: Docker's config, helpers and password files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "auth/credential.h"
#include "auth/docker_config.h"
#include "base/clock.h"

/* ---- a folder with a config.json and helpers in it ---- */

static char folder[PATH_MAX];

static void write_file(const char *name, mode_t mode, const char *content) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%.3000s/%s", folder, name);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    fputs(content, file);
    fclose(file);
    assert_int_equal(chmod(path, mode), 0);
}

static int open_folder(void **state) {
    (void)state;
    char path[PATH_MAX + 200];
    strcpy(folder, "/tmp/tarn-auth-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s:/usr/bin:/bin", folder);
    setenv("PATH", path, 1);
    setenv("DOCKER_CONFIG", folder, 1);
    unsetenv("DOCKER_AUTH_CONFIG");
    return 0;
}

static int close_folder(void **state) {
    (void)state;
    char command[PATH_MAX + 16];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

/* Asks a new source, so that no earlier answer is given again. */
static bool look_up(const char *host, struct credential *out, struct error *error) {
    struct credential_source *source = credential_source_docker(NULL);
    *error = (struct error){0};
    bool ok = credential_source_get(source, host, false, INT64_MAX, out, error);
    credential_source_free(source);
    return ok;
}

static void expect_basic(const char *host, const char *user, const char *secret) {
    struct credential credential;
    struct error error;
    if (!look_up(host, &credential, &error))
        fail_msg("%s: %s", host, error.text);
    assert_int_equal(credential.kind, CREDENTIAL_BASIC);
    assert_string_equal(credential.username, user);
    assert_string_equal(credential.secret, secret);
    assert_string_not_equal(credential.from, "");
    credential_wipe(&credential);
}

static void expect_anonymous(const char *host) {
    struct credential credential;
    struct error error;
    if (!look_up(host, &credential, &error))
        fail_msg("%s: %s", host, error.text);
    assert_int_equal(credential.kind, CREDENTIAL_ANONYMOUS);
}

static void expect_broken(const char *host, const char *reason) {
    struct credential credential;
    struct error error;
    assert_false(look_up(host, &credential, &error));
    if (!strstr(error.text, reason))
        fail_msg("\"%s\" does not say \"%s\"", error.text, reason);
    assert_null(strstr(error.text, "hunter2"));
}

/* ---- config.json ---- */

static void test_auths_in_all_their_forms(void **state) {
    (void)state;
    write_file("config.json", 0600,
               "{\"auths\":{"
               "\"ghcr.io\":{\"auth\":\"dXNlcjpodW50ZXIy\"},"
               "\"https://quay.io/v1/\":{\"auth\":\"dTpwOnc=\"},"
               "\"k8s.example:5000\":{\"username\":\"u\",\"password\":\"p\",\"email\":\"x\"},"
               "\"padded.example\":{\"auth\":\"dTpwAAA=\"},"
               "\"identity.example\":{\"auth\":\"dTo=\",\"identitytoken\":\"refresh\"},"
               "\"empty.example\":{}"
               "},\"HttpHeaders\":{\"X\":\"y\"},\"unknown\":[1]}");
    expect_basic("ghcr.io", "user", "hunter2");
    expect_basic("quay.io", "u", "p:w");
    expect_basic("k8s.example:5000", "u", "p");
    expect_basic("padded.example", "u", "p");
    expect_anonymous("empty.example");
    expect_anonymous("k8s.example");
    expect_anonymous("nowhere.example");
    struct credential credential;
    struct error error;
    assert_true(look_up("identity.example", &credential, &error));
    assert_int_equal(credential.kind, CREDENTIAL_IDENTITY_TOKEN);
    assert_string_equal(credential.secret, "refresh");
    credential_wipe(&credential);
}

static void test_docker_hub_is_found_under_its_legacy_key(void **state) {
    (void)state;
    write_file("config.json", 0600,
               "{\"auths\":{\"https://index.docker.io/v1/\":{\"auth\":\"dXNlcjpodW50ZXIy\"}}}");
    expect_basic("docker.io", "user", "hunter2");
    expect_anonymous("ghcr.io");
    write_file("config.json", 0600, "{\"auths\":{\"docker.io\":{\"auth\":\"dTpw\"}}}");
    expect_basic("docker.io", "u", "p");
}

static void test_keys_with_a_path_are_for_that_namespace(void **state) {
    (void)state;
    write_file("config.json", 0600,
               "{\"auths\":{"
               "\"quay.io/org\":{\"auth\":\"b3JnOnA=\"},"
               "\"quay.io/org/app\":{\"auth\":\"YXBwOnA=\"},"
               "\"QUAY.io/slash/\":{\"auth\":\"c2xhc2g6cA==\"},"
               "\"quay.io/broken\":{\"auth\":\"hunter2?\"},"
               "\"quay.io/empty\":{},"
               "\"quay.io\":{\"auth\":\"aG9zdDpw\"},"
               "\"only.example:5000/a/b\":{\"auth\":\"b3JnOnA=\"},"
               "\"url.example/v1/\":{\"auth\":\"aG9zdDpw\"},"
               "\"https://scheme.example/org\":{\"auth\":\"aG9zdDpw\"},"
               "\"index.docker.io/library\":{\"auth\":\"b3JnOnA=\"}}}");
    expect_basic("quay.io", "host", "p");
    expect_basic("quay.io/other/app", "host", "p");
    expect_basic("quay.io/org", "org", "p");
    expect_basic("quay.io/org/x", "org", "p");
    expect_basic("quay.io/org/app", "app", "p");
    expect_basic("quay.io/org/app/x/y", "app", "p");
    expect_basic("quay.io/org/application", "org", "p");
    expect_basic("quay.io/organisation/app", "host", "p");
    expect_basic("quay.io/slash/x", "slash", "p");
    expect_basic("quay.io/empty/x", "host", "p"); /* {} holds no credential */
    expect_broken("quay.io/broken/x", "quay.io/broken");
    expect_anonymous("only.example:5000");
    expect_anonymous("only.example:5000/a");
    expect_basic("only.example:5000/a/b/c", "org", "p");
    expect_anonymous("only.example/a/b");
    expect_basic("url.example/v1/x", "host", "p");
    expect_basic("scheme.example/other", "host", "p");
    expect_basic("docker.io/library/alpine", "org", "p");
    expect_anonymous("docker.io/org/app");
}

static void test_no_config_is_anonymous_and_a_broken_one_is_not(void **state) {
    (void)state;
    expect_anonymous("ghcr.io");
    static const struct {
        const char *content, *reason;
    } cases[] = {
        {"", "docker config"},
        {"{\"auths\":", "docker config"},
        {"[]", "no JSON object"},
        {"{\"auths\":[]}", "\"auths\" is no object"},
        {"{\"credHelpers\":3}", "\"credHelpers\" is no object"},
        {"{\"auths\":{\"ghcr.io\":{\"auth\":\"*\"}}}", "is not base64"},
        {"{\"auths\":{\"ghcr.io\":{\"auth\":\"aHVudGVyMg==\"}}}", "user:password"},
        {"{\"auths\":{\"ghcr.io\":\"hunter2\"}}", "no object"},
        {"{\"credsStore\":\"../evil\"}", "name of a helper"},
        {"{\"credHelpers\":{\"ghcr.io\":[]}}", "name of a helper"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_file("config.json", 0600, cases[i].content);
        expect_broken("ghcr.io", cases[i].reason);
    }
    write_file("config.json", 0600, "{\"auths\":{\"ghcr.io\":\"hunter2\"}}");
    expect_anonymous("quay.io"); /* another's entry may be broken */
}

static void test_the_environments_config_comes_first(void **state) {
    (void)state;
    write_file("config.json", 0600, "{\"auths\":{\"a.example\":{\"auth\":\"dTpw\"}}}");
    setenv("DOCKER_AUTH_CONFIG", "{\"auths\":{\"b.example\":{\"auth\":\"dXNlcjpodW50ZXIy\"}}}", 1);
    expect_basic("a.example", "u", "p");
    expect_basic("b.example", "user", "hunter2");
    unsetenv("DOCKER_AUTH_CONFIG");
}

/* ---- helpers ---- */

#define HELPER                                                                                     \
    "#!/bin/sh\n"                                                                                  \
    "[ \"$1\" = get ] || exit 9\n"                                                                 \
    "read -r host\n"                                                                               \
    "case \"$host\" in\n"                                                                          \
    "ok.example|https://index.docker.io/v1/)\n"                                                    \
    "  printf '{\"ServerURL\":\"%s\",\"Username\":\"user\",\"Secret\":\"hunter2\"}\\n' "           \
    "\"$host\";;\n"                                                                                \
    "token.example) echo '{\"Username\":\"<token>\",\"Secret\":\"refresh\"}';;\n"                  \
    "junk.example) echo 'hunter2';;\n"                                                             \
    "fails.example) echo 'keychain locked'; exit 1;;\n"                                            \
    "dies.example) echo 'on fire' >&2; kill -9 $$;;\n"                                             \
    "*) echo 'credentials not found in native keychain'; exit 1;;\n"                               \
    "esac\n"

static void test_helpers_are_asked(void **state) {
    (void)state;
    write_file("docker-credential-test", 0700, HELPER);
    write_file(
        "config.json", 0600,
        "{\"credHelpers\":{\"ok.example\":\"test\",\"none.example\":\"test\","
        "\"gone.example\":\"missing\"},"
        "\"auths\":{\"none.example\":{\"auth\":\"dTpw\"},\"x.example\":{\"auth\":\"dTpw\"}}}");
    expect_basic("ok.example", "user", "hunter2");
    expect_anonymous("none.example"); /* its helper decides, as Docker has it */
    expect_basic("x.example", "u", "p");
    expect_broken("gone.example", "docker-credential-missing");

    write_file("config.json", 0600,
               "{\"credsStore\":\"test\",\"auths\":{\"x.example\":{\"auth\":\"dTpw\"},"
               "\"ok.example\":{}}}");
    expect_basic("ok.example", "user", "hunter2");
    expect_basic("docker.io", "user", "hunter2");
    expect_basic("x.example", "u", "p");
    expect_anonymous("nowhere.example");
    struct credential credential;
    struct error error;
    assert_true(look_up("token.example", &credential, &error));
    assert_int_equal(credential.kind, CREDENTIAL_IDENTITY_TOKEN);
    assert_string_equal(credential.secret, "refresh");
    assert_string_equal(credential.from, "docker-credential-test");
    credential_wipe(&credential);
}

static void test_a_helper_of_the_host_decides_before_keys_with_a_path(void **state) {
    (void)state;
    write_file("docker-credential-test", 0700, HELPER);
    write_file("config.json", 0600,
               "{\"credHelpers\":{\"ok.example\":\"test\"},\"credsStore\":\"test\","
               "\"auths\":{\"ok.example/org\":{\"auth\":\"b3JnOnA=\"},"
               "\"stored.example/org\":{\"auth\":\"b3JnOnA=\"}}}");
    expect_basic("ok.example/org/app", "user", "hunter2");
    expect_basic("stored.example/org/app", "org", "p");
}

static void test_a_broken_helper_is_an_error(void **state) {
    (void)state;
    write_file("docker-credential-test", 0700, HELPER);
    write_file("config.json", 0600, "{\"credsStore\":\"test\"}");
    expect_broken("fails.example", "keychain locked");
    expect_broken("dies.example", "on fire");
    expect_broken("junk.example", "no JSON object");
    struct credential_source *source = credential_source_helper("test");
    struct credential credential;
    struct error error;
    assert_true(credential_source_get(source, "ok.example", false, INT64_MAX, &credential, &error));
    assert_string_equal(credential.secret, "hunter2");
    credential_wipe(&credential);
    assert_string_equal(credential_source_name(source), "helper test");
    credential_source_free(source);
    assert_null(credential_source_helper("../../bin/sh"));
}

static void test_a_helper_that_leaves_a_process_behind_does_not_hold_us(void **state) {
    (void)state;
    write_file("docker-credential-test", 0700,
               "#!/bin/sh\nsleep 5 &\necho '{\"Username\":\"u\",\"Secret\":\"p\"}'\n");
    write_file("config.json", 0600, "{\"credsStore\":\"test\"}");
    int64_t start = clock_ms();
    expect_basic("x.example", "u", "p");
    assert_true(clock_ms() - start < 3000);
}

/* ---- sources ---- */

static void test_a_password_file_is_read_anew(void **state) {
    (void)state;
    char path[PATH_MAX + 16];
    struct credential credential;
    struct error error;
    snprintf(path, sizeof path, "%s/password", folder);
    write_file("password", 0600, "one\n");
    struct credential_source *source = credential_source_static("me", path);
    assert_true(credential_source_get(source, "x", false, INT64_MAX, &credential, &error));
    assert_string_equal(credential.username, "me");
    assert_string_equal(credential.secret, "one");
    credential_wipe(&credential);
    write_file("password", 0600, "two");
    assert_true(credential_source_get(source, "x", true, INT64_MAX, &credential, &error));
    assert_string_equal(credential.secret, "two");
    credential_wipe(&credential);
    unlink(path);
    assert_false(credential_source_get(source, "y", true, INT64_MAX, &credential, &error));
    assert_non_null(strstr(error.text, path));
    credential_source_free(source);
}

static atomic_uint questions;

static bool slow_get(void *context, const char *host, bool renew, struct credential *out,
                     struct error *error) {
    (void)context, (void)renew, (void)error;
    atomic_fetch_add(&questions, 1);
    clock_sleep_ms(50);
    *out = (struct credential){
        .kind = CREDENTIAL_BASIC, .username = strdup("u"), .secret = strdup(host)};
    return true;
}

static void *ask_slowly(void *context) {
    struct credential credential;
    bool ok = credential_source_get(context, "x", false, INT64_MAX, &credential, NULL);
    credential_wipe(&credential);
    return ok ? context : NULL;
}

static void test_a_crowd_asks_one_question(void **state) {
    (void)state;
    static const struct credential_source_kind kind = {.name = "slow", .get = slow_get};
    struct credential_source *source = credential_source_new(&kind, NULL);
    pthread_t threads[16];
    void *result;
    for (int i = 0; i < 16; i++)
        pthread_create(&threads[i], NULL, ask_slowly, source);
    for (int i = 0; i < 16; i++) {
        pthread_join(threads[i], &result);
        assert_ptr_equal(result, source);
    }
    assert_int_equal(atomic_load(&questions), 1);
    credential_source_free(source);
}

/* ---- what hangs ---- */

static atomic_bool let_go;

static bool hanging_get(void *context, const char *host, bool renew, struct credential *out,
                        struct error *error) {
    while (!atomic_load(&let_go))
        clock_sleep_ms(10);
    return slow_get(context, host, renew, out, error);
}

static void test_a_source_that_hangs_holds_nobody_past_the_deadline(void **state) {
    (void)state;
    static const struct credential_source_kind kind = {
        .name = "hanging", .may_hang = true, .get = hanging_get};
    struct credential_source *source = credential_source_new(&kind, NULL);
    struct credential credential;
    struct error error = {0};
    for (int i = 0; i < 3; i++) { /* one asks, the others join */
        int64_t began_ms = clock_ms();
        assert_false(
            credential_source_get(source, "x", i == 2, began_ms + 200, &credential, &error));
        assert_int_equal(error.kind, ERROR_TIMEOUT);
        assert_in_range(clock_ms() - began_ms, 200, 5000);
    }
    atomic_store(&let_go, true);
    assert_true(credential_source_get(source, "x", false, INT64_MAX, &credential, &error));
    assert_string_equal(credential.secret, "x");
    credential_wipe(&credential);
    credential_source_free(source);
}

static void test_made_up_hosts_hold_a_bounded_number_of_threads(void **state) {
    (void)state;
    static const struct credential_source_kind kind = {
        .name = "hanging", .may_hang = true, .get = hanging_get};
    struct credential_source *source = credential_source_new(&kind, NULL);
    struct credential credential;
    struct error error = {0};
    char host[32] = "";
    unsigned hosts = 0;
    atomic_store(&let_go, false);
    for (; hosts < 1000 && error.kind != ERROR_BUSY; hosts++) {
        snprintf(host, sizeof host, "host%u.example/org/app", hosts);
        assert_false(
            credential_source_get(source, host, false, clock_ms() + 1, &credential, &error));
    }
    assert_in_range(hosts, 2, 100);
    assert_int_equal(error.kind, ERROR_BUSY);
    /* One that is asked for already may still be waited for. */
    assert_false(
        credential_source_get(source, "host0.example", false, clock_ms() + 1, &credential, &error));
    assert_int_equal(error.kind, ERROR_TIMEOUT);
    atomic_store(&let_go, true);
    assert_true(
        credential_source_get(source, "host0.example/x", false, INT64_MAX, &credential, &error));
    credential_wipe(&credential);
    credential_source_free(source);
}

/* Neither a pipe that nobody writes to nor an endless device is read. */
static void test_only_regular_files_are_read(void **state) {
    (void)state;
    char pipe_path[PATH_MAX + 8];
    snprintf(pipe_path, sizeof pipe_path, "%s/pipe", folder);
    assert_int_equal(mkfifo(pipe_path, 0600), 0);
    const char *const paths[] = {pipe_path, "/dev/zero", folder};
    for (size_t i = 0; i < 2 * sizeof paths / sizeof *paths; i++) {
        const char *path = paths[i / 2];
        struct credential_source *source =
            i % 2 ? credential_source_docker(path) : credential_source_static("user", path);
        struct credential credential;
        struct error error = {0};
        assert_false(credential_source_get(source, "x", false, INT64_MAX, &credential, &error));
        assert_non_null(strstr(error.text, "is no regular file"));
        credential_source_free(source);
    }
}

int main(void) {
#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, open_folder, close_folder)
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(test_auths_in_all_their_forms),
        WITH_FOLDER(test_docker_hub_is_found_under_its_legacy_key),
        WITH_FOLDER(test_no_config_is_anonymous_and_a_broken_one_is_not),
        WITH_FOLDER(test_the_environments_config_comes_first),
        WITH_FOLDER(test_helpers_are_asked),
        WITH_FOLDER(test_a_broken_helper_is_an_error),
        WITH_FOLDER(test_a_helper_that_leaves_a_process_behind_does_not_hold_us),
        WITH_FOLDER(test_a_password_file_is_read_anew),
        WITH_FOLDER(test_keys_with_a_path_are_for_that_namespace),
        WITH_FOLDER(test_a_helper_of_the_host_decides_before_keys_with_a_path),
        cmocka_unit_test(test_a_crowd_asks_one_question),
        cmocka_unit_test(test_a_source_that_hangs_holds_nobody_past_the_deadline),
        cmocka_unit_test(test_made_up_hosts_hold_a_bounded_number_of_threads),
        WITH_FOLDER(test_only_regular_files_are_read),
    };
#undef WITH_FOLDER
    return cmocka_run_group_tests(tests, NULL, NULL);
}
