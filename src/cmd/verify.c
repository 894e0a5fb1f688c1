/* tarn verify: hashes all blobs in the cache. */
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/json.h"
#include "cmd/commands.h"
#include "cmd/order_command.h"
#include "cmd/order_line.h"

struct verify_output {
    bool repair, json, bucket;
    bool on_terminal;         /* progress is shown */
    bool drawn;               /* a line of progress is on the terminal now */
    json_t *bad, *unreadable; /* digests, borrowed */
    size_t set_aside;         /* how many of the bad ones were set aside */
};

static void draw(struct verify_output *verification, const json_t *line) {
    char bytes[ORDER_LINE_SIZE], all[ORDER_LINE_SIZE];
    order_line_format_size(line, "bytes", bytes);
    order_line_format_size(line, "of_bytes", all);
    fprintf(stderr, "\r\033[K%" PRIu64 " of %" PRIu64 " blobs, %s of %s",
            order_line_number(line, "blobs"), order_line_number(line, "of_blobs"), bytes, all);
    verification->drawn = true;
}

static void wipe(struct verify_output *verification) {
    if (verification->drawn)
        fputs("\r\033[K", stderr);
    verification->drawn = false;
}

static void record_bad(struct verify_output *verification, const json_t *line) {
    json_array_append(verification->bad, json_object_get(line, "bad"));
    verification->set_aside += json_is_true(json_object_get(line, "set_aside"));
    wipe(verification);
    if (!verification->json) {
        puts(json_member_text(line, "bad"));
        fflush(stdout);
    }
    fprintf(stderr, "tarn verify: %s\n", json_member_text(line, "error"));
}

/* On standard error, because standard output lists only digests that are known to be wrong. */
static void record_unreadable(struct verify_output *verification, const json_t *line) {
    json_array_append(verification->unreadable, json_object_get(line, "unreadable"));
    wipe(verification);
    fprintf(stderr, "tarn verify: %s cannot be read: %s\n", json_member_text(line, "unreadable"),
            json_member_text(line, "error"));
}

static void print_bad(const struct verify_output *verification) {
    size_t bad = json_array_size(verification->bad), set_aside = verification->set_aside;
    const char *done = verification->bucket ? "deleted" : "set aside";
    char later[80];
    snprintf(later, sizeof later, "%s; they will be fetched again when asked for", done);
    fprintf(stderr, "%zu bad", bad);
    if (!verification->repair)
        fputs(verification->bucket ? " (--repair deletes them)" : " (--repair sets them aside)",
              stderr);
    else if (set_aside == 0)
        fprintf(stderr, ", not %s", done);
    else if (set_aside == bad)
        fprintf(stderr, ", %s", later);
    else
        fprintf(stderr, ", %zu of them %s", set_aside, later);
}

static void print_json(const struct verify_output *verification, json_t *line) {
    json_t *repaired = json_incref(json_object_get(line, "repaired"));
    json_object_del(line, "repaired"); /* so that it is printed last */
    json_object_set(line, "bad", verification->bad);
    json_object_set(line, "unreadable", verification->unreadable);
    json_object_set_new(line, "set_aside", json_integer((json_int_t)verification->set_aside));
    json_object_set_new(line, "repaired", repaired);
    order_line_print(line);
    putchar('\n');
}

static void print_end(const struct verify_output *verification, const json_t *line) {
    char size[ORDER_LINE_SIZE], blobs[ORDER_LINE_SIZE];
    size_t bad = json_array_size(verification->bad);
    size_t unreadable = json_array_size(verification->unreadable);
    order_line_format_size(line, "bytes", size);
    order_line_format_blobs(line, blobs);
    fflush(stdout);
    fprintf(stderr, "%s, %s: ", blobs, size);
    if (bad == 0 && unreadable == 0)
        fputs("all correct", stderr);
    if (bad > 0)
        print_bad(verification);
    if (unreadable > 0)
        fprintf(stderr, "%s%zu cannot be read", bad > 0 ? "; " : "", unreadable);
    fputc('\n', stderr);
}

static void print_last(struct verify_output *verification, json_t *line) {
    wipe(verification);
    if (verification->json)
        print_json(verification, line);
    else
        print_end(verification, line);
}

static void on_line(void *context, json_t *line) {
    struct verify_output *verification = context;
    if (order_line_is_last(line))
        print_last(verification, line);
    else if (json_object_get(line, "bad"))
        record_bad(verification, line);
    else if (json_object_get(line, "unreadable"))
        record_unreadable(verification, line);
    else if (verification->on_terminal)
        draw(verification, line);
}

static int run(const struct arguments *arguments) {
    cleanup_json json_t *bad = json_array(), *unreadable = json_array();
    int64_t rate = arguments_number(arguments, "rate", -1);
    struct verify_output verification = {
        .repair = arguments_flag(arguments, "repair"),
        .json = arguments_flag(arguments, "json"),
        .bucket = arguments_flag(arguments, "bucket"),
        .on_terminal = isatty(STDERR_FILENO),
        .bad = bad,
        .unreadable = unreadable,
    };
    json_t *order = json_pack("{s:b}", "repair", verification.repair);
    if (rate >= 0)
        json_object_set_new(order, "rate", json_integer(rate));
    order = order_command_with_bucket(arguments, order);
    int status = order_command_run(arguments, order, on_line, &verification);
    wipe(&verification);
    bool found = json_array_size(bad) > 0 || json_array_size(unreadable) > 0;
    return order_command_end(arguments, status == 0 && found ? 1 : status);
}

static const struct command_option options[] = {
    {"repair", OPTION_FLAG, NULL,
     "move blobs whose bytes are wrong to ROOT/bad; they are fetched again when needed"},
    ORDER_COMMAND_BUCKET("read the blobs of the bucket instead; --repair deletes the wrong ones"),
    {"rate", OPTION_SIZE, "SIZE",
     "read at most SIZE a second; 0: no limit; default: 64MiB while tarn runs, else no limit"},
    ORDER_COMMAND_OPTIONS,
};

const struct command verify_command = {
    .name = "verify",
    .arguments = "",
    .summary = "hash all blobs in the cache",
    .text =
        "Prints the digest of each blob whose bytes are wrong, one on each line. Blobs that\n"
        "cannot be read are named on standard error, and stay where they are. Exit 1 if a blob is\n"
        "wrong or cannot be read.\n",
    COMMAND_OPTIONS(options),
    .run = run,
};
