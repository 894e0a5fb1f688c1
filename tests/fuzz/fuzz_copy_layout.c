/* index.json of a layout, and a manifest in it: whatever they hold, reading ends with a manifest of
 * the right digest or with a sentence. The pieces are both files. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/file.h"
#include "copy/plan.h"
#include "copy/source.h"
#include "fuzz.h"
#include "pieces.h"

static char folder[64];

static void remove_folder(void) {
    const char *const names[] = {"/index.json", "/oci-layout", "/blobs/sha256", "/blobs", ""};
    char path[128];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s%s", folder, names[i]);
        remove(path);
    }
}

static void write_file(const char *name, struct text content) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    MUST(fd >= 0 && file_write_all(fd, content.at, content.length, NULL));
    close(fd);
}

static void make_folder(void) {
    char path[128];
    snprintf(folder, sizeof folder, "/tmp/tarn-fuzz-layout-XXXXXX");
    MUST(mkdtemp(folder));
    atexit(remove_folder);
    snprintf(path, sizeof path, "%s/blobs", folder);
    MUST(mkdir(path, 0700) == 0);
    snprintf(path, sizeof path, "%s/blobs/sha256", folder);
    MUST(mkdir(path, 0700) == 0);
    write_file("oci-layout", text_of("{\"imageLayoutVersion\":\"1.0.0\"}"));
}

static void check_plan(struct copy_source *source, const char *reference) {
    cleanup_copy_plan struct copy_plan plan = {0};
    const struct copy_plan_wanted wanted = {
        .source = source, .reference = reference, .referrers = true};
    struct error error = {0};
    if (!copy_plan_make(&plan, &wanted, &error))
        MUST(error.text[0]);
    else
        MUST(plan.root < plan.manifest_count);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    struct copy_reference reference = {.kind = COPY_LAYOUT};
    char name[256], text[DIGEST_STRING_SIZE];
    struct digest digest;
    cleanup_copy_names struct copy_names tags = {0};
    if (!folder[0])
        make_folder();
    rest = (struct text){(const char *)bytes, length};
    struct text index = next_piece(), manifest = next_piece();
    MUST(digest_of(DIGEST_SHA256, manifest.at, manifest.length, &digest));
    snprintf(name, sizeof name, "blobs/sha256/%s", digest_format(&digest, text) + 7);
    write_file(name, manifest);
    write_file("index.json", index);
    snprintf(reference.path, sizeof reference.path, "%s", folder);
    struct copy_source *source = copy_source_open(NULL, &reference, NULL);
    MUST(source);
    check_plan(source, "");
    check_plan(source, "v1");
    check_plan(source, text);
    copy_source_list_tags(source, &tags, NULL);
    copy_source_free(source);
    snprintf(name, sizeof name, "%s/blobs/sha256/%s", folder, text + 7);
    unlink(name);
    return 0;
}
