/* What services and programs send: credentials, or a refusal. */
#include "auth/aws/reply.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "auth/aws/finding.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/secret.h"
#include "base/xml.h"

/* ---- what both forms have ---- */

struct parts {
    struct text key_id, secret, token, expiration;
};

static bool set_end(struct aws_credentials *credentials, struct text expiration, int64_t date_s,
                    struct error *error) {
    char text[40];
    int64_t end_s;
    if (!expiration.length)
        return true;
    if (!text_copy(expiration, text, sizeof text) || !clock_parse_rfc3339(text, &end_s))
        return error_set(error, ERROR_INVALID, "Expiration is no time");
    int64_t life_s = end_s - (date_s > 0 ? date_s : clock_wall_s());
    if (life_s <= 0)
        return error_set(error, ERROR_DENIED, "its credentials have ended at %s", text);
    credentials->expires_ms = clock_ms() + life_s * 1000;
    return true;
}

static bool take(const struct parts *parts, int64_t date_s, struct aws_credentials *out,
                 struct error *error) {
    if (!aws_credentials_fill(out, parts->key_id, parts->secret, parts->token, error))
        return false;
    if (set_end(out, parts->expiration, date_s, error))
        return true;
    aws_credentials_wipe(out);
    return false;
}

/* Copies what is printable, in ASCII, as far as there is space. */
static void copy_printable(struct text text, char *out, size_t size) {
    size_t length = 0;
    for (size_t i = 0; i < text.length && length < size - 1; i++) {
        char c = text.at[i];
        if (c > ' ' && c < 0x7f)
            out[length++] = c;
        else if (length && out[length - 1] != ' ')
            out[length++] = ' ';
    }
    while (length && out[length - 1] == ' ')
        length--;
    out[length] = '\0';
}

/* ---- JSON ---- */

static const char *string_in(const json_t *json, const char *name, const char *other) {
    const char *value = json_string_value(json_object_get(json, name));
    return value ? value : json_string_value(json_object_get(json, other));
}

/* A member that is absent or null is empty. */
static bool read_member(const json_t *json, const char *name, struct text *out,
                        struct error *error) {
    const json_t *value = json_object_get(json, name);
    *out = (struct text){"", 0};
    if (!value || json_is_null(value))
        return true;
    if (!json_is_string(value))
        return error_set(error, ERROR_INVALID, "%s is no string", name);
    *out = (struct text){json_string_value(value), json_string_length(value)};
    return true;
}

static bool says_success(const json_t *json, const struct aws_reply_members *members,
                         struct error *error) {
    const char *code = json_string_value(json_object_get(json, "Code"));
    const json_t *version = json_object_get(json, "Version");
    char shown[64], message[200];
    if (members->wants_version1 && json_integer_value(version) != 1)
        return error_set(error, ERROR_UNSUPPORTED, "Version is not 1");
    if (!members->wants_success || !code || strcmp(code, "Success") == 0)
        return true;
    const char *why = string_in(json, "Message", "message");
    copy_printable(text_of(code), shown, sizeof shown);
    copy_printable(text_of(why ? why : ""), message, sizeof message);
    return error_set(error, ERROR_DENIED, "it failed with %s%s%s", shown, *message ? ": " : "",
                     message);
}

bool aws_reply_json(struct text body, const struct aws_reply_members *members, int64_t date_s,
                    struct aws_credentials *out, struct error *error) {
    struct parts parts;
    struct error reason = {0};
    cleanup_secret_json json_t *json = bounded_json_load(body.at, body.length, &reason);
    *out = (struct aws_credentials){0};
    if (!json_is_object(json))
        return reason.kind == ERROR_MEMORY
                   ? error_set(error, ERROR_MEMORY, "out of memory")
                   : error_set(error, ERROR_INVALID, "what came is no object in JSON");
    return says_success(json, members, error) &&
           read_member(json, "AccessKeyId", &parts.key_id, error) &&
           read_member(json, "SecretAccessKey", &parts.secret, error) &&
           read_member(json, members->token, &parts.token, error) &&
           read_member(json, "Expiration", &parts.expiration, error) &&
           take(&parts, date_s, out, error);
}

/* ---- XML ---- */

struct found {
    char *key_id, *secret, *token; /* owned */
    char expiration[40];
    struct aws_reply_refusal *refusal; /* NULL: not wanted */
};

static void found_wipe(struct found *found) {
    secret_free(&found->key_id);
    secret_free(&found->secret);
    secret_free(&found->token);
}

#define cleanup_found __attribute__((cleanup(found_wipe)))

static struct text without_white_space(struct text text) {
    while (text.length && isspace((unsigned char)text.at[text.length - 1]))
        text.length--;
    while (text.length && isspace((unsigned char)*text.at))
        text = text_from(text, 1);
    return text;
}

static bool on_end(void *context, const char *path, struct text text, struct error *error) {
    struct found *found = context;
    const struct {
        const char *suffix;
        char **value;
    } secrets[] = {{"Credentials/AccessKeyId", &found->key_id},
                   {"Credentials/SecretAccessKey", &found->secret},
                   {"Credentials/SessionToken", &found->token}};
    text = without_white_space(text);
    for (size_t i = 0; i < sizeof secrets / sizeof *secrets; i++) {
        if (!text_ends(text_of(path), secrets[i].suffix))
            continue;
        secret_free(secrets[i].value);
        *secrets[i].value = text_dup(text);
        return *secrets[i].value || error_set(error, ERROR_MEMORY, "out of memory");
    }
    if (text_ends(text_of(path), "Credentials/Expiration"))
        return text_copy(text, found->expiration, sizeof found->expiration) ||
               error_set(error, ERROR_INVALID, "Expiration is no time");
    if (found->refusal && text_ends(text_of(path), "Error/Code"))
        copy_printable(text, found->refusal->code, sizeof found->refusal->code);
    if (found->refusal && text_ends(text_of(path), "Error/Message"))
        copy_printable(text, found->refusal->message, sizeof found->refusal->message);
    return true;
}

bool aws_reply_xml(struct text body, int64_t date_s, struct aws_credentials *out,
                   struct error *error) {
    cleanup_found struct found found = {0};
    const struct xml_sink sink = {.context = &found, .on_end = on_end};
    *out = (struct aws_credentials){0};
    if (!xml_walk(body.at, body.length, &sink, error))
        return false;
    const struct parts parts = {text_of(found.key_id), text_of(found.secret), text_of(found.token),
                                text_of(found.expiration)};
    return take(&parts, date_s, out, error);
}

/* ---- a refusal ---- */

void aws_reply_refusal(struct text body, struct aws_reply_refusal *out) {
    cleanup_secret_json json_t *json = bounded_json_load(body.at, body.length, NULL);
    *out = (struct aws_reply_refusal){0};
    if (json_is_object(json)) {
        const char *code = string_in(json, "code", "Code");
        const char *message = string_in(json, "message", "Message");
        copy_printable(text_of(code ? code : ""), out->code, sizeof out->code);
        copy_printable(text_of(message ? message : ""), out->message, sizeof out->message);
        return;
    }
    cleanup_found struct found found = {.refusal = out};
    const struct xml_sink sink = {.context = &found, .on_end = on_end};
    xml_walk(body.at, body.length, &sink, NULL);
}
