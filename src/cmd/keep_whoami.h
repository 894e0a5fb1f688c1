/* tarn keep --whoami: which cluster, as whom, with which rights. */
#ifndef CMD_KEEP_WHOAMI_H
#define CMD_KEEP_WHOAMI_H

#include <stdbool.h>
#include "config/flags.h"

struct keep_whoami_settings {
    const struct config_flags *flags;
    bool json;
};

/* Prints the report. Returns the exit status: 1 when a right is missing without which no image can
 * be kept, or when the cluster cannot be asked. */
int keep_whoami(const struct keep_whoami_settings *settings);

#endif
