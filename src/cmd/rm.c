/* tarn rm: removes images from the cache. */
#include <inttypes.h>
#include <stdio.h>
#include "base/cleanup.h"
#include "base/json.h"
#include "cmd/commands.h"
#include "cmd/order_command.h"
#include "cmd/order_line.h"

struct rm_output {
    bool json;
    bool unmatched; /* one of the names matched nothing */
    bool unreached; /* one of the replicas was not reached */
    size_t removed;
    json_t *last; /* the last line, owned; NULL: it has not arrived */
};

static void print_removed(const json_t *line) {
    const char *tag = json_member_text(line, "tag");
    const char *from = json_is_true(json_object_get(line, "bucket")) ? " from the bucket" : "";
    const char *digest = json_member_text(line, "digest");
    printf("removed %s/%s%s%s%s%s%s\n", json_member_text(line, "upstream"),
           json_member_text(line, "repository"), *tag ? ":" : "", tag, *digest ? "@" : "", digest,
           from);
}

static void print_unmatched(const json_t *line) {
    fflush(stdout);
    fprintf(stderr, "tarn rm: nothing in the cache is named %s (tarn ls shows what is there)\n",
            json_member_text(line, "unmatched"));
}

static void print_unreached(const json_t *line) {
    fflush(stdout);
    fprintf(stderr, "tarn rm: the replica %s was not reached, and may still have it: %s\n",
            json_member_text(line, "unreached"), json_member_text(line, "why"));
}

static void on_line(void *context, json_t *line) {
    struct rm_output *removal = context;
    if (order_line_is_last(line)) {
        removal->last = json_incref(line);
    } else if (json_object_get(line, "unreached")) {
        removal->unreached = true;
        print_unreached(line);
    } else if (json_object_get(line, "unmatched")) {
        removal->unmatched = true;
        print_unmatched(line);
    } else if (removal->json) {
        fputs(removal->removed++ ? ",\n" : "{\"removed\":[\n", stdout);
        order_line_print(line);
    } else {
        print_removed(line);
    }
}

static void print_end(const struct rm_output *removal) {
    char size[ORDER_LINE_SIZE], blobs[ORDER_LINE_SIZE];
    if (removal->json && (removal->last || removal->removed)) {
        printf("%s],\"blobs\":%" PRIu64 ",\"bytes\":%" PRIu64 "}\n",
               removal->removed ? "\n" : "{\"removed\":[",
               order_line_number(removal->last, "blobs"),
               order_line_number(removal->last, "bytes"));
    } else if (removal->last) {
        order_line_format_size(removal->last, "bytes", size);
        order_line_format_blobs(removal->last, blobs);
        printf("%s, %s freed\n", blobs, size);
    }
}

static int run(const struct arguments *arguments) {
    struct rm_output removal = {.json = arguments_flag(arguments, "json")};
    cleanup_json json_t *names = order_command_names(arguments);
    if (!names)
        return 2;
    int status =
        order_command_run(arguments, json_pack("{s:O}", "names", names), on_line, &removal);
    print_end(&removal);
    json_decref(removal.last);
    return order_command_end(arguments, removal.unmatched || removal.unreached ? 1 : status);
}

static const struct command_option options[] = {ORDER_COMMAND_OPTIONS};

const struct command rm_command = {
    .name = "rm",
    .arguments = "NAME…",
    .least = 1,
    .most = COMMAND_ANY_NUMBER,
    .summary = "remove images from the cache",
    .text =
        "NAME is UPSTREAM/REPOSITORY:TAG, UPSTREAM/REPOSITORY@DIGEST, or UPSTREAM/REPOSITORY for\n"
        "all images of a repository. Each part may contain * (any characters within one part of\n"
        "the path), ** (any characters across parts) and ? (one character): 'ghcr.io/org/**'.\n"
        "Blobs that another tag or repository uses stay. The next pull of a removed image fetches\n"
        "it again. Where a bucket is configured, the image's tags and links go there, too, and a "
        "running\n"
        "tarn has all its replicas remove the image. Exit 1 when a NAME matches nothing, or when "
        "a\n"
        "replica was not reached, whose ADDRESS:PORT is then named. `tarn delete` deletes images "
        "at\n"
        "their registry.\n",
    COMMAND_OPTIONS(options),
    .run = run,
};
