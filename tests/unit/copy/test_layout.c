/* A folder in OCI's image layout, as a source and as a destination. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/file.h"
#include "copy/destination.h"
#include "copy/source.h"

#define TYPE "application/vnd.oci.image.manifest.v1+json"

/* A folder of the test's own. */
struct bench {
    char folder[64];
    struct copy_reference reference;
};

static int set_up(void **state) {
    struct bench *bench = calloc(1, sizeof *bench);
    snprintf(bench->folder, sizeof bench->folder, "/tmp/tarn-layout-XXXXXX");
    assert_non_null(mkdtemp(bench->folder));
    bench->reference.kind = COPY_LAYOUT;
    snprintf(bench->reference.path, sizeof bench->reference.path, "%s/a/b", bench->folder);
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

/* Bytes that are handed out in small pieces, at every second call only. */
struct slow {
    const char *bytes;
    size_t length, at;
    bool waits, fails;
};

static bool slow_seek(void *context, uint64_t offset, struct error *error) {
    struct slow *slow = context;
    (void)error;
    slow->at = (size_t)offset;
    return true;
}

static bool slow_read(void *context, void *bytes, size_t size, size_t *length, bool *ended,
                      struct error *error) {
    struct slow *slow = context;
    slow->waits = !slow->waits;
    *length = 0;
    if (slow->waits)
        return true;
    if (slow->fails && slow->at > 2)
        return error_set(error, ERROR_UNAVAILABLE, "cut");
    *length = slow->length - slow->at < 3 ? slow->length - slow->at : 3;
    assert_true(*length <= size);
    memcpy(bytes, slow->bytes + slow->at, *length);
    slow->at += *length;
    *ended = slow->at == slow->length;
    return true;
}

static struct copy_body body_of(struct slow *slow) {
    struct copy_body body = {.context = slow,
                             .has_size = true,
                             .size = slow->length,
                             .seek = slow_seek,
                             .read = slow_read,
                             .wake_fd = -1};
    assert_true(digest_of(DIGEST_SHA256, slow->bytes, slow->length, &body.digest));
    return body;
}

static struct digest write_blob(struct copy_destination *destination, const char *text) {
    struct slow slow = {.bytes = text, .length = strlen(text)};
    struct copy_body body = body_of(&slow);
    struct digest digest;
    uint64_t size;
    struct error error = {0};
    if (!copy_destination_write_blob(destination, &body, &digest, &size, &error))
        fail_msg("%s", error.text);
    assert_int_equal(size, slow.length);
    return digest;
}

static void put(struct copy_destination *destination, const char *text, const char *tag) {
    cleanup_copy_manifest struct copy_manifest manifest = {0};
    struct error error = {0};
    buffer_append_string(&manifest.bytes, text);
    snprintf(manifest.media_type, sizeof manifest.media_type, TYPE);
    assert_true(digest_of(DIGEST_SHA256, text, strlen(text), &manifest.digest));
    if (!copy_destination_put_manifest(destination, &manifest, tag, NULL, &error))
        fail_msg("%s", error.text);
}

static struct copy_destination *open_destination(struct bench *bench) {
    struct error error = {0};
    struct copy_destination *destination = copy_destination_open(NULL, &bench->reference, &error);
    if (!destination)
        fail_msg("%s", error.text);
    assert_true(copy_destination_check_rights(destination, &error));
    return destination;
}

static bool gather(void *context, const void *bytes, size_t length, struct error *error) {
    (void)error;
    return buffer_append(context, bytes, length);
}

static void test_what_was_written_is_read_byte_for_byte(void **state) {
    struct bench *bench = *state;
    struct error error = {0};
    struct copy_destination *destination = open_destination(bench);
    struct digest blob = write_blob(destination, "the bytes of a layer"), none = {0};
    bool has;
    put(destination, "{ \"a\":1 }", NULL);
    put(destination, "{ \"b\":2 }", "v1");
    put(destination, "{ \"c\":3 }", "v1");
    put(destination, "{ \"d\":4 }", "v2");
    assert_true(copy_destination_has_blob(destination, &blob, 20, &has, &error) && has);
    assert_true(copy_destination_has_blob(destination, &blob, 19, &has, &error) && !has);
    assert_true(copy_destination_find_manifest(destination, "v3", &none, &error));
    assert_int_equal(none.algorithm, 0);
    copy_destination_free(destination);

    struct copy_source *source = copy_source_open(NULL, &bench->reference, &error);
    assert_non_null(source);
    cleanup_copy_manifest struct copy_manifest manifest = {0};
    assert_true(copy_source_get_manifest(source, "v1", &manifest, &error));
    assert_string_equal(manifest.bytes.bytes, "{ \"c\":3 }");
    assert_string_equal(manifest.media_type, TYPE);
    cleanup_copy_names struct copy_names names = {0};
    assert_true(copy_source_list_tags(source, &names, &error));
    assert_int_equal(names.count, 2);
    assert_string_equal(names.at[0], "v1");
    cleanup_buffer struct buffer bytes = {0};
    struct copy_read read = {
        .digest = blob, .first = 4, .last = 8, .context = &bytes, .on_bytes = gather};
    assert_true(copy_source_read_blob(source, &read, &error));
    assert_string_equal(bytes.bytes, "bytes");
    copy_source_free(source);
}

static void test_a_body_that_breaks_off_leaves_nothing(void **state) {
    struct bench *bench = *state;
    struct error error = {0};
    char folder[PATH_MAX];
    struct copy_destination *destination = open_destination(bench);
    struct slow slow = {.bytes = "a layer", .length = 7, .fails = true};
    struct copy_body body = body_of(&slow);
    struct digest digest;
    uint64_t size;
    assert_false(copy_destination_write_blob(destination, &body, &digest, &size, &error));
    assert_string_equal(error.text, "cut");
    copy_destination_free(destination);
    snprintf(folder, sizeof folder, "%.200s/blobs/sha256", bench->reference.path);
    assert_int_equal(rmdir(folder), 0);
}

static void write_file(const struct bench *bench, const char *name, const char *text) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%.200s/%s", bench->reference.path, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void refuse_source(struct bench *bench, const char *tag, const char *why) {
    struct error error = {0};
    cleanup_copy_manifest struct copy_manifest manifest = {0};
    struct copy_source *source = copy_source_open(NULL, &bench->reference, &error);
    assert_true(!source || !copy_source_get_manifest(source, tag, &manifest, &error));
    copy_source_free(source);
    if (!strstr(error.text, why))
        fail_msg("\"%s\" does not say \"%s\"", error.text, why);
}

static void test_a_broken_layout_is_refused_with_the_reason(void **state) {
    struct bench *bench = *state;
    refuse_source(bench, "v1", "No such file");
    copy_destination_free(open_destination(bench));
    refuse_source(bench, "v1", "index.json");
    write_file(bench, "index.json", "{");
    refuse_source(bench, "v1", "index.json");
    write_file(bench, "index.json", "{\"manifests\":{}}");
    refuse_source(bench, "v1", "no list of manifests");
    write_file(bench, "index.json", "{\"manifests\":[]}");
    refuse_source(bench, "", "it has no image");
    write_file(bench, "index.json",
               "{\"manifests\":[{\"digest\":\"sha256:../../etc\",\"annotations\":"
               "{\"org.opencontainers.image.ref.name\":\"v1\"}},{},7]}");
    refuse_source(bench, "v1", "no digest");
    refuse_source(bench, "v2", "there are: v1");
    refuse_source(bench, "", "a tag is needed: v1");
    write_file(bench, "oci-layout", "{}");
    refuse_source(bench, "v1", "version 1");
}

static void test_no_symbolic_link_leads_outside(void **state) {
    struct bench *bench = *state;
    char inside[PATH_MAX], outside[PATH_MAX];
    struct error error = {0};
    struct copy_destination *destination = open_destination(bench);
    put(destination, "{\"a\":1}", "v1");
    snprintf(inside, sizeof inside, "%.200s/blobs", bench->reference.path);
    snprintf(outside, sizeof outside, "%.60s/outside", bench->folder);
    assert_int_equal(rename(inside, outside), 0);
    assert_int_equal(symlink(outside, inside), 0);
    refuse_source(bench, "v1", "symbolic link");
    struct slow slow = {.bytes = "a layer", .length = 7};
    struct copy_body body = body_of(&slow);
    struct digest digest;
    uint64_t size;
    assert_false(copy_destination_write_blob(destination, &body, &digest, &size, &error));
    assert_non_null(strstr(error.text, "symbolic link"));
    copy_destination_free(destination);
}

static void test_bytes_that_were_changed_are_noticed(void **state) {
    struct bench *bench = *state;
    struct error error = {0};
    char path[PATH_MAX], name[DIGEST_STRING_SIZE];
    struct copy_destination *destination = open_destination(bench);
    struct digest digest;
    put(destination, "{\"a\":1}", "v1");
    assert_true(copy_destination_find_manifest(destination, "v1", &digest, &error));
    copy_destination_free(destination);
    snprintf(path, sizeof path, "blobs/sha256/%s", digest_format(&digest, name) + 7);
    write_file(bench, path, "{\"a\":2}");
    refuse_source(bench, "v1", "digest");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_was_written_is_read_byte_for_byte, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_body_that_breaks_off_leaves_nothing, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_broken_layout_is_refused_with_the_reason, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_no_symbolic_link_leads_outside, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bytes_that_were_changed_are_noticed, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
