/*
 * Hands the channels of a worker whose supervisor was killed to a new supervisor, over the socket
 * RUN/takeover.sock. The worker holds a lock on the file RUN/worker.lock as long as it lives.
 */
#ifndef NODE_AGENT_TAKEOVER_H
#define NODE_AGENT_TAKEOVER_H

#include <pthread.h>
#include <sys/types.h>
#include "node/agent/fuse.h"

/* ---- the worker ---- */

struct takeover { /* zeroed is none */
    int lock, socket;
    const struct fuse *connection;
    pthread_t thread;
    bool started;
};

/* Takes the lock, and makes the socket. ERROR_BUSY: another worker lives. */
bool takeover_open(struct takeover *takeover, const char *run, const struct fuse *connection,
                   struct error *error);
/* Starts the thread that answers at the socket. */
bool takeover_start(struct takeover *takeover, struct error *error);
void takeover_close(struct takeover *takeover);

/* ---- the supervisor ---- */

/* Takes the channels of a worker that has no supervisor any more, and then kills that worker.
 * False: there is none, or it has not given its channels, and is killed as well. Waits some seconds
 * at most. */
bool takeover_take(const char *run, struct fuse *out);

#endif
