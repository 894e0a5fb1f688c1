/* tarn du: shows how much is in the cache, and what each upstream has of it. */
#include <stdio.h>
#include <string.h>
#include "cmd/commands.h"
#include "cmd/order_command.h"
#include "cmd/order_line.h"

static void print_sum(const char *name, int width, const json_t *sum, const char *member) {
    char size[ORDER_LINE_SIZE];
    order_line_format_size(sum, member, size);
    printf("%-*s  %10s\n", width, name, size);
}

static void print_counted(const char *name, int width, const json_t *sum) {
    char size[ORDER_LINE_SIZE], blobs[ORDER_LINE_SIZE];
    order_line_format_size(sum, "bytes", size);
    order_line_format_blobs(sum, blobs);
    printf("%-*s  %10s  %s\n", width, name, size, blobs);
}

static void print_for_people(const json_t *line) {
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
    if (order_line_number(line, "bad_bytes"))
        print_sum("bad", width, line, "bad_bytes");
    print_sum("records", width, line, "record_bytes");
    print_sum("on disk", width, line, "disk_bytes");
    const json_t *bucket = json_object_get(line, "bucket");
    if (bucket)
        print_counted("bucket", width, bucket);
    if (json_object_size(upstreams))
        putchar('\n');
    json_object_foreach (upstreams, host, sum)
        print_counted(host, width, sum);
}

static void on_line(void *context, json_t *line) {
    const bool *json = context;
    if (!*json) {
        print_for_people(line);
        return;
    }
    order_line_print(line);
    putchar('\n');
}

static int run(const struct arguments *arguments) {
    bool json = arguments_flag(arguments, "json");
    json_t *order = order_command_with_bucket(arguments, json_object());
    int status = order_command_run(arguments, order, on_line, &json);
    return order_command_end(arguments, status);
}

static const struct command_option options[] = {
    ORDER_COMMAND_BUCKET("also count what is in the bucket"),
    ORDER_COMMAND_OPTIONS,
};

const struct command du_command = {
    .name = "du",
    .arguments = "",
    .summary = "show how much is in the cache, for each upstream",
    .text =
        "A blob that repositories of several upstreams hold counts for each of them, and once in\n"
        "the total. \"unfinished\" are the bytes of interrupted transfers; a later pull continues\n"
        "such a transfer. \"records\" are the tags, the links and all directories, \"bad\" are "
        "blobs\n"
        "whose bytes were wrong. \"on disk\" is all of that in whole blocks, as du(1) counts it; "
        "it\n"
        "is what the limit is about.\n",
    COMMAND_OPTIONS(options),
    .run = run,
};
