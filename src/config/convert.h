/* A file of the CNCF registry, written as a file of tarn's own that serves the same. */
#ifndef CONFIG_CONVERT_H
#define CONFIG_CONVERT_H

#include <stdbool.h>
#include "base/buffer.h"
#include "config/config.h"

struct config_conversion {
    struct config *config; /* as the file was loaded; its warnings name what was left out */
    struct buffer yaml;    /* tarn's file */
    char *password;        /* what the password file has to hold; NULL: there is no password */
    char *secret;          /* the same of the secret file: the bucket's */
};

/* The names that tarn's file gives to the files of what it does not hold itself. */
struct config_conversion_files {
    const char *password, *secret;
};

/*
 * Reads `file` with the REGISTRY_ variables of the environment, checks everything, and writes
 * tarn's file.
 * False: `problems` has a line for each mistake. The caller calls config_conversion_finish() either
 * way.
 */
bool config_convert(const char *file, const struct config_conversion_files *files,
                    char *const *environment, struct config_conversion *out,
                    struct buffer *problems);

void config_conversion_finish(struct config_conversion *conversion); /* wipes the secrets */

#endif
