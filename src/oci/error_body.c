/* The error body of distribution-spec: writing it, and reading what upstreams send in its place. */
#include "oci/error_body.h"

#include <stdlib.h>
#include "base/cleanup.h"
#include "base/json.h"

enum { BODY_LIMIT = 64 * 1024 }; /* bytes; a longer body is no error body */

bool error_body_write(struct buffer *out, const char *code, const char *message, const char *id) {
    buffer_append_string(out, "{\"errors\":[{\"code\":\"");
    buffer_append_json(out, text_of(code));
    buffer_append_string(out, "\",\"message\":\"");
    buffer_append_json(out, text_of(message));
    if (id) {
        buffer_append_string(out, " (request ");
        buffer_append_json(out, text_of(id));
        buffer_append_string(out, ")\",\"detail\":{\"request_id\":\"");
        buffer_append_json(out, text_of(id));
        buffer_append_string(out, "\"}");
    } else {
        buffer_append_string(out, "\"");
    }
    return buffer_append_string(out, "}]}\n");
}

static bool is_code_byte(char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.';
}

/* A code with any other character is ignored, because codes are written into headers and logs. */
static void copy_code(const json_t *value, char *out, size_t size) {
    struct text code = {json_string_value(value), json_string_length(value)};
    for (size_t i = 0; i < code.length; i++) {
        if (!is_code_byte(code.at[i]))
            return;
    }
    text_copy(code, out, size);
}

/* Copies as many whole characters as fit, with C0 and C1 control characters replaced by spaces. The
 * bytes are UTF-8, because jansson has checked them. */
static void copy_message(const json_t *value, char *out, size_t size) {
    const unsigned char *from = (const unsigned char *)json_string_value(value);
    size_t left = json_string_length(value), length = 0;
    while (left) {
        size_t bytes = *from < 0x80 ? 1 : *from < 0xe0 ? 2 : *from < 0xf0 ? 3 : 4;
        bool control = *from < 0x20 || *from == 0x7f || (*from == 0xc2 && from[1] < 0xa0);
        size_t written = control ? 1 : bytes;
        if (length + written >= size)
            break;
        if (control)
            out[length] = ' ';
        else
            memcpy(out + length, from, bytes);
        length += written;
        from += bytes;
        left -= bytes;
    }
    out[length] = '\0';
}

static bool has_content(const json_t *value) {
    return json_string_length(value) > 0;
}

/* Where the code and the message are written. */
struct texts {
    char *code, *message;
    size_t code_size, message_size;
};

/* Fills code and message from the first of these members that is a string and not empty. */
static bool read_members(const json_t *object, const char *const code_names[],
                         const char *const message_names[], const struct texts *texts) {
    for (; *code_names && !*texts->code; code_names++) {
        const json_t *value = json_object_get(object, *code_names);
        if (has_content(value))
            copy_code(value, texts->code, texts->code_size);
    }
    for (; *message_names && !*texts->message; message_names++) {
        const json_t *value = json_object_get(object, *message_names);
        if (has_content(value))
            copy_message(value, texts->message, texts->message_size);
    }
    return *texts->code || *texts->message;
}

/* Reads a body that should be JSON in UTF-8. If it has another encoding, bytes that are not ASCII
 * are replaced by `?`, so that the rest of the message can be read. */
static json_t *load(const void *bytes, size_t length) {
    json_t *json = bounded_json_load(bytes, length, NULL);
    cleanup_free char *ascii = NULL;
    if (json || !(ascii = malloc(length)))
        return json;
    bool changed = false;
    for (size_t i = 0; i < length; i++) {
        ascii[i] = ((const char *)bytes)[i];
        if ((unsigned char)ascii[i] >= 0x80) {
            ascii[i] = '?';
            changed = true;
        }
    }
    return changed ? bounded_json_load(ascii, length, NULL) : NULL;
}

/*
 * Registries use distribution-spec's form. Other servers use other forms: token services that of
 * RFC 6749 §5.2, Google's front ends {"error":{"status":…,"message":…}}, Docker Hub {"details":…}
 * or {"message":…}.
 */
bool error_body_read(const void *bytes, size_t length, char *code, size_t code_size, char *message,
                     size_t message_size) {
    static const char *const spec_code[] = {"code", NULL}, *const spec_message[] = {"message",
                                                                                    NULL};
    static const char *const google_code[] = {"status", NULL};
    static const char *const plain_code[] = {"error", NULL};
    static const char *const plain_message[] = {"error_description", "message", "details", NULL};
    const struct texts texts = {code, message, code_size, message_size};
    code[0] = message[0] = '\0';
    if (length == 0 || length > BODY_LIMIT)
        return false;
    cleanup_json json_t *body = load(bytes, length);
    const json_t *first = json_array_get(json_object_get(body, "errors"), 0);
    const json_t *inner = json_object_get(body, "error");
    return read_members(first, spec_code, spec_message, &texts) ||
           read_members(inner, google_code, spec_message, &texts) ||
           read_members(body, plain_code, plain_message, &texts);
}

bool error_body_is_registrys(const void *bytes, size_t length) {
    if (length == 0 || length > BODY_LIMIT)
        return false;
    cleanup_json json_t *body = load(bytes, length);
    const json_t *first = json_array_get(json_object_get(body, "errors"), 0);
    return has_content(json_object_get(first, "code"));
}

void error_body_of_status(int status, const char *why, const char *id, char *out, size_t size) {
    const char *code = status == 503   ? "UNAVAILABLE"
                       : status == 429 ? "TOOMANYREQUESTS"
                                       : "UNSUPPORTED";
    snprintf(out, size,
             "{\"errors\":[{\"code\":\"%s\",\"message\":\"%s (request %s)\","
             "\"detail\":{\"request_id\":\"%s\"}}]}\n",
             code, why, id, id);
}
