/* tarn whoami: shows which Google credentials are used, why, and whether a registry accepts them.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "auth/google/google.h"
#include "base/base64.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/secret.h"
#include "base/units.h"
#include "client/origin.h"
#include "client/request.h"
#include "cmd/arguments.h"
#include "cmd/commands.h"
#include "cmd/standard_streams.h"

/* All that is printed. */
struct report {
    struct google_token token;
    struct google_trail trail;
    struct error failure; /* kind NONE: there is none */
    const char *host;     /* NULL: none was given */
    bool accepted;
    char words[400]; /* what the registry said, or why it could not be asked */
};

/* ---- asking the registry ---- */

/*
 * A Google token is sent to Google's registries only, and (over http) to this machine, where tests
 * and tunnels are. True with the base URL of the registry.
 */
static bool registry_url(const char *host, char *out, size_t size) {
    char name[256], url[320];
    struct origin origin;
    if (!google_host_of(text_of(host), name, sizeof name))
        return false;
    if (google_host_is_registry(text_of(name)))
        return snprintf(out, size, "https://%s/v2/", name) < (int)size;
    snprintf(url, sizeof url, "http://%s/v2/", name);
    if (!origin_parse(url, &origin) ||
        (strcmp(origin.host, "127.0.0.1") != 0 && strcmp(origin.host, "::1") != 0 &&
         strcmp(origin.host, "localhost") != 0))
        return false;
    return snprintf(out, size, "%s", url) < (int)size;
}

/* The first message of an OCI error body. */
static void read_words(const struct client_response *response, char *out, size_t size) {
    cleanup_json json_t *json =
        bounded_json_load(response->body.bytes, response->body.length, NULL);
    const json_t *first = json_array_get(json_object_get(json, "errors"), 0);
    const char *message = json_string_value(json_object_get(first, "message"));
    snprintf(out, size, "status %d%s%.300s", response->status, message ? ": " : "",
             message ? message : "");
    for (char *c = out; *c; c++)
        *c = (unsigned char)*c < ' ' || *c == 0x7f ? ' ' : *c;
}

static void ask_registry(struct client *client, struct report *report) {
    cleanup_secret_buffer struct buffer pair = {0}, header = {0};
    char url[320];
    if (!registry_url(report->host, url, sizeof url)) {
        snprintf(report->words, sizeof report->words,
                 "is not a registry of Google: the token is not sent there");
        return;
    }
    buffer_printf(&pair, GOOGLE_USERNAME ":%s", report->token.secret);
    cleanup_secret char *encoded = pair.failed ? NULL : base64_encode(pair.bytes, pair.length);
    if (!encoded || !buffer_printf(&header, "Authorization: Basic %s", encoded)) {
        snprintf(report->words, sizeof report->words, "out of memory");
        return;
    }
    const char *headers[] = {header.bytes, NULL};
    struct client_request request = {.method = "GET", .url = url, .headers = headers};
    struct client_response response = {0};
    struct error error = {0};
    if (!client_request(client, &request, &response, &error)) {
        snprintf(report->words, sizeof report->words, "%.390s", error.text);
    } else {
        report->accepted = response.status == 200;
        read_words(&response, report->words, sizeof report->words);
    }
    client_response_wipe(&response);
}

/* ---- printing ---- */

static void format_end(const struct google_token *token, char *out, size_t size) {
    time_t end = (time_t)(clock_wall_s() + (token->expires_ms - clock_ms()) / 1000);
    struct tm tm;
    gmtime_r(&end, &tm);
    strftime(out, size, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

static void append_member(struct buffer *out, const char *name, const char *value) {
    buffer_printf(out, "%s\"%s\":\"", out->bytes[out->length - 1] == '{' ? "" : ",", name);
    buffer_append_json(out, text_of(value));
    buffer_append_string(out, "\"");
}

static void write_json(const struct report *report, struct buffer *out) {
    const struct google_token *token = &report->token;
    char end[32];
    buffer_append_string(out, "{");
    if (token->secret) {
        format_end(token, end, sizeof end);
        append_member(out, "source", token->kind);
        append_member(out, "from", token->from);
        append_member(out, "account", token->account);
        append_member(out, "expires", end);
        buffer_printf(out, ",\"expires_in\":%lld",
                      (long long)((token->expires_ms - clock_ms()) / 1000));
    } else {
        buffer_append_string(out, "\"source\":null");
    }
    if (report->failure.kind != ERROR_NONE)
        append_member(out, "error", report->failure.text);
    buffer_append_string(out, ",\"looked_at\":[");
    for (unsigned i = 0; i < report->trail.count; i++) {
        buffer_append_string(out, i ? ",{" : "{");
        append_member(out, "place", report->trail.steps[i].place);
        append_member(out, "finding", report->trail.steps[i].finding);
        buffer_append_string(out, "}");
    }
    buffer_append_string(out, "]");
    if (report->host && token->secret) {
        buffer_append_string(out, ",\"registry\":{");
        append_member(out, "host", report->host);
        buffer_printf(out, ",\"accepted\":%s", report->accepted ? "true" : "false");
        append_member(out, "message", report->words);
        buffer_append_string(out, "}");
    }
    buffer_append_string(out, "}\n");
}

static void write_text(const struct report *report, struct buffer *out) {
    const struct google_token *token = &report->token;
    if (token->secret) {
        char end[32], left[40];
        format_end(token, end, sizeof end);
        units_format_duration((token->expires_ms - clock_ms()) / 1000 * 1000, left, sizeof left);
        buffer_printf(out, "source:    %s (%s)\n", token->kind, token->from);
        buffer_printf(out, "account:   %s\n", token->account[0] ? token->account : "not known");
        buffer_printf(out, "expires:   %s (in %s)\n", end, left);
    } else if (report->failure.kind != ERROR_NONE) {
        buffer_printf(out, "source:    broken: %s\n", report->failure.text);
    } else {
        buffer_append_string(out, "source:    none: registries are used anonymously. Set "
                                  "GOOGLE_APPLICATION_CREDENTIALS to a credential file, or run\n"
                                  "           gcloud auth application-default login\n");
    }
    for (unsigned i = 0; i < report->trail.count; i++)
        buffer_printf(out, "%s%s: %s\n",
                      i ? "           " : "looked at: ", report->trail.steps[i].place,
                      report->trail.steps[i].finding);
    if (report->host && token->secret)
        buffer_printf(out, "registry:  %s %s (%s)\n", report->host,
                      report->accepted ? "accepts it" : "does not accept it", report->words);
}

static int print_report(struct report *report, bool json) {
    cleanup_buffer struct buffer out = {0};
    cleanup_client struct client *client = client_new();
    struct google_question question = {.client = client, .account = true, .trail = &report->trail};
    bool ok = google_token_fetch(&question, &report->token, &report->failure);
    bool has_token = ok && report->token.secret;
    if (has_token && report->host)
        ask_registry(client, report);
    if (json)
        write_json(report, &out);
    else
        write_text(report, &out);
    google_token_wipe(&report->token);
    if (!standard_output_write(&out))
        return 1;
    return has_token && (!report->host || report->accepted) ? 0 : 1;
}

static int run(const struct arguments *arguments) {
    struct report report = {
        .host = arguments->operand_count ? arguments->operands[0] : NULL,
    };
    secret_forbid_core_dumps();
    return print_report(&report, arguments_flag(arguments, "json"));
}

static const struct command_option options[] = {
    {"json", OPTION_FLAG, NULL, "print JSON"},
};

const struct command whoami_command = {
    .name = "whoami",
    .arguments = "[HOST]",
    .most = 1,
    .summary = "show which Google credentials are used, and why",
    .text =
        "Prints the source of the credentials, their account, when they expire, and where tarn\n"
        "looked before it found them. With HOST it also prints whether that registry accepts\n"
        "them. Exit 1 when there are no credentials, or HOST does not accept them.\n",
    COMMAND_OPTIONS(options),
    .run = run,
};
