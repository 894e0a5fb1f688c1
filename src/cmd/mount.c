/* tarn mount: mounts an image. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include "base/cleanup.h"
#include "base/json.h"
#include "cmd/commands.h"
#include "cmd/node_client.h"
#include "copy/platform.h"

static int fail(const struct arguments *arguments, const char *what, const char *why) {
    bool is_named = strstr(why, what) != NULL;
    fprintf(stderr, "tarn %s: %s%s%s\n", arguments->command->name, is_named ? "" : what,
            is_named ? "" : ": ", why);
    return 1;
}

/* A name of this order, by which the agent knows it when it comes again. */
static void make_token(char out[static 2 * sizeof(uint64_t) + 1]) {
    uint64_t random = 0;
    if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
        random = (uint64_t)getpid();
    snprintf(out, 2 * sizeof random + 1, "%016" PRIx64, random);
}

static json_t *compose(const struct arguments *arguments, const char *folder) {
    char token[2 * sizeof(uint64_t) + 1];
    make_token(token);
    return json_pack("{s:s, s:s, s:s?, s:s?, s:b, s:s}", "image", arguments->operands[0], "dir",
                     folder, "platform", arguments_string(arguments, "platform"), "from",
                     arguments_string(arguments, "from"), "rw", arguments_flag(arguments, "rw"),
                     "token", token);
}

static int send_order(const struct arguments *arguments, const char *folder) {
    cleanup_json json_t *json = compose(arguments, folder);
    cleanup_buffer struct buffer text = {0}, body = {0};
    if (!bounded_json_dump(json, JSON_COMPACT, &text))
        return fail(arguments, folder, "out of memory, or a name is not UTF-8");
    const struct node_client_order order = {.method = "POST", .query = "", .body = text.bytes};
    int status = node_client_send(arguments, &order, NULL, &body);
    if (status == 0)
        return 1;
    if (status != 200)
        return fail(arguments, arguments->operands[0], body.bytes ? body.bytes : "");
    cleanup_json json_t *response = json_load_own(body.bytes ? body.bytes : "", body.length);
    const char *note = json_member_text(response, "note");
    if (*note)
        fprintf(stderr, "%s\n", note);
    return 0;
}

static int run(const struct arguments *arguments) {
    const char *platform = arguments_string(arguments, "platform");
    struct copy_platform parsed;
    struct stat status;
    if (platform && !copy_platform_parse(text_of(platform), &parsed))
        return command_refuse(arguments->command,
                              "--platform: \"%s\" is no platform; write for example linux/arm64",
                              platform);
    cleanup_free char *folder = node_client_folder(arguments, arguments->operands[1]);
    if (!folder)
        return 1;
    if (stat(folder, &status) == 0 && !S_ISDIR(status.st_mode))
        return fail(arguments, arguments->operands[1], "it is no folder");
    return send_order(arguments, folder);
}

static const struct command_option options[] = {
    {"rw", OPTION_FLAG, NULL, "the mount can be written; what is written goes at unmounting"},
    {"platform", OPTION_STRING, "PLATFORM",
     "the image of an index for this platform, like linux/arm64 (default: this machine's)"},
    {"from", OPTION_STRING, "URL", "the tarn to read from (default: those of the agent)"},
    NODE_CLIENT_OPTIONS,
};

const struct command mount_command = {
    .name = "mount",
    .arguments = "IMAGE DIR",
    .least = 2,
    .most = 2,
    .summary = "mount an image at a folder",
    .text =
        "IMAGE is HOST/NAME:TAG or HOST/NAME@DIGEST, and DIR a folder that is there. The agent of\n"
        "this machine (tarn node) mounts it, read-only without --rw. An image that cannot stream "
        "is\n"
        "pulled whole first, and a line on standard error says why.\n",
    COMMAND_OPTIONS(options),
    .run = run,
};
