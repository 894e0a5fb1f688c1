/*
 * What the worker answers over HTTP: orders of the commands at the socket RUN/node.sock, and health
 * and metrics at an address.
 *
 *   GET    /tarn/v1/node/mounts             a line of JSON for each mount
 *   POST   /tarn/v1/node/mounts             {"image", "dir", "platform"?, "from"?, "rw"?,
 * "token"?}: mounts; {"note": TEXT or null} DELETE /tarn/v1/node/mounts?dir=FOLDER  unmounts GET
 * /livez, /readyz, /metrics        at the address only
 *
 * Errors are those of the registry's protocol (oci/error_body.h). Who may open the socket may give
 * orders: its file is root's.
 */
#ifndef NODE_AGENT_CONTROL_H
#define NODE_AGENT_CONTROL_H

#include <stdatomic.h>
#include "node/agent/mounts.h"

#define CONTROL_SOCKET "node.sock"
#define CONTROL_MOUNTS "/tarn/v1/node/mounts"

struct control;

/* `listen`: addresses; NULL-terminated; NULL or empty: none. Opens the addresses. The mounts
 * outlive the control. NULL: the error is set. */
struct control *control_open(const char *const *listen, struct mounts *mounts, struct error *error);
/* Answers at the addresses; /readyz is 503 until control_take_orders(). */
bool control_start(struct control *control, struct error *error);
/* Makes RUN/node.sock, and answers orders there. */
bool control_take_orders(struct control *control, const char *run, struct error *error);
/* NULL is allowed. Call mounts_stop() before, so that no order waits. */
void control_close(struct control *control);

#endif
