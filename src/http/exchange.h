/*
 * Private to http/. One request and its response: what connection.c fills in, and what response.c
 * and body.c work on.
 *
 * On a loop, a response is gathered in `unsent` and sent together with others. On a worker, it is
 * sent as it is made, and `unsent` holds what the client does not take at once.
 */
#ifndef HTTP_EXCHANGE_H
#define HTTP_EXCHANGE_H

#include <stdatomic.h>
#include "http/channel.h"
#include "http/chunks.h"
#include "http/http.h"
#include "http/more_fields.h"
#include "http/pace.h"
#include "http/unsent.h"

struct http_exchange {
    struct channel *channel;
    struct buffer *received; /* the request's head, and further bytes from the client */
    struct buffer *fields;   /* the response's fields, while it is being made */
    struct unsent *unsent;   /* bytes of the response that wait to be sent */
    struct http_request request;
    char id[HTTP_REQUEST_ID_LIMIT + 1]; /* "": not needed yet; see http_exchange_id() */
    size_t head_length;                 /* the request's, at the start of `received` */
    uint64_t body_left;                 /* bytes of the request's body that are not read yet */
    int body_wait_ms;                   /* how long the whole of that body may take to arrive */
    int64_t body_heard_ms;              /* when bytes of it came last; 0: not yet */
    uint64_t body_taken;                /* bytes of it that the handler has, without the coding */
    struct pace body_pace;              /* of a client that sends */
    struct chunks chunks;               /* of a chunked body */
    bool body_ended, body_failed;       /* all of it was received; it is of no use */
    struct buffer behind;               /* bytes behind a chunked body: the next request's */
    int status;                         /* 0: no response has begun */
    struct more_fields *more_fields;    /* that each response gets */
    const char *reason;                 /* the reason phrase, borrowed; NULL: the usual one */
    const atomic_bool *stopping;        /* once set, no connection goes on */
    bool on_loop;                       /* nothing may be waited for */
    bool expects;                       /* the client waits for 100 before it sends the body */
    bool is_exempt;                     /* from the limits of one client address */
    bool keep_alive;                    /* may the connection go on after the response? */
    bool without_body;                  /* the response to a HEAD, or a status that has no body */
    bool chunked;
    bool cut;        /* the client must see that the body is not complete */
    bool stalled;    /* the client took nothing for send_timeout_ms: every send fails */
    uint64_t length; /* of the response's body, when not chunked */
    uint64_t sent;   /* bytes of it that the connection has taken */

    /* Set by http_park(): how the response goes on. */
    void (*resume)(void *state, struct http_exchange *exchange);
    void *resume_state;
};

/* What a request's exchange needs of its connection or loop. */
struct exchange_parts {
    struct channel *channel;
    struct buffer *received, *fields;
    struct unsent *unsent;
    const atomic_bool *stopping;
    struct more_fields *more_fields;
    bool on_loop;
};

/* Prepares for the response to exchange->request. The exchange borrows all parts. */
void exchange_begin(struct http_exchange *exchange, const struct exchange_parts *parts);

/* Ends the response when the handler has returned: with 500 if none has begun, with the last chunk
 * if it is chunked. False: the body is not whole, and the connection must be cut. */
bool exchange_end(struct http_exchange *exchange, const struct http_server_settings *settings);

/* Waits until the client has taken all bytes that have been added to `unsent`, of a response that a
 * worker makes. False: as http_send(). */
bool exchange_send_all(struct http_exchange *exchange, struct error *error);

/* Responds with the server's error body; the connection ends with that. */
void exchange_refuse(struct http_exchange *exchange, const struct http_server_settings *settings,
                     int status, const char *why);

#endif
