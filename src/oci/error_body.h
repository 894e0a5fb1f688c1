/* The error body of distribution-spec ("Error Codes"): tarn writes it for its clients and reads it
 * from upstreams. Pure; any thread. */
#ifndef OCI_ERROR_BODY_H
#define OCI_ERROR_BODY_H

#include <stdbool.h>
#include <stddef.h>
#include "base/buffer.h"

/*
 * Appends {"errors":[{"code":CODE,"message":MESSAGE,"detail":{"request_id":ID}}]} and a newline.
 * The id stands behind the message, too, in parentheses, because docker, containerd, podman and
 * skopeo show people the code and the message, and never the detail. `id` NULL: there is none.
 */
bool error_body_write(struct buffer *out, const char *code, const char *message, const char *id);

/* Writes the body of an error that the HTTP server itself reports, cut to `size` bytes with the
 * NUL. `why` and `id` are plain ASCII without quotes. */
void error_body_of_status(int status, const char *why, const char *id, char *out, size_t size);

/*
 * Reads the first error of an upstream's body, which may be anything (HTML, cut JSON). The forms
 * that token services and front ends use are understood too. True: a code or a message was found.
 * If only one was found, the other is "".
 *
 * `code` has at least 32 bytes, `message` at least one. A code consists of letters, digits, `_`,
 * `-` and `.` only. A message is cut after a whole character to fit; its control characters are
 * replaced by spaces, and bytes that are not UTF-8 by `?`.
 */
bool error_body_read(const void *bytes, size_t length, char *code, size_t code_size, char *message,
                     size_t message_size);

/* Whether the body is in distribution-spec's form, so that a registry has written it, and not a
 * load balancer or proxy in front of it. */
bool error_body_is_registrys(const void *bytes, size_t length);

#endif
