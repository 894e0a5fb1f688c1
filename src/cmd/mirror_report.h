/* Prints what tarn mirror changes on a node, and what remains for people to do. */
#ifndef CMD_MIRROR_REPORT_H
#define CMD_MIRROR_REPORT_H

#include "node/mirror.h"

struct mirror_report {
    bool json;    /* one object a file, a line each */
    bool dry_run; /* nothing is changed; the contents are printed */
    bool changed_docker;
};

/* For mirror_settings.on_change; `context` is a struct mirror_report. */
void mirror_report_change(void *context, const struct mirror_change *change);

/* Says on standard error what containerd and Docker need so that they use the mirror. */
void mirror_report_advice(const struct mirror_report *report,
                          const struct mirror_settings *settings);

/* The same in the log, for the watch. */
void mirror_report_log_advice(const struct mirror_settings *settings);

#endif
