/* tarn build list, show, logs, cancel, retry, triggers and dependencies. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/json.h"
#include "build/log.h"
#include "cmd/build_context.h"
#include "cmd/table.h"

enum { LIST_MOST = 20, LIST_COLUMNS = 5 };

/* ---- what is printed ---- */

static int print_json(const json_t *json, size_t flags) {
    cleanup_buffer struct buffer text = {0};
    if (!bounded_json_dump(json, flags, &text))
        return build_complain("out of memory");
    printf("%s\n", text.bytes);
    return 0;
}

static const char *first_image(const json_t *build) {
    const char *image = json_string_value(json_array_get(json_object_get(build, "images"), 0));
    return image ? image : "";
}

/* ---- lists ---- */

/* A text of the service without control characters, which a table cannot show. */
static void copy_cell(const char *text, char *out, size_t size) {
    snprintf(out, size, "%s", *text ? text : "-");
    for (; *out; out++)
        if ((unsigned char)*out < ' ' || *out == 0x7f)
            *out = '?';
}

static void add_row(struct table *table, const json_t *item, bool is_build) {
    enum { CELL_SIZE = 300 };
    char cells[LIST_COLUMNS][CELL_SIZE];
    const char *row[LIST_COLUMNS];
    const bool disabled = json_is_true(json_object_get(item, "disabled"));
    const char *texts[LIST_COLUMNS] = {
        json_member_text(item, "id"),
        json_member_text(item, is_build ? "status" : "name"),
        json_member_text(item, "createTime"),
        is_build   ? first_image(item)
        : disabled ? "disabled"
                   : "",
        json_member_text(item, is_build ? "logUrl" : "filename"),
    };
    for (size_t i = 0; i < LIST_COLUMNS; i++) {
        copy_cell(texts[i], cells[i], CELL_SIZE);
        row[i] = cells[i];
    }
    table_add(table, row);
}

static int print_list(const struct build_run *run, const json_t *list, const char *what) {
    cleanup_table struct table table = {.columns = LIST_COLUMNS};
    size_t index;
    json_t *item;
    json_array_foreach (json_object_get(list, what), index, item) {
        if (!run->json)
            add_row(&table, item, strcmp(what, "builds") == 0);
        else if (print_json(item, JSON_COMPACT))
            return 1;
    }
    if (table.failed)
        return build_complain("out of memory");
    table_print(&table, table_terminal_width(), LIST_COLUMNS - 1);
    return 0;
}

static int list(struct build_run *run, const char *what) {
    const struct cloudbuild cloudbuild = build_run_cloudbuild(run);
    struct error error = {0};
    cleanup_json json_t *json = cloudbuild_list(
        &cloudbuild, what, LIST_MOST, arguments_string(run->arguments, "filter"), NULL, &error);
    return json ? print_list(run, json, what) : build_complain("%s", error.text);
}

/* ---- one build ---- */

static int show(struct build_run *run, const char *id) {
    const struct cloudbuild cloudbuild = build_run_cloudbuild(run);
    struct error error = {0};
    cleanup_json json_t *build = cloudbuild_get(&cloudbuild, id, &error);
    return build ? print_json(build, run->json ? JSON_COMPACT : JSON_INDENT(2))
                 : build_complain("%s", error.text);
}

static bool print_bytes(void *context, const void *bytes, size_t length, struct error *error) {
    (void)context;
    return fwrite(bytes, 1, length, stdout) == length ||
           error_set(error, ERROR_IO, "standard output takes no more");
}

/* Prints the log as it is. */
static int print_log(struct build_run *run, const char *id) {
    const struct cloudbuild cloudbuild = build_run_cloudbuild(run);
    const struct build_log_sink sink = {print_bytes, NULL};
    struct error error = {0};
    cleanup_json json_t *build = cloudbuild_get(&cloudbuild, id, &error);
    struct build_log *log = build ? build_log_new(run->api, build) : NULL;
    bool ok = log && build_log_read(log, &sink, &error);
    build_log_free(log);
    if (build && !log)
        error_set(&error, ERROR_MEMORY, "out of memory");
    return ok ? 0 : build_complain("%s", error.text);
}

static int follow(struct build_run *run, const char *id) {
    const struct cloudbuild cloudbuild = build_run_cloudbuild(run);
    struct error error = {0};
    json_t *build = cloudbuild_get(&cloudbuild, id, &error);
    return build ? build_follow(run, build, NULL) : build_complain("%s", error.text);
}

static int logs(struct build_run *run, const char *id) {
    return arguments_flag(run->arguments, "follow") ? follow(run, id) : print_log(run, id);
}

static int end_with(struct build_run *run, json_t *build, const struct error *error) {
    if (!build)
        return build_complain("%s", error->text);
    if (run->json)
        build_show_event(run, json_pack("{s:s, s:s, s:s}", "event", "build", "id",
                                        json_member_text(build, "id"), "status",
                                        json_member_text(build, "status")));
    else
        printf("%s %s\n", json_member_text(build, "id"), json_member_text(build, "status"));
    json_decref(build);
    return 0;
}

static int cancel(struct build_run *run, const char *id) {
    const struct cloudbuild cloudbuild = build_run_cloudbuild(run);
    struct error error = {0};
    json_t *build = cloudbuild_cancel(&cloudbuild, id, &error);
    return end_with(run, build, &error);
}

static int follow_unless_async(struct build_run *run, json_t *build, const struct error *error) {
    if (!build || arguments_flag(run->arguments, "async"))
        return end_with(run, build, error);
    return build_follow(run, build, NULL);
}

static int retry(struct build_run *run, const char *id) {
    const struct cloudbuild cloudbuild = build_run_cloudbuild(run);
    struct error error = {0};
    json_t *build = cloudbuild_retry(&cloudbuild, id, &error);
    return follow_unless_async(run, build, &error);
}

static int run_trigger(struct build_run *run, const char *name) {
    const struct cloudbuild cloudbuild = build_run_cloudbuild(run);
    struct error error = {0};
    json_t *build =
        cloudbuild_run_trigger(&cloudbuild, name, arguments_string(run->arguments, "ref"), &error);
    return follow_unless_async(run, build, &error);
}

/* ---- which one ---- */

static int list_builds(struct build_run *run, const char *nothing) {
    (void)nothing;
    return list(run, "builds");
}

/* What skaffold calls to know which files to watch. */
static int print_dependencies(struct build_run *run, const char *nothing) {
    const char *folder = getenv("BUILD_CONTEXT");
    (void)nothing;
    return build_context_print_files(run, folder && *folder ? folder : ".");
}

static int list_triggers(struct build_run *run, const char *nothing) {
    (void)nothing;
    return list(run, "triggers");
}

static const struct order {
    const char *words[2];
    bool takes_one; /* an operand */
    bool is_local;  /* nobody is asked */
    int (*run)(struct build_run *run, const char *operand);
} orders[] = {
    {{"list"}, false, false, list_builds},
    {{"show"}, true, false, show},
    {{"logs"}, true, false, logs},
    {{"cancel"}, true, false, cancel},
    {{"retry"}, true, false, retry},
    {{"dependencies"}, false, true, print_dependencies},
    {{"triggers", "list"}, false, false, list_triggers},
    {{"triggers", "run"}, true, false, run_trigger},
};

bool build_is_order(const char *operand) {
    for (size_t i = 0; i < sizeof orders / sizeof *orders; i++)
        if (strcmp(orders[i].words[0], operand) == 0)
            return true;
    return false;
}

static const struct order *find_order(const struct arguments *arguments, size_t *used) {
    for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
        const struct order *order = &orders[i];
        *used = order->words[1] ? 2 : 1;
        if (arguments->operand_count >= *used &&
            strcmp(arguments->operands[0], order->words[0]) == 0 &&
            (!order->words[1] || strcmp(arguments->operands[1], order->words[1]) == 0))
            return order;
    }
    return NULL;
}

int build_order(struct build_run *run) {
    const struct arguments *arguments = run->arguments;
    size_t used;
    const struct order *order = find_order(arguments, &used);
    if (!order)
        return command_refuse(arguments->command, "triggers list, or triggers run NAME");
    if (arguments->operand_count != used + order->takes_one)
        return command_refuse(arguments->command, "%s%s%s takes %s", order->words[0],
                              order->words[1] ? " " : "", order->words[1] ? order->words[1] : "",
                              order->takes_one ? "one name" : "no name");
    int status = order->is_local ? 0 : build_run_open(run);
    if (status)
        return status;
    status = order->run(run, order->takes_one ? arguments->operands[used] : NULL);
    return fflush(stdout) == 0 ? status : build_complain("standard output takes no more");
}
