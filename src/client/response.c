/* Reads the fields of a response. */
#include "client/response.h"

#include <stdio.h>
#include <string.h>
#include "base/secret.h"

void client_response_wipe(struct client_response *response) {
    secret_buffer_free(&response->body);
    *response = (struct client_response){0};
}

enum error_kind client_response_error_kind(int status) {
    switch (status) {
    case 401:
    case 403:
        return ERROR_DENIED;
    case 404:
        return ERROR_NOT_FOUND;
    case 429:
        return ERROR_RATE_LIMITED;
    default:
        return ERROR_UNAVAILABLE;
    }
}

void client_response_begin(struct client_response *response, const struct client_wanted *wanted) {
    response->status = 0;
    response->has_length = false;
    response->length = 0;
    response->retry_after_s = 0;
    response->content_type[0] = '\0';
    for (size_t i = 0; i < wanted->count; i++)
        wanted->fields[i].value[0] = '\0';
    if (wanted->challenge)
        *wanted->challenge = (struct challenge){0};
}

static void append_to_list(const struct client_field *field, struct text value) {
    size_t used = strlen(field->value);
    snprintf(field->value + used, field->size - used, "%s%.*s", used ? ", " : "",
             TEXT_PRINT(value));
}

void client_response_read_field(struct client_response *response,
                                const struct client_wanted *wanted, struct text name,
                                struct text value) {
    if (text_is_nocase(name, "content-type"))
        text_copy(value, response->content_type, sizeof response->content_type);
    if (wanted->challenge && text_is_nocase(name, "www-authenticate"))
        challenge_read(value, wanted->challenge);
    for (size_t i = 0; i < wanted->count; i++) {
        const struct client_field *field = &wanted->fields[i];
        if (!text_is_nocase(name, field->name))
            continue;
        if (field->is_list)
            append_to_list(field, value);
        else
            text_copy(value, field->value, field->size);
    }
}
