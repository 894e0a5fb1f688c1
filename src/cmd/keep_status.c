/* tarn keep status: the table of a running tarn keep. */
#include "cmd/keep_status.h"

#include <stdio.h>
#include <string.h>
#include "base/buffer.h"
#include "base/json.h"
#include "base/units.h"
#include "client/request.h"
#include "cmd/table.h"
#include "keep/plan.h"

#define DEFAULT_URL "http://127.0.0.1:8080"

enum { BODY_LIMIT = 256 << 20, COLUMNS = 2 + KEEP_STATES };

/* What comes from the network goes to a terminal. */
static void copy_plain(const char *from, char *out, size_t size) {
    snprintf(out, size, "%s", from);
    for (char *c = out; *c; c++)
        *c = (unsigned char)*c < ' ' || *c == 0x7f ? '?' : *c;
}

static void add_image(struct table *table, const json_t *image) {
    char name[800], size[24] = "", counts[KEEP_STATES][24];
    const char *cells[COLUMNS] = {name, size};
    const json_t *bytes = json_object_get(image, "size");
    copy_plain(json_member_text(image, "image"), name, sizeof name);
    if (json_is_integer(bytes))
        units_format_size((uint64_t)json_integer_value(bytes), size, sizeof size);
    for (int state = 0; state < KEEP_STATES; state++) {
        json_int_t count =
            json_integer_value(json_object_get(image, keep_state_name((enum keep_state)state)));
        snprintf(counts[state], sizeof counts[state], "%lld", (long long)count);
        cells[2 + state] = counts[state];
    }
    table_add(table, cells);
}

static void print_failures(const json_t *image) {
    const char *node;
    json_t *cell;
    json_object_foreach (json_object_get(image, "nodes"), node, cell) {
        char text[1600], plain[1600];
        if (strcmp(json_member_text(cell, "state"), "failed") != 0)
            continue;
        snprintf(text, sizeof text, "%.700s on %.250s: %.600s", json_member_text(image, "image"),
                 node, json_member_text(cell, "reason"));
        copy_plain(text, plain, sizeof plain);
        printf("failed: %s\n", plain);
    }
}

static bool print_keep(const json_t *keep) {
    static const char *const head[COLUMNS] = {"IMAGE",   "SIZE",   "KEPT",   "PENDING",
                                              "PULLING", "FAILED", "SKIPPED"};
    cleanup_table struct table table = {.columns = COLUMNS};
    const json_t *nodes = json_object_get(keep, "nodes"), *source = json_object_get(keep, "source");
    const json_t *image;
    size_t index;
    char text[600];
    copy_plain(json_member_text(keep, "name"), text, sizeof text);
    printf("%s: %lld of %lld nodes complete\n", text,
           (long long)json_integer_value(json_object_get(nodes, "complete")),
           (long long)json_integer_value(json_object_get(nodes, "eligible")));
    copy_plain(json_member_text(source, "error"), text, sizeof text);
    if (*text)
        printf("%s\n", text);
    table_add(&table, head);
    json_array_foreach (json_object_get(keep, "images"), index, image)
        add_image(&table, image);
    table_print(&table, table_terminal_width(), 0);
    json_array_foreach (json_object_get(keep, "images"), index, image)
        print_failures(image);
    return !table.failed;
}

static bool print_all(const json_t *answer) {
    const json_t *keeps = json_object_get(answer, "keeps"), *keep;
    size_t index;
    bool done = true;
    if (!json_is_array(keeps))
        return print_keep(answer);
    json_array_foreach (keeps, index, keep) {
        if (index)
            puts("");
        done = print_keep(keep) && done;
    }
    return done;
}

static bool ask(const struct keep_status_settings *settings, struct client_response *response,
                struct error *error) {
    cleanup_buffer struct buffer url = {0};
    const char *base = settings->url ? settings->url : DEFAULT_URL;
    size_t length = strlen(base);
    while (length > 0 && base[length - 1] == '/')
        length--;
    buffer_printf(&url, "%.*s/tarn/v1/keeps", (int)length, base);
    if (settings->name) {
        buffer_append_string(&url, "/");
        buffer_append_percent(&url, settings->name, "");
    }
    if (url.failed)
        return error_set(error, ERROR_MEMORY, "out of memory");
    cleanup_client struct client *client = client_new();
    const struct client_request request = {
        .method = "GET", .url = url.bytes, .body_limit = BODY_LIMIT};
    if (!client_request(client, &request, response, error))
        return false;
    if (response->status == 404 && settings->name)
        return error_set(error, ERROR_NOT_FOUND, "%.*s keeps nothing of the name %s", (int)length,
                         base, settings->name);
    return response->status == 200 ||
           error_set(error, ERROR_UNAVAILABLE, "%s: status %d", url.bytes, response->status);
}

int keep_status(const struct keep_status_settings *settings) {
    struct client_response response = {0};
    struct error error = {0};
    bool done = ask(settings, &response, &error);
    if (done && settings->json) {
        done = fwrite(response.body.bytes, 1, response.body.length, stdout) == response.body.length;
    } else if (done) {
        cleanup_json json_t *answer = json_load_own(response.body.bytes, response.body.length);
        done = answer ? print_all(answer)
                      : error_set(&error, ERROR_INVALID, "the response is no JSON");
    }
    done = fflush(stdout) == 0 && done;
    if (error.kind != ERROR_NONE)
        fprintf(stderr, "tarn keep status: %s\n", error.text);
    client_response_wipe(&response);
    return done ? 0 : 1;
}
