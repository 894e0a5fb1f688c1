/* Sends an order to the tarn that runs on a cache, or carries it out on the cache's files. */
#include "cmd/order_command.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "admin/admin.h"
#include "admin/image_pattern.h"
#include "admin/order.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/log.h"
#include "cmd/admin_client.h"
#include "cmd/order_line.h"
#include "retention/pins.h"
#include "store/usage.h"

json_t *order_command_names(const struct arguments *arguments) {
    const struct command *command = arguments->command;
    cleanup_json json_t *names = json_array();
    struct error error;
    if (arguments->operand_count > ORDER_NAMES_LIMIT) {
        command_refuse(command, "more than 1,000 names at once");
        return NULL;
    }
    for (size_t i = 0; i < arguments->operand_count; i++) {
        const char *name = arguments->operands[i];
        struct image_pattern pattern;
        if (!image_pattern_parse(text_of(name), &pattern, &error)) {
            command_refuse(command, "%s", error.text);
            return NULL;
        }
        if (json_array_append_new(names, json_string(name)) < 0) {
            command_refuse(command, "not the name of an image: %s", name);
            return NULL;
        }
    }
    return take(names);
}

json_t *order_command_with_bucket(const struct arguments *arguments, json_t *order) {
    if (!arguments_flag(arguments, "bucket") ||
        json_object_set_new(order, "bucket", json_true()) == 0)
        return order;
    json_decref(order);
    return NULL;
}

/* ---- the response ---- */

struct run {
    const char *command; /* its name */
    void (*on_line)(void *context, json_t *line);
    void *context;
    bool done, failed; /* failed: the reason is on standard error */
};

static int print_failure(const struct run *run, const char *reason) {
    fflush(stdout);
    fprintf(stderr, "tarn %s: %s\n", run->command, reason);
    return 1;
}

static bool pass_line(void *context, json_t *line, struct text text) {
    struct run *run = context;
    const json_t *error = json_object_get(line, "error");
    (void)text;
    bool of_a_blob = json_object_get(line, "bad") || json_object_get(line, "unreadable");
    if (error && !of_a_blob) {
        print_failure(run, json_member_text(line, "error"));
        run->failed = true;
        return true;
    }
    run->done = order_line_is_last(line);
    run->on_line(run->context, line);
    return true;
}

static int exit_status(const struct run *run) {
    if (!run->failed && !run->done)
        return print_failure(run, "the response ended early: did tarn stop?");
    return run->failed ? 1 : 0;
}

/* ---- over the socket ---- */

static bool is_about_bucket(const json_t *order) {
    return json_is_true(json_object_get(order, "bucket"));
}

/* "/tarn/v1/ls?names=A,B&bucket=1": an order that only reads has no body. */
static bool write_target(const struct run *run, const json_t *order, struct buffer *target) {
    const json_t *names = json_object_get(order, "names");
    buffer_printf(target, "/tarn/v1/%s", run->command);
    for (size_t i = 0; i < json_array_size(names); i++) {
        cleanup_free char *name = admin_client_escape(json_string_value(json_array_get(names, i)));
        buffer_printf(target, "%s%s", i ? "," : "?names=", name ? name : "");
        target->failed = target->failed || !name;
    }
    if (is_about_bucket(order))
        buffer_printf(target, "%sbucket=1", json_array_size(names) ? "&" : "?");
    return !target->failed;
}

static enum admin_client_outcome ask(struct run *run, const char *root, const json_t *order,
                                     int *error_number) {
    bool reads = strcmp(run->command, "ls") == 0 || strcmp(run->command, "du") == 0;
    cleanup_buffer struct buffer target = {0};
    cleanup_free char *body = reads ? NULL : json_dumps(order, JSON_COMPACT);
    if (reads ? !write_target(run, order, &target)
              : !body || !buffer_printf(&target, "/tarn/v1/%s", run->command)) {
        print_failure(run, "out of memory");
        return ADMIN_CLIENT_FAILED;
    }
    const struct admin_client_order asked = {
        .command = run->command,
        .root = root,
        .target = target.bytes,
        .body = body,
        .on_line = pass_line,
        .context = run,
    };
    return admin_client_send(&asked, error_number);
}

/* ---- on the store itself ---- */

static bool pass_bytes(void *context, const char *bytes, size_t length) {
    cleanup_json json_t *line = json_loadb(bytes, length, 0, NULL);
    return json_is_object(line) && pass_line(context, line, (struct text){bytes, length});
}

static bool open_target(struct order_target *target, const struct chosen_cache *chosen,
                        struct error *error) {
    target->store = store_open(chosen->root, error);
    if (!target->store)
        return error->kind == ERROR_BUSY &&
               error_wrap(error, "%s/" ADMIN_SOCKET " does not answer, and", chosen->root);
    if (!store_scan(target->store, NULL, error))
        return false;
    target->streaming = streams_settings_default();
    target->streaming.enabled = true; /* --root alone: what the store has */
    if (!chosen->config)
        return true;
    target->streaming = chosen->config->streaming;
    uint64_t limit;
    if (!config_max_size(chosen->config, &limit, error))
        return false;
    target->limit = limit;
    return pins_apply(target->store, chosen->config->pin, error);
}

/* Whether the order needs the cache's own files. */
static bool needs_store(const struct run *run, const json_t *order) {
    return !is_about_bucket(order) || strcmp(run->command, "du") == 0;
}

static bool open_bucket(struct order_target *target, const struct chosen_cache *chosen,
                        struct client *client, bool is_needed, struct error *error) {
    if (!chosen->config)
        return !is_needed || error_set(error, ERROR_INVALID,
                                       "--root names no bucket: name the configuration that does, "
                                       "with --config");
    if (chosen->config->bucket.address.kind == BUCKET_NONE)
        return true;
    target->bucket = bucket_new(&chosen->config->bucket, client);
    return target->bucket || error_set(error, ERROR_MEMORY, "out of memory");
}

static int run_here(struct run *run, const struct chosen_cache *chosen, const json_t *order) {
    struct order_target target = {0};
    struct error error = {0};
    const struct line_sink sink = {.write = pass_bytes, .context = run};
    cleanup_client struct client *client = client_new();
    log_configure(LOG_ERROR, LOG_TEXT);
    bool ok = (!needs_store(run, order) || open_target(&target, chosen, &error)) &&
              open_bucket(&target, chosen, client, is_about_bucket(order), &error) &&
              order_run(&target, run->command, order, &sink, &error);
    bucket_free(target.bucket);
    store_close(target.store);
    return ok ? exit_status(run) : print_failure(run, error.text);
}

/* ---- either ---- */

static void end_at_once(int signal_number) {
    (void)signal_number;
    /* 130 is how shells report Ctrl-C. The store stays valid if the process ends at any moment. */
    _exit(130);
}

static int run_at(struct run *run, const struct chosen_cache *chosen, const json_t *order) {
    struct stat state;
    struct error error;
    int error_number = 0;
    bool is_there = stat(chosen->root, &state) == 0 || errno != ENOENT;
    if (!is_there && !needs_store(run, order))
        return run_here(run, chosen, order);
    if (!is_there) {
        error_set(&error, ERROR_NOT_FOUND,
                  "there is no cache at %s; name its folder with --root, or its configuration with "
                  "--config",
                  chosen->root);
        return print_failure(run, error.text);
    }
    switch (ask(run, chosen->root, order, &error_number)) {
    case ADMIN_CLIENT_ANSWERED:
        return exit_status(run);
    case ADMIN_CLIENT_FAILED:
        return 1;
    case ADMIN_CLIENT_ABSENT:
        break;
    }
    return run_here(run, chosen, order);
}

int order_command_run(const struct arguments *arguments, json_t *order,
                      void (*on_line)(void *context, json_t *line), void *context) {
    cleanup_json json_t *owned = order;
    cleanup_chosen_cache struct chosen_cache chosen = {0};
    struct run run = {.command = arguments->command->name, .on_line = on_line, .context = context};
    if (!owned)
        return print_failure(&run, "out of memory");
    int status = chosen_cache_find(&chosen, arguments);
    if (status != 0)
        return status;
    const struct sigaction action = {.sa_handler = end_at_once};
    sigaction(SIGINT, &action, NULL);
    return run_at(&run, &chosen, owned);
}

int order_command_end(const struct arguments *arguments, int status) {
    const char *command = arguments->command->name;
    if (fflush(stdout) != 0)
        fprintf(stderr, "tarn %s: writing the output: %s\n", command, strerror(errno));
    else if (ferror(stdout))
        fprintf(stderr, "tarn %s: the output could not be written\n", command);
    else
        return status;
    return 1;
}
