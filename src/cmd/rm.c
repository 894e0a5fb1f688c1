/* tarn rm: removes images from the cache. */
#include <inttypes.h>
#include <stdio.h>
#include "base/cleanup.h"
#include "base/json.h"
#include "base/units.h"
#include "cmd/arguments.h"
#include "cmd/commands.h"
#include "cmd/help.h"
#include "cmd/order_command.h"

struct removal {
    bool json, unmatched;
    size_t removed;
    json_t *last; /* owned; NULL: it did not come */
};

static void print_removed(const json_t *line) {
    const char *tag = order_line_string(line, "tag");
    printf("removed %s/%s%s%s@%s\n", order_line_string(line, "upstream"),
           order_line_string(line, "repository"), *tag ? ":" : "", tag,
           order_line_string(line, "digest"));
}

static void take_answer(void *context, json_t *line) {
    struct removal *removal = context;
    if (order_line_is_last(line)) {
        removal->last = json_incref(line);
    } else if (json_object_get(line, "unmatched")) {
        removal->unmatched = true;
        fflush(stdout);
        fprintf(stderr, "tarn rm: nothing in the cache is named %s (tarn ls shows what is)\n",
                order_line_string(line, "unmatched"));
    } else if (removal->json) {
        fputs(removal->removed++ ? ",\n" : "{\"removed\":[\n", stdout);
        order_line_print(line);
    } else {
        print_removed(line);
    }
}

static void print_end(const struct removal *removal) {
    char size[16];
    uint64_t blobs = order_line_number(removal->last, "blobs");
    uint64_t bytes = order_line_number(removal->last, "bytes");
    if (removal->json && (removal->last || removal->removed)) {
        printf("%s],\"blobs\":%" PRIu64 ",\"bytes\":%" PRIu64 "}\n",
               removal->removed ? "\n" : "{\"removed\":[", blobs, bytes);
    } else if (removal->last) {
        units_format_size(bytes, size, sizeof size);
        printf("%" PRIu64 " blob%s, %s freed\n", blobs, order_line_plural(blobs), size);
    }
}

int cmd_rm(int argc, char **argv) {
    struct order_command command = {.name = "rm"};
    struct removal removal = {0};
    cleanup_json json_t *names = json_array();
    if (arguments_want_help(argc, argv))
        return help_command("rm", stdout);
    if (!order_command_arguments(&command, argc, argv, names))
        return 2;
    if (json_array_size(names) == 0)
        return order_command_refuse(&command, "say which images", "");
    removal.json = command.json;
    int status =
        order_command_run(&command, json_pack("{s:O}", "names", names), take_answer, &removal);
    print_end(&removal);
    json_decref(removal.last);
    return order_command_end(&command, removal.unmatched ? 1 : status);
}
