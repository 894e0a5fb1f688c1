/* Sends an order to the tarn that runs on a root, over its socket file (admin/admin.h). */
#ifndef CMD_ADMIN_CLIENT_H
#define CMD_ADMIN_CLIENT_H

#include <jansson.h>
#include <stdbool.h>
#include "base/text.h"

struct admin_client_order {
    const char *command; /* the name of the command, for messages: "warm" */
    const char *root;
    const char *target; /* "/tarn/v1/warm", and a query if there is one */
    const char *body;   /* JSON to POST; NULL: GET */
    /* Called with each line of the response: the object, and its text. False ends the response. */
    bool (*on_line)(void *context, json_t *line, struct text text);
    void *context;
};

enum admin_client_outcome {
    ADMIN_CLIENT_ANSWERED, /* the whole response was read */
    ADMIN_CLIENT_FAILED,   /* refused, or ended early; the reason is on standard error */
    ADMIN_CLIENT_ABSENT    /* no tarn listens there: *error_number says why */
};
enum admin_client_outcome admin_client_send(const struct admin_client_order *order,
                                            int *error_number);

/* Escapes the text for a query; the result is the caller's to free. NULL: out of memory. */
char *admin_client_escape(const char *text);

#endif
