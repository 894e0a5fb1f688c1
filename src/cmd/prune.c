/* tarn prune: makes the cache smaller, least recently used blobs first. */
#include <stdio.h>
#include "base/json.h"
#include "cmd/commands.h"
#include "cmd/order_command.h"
#include "cmd/order_line.h"

struct prune_output {
    int64_t to_size; /* bytes; -1: not given */
    bool dry_run, json, bucket;
    bool short_of_size; /* more than `to_size` is left */
};

static void print_blob(const struct prune_output *pruning, const json_t *line) {
    char size[ORDER_LINE_SIZE], used[ORDER_LINE_SIZE];
    order_line_format_size(line, "size", size);
    order_line_format_age(line, "last_used", used);
    printf("%s %s  %10s  last used %s\n", pruning->dry_run ? "would delete" : "deleted",
           json_member_text(line, "digest"), size, used);
}

static void print_end(const struct prune_output *pruning, const json_t *line) {
    char blobs[ORDER_LINE_SIZE], size[ORDER_LINE_SIZE], left[ORDER_LINE_SIZE];
    order_line_format_blobs(line, blobs);
    order_line_format_size(line, "bytes", size);
    order_line_format_size(line, "remaining_bytes", left);
    if (pruning->bucket) {
        printf("%s, %s %s\n", blobs, size, pruning->dry_run ? "would be freed" : "freed");
        return;
    }
    printf("%s, %s %s; %s %s\n", blobs, size, pruning->dry_run ? "would be freed" : "freed", left,
           pruning->dry_run ? "would be left" : "left");
}

static void print_last(struct prune_output *pruning, json_t *line) {
    pruning->short_of_size =
        pruning->to_size >= 0 && !pruning->bucket &&
        order_line_number(line, "remaining_bytes") > (uint64_t)pruning->to_size;
    if (!pruning->json) {
        print_end(pruning, line);
        return;
    }
    if (pruning->bucket)
        order_line_print_whole(line);
    else
        order_line_print(line);
    putchar('\n');
}

static void on_line(void *context, json_t *line) {
    struct prune_output *pruning = context;
    if (order_line_is_last(line))
        print_last(pruning, line);
    else if (!pruning->json)
        print_blob(pruning, line);
}

static json_t *make_order(const struct prune_output *pruning, int64_t older_than_ms) {
    json_t *order = json_pack("{s:b}", "dry_run", pruning->dry_run);
    if (older_than_ms >= 0)
        json_object_set_new(order, "older_than_ms", json_integer(older_than_ms));
    if (pruning->to_size >= 0)
        json_object_set_new(order, "to_size", json_integer(pruning->to_size));
    return order;
}

static int run(const struct arguments *arguments) {
    int64_t older_than_ms = arguments_number(arguments, "older-than", -1);
    struct prune_output pruning = {
        .to_size = arguments_number(arguments, "to-size", -1),
        .dry_run = arguments_flag(arguments, "dry-run"),
        .json = arguments_flag(arguments, "json"),
        .bucket = arguments_flag(arguments, "bucket"),
    };
    if (older_than_ms < 0 && pruning.to_size < 0 && !pruning.bucket)
        return command_refuse(arguments->command, "--older-than, --to-size or both are needed");
    json_t *order = order_command_with_bucket(arguments, make_order(&pruning, older_than_ms));
    int status = order_command_run(arguments, order, on_line, &pruning);
    if (status == 0 && pruning.short_of_size) {
        fflush(stdout);
        fputs("tarn prune: --to-size could not be reached: the rest is pinned or in use\n", stderr);
        status = 1;
    }
    return order_command_end(arguments, status);
}

static const char *const ages[] = {"7d", "30d", "90d", NULL};

static const struct command_option options[] = {
    {"older-than", OPTION_DURATION, "DURATION",
     "delete blobs that were not used for DURATION, for example 12h or 30d", ages},
    {"to-size", OPTION_SIZE, "SIZE",
     "then delete the least recently used blobs until at most SIZE is left, for example 50GiB"},
    {"dry-run", OPTION_FLAG, NULL, "delete nothing; print what would be deleted"},
    ORDER_COMMAND_BUCKET("delete from the bucket instead, and abort uploads older than a day"),
    ORDER_COMMAND_OPTIONS,
};

const struct command prune_command = {
    .name = "prune",
    .arguments = "",
    .summary = "delete the least recently used blobs from the cache",
    .text =
        "--older-than, --to-size or both are needed, but with --bucket. Pinned blobs, and blobs "
        "that are being read\n"
        "or fetched, stay. The pins of a stopped tarn come from its configuration: with --root\n"
        "alone they are not known. Exit 1 when SIZE could not be reached.\n"
        "\n"
        "With --bucket the last use by any tarn that shares the bucket counts.\n",
    COMMAND_OPTIONS(options),
    .run = run,
};
