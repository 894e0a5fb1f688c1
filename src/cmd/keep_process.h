/* The parts of a running tarn keep. Private to keep_run.c and keep_reload.c. */
#ifndef CMD_KEEP_PROCESS_H
#define CMD_KEEP_PROCESS_H

#include <pthread.h>
#include "catalog/catalog.h"
#include "cmd/keep_run.h"
#include "cmd/keep_server.h"
#include "cmd/reloader.h"
#include "config/config.h"
#include "keep/keeper.h"

/* A configuration, and what of it the keeper and the pages take. */
struct keep_config {
    struct config *config;
    struct keep_settings keep;
};

/* NULL: `problems` has a line for each reason. */
struct keep_config *keep_config_load(const struct config_flags *flags, struct buffer *problems);
void keep_config_free(void *config); /* a struct keep_config; NULL is allowed */

struct keep_process {
    const struct keep_run_settings *settings;
    struct keep_config *config; /* changed by the reloader's thread alone, once that runs */
    struct keep_config *first;  /* with which it began; what a reload cannot change refers to it */
    struct client *client;
    struct kubernetes *kubernetes;
    struct current_upstreams *upstreams;
    struct catalog *catalog;
    struct keeper *keeper;
    struct keep_server *server;
    struct reloader *reloader;
    pthread_t signals;
};

/* Of struct reloader_work; `process` is a struct keep_process. */
bool keep_reload(void *process, const char *file, struct buffer *problems);
void keep_sweep(void *process);

#endif
