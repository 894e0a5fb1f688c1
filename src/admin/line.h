/* What the answers about the contents have in common. Inside the room. */
#ifndef ADMIN_LINE_H
#define ADMIN_LINE_H

#include "admin/order.h"

enum { TIME_SIZE = 32 };

/* Writes the object as one line and releases it; NULL (out of memory) is an error. False: nobody
 * takes it, ERROR_CLOSED. */
bool contents_write(const struct contents_sink *sink, json_t *line, struct error *error);

/* False, with ERROR_CLOSED, when tarn stops or nobody waits. */
bool contents_go_on(const struct contents *contents, const struct contents_sink *sink,
                    struct error *error);

/* Waits until all blobs are known, at most a minute. */
bool contents_wait_for_scan(const struct contents *contents, const struct contents_sink *sink,
                            struct error *error);

json_t *contents_digest(const struct digest *digest);
json_t *contents_time(int64_t wall_s); /* RFC 3339, in UTC */
json_t *contents_size(uint64_t bytes);

#endif
