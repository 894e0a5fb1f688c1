/*
 * One HTTP request and its response: whole, when the response is small; or as a stream.
 *
 * Over libcurl, with verified TLS, the environment's proxies, checked addresses and exact timeouts.
 * Redirects are not followed: what they lead to is the caller's to judge (client/redirect.h).
 *
 * Threads: any; the call blocks, and connections are kept for the next request.
 */
#ifndef CLIENT_REQUEST_H
#define CLIENT_REQUEST_H

#include <stdbool.h>
#include "base/cancel.h"
#include "base/error.h"
#include "base/text.h"
#include "client/address.h"
#include "client/body.h"
#include "client/client.h"
#include "client/response.h"

/* How a server is trusted and how the client shows who it is, where that is not as everywhere. All
 * of it is in memory and outlives the request. */
struct client_tls {
    struct text authorities; /* PEM: the certificates to trust; empty: the system's */
    struct text certificate; /* PEM: the client's, with its chain; empty: none */
    struct text key;         /* PEM, for `certificate` */
    const char *server_name; /* which the server's certificate must have; NULL: the URL's host */
    bool insecure;           /* any certificate will do */
};

struct client_request {
    const char *method;          /* "GET", "HEAD", "PUT": a token (RFC 9110 §9.1) */
    const char *url;             /* http or https only */
    const char *const *headers;  /* "Name: value", NULL-terminated; may be NULL */
    struct client_body body;     /* POST, PUT and PATCH always have one, others when it has bytes */
    struct client_wanted wanted; /* of the response */
    const char *ca_file;         /* PEM bundle; NULL: the system's */
    const struct client_tls *tls; /* https only; then `ca_file` does not count; may be NULL */
    bool no_proxy;                /* never through a proxy (the metadata server) */
    const char *proxy;            /* a URL, in place of the environment's proxies; may be NULL */
    /* A second request would count twice (RFC 9110 §9.2.2): what was begun to be sent is not sent
     * again when a kept connection turns out to be closed. Needs a body. */
    bool once;
    bool accepts_gzip; /* the body may come compressed, and is handed on as it was before that */
    const struct address_rule *addresses; /* which may be connected to; NULL: all */
    int64_t connect_timeout_ms;           /* 0: 5 s */
    /* For the whole response; where the caller streams it, for its head. 0: 20 s. */
    int64_t total_timeout_ms;
    /* How long the other side may be silent in mid-body; 0: no limit but total_timeout_ms. While
     * the request's body is being sent, and for this long after each of its bytes, the request does
     * not end by total_timeout_ms. */
    int64_t stall_timeout_ms;
    /* A kept connection that brings no head for a while is not taken for dead: the request is never
     * sent a second time over a new one. */
    bool asks_once;
    size_t body_limit;           /* bytes of a response that comes whole; 0: 1 MiB */
    bool bounds_body;            /* total_timeout_ms is for the whole response, streamed or not */
    const struct cancel *cancel; /* looked at once a second or more often; may be NULL */
};

enum client_verdict {
    CLIENT_STOP,    /* the request ends; the callback has set the error */
    CLIENT_COLLECT, /* the body comes whole in the response; total_timeout_ms goes on */
    CLIENT_STREAM,  /* the body goes to on_bytes; only stall_timeout_ms ends it */
};

/* Who takes a response as it comes. All are called by the thread that asked. */
struct client_sink {
    void *context;
    /* The final head is here, interim ones (1xx) are passed over. */
    enum client_verdict (*on_head)(void *context, const struct client_response *response,
                                   struct error *error);
    /* Bytes of the body. False ends the request (with the error it set). */
    bool (*on_bytes)(void *context, const void *bytes, size_t length, struct error *error);
    /* Nothing more has come just now; also called before the head. False ends the request (with
     * the error it set). May be NULL. */
    bool (*on_idle)(void *context, struct error *error);
};

/*
 * True: a whole response is here, whatever its status; only the body of a refusal (400 and above)
 * of a request with a body may be cut short. False: TIMEOUT, CLOSED (cancelled), UNAVAILABLE (no
 * connection, no response, or one beyond the limits), DENIED (an address), INVALID (the request),
 * IO (the file to send), or what a callback set. The error names method and URL without its query.
 * client_response_wipe() is owed either way.
 */
bool client_request(struct client *client, const struct client_request *request,
                    struct client_response *response, struct error *error);

/* The same for a response that is taken as it comes. On failure `response` holds what came of it,
 * its status first of all. */
bool client_stream(struct client *client, const struct client_request *request,
                   const struct client_sink *sink, struct client_response *response,
                   struct error *error);

#endif
