/* The order in which the sources are looked at, and the sources that need no request. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "auth/aws/sources.h"
#include "auth/shown.h"
#include "base/file.h"
#include "base/secret.h"

enum { SECRET_FILE_LIMIT = 4096 };

/* ---- what all sources need ---- */

void aws_credentials_wipe(struct aws_credentials *credentials) {
    secret_free(&credentials->key_id);
    secret_free(&credentials->secret);
    secret_free(&credentials->session_token);
    *credentials = (struct aws_credentials){0};
}

/* Nothing that ends a header field, or that a service trims or folds. */
static bool is_printable(struct text text) {
    for (size_t i = 0; i < text.length; i++) {
        if (text.at[i] <= ' ' || text.at[i] >= 0x7f)
            return false;
    }
    return true;
}

bool aws_credentials_fill(struct aws_credentials *out, struct text key_id, struct text secret,
                          struct text token, struct error *error) {
    const struct {
        struct text text;
        const char *name;
        bool optional;
    } parts[] = {
        {key_id, "key id", false}, {secret, "secret key", false}, {token, "session token", true}};
    *out = (struct aws_credentials){.expires_ms = INT64_MAX};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (!parts[i].text.length && !parts[i].optional)
            return error_set(error, ERROR_INVALID, "there is no %s", parts[i].name);
        if (!is_printable(parts[i].text))
            return error_set(error, ERROR_INVALID,
                             "the %s has a blank or another character that no key has",
                             parts[i].name);
    }
    /* A key id has no other characters, and it stands between slashes and commas. */
    if (memchr(key_id.at, '/', key_id.length) || memchr(key_id.at, ',', key_id.length))
        return error_set(error, ERROR_INVALID, "the key id has a slash or a comma");
    out->key_id = text_dup(key_id);
    out->secret = text_dup(secret);
    out->session_token = token.length ? text_dup(token) : NULL;
    if (out->key_id && out->secret && (out->session_token || !token.length))
        return true;
    aws_credentials_wipe(out);
    return error_set(error, ERROR_MEMORY, "out of memory");
}

const char *aws_variable(const char *name) {
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

bool aws_region_ok(struct text region) {
    if (region.length == 0 || region.length >= AWS_REGION_SIZE || region.at[0] == '-')
        return false;
    for (size_t i = 0; i < region.length; i++) {
        unsigned char c = (unsigned char)region.at[i];
        if (!islower(c) && !isdigit(c) && c != '-')
            return false;
    }
    return true;
}

const char *aws_region_known(const struct aws_settings *settings,
                             char out[static AWS_REGION_SIZE]) {
    const char *const places[] = {settings->region, aws_variable("AWS_REGION"),
                                  aws_variable("AWS_DEFAULT_REGION")};
    *out = '\0';
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        if (places[i] && aws_region_ok(text_of(places[i]))) {
            text_copy(text_of(places[i]), out, AWS_REGION_SIZE);
            break;
        }
    }
    return out;
}

/* ---- the settings' own key ---- */

static enum aws_finding from_settings(const struct aws_question *question, struct aws_answer *out,
                                      struct error *error) {
    const struct aws_settings *settings = question->settings;
    if (settings->secret) {
        snprintf(out->from, sizeof out->from, "configuration");
        bool fits = aws_credentials_fill(&out->credentials, text_of(settings->key_id),
                                         text_of(settings->secret), (struct text){"", 0}, error);
        return fits ? AWS_FOUND : AWS_BROKEN;
    }
    const char *path = settings->secret_file ? settings->secret_file : "";
    snprintf(out->from, sizeof out->from, "secret_file %.300s", shown_value(path));
    cleanup_secret char *bytes =
        file_read_small(path, SECRET_FILE_LIMIT, FILE_REGULAR | FILE_TEXT, NULL, NULL, error);
    if (!bytes)
        return AWS_BROKEN;
    struct text secret = text_of(bytes);
    while (secret.length && isspace((unsigned char)secret.at[secret.length - 1]))
        secret.length--;
    while (secret.length && isspace((unsigned char)*secret.at))
        secret = text_from(secret, 1);
    bool ok = aws_credentials_fill(&out->credentials, text_of(settings->key_id), secret,
                                   (struct text){"", 0}, error);
    return ok ? AWS_FOUND : AWS_BROKEN;
}

/* ---- the environment ---- */

enum aws_finding aws_environment_look(const struct aws_question *question, struct aws_answer *out,
                                      struct error *error) {
    const char *key_id = aws_variable("AWS_ACCESS_KEY_ID");
    const char *secret = aws_variable("AWS_SECRET_ACCESS_KEY");
    const char *token = aws_variable("AWS_SESSION_TOKEN");
    (void)question;
    if (!key_id && !secret)
        return AWS_ABSENT;
    snprintf(out->from, sizeof out->from, "environment");
    if (!key_id || !secret) {
        error_set(error, ERROR_INVALID, "%s is set, but %s is not",
                  key_id ? "AWS_ACCESS_KEY_ID" : "AWS_SECRET_ACCESS_KEY",
                  key_id ? "AWS_SECRET_ACCESS_KEY" : "AWS_ACCESS_KEY_ID");
        return AWS_BROKEN;
    }
    bool ok = aws_credentials_fill(&out->credentials, text_of(key_id), text_of(secret),
                                   text_of(token ? token : ""), error);
    return ok ? AWS_FOUND : AWS_BROKEN;
}

/* ---- the order ---- */

typedef enum aws_finding look(const struct aws_question *question, struct aws_answer *out,
                              struct error *error);

static enum aws_finding look_around(const struct aws_question *question, struct aws_answer *out,
                                    struct error *error) {
    static look *const sources[] = {aws_environment_look, aws_web_identity_look, aws_shared_look,
                                    aws_container_look, aws_instance_look};
    const struct aws_settings *settings = question->settings;
    enum aws_finding finding = AWS_ABSENT;
    if (settings->key_id)
        return from_settings(question, out, error);
    if (settings->profile || settings->file)
        return aws_shared_look(question, out, error);
    for (size_t i = 0; finding == AWS_ABSENT && i < sizeof sources / sizeof *sources; i++) {
        *out->from = '\0';
        finding = sources[i](question, out, error);
    }
    return finding;
}

bool aws_search(const struct aws_question *question, struct aws_answer *out, struct error *error) {
    struct error reason = {0};
    *out = (struct aws_answer){0};
    enum aws_finding finding = look_around(question, out, &reason);
    if (finding == AWS_FOUND)
        return true;
    aws_credentials_wipe(&out->credentials);
    if (!cancel_check(question->cancel, error))
        return false;
    if (finding == AWS_BROKEN)
        error_wrap(&reason, "aws credentials: %s", out->from);
    else
        error_set(&reason, ERROR_UNAVAILABLE,
                  "aws credentials: there are none in environment, web identity, shared files, "
                  "container and instance%s%s%s",
                  *out->from ? " (" : "", out->from, *out->from ? " does not respond)" : "");
    /* Whatever the reason, to a caller that waits for credentials the source is unavailable. */
    if (reason.kind != ERROR_MEMORY)
        reason.kind = ERROR_UNAVAILABLE;
    *out->from = finding == AWS_BROKEN ? *out->from : '\0';
    if (error)
        *error = reason;
    return false;
}

bool aws_settings_may_run(const struct aws_settings *settings) {
    bool comes_first =
        !settings->profile && !settings->file &&
        (aws_variable("AWS_ACCESS_KEY_ID") || aws_variable("AWS_SECRET_ACCESS_KEY") ||
         aws_variable("AWS_WEB_IDENTITY_TOKEN_FILE"));
    return !settings->key_id && !comes_first && aws_shared_may_run(settings);
}
