/*
 * A table on standard output: columns as wide as their longest cell, with space between them. All
 * rows are kept until it is printed. A zeroed table with `columns` set is empty and valid. One
 * thread.
 */
#ifndef CMD_TABLE_H
#define CMD_TABLE_H

#include <stdbool.h>
#include <stddef.h>

enum { TABLE_COLUMNS_LIMIT = 8 };

struct table {
    size_t columns; /* at most TABLE_COLUMNS_LIMIT */
    char **rows;    /* the cells of a row, one behind the other, each with its NUL */
    size_t count, capacity;
    size_t widths[TABLE_COLUMNS_LIMIT];
    bool failed; /* out of memory: rows are missing */
};

/* Adds a row of `columns` cells, which are copied. They hold no control characters. */
void table_add(struct table *table, const char *const *cells);

/*
 * Prints all rows. A row that is wider than `width` characters (0: there is no limit) gets shorter
 * in its column `flexible`: what does not fit there becomes "…".
 */
void table_print(const struct table *table, size_t width, size_t flexible);

/* The width of the terminal that standard output is; 0: it is none, or none is known. */
size_t table_terminal_width(void);

void table_finish(struct table *table);

#define cleanup_table __attribute__((cleanup(table_finish)))

#endif
