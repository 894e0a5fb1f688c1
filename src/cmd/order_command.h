/*
 * What tarn ls, du, rm, prune and verify have in common: they send an order to the tarn that runs
 * on the cache. When none runs, they carry out the order on the cache's files themselves. The
 * response is the same lines of JSON in both cases (admin/order.h).
 */
#ifndef CMD_ORDER_COMMAND_H
#define CMD_ORDER_COMMAND_H

#include <jansson.h>
#include "cmd/arguments.h"
#include "cmd/chosen_cache.h"

/* The options that all of them have, for the command's table. */
#define ORDER_COMMAND_OPTIONS                                                                      \
    CHOSEN_CACHE_OPTIONS, {                                                                        \
        "json", OPTION_FLAG, NULL, "print JSON"                                                    \
    }

/* The option of those that can be about the bucket. */
#define ORDER_COMMAND_BUCKET(text)                                                                 \
    { "bucket", OPTION_FLAG, NULL, text }

/* Adds "bucket":true to the order when the arguments have --bucket. Returns the order. */
json_t *order_command_with_bucket(const struct arguments *arguments, json_t *order);

/* The command's operands as an array of names of images; NULL: one of them cannot be a name, and
 * the reason is on standard error (bad usage). */
json_t *order_command_names(const struct arguments *arguments);

/*
 * Gives the order to the cache that the arguments choose, and calls `on_line` with each line of the
 * response, the last one included. `order` is an object as order_run() takes it, released
 * here; NULL: out of memory. The exit status; when it is not 0, the reason is on standard error.
 * Ctrl-C ends the process with status 130.
 */
int order_command_run(const struct arguments *arguments, json_t *order,
                      void (*on_line)(void *context, json_t *line), void *context);

/* Writes out what standard output still holds. The exit status: `status`, or 1 when not all could
 * be written, and the reason is on standard error. */
int order_command_end(const struct arguments *arguments, int status);

#endif
