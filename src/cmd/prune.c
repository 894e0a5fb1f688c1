/* tarn prune: makes the cache smaller, least recently used first. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "base/cleanup.h"
#include "base/units.h"
#include "cmd/arguments.h"
#include "cmd/commands.h"
#include "cmd/help.h"
#include "cmd/order_command.h"

struct pruning {
    struct order_command command;
    int64_t older_than_ms, to_size; /* -1: not given */
    bool dry_run, short_of_size;
};

/* False: usage is wrong, which was told. */
static bool read_arguments(struct pruning *pruning, int argc, char *const *argv) {
    struct order_command *command = &pruning->command;
    for (int at = 1; at < argc;) {
        const char *value;
        bool missing = false;
        uint64_t bytes;
        if (strcmp(argv[at], "--dry-run") == 0) {
            pruning->dry_run = true;
            at++;
        } else if ((value = argument_value("--older-than", argc, argv, &at, &missing))) {
            if (!units_parse_duration(text_of(value), &pruning->older_than_ms))
                return !order_command_refuse(
                    command, "--older-than takes a duration, as 30d or 12h, and not ", value);
        } else if (!missing && (value = argument_value("--to-size", argc, argv, &at, &missing))) {
            if (!units_parse_size(text_of(value), &bytes))
                return !order_command_refuse(
                    command, "--to-size takes a size, as 50GiB or 500MB, and not ", value);
            pruning->to_size = (int64_t)bytes;
        } else if (missing || !order_command_argument(command, argc, argv, &at, &missing)) {
            return !order_command_refuse(
                command, missing ? "a value is missing behind " : "unknown argument ", argv[at]);
        }
    }
    return pruning->older_than_ms >= 0 || pruning->to_size >= 0 ||
           !order_command_refuse(command, "say --older-than, --to-size or both", "");
}

static void print_blob(const struct pruning *pruning, const json_t *line) {
    char size[16], used[40];
    units_format_size(order_line_number(line, "size"), size, sizeof size);
    order_line_format_age(order_line_string(line, "last_used"), used, sizeof used);
    printf("%s %s  %10s  last used %s\n", pruning->dry_run ? "would delete" : "deleted",
           order_line_string(line, "digest"), size, used);
}

static void print_end(const struct pruning *pruning, const json_t *line) {
    char size[16], left[16];
    uint64_t blobs = order_line_number(line, "blobs");
    units_format_size(order_line_number(line, "bytes"), size, sizeof size);
    units_format_size(order_line_number(line, "remaining_bytes"), left, sizeof left);
    printf("%" PRIu64 " blob%s, %s %s; %s %s\n", blobs, order_line_plural(blobs), size,
           pruning->dry_run ? "would be freed" : "freed", left,
           pruning->dry_run ? "would be left" : "left");
}

static void take_answer(void *context, json_t *line) {
    struct pruning *pruning = context;
    bool last = order_line_is_last(line);
    if (last)
        pruning->short_of_size =
            pruning->to_size >= 0 &&
            order_line_number(line, "remaining_bytes") > (uint64_t)pruning->to_size;
    if (pruning->command.json) {
        if (!last)
            return;
        order_line_print(line);
        putchar('\n');
    } else if (last) {
        print_end(pruning, line);
    } else {
        print_blob(pruning, line);
    }
}

int cmd_prune(int argc, char **argv) {
    struct pruning pruning = {.command.name = "prune", .older_than_ms = -1, .to_size = -1};
    if (arguments_want_help(argc, argv))
        return help_command("prune", stdout);
    if (!read_arguments(&pruning, argc, argv))
        return 2;
    json_t *order = json_pack("{s:b}", "dry_run", pruning.dry_run);
    if (pruning.older_than_ms >= 0)
        json_object_set_new(order, "older_than_ms", json_integer(pruning.older_than_ms));
    if (pruning.to_size >= 0)
        json_object_set_new(order, "to_size", json_integer(pruning.to_size));
    int status = order_command_run(&pruning.command, order, take_answer, &pruning);
    if (status == 0 && pruning.short_of_size) {
        fflush(stdout);
        fputs("tarn prune: --to-size could not be reached: the rest is pinned or in use\n", stderr);
        status = 1;
    }
    return order_command_end(&pruning.command, status);
}
