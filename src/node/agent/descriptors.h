/* Hands descriptors to another process, over a Unix socket of messages (unix(7), SCM_RIGHTS). Any
 * thread. */
#ifndef NODE_AGENT_DESCRIPTORS_H
#define NODE_AGENT_DESCRIPTORS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum { DESCRIPTORS_LIMIT = 16 }; /* descriptors of a message */

/* Sends one message. False: nobody receives it any more; errno says why. */
bool descriptors_send(int socket, const void *bytes, size_t length, const int *fds, int count);

/* Receives one message, with at most *count descriptors, which are the caller's to close; further
 * ones are closed. *count: how many came. Returns the length; 0: the other side is gone; -1: errno
 * says what failed. */
ssize_t descriptors_receive(int socket, void *bytes, size_t length, int *fds, int *count);

#endif
