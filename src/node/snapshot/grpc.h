/*
 * A gRPC server on a Unix socket, for unary calls and calls whose answer is a stream (gRPC over
 * HTTP/2, PROTOCOL-HTTP2.md; HTTP/2 without TLS by prior knowledge, RFC 9113 §3.3).
 *
 * nghttp2 parses frames and header compression. A thread serves each connection, and each call runs
 * on a thread of its own, so that a call that waits holds up no other. What a client sends is
 * bounded: connections, calls, header fields, bytes of a message, and bytes of all messages that
 * are not complete.
 */
#ifndef NODE_SNAPSHOT_GRPC_H
#define NODE_SNAPSHOT_GRPC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buffer.h"
#include "base/error.h"

/* google.rpc.Code. */
enum grpc_status {
    GRPC_OK = 0,
    GRPC_CANCELLED = 1,
    GRPC_UNKNOWN = 2,
    GRPC_INVALID_ARGUMENT = 3,
    GRPC_NOT_FOUND = 5,
    GRPC_ALREADY_EXISTS = 6,
    GRPC_PERMISSION_DENIED = 7,
    GRPC_RESOURCE_EXHAUSTED = 8,
    GRPC_FAILED_PRECONDITION = 9,
    GRPC_OUT_OF_RANGE = 11,
    GRPC_UNIMPLEMENTED = 12,
    GRPC_INTERNAL = 13,
    GRPC_UNAVAILABLE = 14,
    GRPC_DATA_LOSS = 15,
};

enum {
    GRPC_MESSAGE_LIMIT = 256 << 10, /* bytes of a request's message */
    GRPC_GATHERED_LIMIT = 8 << 20,  /* bytes of all requests that are not answered */
    GRPC_CONNECTION_LIMIT = 32,     /* a further one is closed at once */
    GRPC_STREAM_LIMIT = 100,        /* calls of a connection at once; a client waits with more */
    GRPC_CALL_LIMIT = 200,          /* the same, and calls that were given up but still run */
    GRPC_PATH_LIMIT = 128,          /* bytes of a method's path with the NUL */
    GRPC_PREFIX = 5,                /* bytes in front of each message */
};

/* A call, as its handler sees it. */
struct grpc_request {
    const char *path; /* "/package.Service/Method" */
    const void *message;
    size_t length;
    const atomic_bool *stop; /* set when nobody waits for the answer any more */
    struct buffer *reply;    /* for grpc_add_message() */
    struct error *error;     /* its text goes to the client, unless the status is GRPC_OK */
};

/* Answers a call, on any thread, several at the same time. It ends soon after `*stop` is set. */
typedef enum grpc_status grpc_handler(void *context, const struct grpc_request *request);

/* Appends the frame of one message of `length` bytes, and returns where the message is to be
 * written. NULL: out of memory. */
void *grpc_add_message(struct buffer *reply, size_t length);

struct grpc_server;

/* A listening socket with the path, readable by its owner alone; the file is replaced if nobody
 * listens there. -1: ERROR_BUSY (another process listens), ERROR_INVALID (the path is too long),
 * ERROR_IO. */
int grpc_listen(const char *path, struct error *error);

/* Serves what connects to the listening socket `fd`, which stays the caller's. NULL: ERROR_MEMORY,
 * ERROR_IO. */
struct grpc_server *grpc_server_start(int fd, grpc_handler *handler, void *context,
                                      struct error *error);

/* Ends all connections and calls. True: the server is freed. False: a call had not ended after
 * `wait_ms`, so the server and its handler's context must stay as long as the process. */
bool grpc_server_stop(struct grpc_server *server, int64_t wait_ms);

#endif
