/*
 * Drives src/bucket/ from a test:
 *
 *     bucket_driver SETTINGS
 *
 * SETTINGS is an object of JSON with url, endpoint, region, key_id and secret_file. Each line of
 * standard input is a call ({"do": "put", "key": …, "file": …}), and its outcome is printed as a
 * line of JSON. It ends with its input.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/buffer.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "bucket/bucket.h"

enum { LINE_LIMIT = 65536, PARTS = 16 };

/* What one call and its outcome need. */
struct call {
    struct bucket *bucket;
    const json_t *line;
    json_t *result;
    struct bucket_limits limits;
    struct bucket_answer answer;
    struct error error;
    int fd;
    int64_t began_ms;
};

static struct bucket_upload upload;
static struct bucket_part parts[PARTS];

static const char *string_of(const struct call *call, const char *name) {
    return json_string_value(json_object_get(call->line, name));
}

static int64_t number_of(const struct call *call, const char *name, int64_t otherwise) {
    const json_t *number = json_object_get(call->line, name);
    return number ? json_integer_value(number) : otherwise;
}

static void tell(struct call *call, const char *name, json_t *value) {
    json_object_set_new(call->result, name, value);
}

static bool is_true(const struct call *call, const char *name) {
    return json_is_true(json_object_get(call->line, name));
}

/* ---- calls ---- */

static struct client_body body_of(struct call *call) {
    const char *file = string_of(call, "file"), *text = string_of(call, "text");
    struct client_body body = {.bytes = text ? text : "", .length = text ? strlen(text) : 0};
    if (!file)
        return body;
    call->fd = open(file, O_RDONLY | O_CLOEXEC);
    off_t size = lseek(call->fd, 0, SEEK_END);
    return (struct client_body){
        .fd = call->fd,
        .offset = (uint64_t)number_of(call, "offset", 0),
        .length = (uint64_t)number_of(call, "length", size),
    };
}

static bool do_put(struct call *call) {
    const struct bucket_put put = {
        .key = string_of(call, "key"),
        .body = body_of(call),
        .sha256 = string_of(call, "sha256"),
        .content_type = string_of(call, "content_type"),
        .create_only = is_true(call, "create_only"),
    };
    return bucket_put(call->bucket, &put, &call->limits, &call->answer, &call->error);
}

static bool on_head(void *context, const struct bucket_head *head, struct error *error) {
    struct call *call = context;
    (void)error;
    tell(call, "head_ms", json_integer(clock_ms() - call->began_ms));
    tell(call, "head", json_integer(head->status));
    if (head->has_total)
        tell(call, "total", json_integer((json_int_t)head->total));
    return true;
}

static bool on_bytes(void *context, const void *bytes, size_t length, struct error *error) {
    struct call *call = context;
    return file_write_all(call->fd, bytes, length, error);
}

static bool do_get(struct call *call) {
    const struct bucket_range range = {
        .given = json_object_get(call->line, "first") != NULL,
        .first = (uint64_t)number_of(call, "first", 0),
        .last =
            json_object_get(call->line, "last") ? (uint64_t)number_of(call, "last", 0) : UINT64_MAX,
    };
    const struct bucket_sink sink = {call, on_head, on_bytes, NULL};
    call->fd = open(string_of(call, "file"), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    return bucket_get(call->bucket, string_of(call, "key"), &range, &sink, &call->limits,
                      &call->answer, &call->error);
}

static bool do_read(struct call *call) {
    cleanup_buffer struct buffer out = {0};
    bool ok =
        bucket_read(call->bucket, string_of(call, "key"), (size_t)number_of(call, "most", 65536),
                    &out, &call->limits, &call->answer, &call->error);
    tell(call, "text", json_stringn(out.bytes ? out.bytes : "", out.length));
    return ok;
}

static bool do_head(struct call *call) {
    return bucket_head(call->bucket, string_of(call, "key"), &call->limits, &call->answer,
                       &call->error);
}

static bool do_delete(struct call *call) {
    return bucket_delete(call->bucket, string_of(call, "key"), &call->limits, &call->answer,
                         &call->error);
}

static bool do_begin(struct call *call) {
    static char key[BUCKET_KEY_LIMIT + 1];
    snprintf(key, sizeof key, "%s", string_of(call, "key"));
    upload = (struct bucket_upload){.key = key, .create_only = is_true(call, "create_only")};
    bool ok =
        bucket_upload_begin(call->bucket, &upload, &call->limits, &call->answer, &call->error);
    tell(call, "id", json_string(upload.id));
    return ok;
}

static bool do_part(struct call *call) {
    unsigned number = (unsigned)number_of(call, "number", 1);
    const struct client_body body = body_of(call);
    return bucket_upload_part(call->bucket, &upload, number, &body, &parts[number - 1],
                              &call->limits, &call->answer, &call->error);
}

static bool do_complete(struct call *call) {
    return bucket_upload_complete(call->bucket, &upload, parts,
                                  (unsigned)number_of(call, "count", 1), &call->limits,
                                  &call->answer, &call->error);
}

static bool do_abort(struct call *call) {
    const char *id = string_of(call, "id");
    return bucket_upload_abort(call->bucket, string_of(call, "key"), id ? id : upload.id,
                               &call->limits, &call->answer, &call->error);
}

static bool on_entry(void *context, const struct bucket_entry *entry, struct error *error) {
    (void)error;
    return json_array_append_new(context,
                                 json_pack("[s, I, I, s?]", entry->key, (json_int_t)entry->size,
                                           (json_int_t)entry->modified_s, entry->upload_id)) == 0;
}

static bool do_list(struct call *call) {
    json_t *entries = json_array();
    struct bucket_list list = {
        .prefix = string_of(call, "prefix"),
        .start_after = string_of(call, "start_after"),
        .uploads = is_true(call, "uploads"),
        .page = (unsigned)number_of(call, "page", 0),
    };
    bool ok = true;
    while (ok && !list.done)
        ok = bucket_list_page(call->bucket, &list, on_entry, entries, &call->limits, &call->answer,
                              &call->error);
    tell(call, "entries", entries);
    tell(call, "date_s", json_integer(list.date_s));
    bucket_list_finish(&list);
    return ok;
}

static bool do_look(struct call *call) {
    struct bucket_facts facts;
    bucket_look(call->bucket, &facts);
    tell(call, "up", json_boolean(bucket_is_up(call->bucket)));
    tell(call, "region", json_string(facts.region));
    tell(call, "lists_forbidden", json_boolean(facts.lists_forbidden));
    return true;
}

/* ---- one line ---- */

static const struct {
    const char *name;
    bool (*run)(struct call *call);
} calls[] = {{"put", do_put},   {"get", do_get},           {"read", do_read},
             {"head", do_head}, {"delete", do_delete},     {"begin", do_begin},
             {"part", do_part}, {"complete", do_complete}, {"abort", do_abort},
             {"list", do_list}, {"look", do_look}};

static const char *const outcomes[] = {
    [BUCKET_DONE] = "done",       [BUCKET_ABSENT] = "absent",
    [BUCKET_PRESENT] = "present", [BUCKET_NO_UPLOAD] = "no upload",
    [BUCKET_OUTSIDE] = "outside", [BUCKET_FORBIDDEN] = "forbidden",
    [BUCKET_REFUSED] = "refused", [BUCKET_UNSIGNED] = "unsigned",
    [BUCKET_BUSY] = "busy",       [BUCKET_UNREACHABLE] = "unreachable",
    [BUCKET_CUT] = "cut",         [BUCKET_DOWN] = "down",
    [BUCKET_STOPPED] = "stopped",
};

static void print(const json_t *json) {
    cleanup_buffer struct buffer out = {0};
    bounded_json_dump(json, JSON_COMPACT, &out);
    puts(out.bytes);
    fflush(stdout);
}

static void run_line(struct bucket *bucket, const json_t *line) {
    struct call call = {.bucket = bucket, .line = line, .result = json_object(), .fd = -1};
    const char *name = string_of(&call, "do");
    int64_t wait = number_of(&call, "within_ms", 0);
    call.began_ms = clock_ms();
    call.limits.deadline_ms = wait ? call.began_ms + wait : 0;
    call.limits.tries = (unsigned)number_of(&call, "tries", 0);
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        if (strcmp(calls[i].name, name) == 0)
            tell(&call, "ok", json_boolean(calls[i].run(&call)));
    }
    tell(&call, "ms", json_integer(clock_ms() - call.began_ms));
    tell(&call, "outcome", json_string(outcomes[call.answer.outcome]));
    tell(&call, "status", json_integer(call.answer.status));
    tell(&call, "code", json_string(call.answer.code));
    tell(&call, "size", json_integer((json_int_t)call.answer.length));
    tell(&call, "modified_s", json_integer(call.answer.modified_s));
    tell(&call, "error", json_string(call.error.text));
    print(call.result);
    json_decref(call.result);
    if (call.fd >= 0)
        close(call.fd);
}

static bool read_settings(const json_t *json, struct bucket_settings *settings) {
    struct error error = {0};
    const char *key = "url";
    const char *url = json_string_value(json_object_get(json, "url"));
    *settings = bucket_settings_default();
    settings->endpoint = json_string_value(json_object_get(json, "endpoint"));
    settings->region = json_string_value(json_object_get(json, "region"));
    settings->key_id = json_string_value(json_object_get(json, "key_id"));
    settings->secret_file = json_string_value(json_object_get(json, "secret_file"));
    if (settings->key_id)
        settings->credentials = BUCKET_CREDENTIALS_KEY;
    if (bucket_address_parse(url ? url : "", &settings->address, &error) &&
        bucket_settings_check(settings, &key, &error))
        return true;
    fprintf(stderr, "%s: %s\n", key, error.text);
    return false;
}

int main(int argc, char **argv) {
    static char line[LINE_LIMIT];
    struct bucket_settings settings;
    cleanup_json json_t *json = argc == 2 ? json_load_own(argv[1], strlen(argv[1])) : NULL;
    if (!json || !read_settings(json, &settings))
        return 2;
    cleanup_client struct client *client = client_new();
    cleanup_bucket struct bucket *bucket = bucket_new(&settings, client);
    if (!bucket)
        return 1;
    while (fgets(line, sizeof line, stdin)) {
        cleanup_json json_t *call = json_load_own(line, strlen(line));
        if (call)
            run_line(bucket, call);
    }
    return 0;
}
