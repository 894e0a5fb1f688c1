/* Tells paths and names from credentials that were put in their place, and hides what was sent. */
#include "auth/shown.h"

#include <stddef.h>
#include <string.h>

bool shown_is_secret(const char *value) {
    static const char *const marks[] = {"private_key", "refresh_token", "client_secret",
                                        "-----BEGIN",  "\"auth\"",      "ya29."};
    /* Base64 of an object in JSON, as it begins in a JSON Web Token and in an encoded key file. */
    static const char *const starts[] = {"eyJ", "ewo", "ewkJ", "ew0K"};
    const char *text = value + strspn(value, " \t");
    if (*text == '{' || *text == '[')
        return true;
    for (const char *c = value; *c; c++) {
        if ((unsigned char)*c < ' ')
            return true;
    }
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        if (strstr(value, marks[i]))
            return true;
    }
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
        if (strncmp(text, starts[i], strlen(starts[i])) == 0)
            return true;
    }
    return false;
}

const char *shown_value(const char *value) {
    return shown_is_secret(value) ? "(a value that is not shown, because it looks like a secret)"
                                  : value;
}

void shown_black_out(char *text, const char *secret) {
    size_t length = secret ? strlen(secret) : 0;
    if (length < 4)
        return;
    for (char *at = text; (at = strstr(at, secret)); at += length)
        memset(at, '*', length);
}
