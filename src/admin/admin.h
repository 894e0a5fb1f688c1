/*
 * What only the machine's operator may do, over the socket file ROOT/tarn.sock and nothing else.
 *
 *   POST /tarn/v1/warm   {"images":["alpine:3.20",…],"platforms":["linux/amd64",…]}
 *
 * brings the images in, one after the other, and answers with lines of JSON as it goes:
 *
 *   {"image":…,"digest":…,"role":"layer","size":N,"bytes":N,"state":"fetching"}
 *   {"image":…,"state":"done","bytes_fetched":N,"bytes_cached":N,"seconds":S}
 *
 * A part's state is waiting, fetching, cached or failed; with cached comes "was_cached" (before
 * this order) and with failed "error". The second kind of line ends an image; its state is done, or
 * failed with "error". A client that leaves ends the warming, not the transfers under way.
 *
 *   GET  /tarn/v1/ls[?names=NAME,…]
 *   GET  /tarn/v1/du
 *   POST /tarn/v1/rm      {"names":["docker.io/library/alpine:3.20",…]}
 *   POST /tarn/v1/prune   {"older_than_ms":N,"to_size":N,"dry_run":false}
 *   POST /tarn/v1/verify  {"repair":false,"rate":BYTES_A_SECOND}
 *
 * look at what is cached, or remove of it, and answer with lines of JSON as contents.h has them.
 * The last has "done":true. What fails before the first line has a status and an OCI error body,
 * what fails later a last line {"error":WHY}. A client that leaves ends the work.
 */
#ifndef ADMIN_ADMIN_H
#define ADMIN_ADMIN_H

#include "admin/order.h"
#include "admin/warm.h"
#include "http/http.h"

#define ADMIN_SOCKET "tarn.sock" /* the name of the socket file in the root */

struct admin {
    struct warmer *warmer;
    struct contents *contents;
};

/* For struct http_server_settings; `context` is a struct admin. */
void admin_handle(void *context, struct http_exchange *exchange);

#endif
