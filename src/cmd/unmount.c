/* tarn unmount: unmounts an image. */
#include <stdio.h>
#include "base/cleanup.h"
#include "cmd/commands.h"
#include "cmd/node_client.h"

static int run(const struct arguments *arguments) {
    cleanup_free char *folder = node_client_folder(arguments, arguments->operands[0]);
    cleanup_buffer struct buffer query = {0}, body = {0};
    bool is_repeated;
    if (!folder)
        return 1;
    buffer_append_string(&query, "?dir=");
    if (!buffer_append_percent(&query, folder, "/")) {
        fputs("tarn unmount: out of memory\n", stderr);
        return 1;
    }
    const struct node_client_order order = {.method = "DELETE", .query = query.bytes};
    int status = node_client_send(arguments, &order, &is_repeated, &body);
    if (status == 200 || (status == 404 && is_repeated)) /* the first order has done it */
        return 0;
    if (status)
        fprintf(stderr, "tarn unmount: %s\n", body.bytes ? body.bytes : "");
    return 1;
}

static const struct command_option options[] = {NODE_CLIENT_OPTIONS};

const struct command unmount_command = {
    .name = "unmount",
    .arguments = "DIR",
    .least = 1,
    .most = 1,
    .summary = "unmount an image",
    .text = "Also removes what was written to it. A mount that is in use stays (exit 1).\n",
    COMMAND_OPTIONS(options),
    .run = run,
};
