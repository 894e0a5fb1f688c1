/*
 * The connection to the kernel by which the files of images are read: one FUSE file system for all
 * mounts (Linux, Documentation/filesystems/fuse.rst and include/uapi/linux/fuse.h).
 *
 * The connection is a set of descriptors of /dev/fuse: the first one, and the channels, which are
 * clones of it. Whoever has them can answer requests. A request that a channel has handed out waits
 * for its answer as long as that channel is open in some process, so the supervisor keeps them all
 * open, and a worker that begins asks for those requests again. When the last process closes them,
 * every read that waits fails, and so does each later one.
 */
#ifndef NODE_AGENT_FUSE_H
#define NODE_AGENT_FUSE_H

#include <stdbool.h>
#include "base/error.h"

enum {
    FUSE_CHANNELS = 8,
    FUSE_READ_LIMIT = 1 << 20, /* bytes that the kernel asks for at once */
};

struct fuse { /* zeroed is none */
    bool is_open;
    int fds[1 + FUSE_CHANNELS]; /* the first one, then the channels */
};

/* Mounts the file system at the folder, agrees with the kernel on how to speak, and opens the
 * channels. ERROR_IO. Single-threaded; waits for the kernel only. */
bool fuse_open(struct fuse *connection, const char *folder, struct error *error);
void fuse_close(struct fuse *connection); /* the folder stays mounted */

/* Makes the kernel hand out again what earlier workers have received and not answered. False: it
 * cannot (before Linux 6.9). Call it before requests are received. */
bool fuse_resend(const struct fuse *connection);

#endif
