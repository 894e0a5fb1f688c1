/*
 * The engine under client/request.h: runs one request over one lane.
 *
 * For callers that keep a pool of lanes of their own, because the requests to one upstream are
 * limited in number and share their connections.
 */
#ifndef CLIENT_TRANSFER_H
#define CLIENT_TRANSFER_H

#include "client/lane.h"
#include "client/request.h"

/* As client_stream(), but the error does not name the request. `sink` NULL: the response comes
 * whole. `response` is zeroed or of an earlier request, whose body is then dropped. */
bool transfer_run(struct lane *lane, const struct client_request *request,
                  const struct client_sink *sink, struct client_response *response,
                  struct error *error);

#endif
