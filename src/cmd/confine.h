/*
 * Takes away the rights that the serving process no longer needs, so that an intruder who gets in
 * through a parser can do little. It is not a command, but a step of tarn serve, tarn keep and tarn
 * node.
 * Afterwards the process may write only below the cache's root, start no program, gain no privilege
 * and use no system call that a cache never needs.
 *
 *   no new privileges  always, `confine: off` included
 *   Landlock           making, writing, removing and renaming files below the root and nowhere else
 *                      (/dev/null may be written). Reading is not restricted, because
 *                      certificates, credentials, resolv.conf and the modules of the C library's
 *                      name service are read again at any time, from places that the system
 *                      chooses. Landlock's rules for the network are not used, because upstreams
 *                      may be anywhere.
 *   seccomp            EPERM for debugging, mounting, kernel modules, BPF, namespaces, key rings,
 *                      io_uring, clocks, …; no sockets except IP, Unix, netlink; no program is
 *                      started and no memory is both written and executed
 *
 * When a credential source may run a program (a credential helper, gcloud), that program inherits
 * the restrictions. Then programs may be started, memory may be written and executed, and Landlock
 * is not used, because only the helper knows where it keeps its files. The rest of seccomp applies.
 */
#ifndef CMD_CONFINE_H
#define CMD_CONFINE_H

#include <stdbool.h>
#include "base/error.h"
#include "config/config.h"

/*
 * Confines the process, and logs in one line which restrictions apply. Call it once, when the root
 * exists and before any thread is started: later threads inherit the restrictions, earlier threads
 * would not have them. False: `confine: require`, and a restriction is not available.
 */
bool confine(const struct config *config, struct error *error);

/* The same for tarn keep, which has no root and so writes nowhere. `program` is what may be started
 * to get the cluster's credential; NULL: nothing. */
bool confine_keep(const struct config *config, const char *program, struct error *error);

/* The same for the worker of tarn node, which writes below two folders. The process that mounts for
 * it is another one. */
bool confine_node(const struct config *config, const char *run, const char *root,
                  struct error *error);

#endif
