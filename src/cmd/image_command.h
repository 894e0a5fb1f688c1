/*
 * What the commands that read and write images at registries have in common (tarn copy, tag,
 * digest, manifest, config, tags, referrers, delete): the configuration, whose upstreams are asked
 * with their settings, and one line on standard error when something fails.
 */
#ifndef CMD_IMAGE_COMMAND_H
#define CMD_IMAGE_COMMAND_H

#include "cmd/arguments.h"
#include "config/config.h"
#include "copy/hosts.h"
#include "copy/source.h"

/* The options that all of them have, for the command's table. */
#define IMAGE_COMMAND_OPTIONS                                                                      \
    {"config", OPTION_STRING, "FILE",                                                              \
     "use the settings of the upstreams of this configuration file; default: "                     \
     "/etc/tarn/tarn.yaml, "                                                                       \
     "if it is there"},                                                                            \
        {"via", OPTION_STRING, "URL",                                                              \
         "ask everything through the tarn at this URL, as URL/v2/HOST/NAME",                       \
         .variable = "TARN_VIA"},                                                                  \
    {                                                                                              \
        "plain-http", OPTION_FLAG, NULL,                                                           \
            "ask hosts that are not configured by http; localhost always is"                       \
    }

struct image_command {
    const struct arguments *arguments;
    struct config *config;
    struct client *client;
    struct copy_hosts *hosts;
};

/* Reads the configuration. `stop` ends whatever asks a registry; NULL: nothing does. The exit
 * status: 0, or 1 or 2 with the reason on standard error. The caller calls image_command_close()
 * either way. */
int image_command_open(struct image_command *command, const struct arguments *arguments,
                       const atomic_bool *stop);
void image_command_close(struct image_command *command);

/* Reads an operand. The exit status: 0, or 1 with the reason on standard error. */
int image_command_read(const struct arguments *arguments, const char *operand, enum copy_form form,
                       struct copy_reference *out);

/* Prints "tarn NAME: WHAT: reason" on standard error, on one line, after what standard output
 * holds. `what` is left out when the reason names it already. Returns 1. */
int image_command_fail(const struct arguments *arguments, const char *what,
                       const struct error *error);

/* The platform of --platform, which is given once, or this machine's. The exit status: 0, or 2. */
struct copy_platform;
int image_command_platform(const struct arguments *arguments, struct copy_platform *out);

/* Opens the source that the only operand names, and runs `work` with it. Returns the exit status.
 */
int image_command_run(const struct arguments *arguments, enum copy_form form,
                      bool (*work)(const struct arguments *arguments, struct copy_source *source,
                                   const struct copy_reference *reference, struct error *error));

#endif
