/*
 * Orders that only the machine's operator may give, over the socket file ROOT/tarn.sock.
 *
 *   POST /tarn/v1/warm   {"images":["alpine:3.20",…],"platforms":["linux/amd64",…]}
 *
 * pulls the images into the cache, one after the other, and responds with lines of JSON as it goes:
 *
 *   {"image":…,"digest":…,"role":"layer","size":N,"bytes":N,"state":"fetching"}
 *   {"image":…,"state":"done","bytes_fetched":N,"bytes_cached":N,"seconds":S}
 *
 * The state of a part is waiting, fetching, cached or failed. With cached comes "was_cached" (the
 * part was there before this order), and with failed comes "error". The second kind of line ends an
 * image; its state is done, or failed with "error". When the client leaves, the order ends, but the
 * transfers under way go on.
 *
 *   GET  /tarn/v1/ls[?names=NAME,…][&bucket=1]
 *   GET  /tarn/v1/du[?bucket=1]
 *   POST /tarn/v1/rm      {"names":["docker.io/library/alpine:3.20",…]}
 *   POST /tarn/v1/prune   {"older_than_ms":N,"to_size":N,"dry_run":false}
 *   POST /tarn/v1/verify  {"repair":false,"rate":BYTES_A_SECOND}
 *
 * show or remove what is cached, and respond with lines of JSON (ls.h, rm.h, prune.h, verify.h).
 * With bucket=1, or with a member "bucket":true in the body of prune and verify, the order is about
 * the bucket (bucket_orders.h).
 * The last line has "done":true. A failure before the first line has a status and an OCI error
 * body; a later failure has a last line {"error":WHY}. When the client leaves, the order ends.
 *
 *   POST /tarn/v1/reload  {"config":"/etc/tarn/tarn.yaml"}
 *
 * takes another configuration: this file, or without "config" the one in use, read again. The
 * response has a line {"problem":TEXT} for each reason why nothing was changed, and at last
 * {"done":true,"reloaded":BOOL}.
 */
#ifndef ADMIN_ADMIN_H
#define ADMIN_ADMIN_H

#include "admin/order.h"
#include "admin/service.h"
#include "admin/warm.h"
#include "http/http.h"

#define ADMIN_SOCKET "tarn.sock" /* the name of the socket file in the root */

struct admin {
    struct warmer *warmer;
    struct order_target *target; /* of all orders but warm and reload */
    const struct service_settings *settings;
};

/* For struct http_server_settings; `context` is a struct admin. */
void admin_handle(void *context, struct http_exchange *exchange);

#endif
