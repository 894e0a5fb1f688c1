/* tarn du: how much is in the cache, and whose. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "base/units.h"
#include "cmd/arguments.h"
#include "cmd/commands.h"
#include "cmd/help.h"
#include "cmd/order_command.h"

static void print_sum(const char *name, int width, const json_t *sum, const char *member) {
    char size[16];
    units_format_size(order_line_number(sum, member), size, sizeof size);
    printf("%-*s  %10s\n", width, name, size);
}

static void print_counted(const char *name, int width, const json_t *sum) {
    char size[16];
    uint64_t blobs = order_line_number(sum, "blobs");
    units_format_size(order_line_number(sum, "bytes"), size, sizeof size);
    printf("%-*s  %10s  %" PRIu64 " blob%s\n", width, name, size, blobs, order_line_plural(blobs));
}

static void print_for_people(json_t *line) {
    json_t *upstreams = json_object_get(line, "upstreams"), *sum;
    const char *host;
    int width = (int)strlen("unfinished");
    json_object_foreach (upstreams, host, sum)
        width = (int)strlen(host) > width ? (int)strlen(host) : width;
    print_counted("total", width, line);
    if (json_is_integer(json_object_get(line, "limit")))
        print_sum("limit", width, line, "limit");
    if (order_line_number(line, "pinned_bytes"))
        print_sum("pinned", width, line, "pinned_bytes");
    if (order_line_number(line, "partial_bytes"))
        print_sum("unfinished", width, line, "partial_bytes");
    if (json_object_size(upstreams))
        putchar('\n');
    json_object_foreach (upstreams, host, sum)
        print_counted(host, width, sum);
}

static void take_answer(void *context, json_t *line) {
    const struct order_command *command = context;
    if (!command->json) {
        print_for_people(line);
        return;
    }
    order_line_print(line);
    putchar('\n');
}

int cmd_du(int argc, char **argv) {
    struct order_command command = {.name = "du"};
    if (arguments_want_help(argc, argv))
        return help_command("du", stdout);
    if (!order_command_arguments(&command, argc, argv, NULL))
        return 2;
    return order_command_end(&command,
                             order_command_run(&command, json_object(), take_answer, &command));
}
