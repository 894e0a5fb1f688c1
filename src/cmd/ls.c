/* tarn ls: the images in the cache. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/units.h"
#include "cmd/arguments.h"
#include "cmd/commands.h"
#include "cmd/help.h"
#include "cmd/order_command.h"

enum { COLUMNS = 4, DIGEST_SHOWN = 12, TAGS_SHOWN = 3, SPACE = 3 };

/* All lines, since a column is as wide as its longest cell. */
struct table {
    char *(*rows)[COLUMNS];
    size_t count, capacity;
    bool failed;
};

static void free_table(struct table *table) {
    for (size_t i = 0; i < table->count; i++) {
        for (size_t column = 0; column < COLUMNS; column++)
            free(table->rows[i][column]);
    }
    free(table->rows);
}

static void add_row(struct table *table, const char *const cells[static COLUMNS]) {
    if (table->count == table->capacity) {
        size_t capacity = table->capacity ? table->capacity * 2 : 64;
        void *grown = reallocarray(table->rows, capacity, sizeof *table->rows);
        if (!grown) {
            table->failed = true;
            return;
        }
        table->rows = grown;
        table->capacity = capacity;
    }
    char **row = table->rows[table->count++];
    for (size_t column = 0; column < COLUMNS; column++) {
        row[column] = strdup(cells[column]);
        table->failed = table->failed || !row[column];
    }
}

static void print_table(const struct table *table) {
    size_t widths[COLUMNS] = {0};
    for (size_t i = 0; i < table->count; i++) {
        for (size_t column = 0; column < COLUMNS; column++) {
            size_t width = strlen(table->rows[i][column]);
            widths[column] = width > widths[column] ? width : widths[column];
        }
    }
    for (size_t i = 0; i < table->count; i++) {
        for (size_t column = 0; column + 1 < COLUMNS; column++)
            printf("%-*s", (int)widths[column] + SPACE, table->rows[i][column]);
        puts(table->rows[i][COLUMNS - 1]);
    }
}

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
    buffer_printf(name, "%s/%s", order_line_string(image, "upstream"),
                  order_line_string(image, "repository"));
    for (size_t i = 0; i < count && i < TAGS_SHOWN; i++)
        buffer_printf(name, "%s%s", i ? "," : ":", json_string_value(json_array_get(tags, i)));
    if (count > TAGS_SHOWN) {
        buffer_append_string(name, " +");
        write_count(count - TAGS_SHOWN, name);
    }
    if (count == 0)
        buffer_printf(name, "@%s", order_line_string(image, "digest"));
}

/* "sha256:4f4fb700ef54…" without its algorithm */
static void shorten(const char *digest, char *out, size_t size) {
    const char *colon = strchr(digest, ':');
    snprintf(out, size, "%.*s", DIGEST_SHOWN, colon ? colon + 1 : digest);
}

struct listing {
    struct table table;
    bool json;
    size_t images;
};

static void take_json(struct listing *listing, json_t *line) {
    if (order_line_is_last(line))
        return;
    fputs(listing->images++ ? ",\n" : "[\n", stdout);
    order_line_print(line);
}

static void take_row(struct listing *listing, const json_t *line) {
    cleanup_buffer struct buffer name = {0};
    char digest[DIGEST_SHOWN + 1], size[16], used[40];
    write_name(line, &name);
    shorten(order_line_string(line, "digest"), digest, sizeof digest);
    units_format_size(order_line_number(line, "size"), size, sizeof size);
    order_line_format_age(order_line_string(line, "last_used"), used, sizeof used);
    const char *const cells[COLUMNS] = {name.bytes ? name.bytes : "", digest, size, used};
    add_row(&listing->table, cells);
}

static void take_answer(void *context, json_t *line) {
    struct listing *listing = context;
    if (listing->json)
        take_json(listing, line);
    else if (!order_line_is_last(line))
        take_row(listing, line);
}

int cmd_ls(int argc, char **argv) {
    static const char *const head[COLUMNS] = {"IMAGE", "DIGEST", "SIZE", "LAST USED"};
    struct order_command command = {.name = "ls"};
    struct listing listing = {0};
    cleanup_json json_t *names = json_array();
    if (arguments_want_help(argc, argv))
        return help_command("ls", stdout);
    if (!order_command_arguments(&command, argc, argv, names))
        return 2;
    listing.json = command.json;
    if (!command.json)
        add_row(&listing.table, head);
    int status =
        order_command_run(&command, json_pack("{s:O}", "names", names), take_answer, &listing);
    if (command.json && (listing.images || status == 0))
        puts(listing.images ? "\n]" : "[]");
    else if (!command.json && status == 0 && !listing.table.failed)
        print_table(&listing.table);
    if (listing.table.failed) {
        fputs("tarn ls: out of memory\n", stderr);
        status = 1;
    }
    free_table(&listing.table);
    return order_command_end(&command, status);
}
