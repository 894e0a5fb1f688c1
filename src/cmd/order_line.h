/*
 * One line of the response to an order (admin/order.h): a JSON object, and how its members
 * are printed for people.
 */
#ifndef CMD_ORDER_LINE_H
#define CMD_ORDER_LINE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ORDER_LINE_SIZE = 40 }; /* bytes that each order_line_format_*() needs */

bool order_line_is_last(const json_t *line);
uint64_t order_line_number(const json_t *line, const char *member); /* 0: there is none */

/* Prints the line on standard output as compact JSON, without its member "done" (which is deleted
 * from the line) and without a newline. */
void order_line_print(json_t *line);

/* The same with the member "done". */
void order_line_print_whole(const json_t *line);

/* A number of bytes as "1.5 GiB". */
void order_line_format_size(const json_t *line, const char *member,
                            char out[static ORDER_LINE_SIZE]);
/* The member "blobs" as "1 blob" or "3 blobs". */
void order_line_format_blobs(const json_t *line, char out[static ORDER_LINE_SIZE]);
/* A time as "3 hours ago"; "-": there is none. */
void order_line_format_age(const json_t *line, const char *member,
                           char out[static ORDER_LINE_SIZE]);

#endif
