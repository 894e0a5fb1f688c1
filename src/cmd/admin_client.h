/* Orders to the tarn that runs on a root, over its socket file (registry/admin.h). */
#ifndef CMD_ADMIN_CLIENT_H
#define CMD_ADMIN_CLIENT_H

#include <jansson.h>
#include <stdbool.h>
#include "base/text.h"

struct admin_order {
    const char *command; /* of tarn's, for messages: "warm" */
    const char *root;
    const char *target; /* "/tarn/v1/warm", with a query if need be */
    const char *body;   /* JSON to POST; NULL: GET */
    /* Called for each line of the answer: the object, and its text. False ends it. */
    bool (*take_line)(void *context, json_t *line, struct text text);
    void *context;
};

enum admin_outcome {
    ADMIN_ANSWERED, /* to the end of the body */
    ADMIN_FAILED,   /* refused, or ended early; that was told on standard error */
    ADMIN_ABSENT    /* nobody listens there: *error_number says why */
};
enum admin_outcome admin_ask(const struct admin_order *order, int *error_number);

/* The text as it may stand in a query; the result is the caller's, NULL: out of memory. */
char *admin_escape(const char *text);

#endif
