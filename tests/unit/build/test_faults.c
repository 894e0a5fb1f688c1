/* Memory that runs out at each allocation in turn: what composes a build fails truthfully, and
 * leaves nothing behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/json.h"
#include "build/context.h"
#include "build/ignore.h"
#include "build/kaniko.h"
#include "build/message.h"
#include "build/schema.h"
#include "memory_faults.h"

#define BUILD_FILE                                                                                 \
    "steps:\n- {name: docker, id: a, args: [build, $_X], env: [A=b], secretEnv: [K]}\n"            \
    "- {name: docker, waitFor: [a], allowExitCodes: [1]}\n"                                        \
    "images: [$_X]\nsubstitutions: {_X: y}\noptions: {diskSizeGb: 9}\ntimeout: 5s\n"               \
    "availableSecrets: {secretManager: [{versionName: v, env: K}]}\n"

static char folder[] = "/tmp/tarn-build-XXXXXX";

static bool read_patterns(struct error *error) {
    cleanup_ignore struct ignore *ignore = ignore_new(IGNORE_AS_DOCKER);
    if (!ignore)
        return error_set(error, ERROR_MEMORY, "out of memory");
    return ignore_add_file(ignore, "f", text_of("a\n!b/**/[c-d]\n\\*\n"), error) &&
           !ignore_matches(ignore, "x", false);
}

static bool read_build_file(struct error *error) {
    cleanup_json json_t *file = schema_read(text_of(BUILD_FILE), "f", error);
    return file != NULL;
}

static bool make_message(struct error *error) {
    static const char *const images[] = {"gcr.io/p/i:1", "gcr.io/p/j:1", NULL};
    static const char *const arguments[] = {"A=$b", NULL};
    static const char *const secrets[] = {"K=projects/p/secrets/s/versions/1", NULL};
    static const char *const tags[] = {"t", NULL};
    const struct message_wish wish = {.images = images,
                                      .dockerfile = "Dockerfile",
                                      .build_args = arguments,
                                      .target = "t",
                                      .platform = "linux/amd64",
                                      .secrets = secrets,
                                      .tags = tags,
                                      .project = "p",
                                      .region = "us-west1",
                                      .machine_type = "e2-medium",
                                      .service_account = "a@b",
                                      .disk_size_gb = 5,
                                      .timeout_s = 5,
                                      .logs_bucket = "l",
                                      .cache = true};
    const struct message_source source = {.bucket = "b", .object = "o", .generation = "1"};
    cleanup_json json_t *message = message_make(&wish, error);
    if (message && !message_set_source(message, &source))
        return error_set(error, ERROR_MEMORY, "out of memory");
    return message != NULL;
}

static bool make_job(struct error *error) {
    static const char *const images[] = {"gcr.io/p/i:1", NULL}, *const pairs[] = {"a=b", NULL};
    static const char *const taints[] = {"a=b:NoSchedule", "c:NoExecute", NULL};
    static const char *const hosts[] = {"ghcr.io", NULL};
    const struct kaniko_wish wish = {.context = "gs://b/o",
                                     .images = images,
                                     .dockerfile = "Dockerfile",
                                     .build_args = pairs,
                                     .hosts = hosts,
                                     .via = "tarn:5000",
                                     .via_is_http = true,
                                     .service_account = "s",
                                     .cpu = "1",
                                     .memory = "1Gi",
                                     .storage_gib = 1,
                                     .timeout_s = 1,
                                     .node_selector = pairs,
                                     .tolerations = taints};
    cleanup_json json_t *job = kaniko_job(&wish, "n", error);
    return job != NULL;
}

static bool read_hosts(struct error *error) {
    cleanup_json json_t *hosts = json_array();
    return (hosts && kaniko_read_hosts(text_of("FROM ghcr.io/a\nFROM quay.io/b AS c\n"), hosts)) ||
           error_set(error, ERROR_MEMORY, "out of memory");
}

static bool write_nowhere(void *context, const void *bytes, size_t length, struct error *error) {
    (void)context, (void)bytes, (void)length, (void)error;
    return true;
}

static bool pack_context(struct error *error) {
    const struct context_settings settings = {
        .folder = folder, .dockerfile = "Dockerfile", .reads_gcloudignore = true};
    const struct sink sink = {write_nowhere, NULL};
    struct context_sum sum;
    struct context *context = context_open(&settings, error);
    bool ok =
        context && context_measure(context, &sum, error) && context_write(context, &sink, error);
    context_close(context);
    return ok;
}

/* ---- each allocation in turn ---- */

static void fail_each(bool (*call)(struct error *error)) {
    enum { MOST = 100000 };
    for (long at = 0; at < MOST; at++) {
        struct error error = {0};
        memory_faults_set(at);
        bool ok = call(&error);
        bool failed = memory_faults_failed();
        memory_faults_set(-1);
        if (ok != (error.kind == ERROR_NONE) || (!ok && !failed))
            fail_msg("allocation %ld: %s: %s", at, ok ? "done" : "failed", error.text);
        if (!ok && error.kind != ERROR_MEMORY && error.kind != ERROR_IO)
            fail_msg("allocation %ld: %s", at, error.text);
        if (!failed)
            return;
    }
    fail_msg("there is no end");
}

static void test_patterns(void **state) {
    (void)state;
    fail_each(read_patterns);
}

static void test_a_build_file(void **state) {
    (void)state;
    fail_each(read_build_file);
}

static void test_a_message(void **state) {
    (void)state;
    fail_each(make_message);
}

static void test_a_job(void **state) {
    (void)state;
    fail_each(make_job);
}

static void test_hosts(void **state) {
    (void)state;
    fail_each(read_hosts);
}

static void test_a_context(void **state) {
    (void)state;
    fail_each(pack_context);
}

static void write_file(const char *name, const char *text) {
    char path[200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static int set_up(void **state) {
    (void)state;
    assert_non_null(mkdtemp(folder));
    write_file("Dockerfile", "FROM scratch\n");
    write_file(".dockerignore", "*.o\n!main.o\n");
    write_file(".gcloudignore", "#!include:.gitignore\nx/\n");
    write_file(".gitignore", "*.tmp\n");
    write_file("a", "content");
    bounded_json_watch(malloc);
    return 0;
}

static int tear_down(void **state) {
    char command[220];
    (void)state;
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_patterns),  cmocka_unit_test(test_a_build_file),
        cmocka_unit_test(test_a_message), cmocka_unit_test(test_a_job),
        cmocka_unit_test(test_hosts),     cmocka_unit_test(test_a_context),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
