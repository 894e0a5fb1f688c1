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
 */
#ifndef REGISTRY_ADMIN_H
#define REGISTRY_ADMIN_H

#include "http/http.h"

/* For struct http_server_settings; `context` is a struct warmer. */
void admin_handle(void *context, struct http_exchange *exchange);

#endif
