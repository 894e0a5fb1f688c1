/*
 * Responses to orders: lines of JSON, one object a line.
 *
 * A line is written as soon as it is found. The last line holds "done":true; without it the
 * response is incomplete. Threads: one thread at a time for each sink.
 */
#ifndef ADMIN_LINE_H
#define ADMIN_LINE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "oci/digest.h"

/* Where the lines of a response go. */
struct line_sink {
    /* Takes a whole line with its newline. False: the receiver is gone, and the order ends. */
    bool (*write)(void *context, const char *bytes, size_t length);
    /* Asked now and then while nothing is written; false ends the order. May be NULL. */
    bool (*is_wanted)(void *context);
    void *context;
};

/* Writes the object as one line and releases it; NULL (out of memory) is an error. False with
 * ERROR_CLOSED: the receiver is gone. */
bool line_write(const struct line_sink *sink, json_t *line, struct error *error);

/* Values of members; NULL when out of memory. */
json_t *line_digest(const struct digest *digest);
json_t *line_time(int64_t wall_s); /* RFC 3339, in UTC; null for a time beyond its range */
json_t *line_size(uint64_t bytes);

/* The strings of a JSON array, NULL-terminated. The list is the caller's to free, the strings stay
 * the array's. NULL: no array, more than `limit` members, or a member that is no string or holds a
 * NUL byte; or no memory. */
const char **line_read_strings(const json_t *array, size_t limit);

#endif
