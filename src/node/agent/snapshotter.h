/*
 * The agent as containerd's snapshotter: serves RUN/snap.sock, keeps snapshots below
 * ROOT/snapshots, and mounts the images that stream as any other mount of the agent, so that
 * `tarn mounts` shows them.
 */
#ifndef NODE_AGENT_SNAPSHOTTER_H
#define NODE_AGENT_SNAPSHOTTER_H

#include "node/agent/mounts.h"

struct snapshotter;

/* Begins, when the mounts of earlier are back. What it refers to outlives it. NULL: the error is
 * set. */
struct snapshotter *snapshotter_start(struct mounts *mounts, struct spans *spans,
                                      const struct mount_order_place *place, struct error *error);
/* Ends within two seconds. NULL is allowed. */
void snapshotter_stop(struct snapshotter *snapshotter);

#endif
