/*
 * The supervisor of the agent: a small process that holds the channels to the kernel, starts the
 * worker that answers reads, and starts it again when it ends.
 *
 * A worker that is killed leaves its requests unanswered, and the next one answers them, so reads
 * take longer and do not fail. When the supervisor is killed, its worker goes on; the next
 * supervisor takes the channels from it (takeover.h) and starts a worker of its own. When both are
 * killed, the kernel fails all reads, and the next start mounts everything again.
 *
 * The supervisor has one thread, mounts by processes of their own (order.h), and writes nothing to
 * standard error once it runs, because nobody may read there.
 */
#ifndef NODE_AGENT_SUPERVISOR_H
#define NODE_AGENT_SUPERVISOR_H

#include <sys/types.h>
#include "node/agent/fuse.h"
#include "node/agent/mount_order.h"

/* The file in RUN that a supervisor holds a lock on (fcntl(2)) as long as it lives. */
#define SUPERVISOR_LOCK "supervisor.lock"

/* What a worker gets. */
struct supervisor_worker {
    const struct mount_order_place *place;
    const struct fuse *connection;
    int supervisor;    /* for mount_order_send() */
    bool is_taken;     /* mounts of earlier workers are there; false: there are none */
    unsigned restarts; /* workers before this one, of the same supervisor */
    int ended_by;      /* the signal that ended the last one; 0: none */
};

struct supervisor_settings {
    const char *run, *root; /* folders, which are made when they are not there */
    /* The worker: runs in a process of its own, and returns its exit status. It sends
     * MOUNT_ORDER_READY when it answers reads, and ends at SIGTERM. Of the first worker, a return
     * before that ends the supervisor with the same status. */
    int (*work)(void *context, const struct supervisor_worker *worker);
    void *context;
};

/* Runs until SIGTERM or SIGINT. Returns the exit status: 1 after a message on standard error that
 * begins with "tarn node: " when it cannot begin. The process has one thread. */
int supervisor_run(const struct supervisor_settings *settings);

/* Writes the process's ID into RUN/NAME. */
bool supervisor_write_pid(const char *run, const char *name, pid_t pid, struct error *error);

#endif
