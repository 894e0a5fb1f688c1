/* Sends an order to the agent of this machine, over its socket file (node/agent/control.h). */
#ifndef CMD_NODE_CLIENT_H
#define CMD_NODE_CLIENT_H

#include "base/buffer.h"
#include "cmd/arguments.h"

/* The option of the commands that ask the agent. */
#define NODE_CLIENT_OPTIONS                                                                        \
    {                                                                                              \
        "run", OPTION_STRING, "FOLDER", "the agent's folder of sockets; default: /run/tarn",       \
            .variable = "TARN_NODE_RUN"                                                            \
    }

struct node_client_order {
    const char *method; /* "POST" */
    const char *query;  /* "?dir=…"; "": none */
    const char *body;   /* JSON; NULL: none */
};

/* Sends the order, and appends the body of the response. An agent that is being started again is
 * waited for, and gets an order again whose response was lost; *is_repeated (may be NULL) says so.
 * Returns the status of the response; 0: there was none, and the reason is on standard error. The
 * body of a status that is not 200 is the reason, as text. */
int node_client_send(const struct arguments *arguments, const struct node_client_order *order,
                     bool *is_repeated, struct buffer *body);

/* The folder's absolute path without symbolic links, also when its own file system does not answer.
 * NULL: the reason is on standard error. */
char *node_client_folder(const struct arguments *arguments, const char *folder);

#endif
