/* tarn keep: sees to it that chosen images are on chosen nodes of a Kubernetes cluster. */
#include <stdio.h>
#include <string.h>
#include "base/secret.h"
#include "cmd/arguments.h"
#include "cmd/commands.h"
#include "cmd/keep_whoami.h"

static int run(const struct arguments *arguments) {
    secret_forbid_core_dumps();
    if (!arguments_flag(arguments, "whoami"))
        return command_refuse(&keep_command, "give --whoami");
    const struct keep_whoami_settings settings = {
        .kubeconfig = arguments_string(arguments, "kubeconfig"),
        .namespace = arguments_string(arguments, "namespace"),
        .json = arguments_flag(arguments, "json"),
    };
    return keep_whoami(&settings);
}

static const struct command_option options[] = {
    {"whoami", OPTION_FLAG, NULL,
     "show which cluster is asked as whom, and which rights are missing"},
    {"kubeconfig", OPTION_STRING, "FILE", "ask the cluster of this kubeconfig file"},
    {"namespace", OPTION_STRING, "NAME", "the namespace of the puller pods, in place of our own"},
    {"json", OPTION_FLAG, NULL, "print JSON"},
};

const struct command keep_command = {
    .name = "keep",
    .arguments = "",
    .summary = "show as whom tarn asks a Kubernetes cluster, and with which rights",
    .text =
        "The cluster is that of --kubeconfig, of the files in KUBECONFIG, of the pod that tarn\n"
        "runs in, or of ~/.kube/config: the first that is there. With --whoami tarn prints the\n"
        "cluster, the user, and each right that tarn lacks for keeping images on nodes. Exit 1\n"
        "when a right is missing without which no image can be kept, or when the cluster does\n"
        "not say.\n",
    COMMAND_OPTIONS(options),
    .run = run,
};
