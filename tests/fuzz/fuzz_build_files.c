/* Files that come with the sources of a build: patterns of ignore files, and Cloud Build files. */
#include "base/json.h"
#include "build/ignore.h"
#include "build/message.h"
#include "build/schema.h"
#include "fuzz.h"

static void match(enum ignore_rules rules, struct text bytes) {
    static const char *const paths[] = {"a", "a/b", "a/b/c.txt", "\xc3\xa4/x", ".git/config"};
    cleanup_ignore struct ignore *ignore = ignore_new(rules);
    if (!ignore || !ignore_add_file(ignore, "file", bytes, NULL))
        return;
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        ignore_matches(ignore, paths[i], i % 2 == 0);
        ignore_is_final(ignore, paths[i]);
    }
}

static void read_build_file(struct text bytes) {
    static const char *const images[] = {"gcr.io/p/i:latest", NULL};
    struct error error = {0};
    cleanup_json json_t *file = schema_read(bytes, "file", &error);
    MUST(file || error.kind != ERROR_NONE);
    const struct message_wish wish = {.file = file,
                                      .images = images,
                                      .dockerfile = "Dockerfile",
                                      .project = "p",
                                      .region = "global",
                                      .logs_bucket = "b"};
    cleanup_json json_t *message = file ? message_make(&wish, &error) : NULL;
    MUST(!file || message || error.kind != ERROR_NONE);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    const struct text text = {(const char *)bytes, size};
    match(IGNORE_AS_DOCKER, text);
    match(IGNORE_AS_GIT, text);
    read_build_file(text);
    return 0;
}
