/* tarn verify: hashes all that is in the cache. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/json.h"
#include "base/units.h"
#include "cmd/arguments.h"
#include "cmd/commands.h"
#include "cmd/help.h"
#include "cmd/order_command.h"

struct verification {
    struct order_command command;
    int64_t rate; /* bytes a second; -1: not given */
    bool repair;
    bool on_terminal, drawn;  /* progress is shown; and stands there now */
    json_t *bad, *unreadable; /* digests */
    size_t set_aside;         /* of the bad ones */
};

/* False: usage is wrong, which was told. */
static bool read_arguments(struct verification *verification, int argc, char *const *argv) {
    struct order_command *command = &verification->command;
    for (int at = 1; at < argc;) {
        const char *value;
        bool missing = false;
        uint64_t bytes;
        if (strcmp(argv[at], "--repair") == 0) {
            verification->repair = true;
            at++;
        } else if ((value = argument_value("--rate", argc, argv, &at, &missing))) {
            if (!units_parse_size(text_of(value), &bytes))
                return !order_command_refuse(
                    command, "--rate takes a size, the bytes a second, as 100MiB, and not ", value);
            verification->rate = (int64_t)bytes;
        } else if (missing || !order_command_argument(command, argc, argv, &at, &missing)) {
            return !order_command_refuse(
                command, missing ? "a value is missing behind " : "unknown argument ", argv[at]);
        }
    }
    return true;
}

static void draw(struct verification *verification, const json_t *line) {
    char bytes[16], all[16];
    units_format_size(order_line_number(line, "bytes"), bytes, sizeof bytes);
    units_format_size(order_line_number(line, "of_bytes"), all, sizeof all);
    fprintf(stderr, "\r\033[K%" PRIu64 " of %" PRIu64 " blobs, %s of %s",
            order_line_number(line, "blobs"), order_line_number(line, "of_blobs"), bytes, all);
    verification->drawn = true;
}

static void wipe(struct verification *verification) {
    if (verification->drawn)
        fputs("\r\033[K", stderr);
    verification->drawn = false;
}

static void take_bad(struct verification *verification, const json_t *line) {
    json_array_append(verification->bad, json_object_get(line, "bad"));
    verification->set_aside += json_is_true(json_object_get(line, "set_aside"));
    wipe(verification);
    if (!verification->command.json) {
        puts(order_line_string(line, "bad"));
        fflush(stdout);
    }
    fprintf(stderr, "tarn verify: %s\n", order_line_string(line, "error"));
}

/* Not on standard output, where those stand that are known to be wrong. */
static void take_unreadable(struct verification *verification, const json_t *line) {
    json_array_append(verification->unreadable, json_object_get(line, "unreadable"));
    wipe(verification);
    fprintf(stderr, "tarn verify: %s cannot be read: %s\n", order_line_string(line, "unreadable"),
            order_line_string(line, "error"));
}

static void print_bad(const struct verification *verification) {
    size_t bad = json_array_size(verification->bad), set_aside = verification->set_aside;
    static const char later[] = "set aside; they will be fetched again when asked for";
    fprintf(stderr, "%zu bad", bad);
    if (!verification->repair)
        fputs(" (--repair sets them aside)", stderr);
    else if (set_aside == 0)
        fputs(", not set aside", stderr);
    else if (set_aside == bad)
        fprintf(stderr, ", %s", later);
    else
        fprintf(stderr, ", %zu of them %s", set_aside, later);
}

static void print_end(struct verification *verification, json_t *line) {
    char size[16];
    uint64_t blobs = order_line_number(line, "blobs");
    size_t bad = json_array_size(verification->bad);
    size_t unreadable = json_array_size(verification->unreadable);
    wipe(verification);
    if (verification->command.json) {
        json_t *repaired = json_incref(json_object_get(line, "repaired"));
        json_object_del(line, "repaired"); /* it stands last */
        json_object_set(line, "bad", verification->bad);
        json_object_set(line, "unreadable", verification->unreadable);
        json_object_set_new(line, "set_aside", json_integer((json_int_t)verification->set_aside));
        json_object_set_new(line, "repaired", repaired);
        order_line_print(line);
        putchar('\n');
        return;
    }
    units_format_size(order_line_number(line, "bytes"), size, sizeof size);
    fflush(stdout);
    fprintf(stderr, "%" PRIu64 " blob%s, %s: ", blobs, order_line_plural(blobs), size);
    if (bad == 0 && unreadable == 0)
        fputs("all sound", stderr);
    if (bad > 0)
        print_bad(verification);
    if (unreadable > 0)
        fprintf(stderr, "%s%zu cannot be read", bad > 0 ? "; " : "", unreadable);
    fputc('\n', stderr);
}

static void take_answer(void *context, json_t *line) {
    struct verification *verification = context;
    if (order_line_is_last(line))
        print_end(verification, line);
    else if (json_object_get(line, "bad"))
        take_bad(verification, line);
    else if (json_object_get(line, "unreadable"))
        take_unreadable(verification, line);
    else if (verification->on_terminal)
        draw(verification, line);
}

int cmd_verify(int argc, char **argv) {
    struct verification verification = {.command.name = "verify", .rate = -1};
    cleanup_json json_t *bad = json_array(), *unreadable = json_array();
    if (arguments_want_help(argc, argv))
        return help_command("verify", stdout);
    if (!read_arguments(&verification, argc, argv))
        return 2;
    verification.bad = bad;
    verification.unreadable = unreadable;
    verification.on_terminal = isatty(STDERR_FILENO);
    json_t *order = json_pack("{s:b}", "repair", verification.repair);
    if (verification.rate >= 0)
        json_object_set_new(order, "rate", json_integer(verification.rate));
    int status = order_command_run(&verification.command, order, take_answer, &verification);
    wipe(&verification);
    bool found = json_array_size(bad) > 0 || json_array_size(unreadable) > 0;
    return order_command_end(&verification.command, status == 0 && found ? 1 : status);
}
