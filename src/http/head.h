/*
 * Private to http/. The head of a response, added to the bytes that are to be sent. The threads are
 * those of the exchange.
 */
#ifndef HTTP_HEAD_H
#define HTTP_HEAD_H

#include "http/exchange.h"

/* Begins the response: sets what the status and the length of the body mean for the exchange, and
 * adds the whole head. `length` may be HTTP_UNKNOWN_LENGTH. False: out of memory; the connection
 * must be cut. */
bool head_add(struct http_exchange *exchange, int status, int64_t length);
bool head_add_composed(struct http_exchange *exchange, const struct http_composed *composed);

#endif
