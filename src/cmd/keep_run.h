/* tarn keep without --whoami: keeps images on nodes, once or until a signal comes. */
#ifndef CMD_KEEP_RUN_H
#define CMD_KEEP_RUN_H

#include <stdbool.h>
#include <stdint.h>
#include "config/flags.h"

struct keep_run_settings {
    const struct config_flags *flags;
    bool once;    /* end when everything is kept, or cannot be */
    bool dry_run; /* print what would be pulled, and create nothing */
    bool json;
    int64_t timeout_ms; /* of once and dry_run; 0: none, and a minute */
};

/* Returns the exit status. */
int keep_run(const struct keep_run_settings *settings);

#endif
