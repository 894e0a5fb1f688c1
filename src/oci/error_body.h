/* The error body of distribution-spec ("Error Codes"): written for our clients, read from
 * upstreams. Pure; any thread. */
#ifndef OCI_ERROR_BODY_H
#define OCI_ERROR_BODY_H

#include <stdbool.h>
#include <stddef.h>
#include "base/buffer.h"

/* Appends {"errors":[{"code":CODE,"message":MESSAGE}]} and a newline. */
bool error_body_write(struct buffer *out, const char *code, const char *message);

/* Writes the body of an error that the HTTP server itself answers, cut to `size` bytes with a NUL.
 * `why` is plain ASCII without quotes. */
void error_body_of_status(int status, const char *why, char *out, size_t size);

/* Reads the first error of an upstream's body, which may be anything (HTML, cut JSON); the forms
 * that token services and front ends use are understood too. `code` (at least 32 bytes) and
 * `message` (both sizes > 0) are set to "" when there is none; a code is a plain word of letters,
 * digits, `_`,
 * `-` and `.`, or it is none; in a message, cut at a character's end to fit, control characters are
 * replaced by spaces and what is no UTF-8 by `?`. True when a code or message was found. */
bool error_body_read(const void *bytes, size_t length, char *code, size_t code_size, char *message,
                     size_t message_size);

#endif
