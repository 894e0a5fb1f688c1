/* tarn keep: sees to it that chosen images are on chosen nodes of a Kubernetes cluster. */
#include <stdio.h>
#include <string.h>
#include "base/secret.h"
#include "cmd/arguments.h"
#include "cmd/commands.h"
#include "cmd/keep_run.h"
#include "cmd/keep_status.h"
#include "cmd/keep_whoami.h"
#include "config/config.h"

static int run_with(const struct arguments *arguments, const struct config_flags *flags) {
    const struct keep_run_settings settings = {
        .flags = flags,
        .once = arguments_flag(arguments, "once"),
        .dry_run = arguments_flag(arguments, "dry-run"),
        .json = arguments_flag(arguments, "json"),
        .timeout_ms = arguments_number(arguments, "timeout", 0),
    };
    const struct keep_whoami_settings whoami = {.flags = flags, .json = settings.json};
    const struct keep_status_settings status = {
        .url = arguments_string(arguments, "url"),
        .name = arguments->operand_count > 1 ? arguments->operands[1] : NULL,
        .json = settings.json};
    if (arguments->operand_count && strcmp(arguments->operands[0], "status") != 0)
        return command_refuse(&keep_command, "\"%s\" is not status", arguments->operands[0]);
    if (arguments->operand_count)
        return keep_status(&status);
    if (status.url)
        return command_refuse(&keep_command, "--url is for status");
    if (arguments_flag(arguments, "whoami"))
        return keep_whoami(&whoami);
    if (settings.json && !settings.dry_run)
        return command_refuse(&keep_command, "--json is for status, --whoami and --dry-run");
    if (settings.timeout_ms && !settings.once && !settings.dry_run)
        return command_refuse(&keep_command, "--timeout is for --once and --dry-run");
    return keep_run(&settings);
}

static int run(const struct arguments *arguments) {
    struct config_flags flags = {.file = arguments_string(arguments, "config")};
    int status = 1;
    secret_forbid_core_dumps();
    if (arguments_settings(arguments, &flags))
        status = run_with(arguments, &flags);
    else
        fputs("tarn keep: out of memory\n", stderr);
    config_flags_finish(&flags);
    return status;
}

static const struct command_option options[] = {
    {"config", OPTION_STRING, "FILE",
     "the configuration file; default: $TARN_CONFIG, else " CONFIG_DEFAULT_FILE ", if it exists"},
    {"once", OPTION_FLAG, NULL, "end when every image is on every node, or cannot be pulled"},
    {"dry-run", OPTION_FLAG, NULL, "print what would be pulled where and why, and create nothing"},
    {"timeout", OPTION_DURATION, "TIME", "give up after this time; for --once and --dry-run"},
    {"whoami", OPTION_FLAG, NULL,
     "show which cluster is asked as whom, and which rights are missing"},
    {"url", OPTION_STRING, "URL",
     "where the tarn keep runs whose table status prints; default: http://127.0.0.1:8080"},
    {"json", OPTION_FLAG, NULL, "print JSON"},
};

const struct command keep_command = {
    .name = "keep",
    .arguments = "[status [NAME]]",
    .most = 2,
    .summary = "keep images on the nodes of a Kubernetes cluster",
    .text =
        "Sees to it that the images of the section keep of the configuration are on the nodes of\n"
        "a cluster, and serves pages that say what is there and what is not yet. With --once tarn\n"
        "ends with 0 when everything is kept, and with 1 when something failed or the time is\n"
        "over, and says what and why. tarn keep status prints the table of a running one.\n"
        "The cluster is that of --kubeconfig, of the files in KUBECONFIG, of the pod that tarn\n"
        "runs in, or of ~/.kube/config: the first that is there. With --whoami tarn prints the\n"
        "cluster, the user, and each right that tarn lacks for keeping images on nodes. Exit 1\n"
        "when a right is missing without which no image can be kept, or when the cluster does\n"
        "not say.\n",
    COMMAND_OPTIONS(options),
    .settings = COMMAND_KEEP_SETTINGS,
    .run = run,
};
