/* Tables on standard output. */
#include "cmd/table.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { SPACE = 3, FLEXIBLE_LEAST = 12, ROWS_FIRST = 64 };

static bool make_room(struct table *table) {
    if (table->count < table->capacity)
        return true;
    size_t capacity = table->capacity ? table->capacity * 2 : ROWS_FIRST;
    char **grown = reallocarray(table->rows, capacity, sizeof *grown);
    if (!grown)
        return false;
    table->rows = grown;
    table->capacity = capacity;
    return true;
}

void table_add(struct table *table, const char *const *cells) {
    size_t lengths[TABLE_COLUMNS_LIMIT], size = 0;
    assert(table->columns > 0);
    for (size_t i = 0; i < table->columns; i++) {
        lengths[i] = strlen(cells[i]);
        size += lengths[i] + 1;
    }
    char *row = make_room(table) ? malloc(size) : NULL;
    if (!row) {
        table->failed = true;
        return;
    }
    table->rows[table->count++] = row;
    for (size_t i = 0; i < table->columns; i++) {
        memcpy(row, cells[i], lengths[i] + 1);
        row += lengths[i] + 1;
        if (lengths[i] > table->widths[i])
            table->widths[i] = lengths[i];
    }
}

/* How wide the flexible column may be. */
static size_t flexible_width(const struct table *table, size_t width, size_t flexible) {
    size_t others = 0;
    for (size_t i = 0; i < table->columns; i++)
        others += (i == flexible ? 0 : table->widths[i]) + (i ? SPACE : 0);
    size_t left = width > others ? width - others : 0;
    if (left < FLEXIBLE_LEAST)
        left = FLEXIBLE_LEAST;
    return width && left < table->widths[flexible] ? left : table->widths[flexible];
}

static void print_cell(const char *cell, size_t width, bool is_last) {
    size_t length = strlen(cell);
    if (length > width)
        printf("%.*s…", (int)width - 1, cell);
    else
        fputs(cell, stdout);
    if (is_last)
        putchar('\n');
    else
        printf("%*s", (int)(length < width ? width - length : 0) + SPACE, "");
}

void table_print(const struct table *table, size_t width, size_t flexible) {
    size_t cut = flexible_width(table, width, flexible);
    for (size_t row = 0; row < table->count; row++) {
        const char *cell = table->rows[row];
        for (size_t i = 0; i < table->columns; i++) {
            print_cell(cell, i == flexible ? cut : table->widths[i], i + 1 == table->columns);
            cell += strlen(cell) + 1;
        }
    }
}

size_t table_terminal_width(void) {
    struct winsize size = {0};
    return isatty(STDOUT_FILENO) && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

void table_finish(struct table *table) {
    for (size_t i = 0; i < table->count; i++)
        free(table->rows[i]);
    free(table->rows);
    *table = (struct table){.columns = table->columns};
}
