/* tarn warm: asks the running tarn, over its socket file, to pull images before clients need them.
 */
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/json.h"
#include "cmd/admin_client.h"
#include "cmd/chosen_cache.h"
#include "cmd/commands.h"
#include "cmd/order_line.h"
#include "cmd/warm_progress.h"

/* ---- the order ---- */

/* The values of --platform, split at commas; NULL: out of memory. */
static json_t *list_platforms(const struct arguments *arguments) {
    json_t *platforms = json_array();
    size_t at = 0;
    for (const char *value; (value = arguments_next(arguments, "platform", &at));) {
        struct text rest = text_of(value);
        while (rest.at) {
            struct text platform = text_cut(rest, ',', &rest);
            json_array_append_new(platforms, json_stringn(platform.at, platform.length));
        }
    }
    return platforms;
}

/* The order as JSON, the caller's to free; NULL: out of memory. */
static char *write_order(const struct arguments *arguments) {
    cleanup_json json_t *images = json_array(), *platforms = list_platforms(arguments);
    for (size_t i = 0; i < arguments->operand_count; i++)
        json_array_append_new(images, json_string(arguments->operands[i]));
    cleanup_json json_t *order = json_pack("{s:O}", "images", images);
    if (json_array_size(platforms))
        json_object_set(order, "platforms", platforms);
    return order ? json_dumps(order, JSON_COMPACT) : NULL;
}

/* ---- the response ---- */

struct result {
    struct warm_progress *progress; /* NULL: the lines are printed as they are */
    size_t images_done, images_failed;
};

/* Prints a failure as a sentence, also where lines of JSON are printed. */
static void record_end(struct result *result, const json_t *line) {
    const char *image = json_member_text(line, "image");
    const char *error = json_member_text(line, "error");
    if (strcmp(json_member_text(line, "state"), "done") == 0) {
        result->images_done++;
        return;
    }
    result->images_failed++;
    fflush(stdout);
    fprintf(stderr, "tarn warm: %s: %s\n", *image ? image : "?", *error ? error : "failed");
}

static bool on_line(void *context, json_t *line, struct text text) {
    struct result *result = context;
    if (result->progress)
        warm_progress_record(result->progress, line);
    else
        printf("%.*s\n", TEXT_PRINT(text));
    fflush(stdout);
    if (!json_object_get(line, "digest"))
        record_end(result, line);
    return true;
}

/* ---- the request ---- */

static int exit_status(const struct result *result, enum admin_client_outcome outcome,
                       const char *root, int error_number, size_t images) {
    switch (outcome) {
    case ADMIN_CLIENT_FAILED:
        return 1;
    case ADMIN_CLIENT_ABSENT:
        fprintf(stderr,
                "tarn warm: no tarn is running with the root %s (%s); start it with tarn serve, or "
                "name another root with --root or --config\n",
                root, strerror(error_number));
        return 1;
    case ADMIN_CLIENT_ANSWERED:
        break;
    }
    if (result->images_done + result->images_failed < images) {
        fputs("tarn warm: the response ended early: did tarn stop?\n", stderr);
        return 1;
    }
    return result->images_failed ? 1 : 0;
}

static int ask(const struct arguments *arguments, const char *root) {
    cleanup_free char *body = write_order(arguments);
    if (!body) {
        fputs("tarn warm: out of memory\n", stderr);
        return 1;
    }
    struct result result = {0};
    const struct admin_client_order warm = {
        .command = "warm",
        .root = root,
        .target = "/tarn/v1/warm",
        .body = body,
        .on_line = on_line,
        .context = &result,
    };
    if (!arguments_flag(arguments, "json") && isatty(STDOUT_FILENO))
        result.progress = warm_progress_new(stdout);
    int error_number = 0;
    enum admin_client_outcome outcome = admin_client_send(&warm, &error_number);
    warm_progress_free(result.progress);
    return exit_status(&result, outcome, root, error_number, arguments->operand_count);
}

static int run(const struct arguments *arguments) {
    cleanup_chosen_cache struct chosen_cache chosen = {0};
    int status = chosen_cache_find(&chosen, arguments);
    return status ? status : ask(arguments, chosen.root);
}

static const char *const platforms[] = {"linux/amd64", "linux/arm64", "linux/arm/v7", NULL};

static const struct command_option options[] = {
    {"platform", OPTION_LIST, "OS/ARCH[/VARIANT]", "pull only these platforms of an image",
     platforms},
    CHOSEN_CACHE_OPTIONS,
    {"json", OPTION_FLAG, NULL, "print lines of JSON, on a terminal too"},
};

const struct command warm_command = {
    .name = "warm",
    .arguments = "IMAGE…",
    .least = 1,
    .most = COMMAND_ANY_NUMBER,
    .summary = "pull images into the running tarn before clients need them",
    .text = "Finds the running tarn by the root of its cache, and must run as the same user.\n"
            "Without --platform all platforms are pulled. On a terminal bars show the progress;\n"
            "elsewhere each event is printed as a line of JSON. Ctrl-C ends the command, but\n"
            "transfers that have started go on. Exit 1 when an image failed.\n",
    COMMAND_OPTIONS(options),
    .run = run,
};
