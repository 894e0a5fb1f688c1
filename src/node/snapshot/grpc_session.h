/*
 * One HTTP/2 connection of a gRPC server, without its socket: bytes in, calls and bytes out.
 *
 * One thread at a time; calls run elsewhere and come back by grpc_session_answer().
 */
#ifndef NODE_SNAPSHOT_GRPC_SESSION_H
#define NODE_SNAPSHOT_GRPC_SESSION_H

#include "node/snapshot/grpc.h"

struct grpc_session;

struct grpc_call {
    int32_t stream;
    char path[GRPC_PATH_LIMIT];
    bool is_post, is_grpc; /* what its header says */
    bool is_too_large;
    bool is_running;   /* between dispatch and grpc_session_answer() */
    bool is_abandoned; /* the client has given it up */
    struct buffer body;
    atomic_bool stop;
    /* What answers it. */
    enum grpc_status status;
    struct error error;
    struct buffer reply;
    size_t sent;                   /* bytes of `reply` that are sent */
    struct grpc_call *prev, *next; /* of the session */
    struct grpc_call *next_done;   /* for whoever runs it */
};

struct grpc_session_settings {
    /* A call is complete: run it elsewhere with grpc_call_run(), then grpc_session_answer(). False:
     * it cannot be run now, and the client is told so. */
    bool (*dispatch)(void *context, struct grpc_call *call);
    void *context;
    atomic_size_t *gathered; /* bytes of requests that are not answered, of all sessions */
};

/* NULL: out of memory. */
struct grpc_session *grpc_session_new(const struct grpc_session_settings *settings);
/* No call may run. */
void grpc_session_free(struct grpc_session *session);

/* Takes bytes of the client. False: the connection is to be closed. */
bool grpc_session_receive(struct grpc_session *session, const void *bytes, size_t length);

/* Bytes for the client, valid until the next call here. NULL: there are none now. */
const void *grpc_session_send(struct grpc_session *session, size_t *length);

/* Whether the connection is of any more use. */
bool grpc_session_is_open(const struct grpc_session *session);

/* Runs the handler on the call, whose body is complete. Any thread. */
void grpc_call_run(struct grpc_call *call, grpc_handler *handler, void *context);

/* Sends the answer to a call that was run; afterwards it is the session's. */
void grpc_session_answer(struct grpc_session *session, struct grpc_call *call);

/* Tells all calls that run that nobody waits. */
void grpc_session_abandon(struct grpc_session *session);

#endif
