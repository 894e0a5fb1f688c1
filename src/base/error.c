/* Errors as sentences: kind and text, filled in and wrapped. */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Replaces control characters by spaces, because a text ends up in logs, headers and JSON bodies,
 * and parts of it come from upstream. */
static void make_printable(char *text) {
    for (unsigned char *c = (unsigned char *)text; *c; c++) {
        if (*c < 0x20 || *c == 0x7f)
            *c = ' ';
    }
}

__attribute__((format(printf, 3, 0))) static void fill(struct error *error, enum error_kind kind,
                                                       const char *format, va_list arguments) {
    *error = (struct error){.kind = kind};
    vsnprintf(error->text, sizeof error->text, format, arguments);
    make_printable(error->text);
}

bool error_set(struct error *error, enum error_kind kind, const char *format, ...) {
    if (!error)
        return false;
    va_list arguments;
    va_start(arguments, format);
    fill(error, kind, format, arguments);
    va_end(arguments);
    return false;
}

bool error_set_errno(struct error *error, int errno_value, const char *format, ...) {
    if (!error)
        return false;
    enum error_kind kind = ERROR_IO;
    if (errno_value == ENOSPC || errno_value == EDQUOT)
        kind = ERROR_NO_SPACE;
    else if (errno_value == ENOMEM)
        kind = ERROR_MEMORY;
    else if (errno_value == EMFILE || errno_value == ENFILE)
        kind = ERROR_FILES; /* the disk is fine */
    else if (errno_value == ENAMETOOLONG || errno_value == EILSEQ)
        kind = ERROR_INVALID; /* the name is wrong, not the file system */
    va_list arguments;
    va_start(arguments, format);
    fill(error, kind, format, arguments);
    va_end(arguments);
    char reason[128];
    size_t length = strlen(error->text);
    snprintf(error->text + length, sizeof error->text - length, ": %s",
             strerror_r(errno_value, reason, sizeof reason));
    return false;
}

bool error_because(struct error *error, enum error_reason reason) {
    if (error)
        error->reason = reason;
    return false;
}

const char *error_reason_text(enum error_reason reason) {
    switch (reason) {
    case ERROR_REASON_NONE:
        break;
    case ERROR_REASON_NO_HOST:
        return "no such host";
    case ERROR_REASON_NO_CONNECTION:
        return "no connection";
    case ERROR_REASON_TLS:
        return "no TLS connection";
    case ERROR_REASON_CERTIFICATE:
        return "certificate";
    case ERROR_REASON_ADDRESS:
        return "address not allowed";
    case ERROR_REASON_NOT_ASKED:
        return "got no response";
    case ERROR_REASON_STOPPING:
        return "tarn is stopping";
    }
    return NULL;
}

bool error_wrap(struct error *error, const char *format, ...) {
    if (!error)
        return false;
    char inner[sizeof error->text];
    memcpy(inner, error->text, sizeof inner);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
    make_printable(error->text);
    size_t length = strlen(error->text);
    snprintf(error->text + length, sizeof error->text - length, ": %s", inner);
    return false;
}

void error_clear(struct error *error) {
    if (error)
        *error = (struct error){0};
}

const char *error_kind_name(enum error_kind kind) {
    switch (kind) {
    case ERROR_NONE:
        return "none";
    case ERROR_INVALID:
        return "invalid";
    case ERROR_NOT_FOUND:
        return "not_found";
    case ERROR_DENIED:
        return "denied";
    case ERROR_RATE_LIMITED:
        return "rate_limited";
    case ERROR_UNAVAILABLE:
        return "unavailable";
    case ERROR_TIMEOUT:
        return "timeout";
    case ERROR_BUSY:
        return "busy";
    case ERROR_CORRUPT:
        return "corrupt";
    case ERROR_RANGE:
        return "range";
    case ERROR_NO_SPACE:
        return "no_space";
    case ERROR_IO:
        return "io";
    case ERROR_CLOSED:
        return "closed";
    case ERROR_UNSUPPORTED:
        return "unsupported";
    case ERROR_MEMORY:
        return "memory";
    case ERROR_FILES:
        return "files";
    }
    return "unknown";
}
