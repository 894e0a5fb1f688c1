/* tarn mounts: lists the mounted images. */
#include <stdio.h>
#include "base/cleanup.h"
#include "base/json.h"
#include "base/units.h"
#include "cmd/commands.h"
#include "cmd/node_client.h"
#include "cmd/order_command.h"
#include "cmd/order_line.h"
#include "cmd/table.h"

enum { COLUMNS = 5 };

static void add_mount(struct table *table, const json_t *line) {
    char size[ORDER_LINE_SIZE], fetched[ORDER_LINE_SIZE];
    order_line_format_size(line, "bytes", size);
    order_line_format_size(line, "fetched", fetched);
    const char *const cells[COLUMNS] = {json_member_text(line, "dir"),
                                        json_member_text(line, "image"),
                                        json_member_text(line, "state"), size, fetched};
    table_add(table, cells);
}

static int print_table(const struct buffer *body) {
    static const char *const head[COLUMNS] = {"DIR", "IMAGE", "STATE", "SIZE", "FETCHED"};
    cleanup_table struct table table = {.columns = COLUMNS};
    struct text rest = {body->bytes, body->length};
    table_add(&table, head);
    while (rest.at && rest.length) {
        struct text text = text_cut(rest, '\n', &rest);
        cleanup_json json_t *line = json_load_own(text.at, text.length);
        if (line)
            add_mount(&table, line);
    }
    table_print(&table, 0, 0);
    return table.failed ? 1 : 0;
}

static int run(const struct arguments *arguments) {
    const struct node_client_order order = {.method = "GET", .query = ""};
    cleanup_buffer struct buffer body = {0};
    int status = node_client_send(arguments, &order, NULL, &body);
    if (status && status != 200)
        fprintf(stderr, "tarn mounts: %s\n", body.bytes ? body.bytes : "");
    if (status != 200)
        return 1;
    if (!arguments_flag(arguments, "json"))
        return order_command_end(arguments, print_table(&body));
    fwrite(body.bytes ? body.bytes : "", 1, body.length, stdout);
    return order_command_end(arguments, 0);
}

static const struct command_option options[] = {
    {"json", OPTION_FLAG, NULL, "print a line of JSON for each mount"},
    NODE_CLIENT_OPTIONS,
};

const struct command mounts_command = {
    .name = "mounts",
    .arguments = "",
    .summary = "list the mounted images",
    .text =
        "A line for each mount: its folder, its image, its state, the compressed size of the "
        "image,\n"
        "and how many bytes have come for it. The states: streaming (the rest comes as it is "
        "read),\n"
        "complete (all is here and was verified), whole (it cannot stream, and was pulled), bad\n"
        "(what came does not have the image's digests).\n",
    COMMAND_OPTIONS(options),
    .run = run,
};
