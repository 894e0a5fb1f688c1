/*
 * The agent of a node: mounts images whose bytes come when they are read.
 *
 * One process for all mounts answers the kernel's reads; a small one beside it holds the channels
 * to the kernel (supervisor.h). The kernel's own EROFS makes files out of the bytes, so that only
 * bytes of layers and of the trees' metadata are asked for here, and all else is as fast as on a
 * disk.
 *
 *   supervisor.h   the process that holds the channels and starts workers
 *   fuse.h   the channels; reads.h answers what they bring
 *   takeover.h     the channels of a worker whose supervisor is gone
 *   mount_order.h        what the worker asks to be mounted, and mounting.h that does it
 *   trees.h        which trees there are; mounts.h what is shown where
 *   control.h      orders of the commands, health and metrics
 *   snapshotter.h  the service of containerd
 */
#ifndef NODE_AGENT_AGENT_H
#define NODE_AGENT_AGENT_H

#include "base/error.h"
#include "node/agent/mounts.h"
#include "node/spans/spans.h"

struct agent_settings {
    const char *run;             /* the folder of sockets and mounts */
    struct spans_settings spans; /* also the root */
    const char *const *listen;   /* for health and metrics; NULL-terminated */
    /* Gives up rights, before the worker starts threads; it still writes below root and run. False:
     * the worker does not begin. NULL: nothing is given up. */
    bool (*confine)(void *context, const struct mount_order_place *place, struct error *error);
    void *context;
};

/* Without the folders. */
struct agent_settings agent_settings_default(void);

/* Runs until SIGTERM. Returns the exit status. The process is root's and has one thread. */
int agent_run(const struct agent_settings *settings);

#endif
