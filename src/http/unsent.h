/*
 * Private to http/. Bytes of responses that a client's socket has not taken yet: copied bytes, and
 * perhaps shared content behind them.
 *
 * An event loop gathers the responses to all requests of one read here and sends them at once. What
 * the socket does not take stays with the connection until the client takes more.
 *
 * Not thread-safe: it belongs to the holder of the connection, or to its loop. A zeroed one is
 * empty.
 */
#ifndef HTTP_UNSENT_H
#define HTTP_UNSENT_H

#include "base/buffer.h"
#include "http/channel.h"
#include "http/http.h"

struct unsent {
    struct buffer bytes;
    size_t bytes_taken;          /* by the socket */
    struct http_content content; /* sent behind the bytes; bytes NULL: none */
    size_t content_taken;
};

void unsent_finish(struct unsent *unsent); /* drops what is left: empty again */

bool unsent_is_empty(const struct unsent *unsent);

/* Each adds bytes at the end. False: out of memory, or shared content is there, behind which
 * nothing can be added. unsent_share() keeps the content's owner until the content is sent. */
bool unsent_append(struct unsent *unsent, const void *bytes, size_t length);
bool unsent_share(struct unsent *unsent, const struct http_content *content);

/* Replaces shared content by a copy of what is left of it, because its owner cannot keep it. False:
 * out of memory, or such copies are too long together (bulkheads_take_copied()). */
bool unsent_own(struct unsent *unsent, struct bulkheads *bulkheads);

/* Sends as much as the socket takes; `more`: further bytes follow at once. False: the client left.
 */
bool unsent_send(struct unsent *unsent, struct channel *channel, bool more);

/* Moves what is left in `from` to the empty `to`. False: out of memory. */
bool unsent_move(struct unsent *from, struct unsent *to);

#endif
