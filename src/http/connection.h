/*
 * Private to http/. A client's connection, and the two ways in which its requests are answered: in
 * place, on the thread of its loop, or on a worker.
 *
 * Only the holder of a connection (its loop, the line of a pool, a worker) may touch it.
 */
#ifndef HTTP_CONNECTION_H
#define HTTP_CONNECTION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/buffer.h"
#include "http/bulkheads.h"
#include "http/channel.h"
#include "http/http.h"
#include "http/listener.h"
#include "http/more_fields.h"
#include "http/pool.h"
#include "http/unsent.h"

struct loop;
struct tls_identity;

/* What all connections of a server share. */
struct connection_terms {
    const struct http_server_settings *settings; /* timeouts, handlers, error bodies */
    struct tls_identity *identity;               /* NULL: no TLS */
    struct bulkheads *bulkheads;                 /* what the clients share */
    const atomic_bool *stopping;                 /* once set, no connection goes on */
    struct more_fields *more_fields;             /* that each response gets */
};

/* What a connection needs next. */
enum connection_need {
    CONNECTION_NEEDS_BYTES, /* from the client */
    CONNECTION_NEEDS_TURN,  /* more has arrived already, and other connections come first */
    CONNECTION_NEEDS_SPACE, /* the client must take bytes of a response, or of TLS itself */
    CONNECTION_NEEDS_WORKER,
    CONNECTION_NEEDS_END,   /* the last response is sent */
    CONNECTION_NEEDS_CLOSE, /* over, or cut */
};

/* What a connection in a loop waits for. Each has its own deadline. */
enum connection_wait {
    WAIT_NOTHING,    /* a pool holds the connection */
    WAIT_REQUEST,    /* the first byte of a request: the connection is idle */
    WAIT_HEAD,       /* the rest of a head, a body or a handshake */
    WAIT_SPACE,      /* the client to take more */
    WAIT_OVER_LIMIT, /* anything, over the limit of connections */
    WAIT_OVER_SHARE, /* anything, over the share of the client's address */
    WAIT_END,        /* the client's end, after the last response */
    WAIT_KINDS
};

/* Whether a connection has a place among the connections. One that has none gets one answer in
 * place; nothing else is served. */
enum connection_place { PLACE_WITHIN, PLACE_OVER_LIMIT, PLACE_OVER_SHARE, PLACE_KINDS };

struct connection {
    struct channel channel;
    struct remote *remote;          /* its client's address; NULL: none */
    char name[LISTENER_NAME_LIMIT]; /* of the client */
    bool plain; /* no TLS: the server has none, or the client came by a Unix socket */
    enum connection_place place;
    bool is_exempt;           /* http_exempt() was called; the loop still has to note it */
    bool finishing;           /* the last response is made; what is unsent is still to be sent */
    bool unread;              /* the client may still be sending when the last response is sent */
    bool sends_handshake;     /* the handshake waits until it can send */
    int64_t head_deadline_ms; /* until when the begun head must be complete; 0: none has begun */
    uint64_t discard;         /* bytes of an unread body, still to be thrown away */
    struct buffer received;   /* bytes received and not yet used */
    struct buffer fields;     /* a worker's response's fields, while it is being made */
    struct unsent unsent;     /* bytes that the client has not taken yet */
    struct http_exchange *exchange; /* of the request that a worker answers, or that is parked */

    /* For the loop, and for the pool that it gives the connection to: */
    struct pool_task task;
    bool is_busy;              /* counted among its remote's busy connections */
    bool counts_as_request;    /* a worker has it: among its remote's requests */
    enum connection_need need; /* as the worker left it */
    struct connection *inbox_next;

    /* For the loop only: */
    struct loop *loop;
    enum connection_wait wait;
    uint32_t events; /* that epoll watches for; 0: it does not watch */
    int64_t deadline_ms;
    int unacknowledged;             /* bytes that the client had not acknowledged before */
    bool is_new;                    /* it has not been admitted yet */
    unsigned passes;                /* how often it went to another loop before it was admitted */
    bool ended;                     /* only its client's end is waited for */
    bool has_turn;                  /* it is in the list of those that come next */
    struct connection *prev, *next; /* of all in the loop */
    struct connection *wait_prev, *wait_next; /* of those with the same wait */
    struct connection *turn_prev, *turn_next; /* of those that go on without an event */
};

/* Bytes that a loop works on at once: an unfinished head, and some more, so that it can grow. */
enum { CONNECTION_READ = HTTP_HEAD_LIMIT + (2 << 10) };

/* Memory of a loop that its connections use in turn. */
struct connection_scratch {
    char received[CONNECTION_READ];
    struct buffer fields;
    struct unsent unsent;
    struct http_exchange *exchange;
};

bool connection_scratch_init(struct connection_scratch *scratch); /* false: out of memory */
void connection_scratch_finish(struct connection_scratch *scratch);

/* Owns `fd` and the reference to `remote` from now on. The connection must not move in memory
 * before connection_finish(). */
void connection_init(struct connection *connection, int fd, const struct sockaddr_storage *address,
                     struct remote *remote, int send_timeout_ms);
void connection_finish(struct connection *connection); /* closes and frees what it holds */

/* Receives what has arrived and answers in place as many requests as possible. On a loop: never
 * waits. */
enum connection_need connection_answer(struct connection *connection,
                                       const struct connection_terms *terms,
                                       struct connection_scratch *scratch);

/* Answers the next request, or goes on with a parked response. On a worker: may wait. */
enum connection_need connection_work(struct connection *connection,
                                     const struct connection_terms *terms);

/* Does the next step of the TLS handshake, which may take milliseconds of computing. On a worker.
 */
enum connection_need connection_shake_hands(struct connection *connection,
                                            const struct connection_terms *terms);

/* Makes a response of 503 or 429 to a request that gets no worker, and ends the connection. */
enum connection_need connection_refuse(struct connection *connection,
                                       const struct connection_terms *terms, enum refusal why);

/* Makes the sends of a parked response fail, because its client takes nothing. */
void connection_stall(struct connection *connection);

/* Tells the client that nothing more comes. True: the client may still be sending, and its bytes
 * must be thrown away for a moment. False: the connection can be closed. */
bool connection_end(struct connection *connection);

/* Throws away what the client sends after its end. False: enough, or the client has closed. */
bool connection_throw_away(struct connection *connection);

#endif
