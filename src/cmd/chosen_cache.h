/* Which cache a command works on: the one in --root, or the one that the configuration names. */
#ifndef CMD_CHOSEN_CACHE_H
#define CMD_CHOSEN_CACHE_H

#include "cmd/arguments.h"
#include "config/config.h"

/* The options by which a cache is chosen, for the command's table. */
#define CHOSEN_CACHE_OPTIONS                                                                       \
    {"config", OPTION_STRING, "FILE", "work on the cache that this configuration file names"}, {   \
        "root", OPTION_STRING, "FOLDER", "work on the cache in this folder"                        \
    }

struct chosen_cache {
    struct config *config; /* owned; NULL: chosen by --root */
    const char *root;      /* borrowed from `config` or the arguments */
};

/* Returns 0; or the exit status of the command, after printing the reason on standard error. */
int chosen_cache_find(struct chosen_cache *chosen, const struct arguments *arguments);
void chosen_cache_finish(struct chosen_cache *chosen);

#define cleanup_chosen_cache __attribute__((cleanup(chosen_cache_finish)))

#endif
