/*
 * What the worker asks the supervisor to mount and to unmount.
 *
 * The worker reads bytes from the network, so it mounts nothing itself: it sends an order, which
 * names no file system and no option, and the supervisor starts a process for it that has no
 * channel to the kernel. Such a process may wait for reads that a worker must answer. It is never
 * waited for by anybody who holds a channel, so nothing can be stuck for ever.
 *
 * The error of an order comes back through a pipe that goes along with the order. When the process
 * or the supervisor is killed, the pipe closes.
 */
#ifndef NODE_AGENT_MOUNT_ORDER_H
#define NODE_AGENT_MOUNT_ORDER_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"

enum mount_order_kind {
    MOUNT_ORDER_READY,    /* the worker answers reads; nothing is to be done */
    MOUNT_ORDER_IMAGE,    /* mount the tree of `number` at RUN/images/NUMBER, unless it is there */
    MOUNT_ORDER_NO_IMAGE, /* unmount it */
    MOUNT_ORDER_ATTACH,   /* show the tree of `number` at `folder`, unless it is there */
    MOUNT_ORDER_DETACH /* unmount what MOUNT_ORDER_ATTACH has put there; ERROR_BUSY: it is in use */
};

enum { MOUNT_ORDER_LAYER_SIZE = 33 };

struct mount_order {
    enum mount_order_kind kind;
    uint32_t number; /* of the files that reads.h shows */
    uint32_t files;  /* IMAGE: how many there are */
    /* ATTACH: the name of the folder of what is written, below ROOT/writable, of letters and
     * digits; "": the mount is read-only. */
    char layer[MOUNT_ORDER_LAYER_SIZE];
    char folder[PATH_MAX]; /* ATTACH and DETACH: absolute */
};

/* Where the agent's folders are: absolute, without symbolic links. */
struct mount_order_place {
    const char *run, *root;
};

/* For the worker: sends an order to the supervisor, and waits for its end. ERROR_CLOSED: there is
 * no supervisor. From any thread. */
bool mount_order_send(int supervisor, const struct mount_order *order, struct error *error);

/* For the supervisor: receives an order, and the pipe for its outcome, which the caller closes. 1,
 * or 0: the worker is gone; -1: what came is no order. */
int mount_order_receive(int worker, struct mount_order *order, int *outcome);
/* For the process that the supervisor starts: carries the order out, and reports. */
void mount_order_perform(const struct mount_order_place *place, const struct mount_order *order,
                         int outcome);

/* Takes away every mount of an agent at this place, also those that are in use: nothing answers
 * their reads any more. `own`: only those below RUN. Does not wait. */
void mount_order_clear(const struct mount_order_place *place, bool own);

#endif
