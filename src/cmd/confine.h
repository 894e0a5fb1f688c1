/*
 * Takes from the serving process what it has no more use for, so that whoever gets in through a
 * parser finds little: it may write only below the cache's root, start no program, gain no
 * privilege and use no system call that a cache never needs.
 *
 *   no new privileges  always, `confine: off` included
 *   Landlock           making, writing, removing and renaming files below the root and nowhere else
 *                      (/dev/null may be written). Reading is left alone: certificates,
 *                      credentials, resolv.conf and the modules of the C library's name service
 *                      are read again at any time, from places that are the system's to choose.
 *                      Its rules for the network are not used: upstreams are anywhere.
 *   seccomp            EPERM for debugging, mounting, kernel modules, BPF, namespaces, key rings,
 *                      io_uring, clocks, …; no sockets beside IP, Unix and netlink; no program is
 *                      started and no memory is both written and executed
 *
 * Where a credential source may run a program (a credential helper, gcloud), that program inherits
 * all this. It may start programs and use its memory as it likes then, and Landlock is left out,
 * because where helpers keep their own files is theirs to know. The rest of seccomp holds.
 */
#ifndef CMD_CONFINE_H
#define CMD_CONFINE_H

#include <stdbool.h>
#include "base/error.h"
#include "config/config.h"

/*
 * Confines the process, and logs in one line what is in force. Once, when the root exists and no
 * thread has been started: threads started later inherit it, older ones would stay free. False:
 * `confine: require`, and something of it cannot be had.
 */
bool confine(const struct config *config, struct error *error);

#endif
