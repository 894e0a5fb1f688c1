/* Copies of an image whose memory runs out, allocation by allocation: each one ends with a sentence
 * or is whole, and nothing of a failed one is found under its tag. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/json.h"
#include "copy/image.h"
#include "memory_faults.h"

#define TYPE "application/vnd.oci.image.manifest.v1+json"

/* ---- two folders ---- */

struct bench {
    char folder[64];
    struct copy_reference from, to;
};

static void describe(const char *text, char digest[static DIGEST_STRING_SIZE]) {
    struct digest is;
    assert_true(digest_of(DIGEST_SHA256, text, strlen(text), &is));
    digest_format(&is, digest);
}

static void write_file(const struct bench *bench, const char *name, const char *text) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%.60s/from/%s", bench->folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void write_blob(const struct bench *bench, const char *text) {
    char digest[DIGEST_STRING_SIZE], name[PATH_MAX];
    describe(text, digest);
    snprintf(name, sizeof name, "blobs/sha256/%s", digest + strlen("sha256:"));
    write_file(bench, name, text);
}

static int set_up(void **state) {
    struct bench *bench = calloc(1, sizeof *bench);
    char path[PATH_MAX], config[DIGEST_STRING_SIZE], layer[DIGEST_STRING_SIZE],
        manifest[DIGEST_STRING_SIZE], text[1024];
    const char *const folders[] = {"from", "from/blobs", "from/blobs/sha256"};
    snprintf(bench->folder, sizeof bench->folder, "/tmp/tarn-faults-XXXXXX");
    assert_non_null(mkdtemp(bench->folder));
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", bench->folder, folders[i]);
        assert_int_equal(mkdir(path, 0700), 0);
    }
    describe("{}", config);
    describe("a layer", layer);
    write_blob(bench, "{}");
    write_blob(bench, "a layer");
    snprintf(text, sizeof text,
             "{\"schemaVersion\":2,\"mediaType\":\"" TYPE "\",\"config\":{\"mediaType\":\"x/y\","
             "\"digest\":\"%s\",\"size\":2},\"layers\":[{\"mediaType\":\"x/z\",\"digest\":\"%s\","
             "\"size\":7}]}",
             config, layer);
    write_blob(bench, text);
    describe(text, manifest);
    snprintf(text, sizeof text,
             "{\"manifests\":[{\"mediaType\":\"" TYPE "\",\"digest\":\"%s\",\"size\":1,"
             "\"annotations\":{\"org.opencontainers.image.ref.name\":\"v1\"}}]}",
             manifest);
    write_file(bench, "index.json", text);
    write_file(bench, "oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}");
    bench->from.kind = bench->to.kind = COPY_LAYOUT;
    snprintf(bench->from.path, sizeof bench->from.path, "%s/from", bench->folder);
    *state = bench;
    return 0;
}

static int tear_down(void **state) {
    struct bench *bench = *state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", bench->folder);
    assert_int_equal(system(command), 0);
    free(bench);
    return 0;
}

static bool copy(const struct bench *bench, struct error *error) {
    atomic_bool stop = false;
    struct copy_image_result result;
    struct copy_source *source = copy_source_open(NULL, &bench->from, error);
    struct copy_destination *destination =
        source ? copy_destination_open(NULL, &bench->to, error) : NULL;
    const struct copy_image image = {.source = source,
                                     .destination = destination,
                                     .reference = "v1",
                                     .tag = "v1",
                                     .referrers = true,
                                     .jobs = 1,
                                     .stop = &stop};
    bool ok = destination && copy_destination_check_rights(destination, error) &&
              copy_image(&image, &result, error);
    copy_destination_free(destination);
    copy_source_free(source);
    return ok;
}

/* Whether the destination has the image; if it has, it is whole. */
static bool is_there(const struct bench *bench) {
    struct bench back = *bench;
    struct error error = {0};
    cleanup_copy_manifest struct copy_manifest manifest = {0};
    struct copy_source *source = copy_source_open(NULL, &bench->to, &error);
    bool found = source && copy_source_get_manifest(source, "v1", &manifest, &error);
    copy_source_free(source);
    if (!found)
        return false;
    back.from = bench->to;
    snprintf(back.to.path, sizeof back.to.path, "%.200s-back", bench->to.path);
    if (!copy(&back, &error))
        fail_msg("what was copied is not whole: %s", error.text);
    return true;
}

static void test_memory_that_runs_out_at_each_allocation(void **state) {
    struct bench *bench = *state;
    bool done = false;
    for (int n = 0; !done; n++) {
        struct error error = {0};
        assert_in_range(n, 0, 5000);
        snprintf(bench->to.path, sizeof bench->to.path, "%s/to-%d", bench->folder, n);
        memory_faults_from(n);
        done = copy(bench, &error);
        memory_faults_set(-1);
        if (!done && error.kind == ERROR_NONE)
            fail_msg("allocation %d: it failed without a word", n);
        if (is_there(bench) != done)
            fail_msg("allocation %d: done is %d, but the tag says otherwise", n, done);
    }
}

int main(void) {
    bounded_json_watch(malloc);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_memory_that_runs_out_at_each_allocation, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
