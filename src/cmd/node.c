/* tarn node: the agent of a node, which mounts images. */
#include <stdio.h>
#include <unistd.h>
#include "base/log.h"
#include "base/secret.h"
#include "cmd/arguments.h"
#include "cmd/commands.h"
#include "cmd/confine.h"
#include "config/config.h"

static bool confine_worker(void *context, const struct mount_order_place *place,
                           struct error *error) {
    const struct config *config = context;
    config_log_warnings(config);
    return confine_node(config, place->run, place->root, error);
}

static int run_agent(struct config *config) {
    config->node.confine = confine_worker;
    config->node.context = config;
    log_configure(config->log_level, config->log_format);
    return agent_run(&config->node);
}

static int run(const struct arguments *arguments) {
    struct config_flags flags = {.file = arguments_string(arguments, "config")};
    cleanup_buffer struct buffer problems = {0};
    struct config *config =
        arguments_settings(arguments, &flags) ? config_node_load(&flags, environ, &problems) : NULL;
    int status = 1;
    secret_forbid_core_dumps();
    if (!config) {
        fputs(problems.bytes ? problems.bytes : "tarn node: out of memory\n", stderr);
    } else if (arguments_flag(arguments, "check")) {
        printf("%s: ok\n", config->file ? config->file : "tarn node");
        status = fflush(stdout) == 0 ? 0 : 1;
    } else if (geteuid() != 0) {
        fputs("tarn node: only root can mount images\n", stderr);
    } else {
        status = run_agent(config);
    }
    config_free(config);
    config_flags_finish(&flags);
    return status;
}

static const struct command_option options[] = {
    {"config", OPTION_STRING, "FILE",
     "the configuration file; default: $TARN_NODE_CONFIG, else " CONFIG_NODE_FILE ", if it exists"},
    {"check", OPTION_FLAG, NULL, "only check the configuration"},
};

const struct command node_command = {
    .name = "node",
    .arguments = "",
    .summary = "run the agent that mounts images on this machine",
    .text =
        "Runs until SIGTERM, as root, and mounts what tarn mount asks for. An image is there at\n"
        "once: its bytes come from a tarn when they are read, and then, bounded, all the rest. "
        "The\n"
        "kernel needs FUSE, overlayfs, and EROFS over files (Linux 6.12) or over loop devices\n"
        "(6.4). The next start has the same mounts. When the process that answers reads is "
        "killed,\n"
        "another one goes on within a second.\n",
    COMMAND_OPTIONS(options),
    .settings = COMMAND_NODE_SETTINGS,
    .run = run,
};
