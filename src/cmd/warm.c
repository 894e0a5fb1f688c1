/* tarn warm: has the running tarn pull images before anyone asks, over its socket file. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/json.h"
#include "cmd/admin_client.h"
#include "cmd/arguments.h"
#include "cmd/commands.h"
#include "cmd/help.h"
#include "cmd/warm_progress.h"
#include "config/config.h"

/* ---- what was asked for ---- */

struct order {
    json_t *images, *platforms; /* arrays of strings, owned */
    const char *config, *root;  /* NULL: not given */
    bool json;
};

static void free_order(struct order *order) {
    json_decref(order->images);
    json_decref(order->platforms);
}

static void add_platforms(struct order *order, struct text list) {
    while (list.at) {
        struct text platform = text_cut(list, ',', &list);
        json_array_append_new(order->platforms, json_stringn(platform.at, platform.length));
    }
}

static bool refuse(const char *what, const char *which) {
    fprintf(stderr, "tarn warm: %s%s (see tarn warm --help)\n", what, which);
    return false;
}

/* False: usage is wrong, and that was told. */
static bool read_arguments(struct order *order, int argc, char **argv) {
    bool only_images = false;
    for (int at = 1; at < argc;) {
        const char *value;
        bool missing = false;
        if (only_images || argv[at][0] != '-') {
            json_array_append_new(order->images, json_string(argv[at++]));
        } else if (strcmp(argv[at], "--") == 0) {
            only_images = true;
            at++;
        } else if (strcmp(argv[at], "--json") == 0) {
            order->json = true;
            at++;
        } else if ((value = argument_value("--platform", argc, argv, &at, &missing))) {
            add_platforms(order, text_of(value));
        } else if (!missing && (value = argument_value("--config", argc, argv, &at, &missing))) {
            order->config = value;
        } else if (!missing && (value = argument_value("--root", argc, argv, &at, &missing))) {
            order->root = value;
        } else {
            return refuse(missing ? "a value is missing behind " : "unknown argument ", argv[at]);
        }
    }
    if (json_array_size(order->images) == 0)
        return refuse("say which images", "");
    if (order->config && order->root)
        return refuse("--config and --root exclude each other", "");
    return true;
}

/* ---- where the running tarn is ---- */

/* The root of the tarn that is meant, the caller's to free; NULL: its configuration is wrong, which
 * was told. */
static char *find_root(const struct order *order) {
    if (order->root)
        return strdup(order->root);
    cleanup_buffer struct buffer problems = {0};
    const struct config_flags flags = {.file = order->config};
    struct config *config = config_load(&flags, environ, &problems);
    char *root = config ? strdup(config->root) : NULL;
    config_free(config);
    if (!root)
        fputs(problems.bytes ? problems.bytes : "tarn warm: out of memory\n", stderr);
    return root;
}

/* ---- the answer ---- */

struct answer {
    struct warm_progress *progress; /* NULL: the lines as they are */
    size_t images_done, images_failed;
};

/* Failures are told in words too, whichever way the rest is shown. */
static void note_end(struct answer *answer, const json_t *line) {
    const char *state = json_string_value(json_object_get(line, "state"));
    const char *image = json_string_value(json_object_get(line, "image"));
    const char *error = json_string_value(json_object_get(line, "error"));
    if (state && strcmp(state, "done") == 0) {
        answer->images_done++;
        return;
    }
    answer->images_failed++;
    fflush(stdout);
    fprintf(stderr, "tarn warm: %s: %s\n", image ? image : "?", error ? error : "failed");
}

static bool take_line(void *context, json_t *line, struct text text) {
    struct answer *answer = context;
    if (answer->progress)
        warm_progress_take(answer->progress, line);
    else
        printf("%.*s\n", TEXT_PRINT(text));
    fflush(stdout);
    if (!json_object_get(line, "digest"))
        note_end(answer, line);
    return true;
}

/* ---- the request ---- */

static int judge(const struct answer *answer, enum admin_outcome outcome, const char *root,
                 int error_number, size_t images) {
    switch (outcome) {
    case ADMIN_FAILED:
        return 1;
    case ADMIN_ABSENT:
        fprintf(stderr,
                "tarn warm: no tarn is running with the root %s (%s); start it with tarn serve, or "
                "name another root with --root or --config\n",
                root, strerror(error_number));
        return 1;
    case ADMIN_ANSWERED:
        break;
    }
    if (answer->images_done + answer->images_failed < images) {
        fputs("tarn warm: the answer ended early: did tarn stop?\n", stderr);
        return 1;
    }
    return answer->images_failed ? 1 : 0;
}

static int ask(const struct order *order, const char *root) {
    cleanup_json json_t *json = json_pack("{s:O}", "images", order->images);
    if (json_array_size(order->platforms))
        json_object_set(json, "platforms", order->platforms);
    cleanup_free char *body = json ? json_dumps(json, JSON_COMPACT) : NULL;
    if (!body) {
        fputs("tarn warm: out of memory\n", stderr);
        return 1;
    }
    struct answer answer = {0};
    const struct admin_order warm = {
        .command = "warm",
        .root = root,
        .target = "/tarn/v1/warm",
        .body = body,
        .take_line = take_line,
        .context = &answer,
    };
    if (!order->json && isatty(STDOUT_FILENO))
        answer.progress = warm_progress_new(stdout);
    int error_number = 0;
    enum admin_outcome outcome = admin_ask(&warm, &error_number);
    warm_progress_free(answer.progress);
    return judge(&answer, outcome, root, error_number, json_array_size(order->images));
}

int cmd_warm(int argc, char **argv) {
    struct order order = {.images = json_array(), .platforms = json_array()};
    if (arguments_want_help(argc, argv)) {
        free_order(&order);
        return help_command("warm", stdout);
    }
    int status = 2;
    if (read_arguments(&order, argc, argv)) {
        cleanup_free char *root = find_root(&order);
        status = root ? ask(&order, root) : 1;
    }
    free_order(&order);
    return status;
}
