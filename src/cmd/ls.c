/* tarn ls: lists the images in the cache. */
#include <stdio.h>
#include <string.h>
#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "cmd/commands.h"
#include "cmd/order_command.h"
#include "cmd/order_line.h"
#include "cmd/table.h"

enum { COLUMNS = 4, DIGEST_SHOWN = 12, TAGS_SHOWN = 3 };

/* 2997 as "2,997" */
static void write_count(size_t count, struct buffer *out) {
    if (count < 1000) {
        buffer_printf(out, "%zu", count);
        return;
    }
    write_count(count / 1000, out);
    buffer_printf(out, ",%03zu", count % 1000);
}

/* "docker.io/library/alpine:3,3.20,latest +2" or "docker.io/library/alpine@sha256:…" */
static void write_name(const json_t *image, struct buffer *name) {
    const json_t *tags = json_object_get(image, "tags");
    size_t count = json_array_size(tags);
    buffer_printf(name, "%s/%s", json_member_text(image, "upstream"),
                  json_member_text(image, "repository"));
    for (size_t i = 0; i < count && i < TAGS_SHOWN; i++)
        buffer_printf(name, "%s%s", i ? "," : ":", json_string_value(json_array_get(tags, i)));
    if (count > TAGS_SHOWN) {
        buffer_append_string(name, " +");
        write_count(count - TAGS_SHOWN, name);
    }
    if (count == 0)
        buffer_printf(name, "@%s", json_member_text(image, "digest"));
}

/* "sha256:4f4fb700ef54…" without its algorithm */
static void shorten(const char *digest, char *out, size_t size) {
    const char *colon = strchr(digest, ':');
    snprintf(out, size, "%.*s", DIGEST_SHOWN, colon ? colon + 1 : digest);
}

struct ls_output {
    struct table table;
    bool json, bucket;
    size_t images;
};

static void print_json(struct ls_output *listing, json_t *line) {
    fputs(listing->images++ ? ",\n" : "[\n", stdout);
    order_line_print(line);
}

static void add_image(struct ls_output *listing, const json_t *line) {
    cleanup_buffer struct buffer name = {0};
    char digest[DIGEST_SHOWN + 1], size[ORDER_LINE_SIZE], used[ORDER_LINE_SIZE];
    write_name(line, &name);
    shorten(json_member_text(line, "digest"), digest, sizeof digest);
    order_line_format_size(line, "size", size);
    order_line_format_age(line, "last_used", used);
    const char *const cells[COLUMNS] = {name.bytes ? name.bytes : "", digest, size, used};
    table_add(&listing->table, cells);
}

/* A line of --bucket. */
static void print_tag(const json_t *line) {
    printf("%s/%s:%s\n", json_member_text(line, "upstream"), json_member_text(line, "repository"),
           json_member_text(line, "tag"));
}

static void on_line(void *context, json_t *line) {
    struct ls_output *listing = context;
    if (order_line_is_last(line))
        return;
    if (listing->json)
        print_json(listing, line);
    else if (listing->bucket)
        print_tag(line);
    else
        add_image(listing, line);
}

/* Prints the part of the output that had to wait for the last line. */
static void print_end(const struct ls_output *listing, int status) {
    if (listing->json && (listing->images || status == 0))
        puts(listing->images ? "\n]" : "[]");
    else if (!listing->json && !listing->bucket && status == 0 && !listing->table.failed)
        table_print(&listing->table, 0, 0);
}

static int run(const struct arguments *arguments) {
    static const char *const head[COLUMNS] = {"IMAGE", "DIGEST", "SIZE", "LAST USED"};
    struct ls_output listing = {.table = {.columns = COLUMNS},
                                .json = arguments_flag(arguments, "json"),
                                .bucket = arguments_flag(arguments, "bucket")};
    cleanup_json json_t *names = order_command_names(arguments);
    if (!names)
        return 2;
    if (!listing.json)
        table_add(&listing.table, head);
    json_t *order = order_command_with_bucket(arguments, json_pack("{s:O}", "names", names));
    int status = order_command_run(arguments, order, on_line, &listing);
    print_end(&listing, status);
    if (listing.table.failed) {
        fputs("tarn ls: out of memory\n", stderr);
        status = 1;
    }
    table_finish(&listing.table);
    return order_command_end(arguments, status);
}

static const struct command_option options[] = {
    ORDER_COMMAND_BUCKET("list the tags in the bucket instead, as HOST/NAME:TAG"),
    ORDER_COMMAND_OPTIONS,
};

const struct command ls_command = {
    .name = "ls",
    .arguments = "[NAME…]",
    .most = COMMAND_ANY_NUMBER,
    .summary = "list the images in the cache",
    .text =
        "One line for each image: its name, its digest, how many bytes of it are cached, and when\n"
        "any of them was last used. An index and its images are one line. NAME is written as for\n"
        "tarn rm; without NAME all images are listed. Works while tarn runs and while it is\n"
        "stopped. Listing an image does not count as use of it.\n",
    COMMAND_OPTIONS(options),
    .run = run,
};
