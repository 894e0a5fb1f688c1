#include "cmd/order_command.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "admin/admin.h"
#include "admin/order.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "cmd/admin_client.h"
#include "cmd/arguments.h"
#include "config/config.h"

/* ---- arguments ---- */

bool order_command_argument(struct order_command *command, int argc, char *const *argv, int *at,
                            bool *missing) {
    const char *value;
    if (strcmp(argv[*at], "--json") == 0) {
        command->json = true;
        ++*at;
        return true;
    }
    if ((value = argument_value("--config", argc, argv, at, missing))) {
        command->config = value;
        return true;
    }
    if (!*missing && (value = argument_value("--root", argc, argv, at, missing))) {
        command->root = value;
        return true;
    }
    return false;
}

int order_command_refuse(const struct order_command *command, const char *what, const char *which) {
    fprintf(stderr, "tarn %s: %s%s (see tarn %s --help)\n", command->name, what, which,
            command->name);
    return 2;
}

static bool take_name(const struct order_command *command, const char *text, json_t *names) {
    struct error error;
    json_t *name = json_string(text);
    if (!name)
        return !order_command_refuse(command, "no name of an image: ", text);
    json_array_append_new(names, name);
    if (!contents_is_name(text, &error))
        return !order_command_refuse(command, error.text, "");
    return json_array_size(names) <= CONTENTS_NAMES_LIMIT ||
           !order_command_refuse(command, "more than 1,000 names at once", "");
}

bool order_command_arguments(struct order_command *command, int argc, char *const *argv,
                             json_t *names) {
    bool only_names = false;
    for (int at = 1; at < argc;) {
        bool missing = false;
        if (names && (only_names || argv[at][0] != '-')) {
            if (!take_name(command, argv[at], names))
                return false;
            at++;
        } else if (names && strcmp(argv[at], "--") == 0) {
            only_names = true;
            at++;
        } else if (!order_command_argument(command, argc, argv, &at, &missing)) {
            return !order_command_refuse(
                command, missing ? "a value is missing behind " : "unknown argument ", argv[at]);
        }
    }
    return true;
}

/* ---- which cache ---- */

struct place {
    struct config *config; /* owned; NULL: only its root is known */
    const char *root;
};

static bool find_place(const struct order_command *command, struct place *place) {
    *place = (struct place){.root = command->root};
    if (command->root)
        return true;
    cleanup_buffer struct buffer problems = {0};
    const struct config_flags flags = {.file = command->config};
    place->config = config_load(&flags, environ, &problems);
    if (place->config) {
        place->root = place->config->root;
        return true;
    }
    if (problems.bytes)
        fputs(problems.bytes, stderr);
    else
        fprintf(stderr, "tarn %s: out of memory\n", command->name);
    return false;
}

/* ---- the answer ---- */

struct run {
    const struct order_command *command;
    void (*on_line)(void *context, json_t *line);
    void *context;
    bool done, failed; /* failed: and that was told */
};

static int tell(const struct run *run, const char *why) {
    fflush(stdout);
    fprintf(stderr, "tarn %s: %s\n", run->command->name, why);
    return 1;
}

static bool take_line(void *context, json_t *line, struct text text) {
    struct run *run = context;
    const json_t *error = json_object_get(line, "error");
    (void)text;
    bool of_a_blob = json_object_get(line, "bad") || json_object_get(line, "unreadable");
    if (error && !of_a_blob) {
        tell(run, order_line_string(line, "error"));
        run->failed = true;
        return true;
    }
    run->done = order_line_is_last(line);
    run->on_line(run->context, line);
    return true;
}

static int judge(const struct run *run) {
    if (!run->failed && !run->done)
        return tell(run, "the answer ended early: did tarn stop?");
    return run->failed ? 1 : 0;
}

/* ---- over the socket ---- */

/* "/tarn/v1/ls?names=A,B": what is only read takes no body. */
static bool write_target(const struct run *run, const json_t *order, struct buffer *target) {
    const json_t *names = json_object_get(order, "names");
    buffer_printf(target, "/tarn/v1/%s", run->command->name);
    for (size_t i = 0; i < json_array_size(names); i++) {
        cleanup_free char *name = admin_escape(json_string_value(json_array_get(names, i)));
        buffer_printf(target, "%s%s", i ? "," : "?names=", name ? name : "");
        target->failed = target->failed || !name;
    }
    return !target->failed;
}

static enum admin_outcome ask(struct run *run, const char *root, const json_t *order,
                              int *error_number) {
    bool reads = strcmp(run->command->name, "ls") == 0 || strcmp(run->command->name, "du") == 0;
    cleanup_buffer struct buffer target = {0};
    cleanup_free char *body = reads ? NULL : json_dumps(order, JSON_COMPACT);
    if (reads ? !write_target(run, order, &target)
              : !body || !buffer_printf(&target, "/tarn/v1/%s", run->command->name)) {
        tell(run, "out of memory");
        return ADMIN_FAILED;
    }
    const struct admin_order asked = {
        .command = run->command->name,
        .root = root,
        .target = target.bytes,
        .body = body,
        .take_line = take_line,
        .context = run,
    };
    return admin_ask(&asked, error_number);
}

/* ---- on the store itself ---- */

static bool take_bytes(void *context, const char *bytes, size_t length) {
    cleanup_json json_t *line = json_loadb(bytes, length, 0, NULL);
    return json_is_object(line) && take_line(context, line, (struct text){bytes, length});
}

static bool open_contents(struct contents *contents, const struct place *place,
                          struct error *error) {
    static const atomic_bool never;
    contents->store = store_open(place->root, error);
    if (!contents->store)
        return error->kind == ERROR_BUSY &&
               error_wrap(error, "%s/" ADMIN_SOCKET " does not answer, and", place->root);
    if (!store_scan(contents->store, &never, error))
        return false;
    if (!place->config)
        return true;
    return config_max_size(place->config, &contents->limit, error) &&
           pins_apply(contents->store, place->config->pin, error);
}

static int run_here(struct run *run, const struct place *place, const json_t *order) {
    struct contents contents = {0};
    struct error error = {0};
    const struct contents_sink sink = {.write = take_bytes, .context = run};
    log_configure(LOG_ERROR, LOG_TEXT);
    bool ok = open_contents(&contents, place, &error) &&
              contents_order(&contents, run->command->name, order, &sink, &error);
    store_close(contents.store);
    return ok ? judge(run) : tell(run, error.text);
}

/* ---- either ---- */

static void end_at_once(int signal_number) {
    (void)signal_number;
    _exit(130); /* what a shell calls it; the store survives the end of a process at any moment */
}

static int run_at(struct run *run, const struct place *place, const json_t *order) {
    struct stat state;
    struct error error;
    int error_number = 0;
    if (stat(place->root, &state) < 0 && errno == ENOENT) {
        error_set(&error, ERROR_NOT_FOUND,
                  "there is no cache at %s; name its folder with --root, or its configuration with "
                  "--config",
                  place->root);
        return tell(run, error.text);
    }
    switch (ask(run, place->root, order, &error_number)) {
    case ADMIN_ANSWERED:
        return judge(run);
    case ADMIN_FAILED:
        return 1;
    case ADMIN_ABSENT:
        break;
    }
    return run_here(run, place, order);
}

int order_command_run(const struct order_command *command, json_t *order,
                      void (*on_line)(void *context, json_t *line), void *context) {
    cleanup_json json_t *owned = order;
    struct run run = {.command = command, .on_line = on_line, .context = context};
    struct place place;
    if (command->config && command->root) {
        order_command_refuse(command, "--config and --root exclude each other", "");
        return 2;
    }
    if (!owned)
        return tell(&run, "out of memory");
    if (!find_place(command, &place))
        return 1;
    const struct sigaction action = {.sa_handler = end_at_once};
    sigaction(SIGINT, &action, NULL);
    int status = run_at(&run, &place, owned);
    config_free(place.config);
    return status;
}

int order_command_end(const struct order_command *command, int status) {
    if (fflush(stdout) != 0)
        fprintf(stderr, "tarn %s: writing the answer: %s\n", command->name, strerror(errno));
    else if (ferror(stdout))
        fprintf(stderr, "tarn %s: the answer could not be written\n", command->name);
    else
        return status;
    return 1;
}

/* ---- lines ---- */

bool order_line_is_last(const json_t *line) {
    return json_is_true(json_object_get(line, "done"));
}

uint64_t order_line_number(const json_t *line, const char *name) {
    json_int_t number = json_integer_value(json_object_get(line, name));
    return number > 0 ? (uint64_t)number : 0;
}

const char *order_line_string(const json_t *line, const char *name) {
    const char *string = json_string_value(json_object_get(line, name));
    return string ? string : "";
}

void order_line_print(json_t *line) {
    json_object_del(line, "done");
    json_dumpf(line, stdout, JSON_COMPACT);
}

void order_line_format_age(const char *text, char *out, size_t size) {
    static const struct {
        int64_t seconds;
        const char *name;
    } units[] = {{365 * 86400, "year"}, {30 * 86400, "month"}, {7 * 86400, "week"},
                 {86400, "day"},        {3600, "hour"},        {60, "minute"}};
    struct tm parts = {0};
    if (!strptime(text, "%Y-%m-%dT%H:%M:%SZ", &parts)) {
        snprintf(out, size, "-");
        return;
    }
    int64_t age_s = clock_wall_s() - (int64_t)timegm(&parts);
    snprintf(out, size, "just now");
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        int64_t count = age_s / units[i].seconds;
        if (count < 1)
            continue;
        snprintf(out, size, "%lld %s%s ago", (long long)count, units[i].name, count > 1 ? "s" : "");
        return;
    }
}

const char *order_line_plural(uint64_t count) {
    return count == 1 ? "" : "s";
}
