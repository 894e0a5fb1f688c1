/* tarn build: hands a build to Cloud Build or to Kaniko in a cluster. */
#include "cmd/build.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "build/kaniko.h"
#include "cmd/commands.h"

/* Options that only one of both builders has. */
static int check_builder(const struct build_run *run, bool is_kaniko) {
    static const char *const of_cloudbuild[] = {"build-file", "machine-type", "pool", "logs-bucket",
                                                NULL};
    static const char *const of_kaniko[] = {"kubeconfig", "namespace", "kaniko-image",
                                            "cpu",        "memory",    NULL};
    const char *const *others = is_kaniko ? of_cloudbuild : of_kaniko;
    for (; *others; others++)
        if (arguments_string(run->arguments, *others))
            return command_refuse(run->arguments->command, "--%s is for --with %s", *others,
                                  is_kaniko ? "cloudbuild" : "kaniko");
    return 0;
}

/* skaffold's contract for a custom builder: what is to be built stands in the environment. The exit
 * status. */
static int read_skaffold(struct build_run *run, const char **folder) {
    const char *push = getenv("PUSH_IMAGE"), *context = getenv("BUILD_CONTEXT");
    const char *platforms = getenv("PLATFORMS");
    if (!run->to[0])
        return command_refuse(run->arguments->command,
                              "--skaffold: IMAGE is not set, which skaffold sets");
    if (push && strcmp(push, "false") == 0)
        return build_complain("--skaffold: PUSH_IMAGE is false, and a remote build always pushes: "
                              "set build.local.push or use a cluster");
    if (platforms && strchr(platforms, ','))
        return build_complain("--skaffold: one platform is built at a time, not %s", platforms);
    if (context && *context)
        *folder = context;
    if (platforms && *platforms)
        run->platform = platforms;
    return 0;
}

static int run_build(struct build_run *run) {
    const struct arguments *arguments = run->arguments;
    const char *folder = arguments->operand_count ? arguments->operands[0] : ".";
    if (arguments_flag(arguments, "skaffold")) {
        int status = read_skaffold(run, &folder);
        if (status)
            return status;
    }
    if (arguments->operand_count > 1)
        return command_refuse(arguments->command, "one folder is wanted, not %zu",
                              arguments->operand_count);
    if (!run->to[0] && !arguments_string(arguments, "build-file"))
        return command_refuse(arguments->command, "--to IMAGE is missing");
    const char *with = arguments_string(arguments, "with");
    bool is_kaniko = with && strcmp(with, "kaniko") == 0;
    if (with && !is_kaniko && strcmp(with, "cloudbuild") != 0)
        return command_refuse(arguments->command, "--with %.40s: cloudbuild or kaniko is wanted",
                              with);
    int status = check_builder(run, is_kaniko);
    if (status)
        return status;
    if (is_kaniko && strncmp(folder, "git+", 4) == 0)
        return command_refuse(arguments->command, "a source of git is for --with cloudbuild");
    return is_kaniko ? build_with_kaniko(run, folder) : build_at_cloudbuild(run, folder);
}

static int run(const struct arguments *arguments) {
    struct build_run build;
    int status = build_run_begin(&build, arguments);
    if (!status)
        status = arguments->operand_count && build_is_order(arguments->operands[0])
                     ? build_order(&build)
                     : run_build(&build);
    build_run_end(&build);
    return status;
}

static const char *const builders[] = {"cloudbuild", "kaniko", NULL};

static const struct command_option options[] = {
    {"to", OPTION_LIST, "IMAGE", "the image to push: HOST/NAME:TAG; may be given several times"},
    {"with", OPTION_STRING, "BUILDER", "who builds: cloudbuild (the default) or kaniko", builders},
    {"file", OPTION_STRING, "FILE", "the Dockerfile; default: Dockerfile in the folder"},
    {"config", OPTION_STRING, "FILE",
     "use the Google credentials that this configuration file has for the host of the image"},
    {"build-arg", OPTION_LIST, "KEY=VALUE", "a build argument of the Dockerfile"},
    {"target", OPTION_STRING, "STAGE", "the stage of the Dockerfile to build"},
    {"platform", OPTION_STRING, "PLATFORM", "the platform to build for: linux/arm64"},
    {"build-file", OPTION_STRING, "FILE",
     "the steps of this cloudbuild.yaml or .json, in place of a Dockerfile"},
    {"substitution", OPTION_LIST, "_KEY=VALUE", "a substitution of the build file"},
    {"project", OPTION_STRING, "PROJECT",
     "the project that builds; default: $GOOGLE_CLOUD_PROJECT, else that of the first image"},
    {"region", OPTION_STRING, "REGION", "the region that builds; default: global"},
    {"machine-type", OPTION_STRING, "TYPE", "the machine: E2_HIGHCPU_8, E2_HIGHCPU_32, …"},
    {"disk-size", OPTION_STRING, "GIGABYTES",
     "the disk of the machine, up to 4000; with kaniko the pod's ephemeral storage, up to 10"},
    {"timeout", OPTION_DURATION, "DURATION", "how long the build may take; the service's: 1h"},
    {"service-account", OPTION_STRING, "ACCOUNT",
     "as whom the build runs; with kaniko an account of Kubernetes"},
    {"pool", OPTION_STRING, "NAME", "the private pool of workers that builds"},
    {"secret", OPTION_LIST, "ENV=VERSION",
     "a version of Secret Manager, projects/P/secrets/S/versions/V, that the Dockerfile mounts by "
     "the id ENV"},
    {"build-tag", OPTION_LIST, "TAG", "a tag of the build, by which builds are found"},
    {"staging-bucket", OPTION_STRING, "BUCKET",
     "the bucket for the context; default: PROJECT_cloudbuild, which is made when it is missing"},
    {"logs-bucket", OPTION_STRING, "BUCKET", "the bucket for the log; default: the context's"},
    {"keep-symlinks", OPTION_FLAG, NULL, "send symlinks that lead out of the folder as they are"},
    {"max-context", OPTION_SIZE, "SIZE", "refuse a context that is larger"},
    {"cache", OPTION_FLAG, NULL, "begin from the layers of the image that is there already"},
    {"kubeconfig", OPTION_STRING, "FILE", "kaniko: the cluster; default: as for tarn keep"},
    {"namespace", OPTION_STRING, "NAMESPACE", "kaniko: where the job runs; default: the context's"},
    {"kaniko-image", OPTION_STRING, "IMAGE", "kaniko: the executor; default: " KANIKO_IMAGE},
    {"cpu", OPTION_STRING, "AMOUNT", "kaniko: processors of the pod: 4, 500m"},
    {"memory", OPTION_STRING, "AMOUNT", "kaniko: memory of the pod: 16Gi"},
    {"node-selector", OPTION_LIST, "KEY=VALUE", "kaniko: only nodes with this label"},
    {"toleration", OPTION_LIST, "KEY[=VALUE]:EFFECT", "kaniko: nodes with this taint, too"},
    {"standard-cluster", OPTION_FLAG, NULL,
     "kaniko: the cluster is no Autopilot cluster, and a pod may have more than 10 GiB"},
    {"skaffold", OPTION_FLAG, NULL,
     "take the image, the folder and the platform from skaffold's variables"},
    {"via", OPTION_STRING, "URL", "kaniko: base images come through the tarn at URL",
     .variable = "TARN_VIA"},
    {"async", OPTION_FLAG, NULL, "end when the build is submitted, and print its id"},
    {"cancel-on-interrupt", OPTION_FLAG, NULL, "on Ctrl-C, cancel the build without asking"},
    {"dry-run", OPTION_FLAG, NULL, "print what would be sent and asked, and ask nobody"},
    {"filter", OPTION_STRING, "FILTER", "list: only these builds, such as status=\"WORKING\""},
    {"follow", OPTION_FLAG, NULL, "logs: go on until the build has ended"},
    {"ref", OPTION_STRING, "REF", "triggers run: this branch, tag (refs/tags/…) or commit"},
    {"json", OPTION_FLAG, NULL, "print lines of JSON, as without a terminal"},
};

const struct command build_command = {
    .name = "build",
    .arguments = "[FOLDER]",
    .most = COMMAND_ANY_NUMBER,
    .summary = "build an image with Cloud Build or Kaniko",
    .text =
        "Packs FOLDER (default: the current one) without what .dockerignore leaves out, puts it "
        "into\n"
        "a bucket of the project unless it is there already, submits the build, shows its log, "
        "and\n"
        "prints the digest of the image last. FOLDER may be git+https://HOST/REPO#REF, which "
        "Cloud\n"
        "Build fetches. The credentials are Google's of this machine (tarn whoami).\n"
        "In place of FOLDER, list shows the latest builds, and show ID, logs ID, cancel ID and\n"
        "retry ID are about one build, which is REGION/ID if it is in a region; triggers list "
        "shows\n"
        "the project's triggers, and triggers run NAME builds by one; dependencies prints which "
        "files\n"
        "would be sent. A folder of such a name is written ./list. Exit 0: built. 1: failed, as "
        "standard error says. 130: interrupted.\n",
    COMMAND_OPTIONS(options),
    .run = run,
};
