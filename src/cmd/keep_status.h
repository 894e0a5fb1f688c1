/* tarn keep status: the table of a running tarn keep. */
#ifndef CMD_KEEP_STATUS_H
#define CMD_KEEP_STATUS_H

#include <stdbool.h>

struct keep_status_settings {
    const char *url;  /* of the running one; NULL: its default address */
    const char *name; /* of a keep; NULL: all */
    bool json;        /* as it was sent */
};

/* Prints it. Returns the exit status: 1 when the running one cannot be asked, or knows no such
 * keep. */
int keep_status(const struct keep_status_settings *settings);

#endif
