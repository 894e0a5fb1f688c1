/* Orders in JSON, as the socket and the commands give them. Threads: any. */
#ifndef ADMIN_ORDER_H
#define ADMIN_ORDER_H

#include <jansson.h>
#include "admin/target.h"

enum { ORDER_NAMES_LIMIT = 1000 }; /* patterns of images in one order */

/*
 * Runs the order `what`: "ls" {"names":[…]}, "du" {}, "rm" {"names":[…]}, "prune"
 * {"older_than_ms":N,"to_size":N,"dry_run":B} or "verify" {"repair":B,"rate":N}. All but rm may
 * have "bucket":true, too. An optional member may be absent or null. What each does, and the lines
 * it writes: ls.h, rm.h, prune.h, verify.h; with "bucket", bucket_orders.h.
 * ERROR_INVALID: it is no such order.
 */
bool order_run(struct order_target *target, const char *what, const json_t *order,
               const struct line_sink *sink, struct error *error);

#endif
