/* tarn reload: has the tarn that runs on a cache take another configuration. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/json.h"
#include "cmd/admin_client.h"
#include "cmd/arguments.h"
#include "cmd/commands.h"
#include "cmd/order_line.h"
#include "config/config.h"

struct reload_output {
    bool done, reloaded;
};

static bool on_line(void *context, json_t *line, struct text text) {
    struct reload_output *output = context;
    (void)text;
    if (json_object_get(line, "problem"))
        fprintf(stderr, "%s\n", json_member_text(line, "problem"));
    output->done = order_line_is_last(line);
    output->reloaded = json_is_true(json_object_get(line, "reloaded"));
    return true;
}

static int fail(const char *why) {
    fprintf(stderr, "tarn reload: %s\n", why);
    return 1;
}

/* The order as JSON. tarn may run in another folder, so the path of the file is made absolute. A
 * symbolic link stays one, because it may lead elsewhere at the next reload. */
static char *make_order(const char *file) {
    cleanup_free char *folder = file && *file != '/' ? getcwd(NULL, 0) : NULL;
    cleanup_buffer struct buffer path = {0};
    if (file && !buffer_printf(&path, "%s%s%s", folder ? folder : "", folder ? "/" : "", file))
        return NULL;
    cleanup_json json_t *order = file ? json_pack("{s:s}", "config", path.bytes) : json_object();
    return order ? json_dumps(order, JSON_COMPACT) : NULL;
}

static int send(const char *root, const char *file) {
    struct reload_output output = {0};
    int error_number = 0;
    cleanup_free char *body = make_order(file);
    if (!body)
        return fail("out of memory");
    const struct admin_client_order order = {
        .command = "reload",
        .root = root,
        .target = "/tarn/v1/reload",
        .body = body,
        .on_line = on_line,
        .context = &output,
    };
    switch (admin_client_send(&order, &error_number)) {
    case ADMIN_CLIENT_FAILED:
        return 1;
    case ADMIN_CLIENT_ABSENT:
        fprintf(stderr,
                "tarn reload: no tarn runs on the cache in %s: %s (if `root` was changed: that "
                "needs a restart; --root FOLDER says where tarn runs)\n",
                root, strerror(error_number));
        return 1;
    case ADMIN_CLIENT_ANSWERED:
        break;
    }
    if (!output.done)
        return fail("the response ended early: did tarn stop?");
    return output.reloaded ? 0 : 1;
}

static int run(const struct arguments *arguments) {
    const char *root = arguments_string(arguments, "root");
    const struct config_flags flags = {.file = arguments_string(arguments, "config")};
    cleanup_buffer struct buffer problems = {0};
    if (root)
        return send(root, flags.file);
    struct config *config = config_load(&flags, environ, &problems);
    if (!config) {
        fputs(problems.bytes ? problems.bytes : "tarn reload: out of memory\n", stderr);
        return 1;
    }
    int status = send(config->root, flags.file);
    config_free(config);
    return status;
}

static const struct command_option options[] = {
    {"config", OPTION_STRING, "FILE",
     "the file that tarn takes; default: the one that it uses, read again"},
    {"root", OPTION_STRING, "FOLDER",
     "the folder of the cache that tarn runs on; default: the one that the configuration names"},
};

const struct command reload_command = {
    .name = "reload",
    .arguments = "",
    .summary = "have the running tarn take a changed configuration",
    .text =
        "The running tarn reads and checks the file, and takes it as a whole without dropping a\n"
        "connection or a transfer. When something is wrong, or needs a restart, nothing changes:\n"
        "the reasons are printed as tarn check-config prints them, and the exit status is 1.\n"
        "Flags and variables of the running tarn still override the file. SIGHUP does the same\n"
        "with the file in use; its outcome is in the log.\n",
    COMMAND_OPTIONS(options),
    .run = run,
};
