/* The error body of distribution-spec ("Error Codes"): written for our clients, read from
 * upstreams. Pure; any thread. */
#ifndef OCI_ERROR_BODY_H
#define OCI_ERROR_BODY_H

#include <stdbool.h>
#include <stddef.h>
#include "base/buffer.h"

/* Appends {"errors":[{"code":CODE,"message":MESSAGE}]} and a newline. */
bool error_body_write(struct buffer *out, const char *code, const char *message);

/* Reads the first error of an upstream's body, which may be anything (HTML, cut JSON). `code` (at
 * least 32 bytes) and `message` are set to "" when there is none; control characters and what is
 * no UTF-8 are replaced. True when a code or message was found. */
bool error_body_read(const void *bytes, size_t length, char *code, size_t code_size, char *message,
                     size_t message_size);

#endif
