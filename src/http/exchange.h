/* One request and its answer, as connection.c and response.c share it. */
#ifndef HTTP_EXCHANGE_H
#define HTTP_EXCHANGE_H

#include "http/connection.h"
#include "http/http.h"

struct http_exchange {
    struct connection *connection;
    struct http_request request;
    size_t head_length;          /* the request's, in the connection's bytes; its body follows */
    uint64_t body_left;          /* bytes of the request's body that nobody has read */
    bool expects;                /* the client waits for 100 before it sends that body */
    int body_wait_ms;            /* how long the whole of it may take to arrive */
    int status;                  /* 0: nothing answered yet */
    bool keep_alive;             /* may the connection go on after the answer? */
    const atomic_bool *stopping; /* once set, no connection goes on */
    bool without_body;           /* HEAD, or a status that has none */
    bool chunked;
    bool cut;        /* the client must not take what it has for whole */
    uint64_t length; /* of the body, when not chunked */
    uint64_t sent;
};

/* Prepares for the next request on the connection, whose head is then parsed into it. */
void exchange_begin(struct http_exchange *exchange, struct connection *connection,
                    const atomic_bool *stopping);

/* Ends the answer when the handler has returned: 500 for one that was never begun, the last chunk.
 * False: the body is not whole, and the connection must be cut. */
bool exchange_end(struct http_exchange *exchange, const struct http_server_settings *settings);

/* Answers with the server's error body and lets the connection end. */
void exchange_refuse(struct http_exchange *exchange, const struct http_server_settings *settings,
                     int status, const char *why);

/* The whole 503 for a connection that gets no exchange. Its length; at most `size`. */
size_t response_busy(const struct http_server_settings *settings, const char *why, char *out,
                     size_t size);

#endif
