/*
 * Drives src/auth/aws/ from a test:
 *
 *     aws_driver SETTINGS
 *
 * SETTINGS is an object in JSON with the members of struct aws_settings. Each line of standard
 * input is an object whose member `do` says what to do: get, gets (from several threads at once),
 * renew, look, sign or presign. Each but renew is answered by a line of JSON.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "auth/aws/aws.h"
#include "auth/aws/sigv4.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"

enum { LINE_SIZE = 1 << 16, PAIRS = 32, THREADS = 64 };

/* Prints an object as one line, and frees it. */
static void print(json_t *json) {
    cleanup_buffer struct buffer out = {0};
    bounded_json_dump(json, JSON_COMPACT, &out);
    json_decref(json);
    puts(out.bytes);
    fflush(stdout);
}

static const char *string_in(const json_t *json, const char *name) {
    return json_string_value(json_object_get(json, name));
}

static json_int_t number_in(const json_t *json, const char *name) {
    return json_integer_value(json_object_get(json, name));
}

/* ---- credentials ---- */

static json_t *get(struct aws_source *source, int64_t wait_ms) {
    cleanup_aws_credentials struct aws_credentials credentials = {0};
    struct error error = {0};
    int64_t began_ms = clock_ms();
    if (!aws_source_get(source, began_ms + wait_ms, NULL, &credentials, &error))
        return json_pack("{s:s, s:s, s:I}", "error", error.text, "kind",
                         error_kind_name(error.kind), "ms", (json_int_t)(clock_ms() - began_ms));
    return json_pack("{s:s, s:s, s:s?, s:I, s:I, s:I}", "key_id", credentials.key_id, "secret",
                     credentials.secret, "token", credentials.session_token, "number",
                     (json_int_t)credentials.number, "lives_ms",
                     (json_int_t)(credentials.expires_ms == INT64_MAX
                                      ? -1
                                      : credentials.expires_ms - clock_ms()),
                     "ms", (json_int_t)(clock_ms() - began_ms));
}

struct asker {
    struct aws_source *source;
    json_t *answer;
    pthread_t thread;
};

static void *ask(void *context) {
    struct asker *asker = context;
    asker->answer = get(asker->source, 20000);
    return NULL;
}

static void get_at_once(struct aws_source *source, size_t count) {
    struct asker askers[THREADS];
    json_t *all = json_array();
    if (count > THREADS)
        exit(2);
    for (size_t i = 0; i < count; i++) {
        askers[i].source = source;
        if (pthread_create(&askers[i].thread, NULL, ask, &askers[i]) != 0)
            exit(1);
    }
    for (size_t i = 0; i < count; i++) {
        pthread_join(askers[i].thread, NULL);
        json_array_append_new(all, askers[i].answer);
    }
    print(json_pack("{s:o}", "all", all));
}

static void look(struct aws_source *source, const struct aws_settings *settings) {
    char from[AWS_DESCRIPTION_SIZE], region[AWS_REGION_SIZE];
    print(json_pack("{s:s, s:s, s:b}", "from", aws_source_describe(source, from), "region",
                    aws_source_region(source, region), "may_run", aws_settings_may_run(settings)));
}

/* ---- signatures ---- */

static size_t pairs_in(const json_t *json, const char *name, struct sigv4_pair pairs[PAIRS]) {
    const json_t *list = json_object_get(json, name);
    size_t count = json_array_size(list);
    for (size_t i = 0; i < count && i < PAIRS; i++) {
        const json_t *pair = json_array_get(list, i);
        pairs[i] = (struct sigv4_pair){json_string_value(json_array_get(pair, 0)),
                                       json_string_value(json_array_get(pair, 1))};
    }
    return count;
}

static void sign(const json_t *line) {
    struct sigv4_pair query[PAIRS], headers[PAIRS];
    struct error error = {0};
    cleanup_sigv4_fields struct sigv4_fields fields = {0};
    cleanup_buffer struct buffer target = {0};
    const struct sigv4_request request = {
        .method = string_in(line, "method"),
        .host = string_in(line, "host"),
        .path = string_in(line, "path"),
        .query = query,
        .query_count = pairs_in(line, "query", query),
        .headers = headers,
        .header_count = pairs_in(line, "headers", headers),
        .payload_hash = string_in(line, "payload"),
        .region = string_in(line, "region"),
        .service = string_in(line, "service"),
        .key_id = string_in(line, "key_id"),
        .secret = string_in(line, "secret"),
        .session_token = string_in(line, "token"),
        .time_s = number_in(line, "time"),
    };
    bool presigns = strcmp(string_in(line, "do"), "presign") == 0;
    bool ok =
        presigns ? sigv4_presign(&request, (unsigned)number_in(line, "expires"), &target, &error)
                 : sigv4_sign(&request, &fields, &error) && sigv4_target(&request, &target, &error);
    if (!ok) {
        print(json_pack("{s:s}", "error", error.text));
        return;
    }
    json_t *lines = json_array();
    for (size_t i = 0; fields.lines[i]; i++)
        json_array_append_new(lines, json_string(fields.lines[i]));
    print(json_pack("{s:s, s:o}", "target", target.bytes, "lines", lines));
}

/* ---- lines ---- */

static void obey(struct aws_source *source, const struct aws_settings *settings,
                 const json_t *line) {
    const char *what = string_in(line, "do");
    if (strcmp(what, "get") == 0)
        print(get(source, number_in(line, "ms")));
    else if (strcmp(what, "gets") == 0)
        get_at_once(source, (size_t)number_in(line, "count"));
    else if (strcmp(what, "look") == 0)
        look(source, settings);
    else if (strcmp(what, "renew") == 0)
        aws_source_renew(source, (unsigned)number_in(line, "number"));
    else
        sign(line);
}

int main(int count, char **arguments) {
    if (count != 2)
        return 2;
    log_configure(LOG_DEBUG, LOG_TEXT);
    cleanup_json json_t *given = bounded_json_load(arguments[1], strlen(arguments[1]), NULL);
    if (!given)
        return 2;
    const struct aws_settings settings = {.key_id = string_in(given, "key_id"),
                                          .secret_file = string_in(given, "secret_file"),
                                          .profile = string_in(given, "profile"),
                                          .file = string_in(given, "file"),
                                          .region = string_in(given, "region")};
    cleanup_client struct client *client = client_new();
    struct aws_source *source = aws_source_new(&settings, client);
    static char line[LINE_SIZE];
    while (source && fgets(line, sizeof line, stdin)) {
        cleanup_json json_t *json = bounded_json_load(line, strlen(line), NULL);
        if (!json)
            return 2;
        obey(source, &settings, json);
    }
    aws_source_free(source);
    return 0;
}
