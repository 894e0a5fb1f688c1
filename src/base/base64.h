/* Base64 (RFC 4648 §4 and §5) of secrets: the caller wipes the results. Pure; any thread. */
#ifndef BASE_BASE64_H
#define BASE_BASE64_H

#include <stdbool.h>
#include <stddef.h>
#include "base/text.h"

/* A NUL-terminated string on the heap; NULL: out of memory. */
char *base64_encode(const void *bytes, size_t length);

/* The same by base64url: with - and _ in place of + and /, and without padding. */
char *base64_encode_url(const void *bytes, size_t length);

/* The bytes on the heap with a NUL behind them, and their number in *length. Padding may be
 * missing. NULL: `text` is not base64, or out of memory. */
char *base64_decode(struct text text, size_t *length);

/* The same for base64url, which a token is made of (RFC 7515 §2): with - and _ in place of + and /,
 * and without padding. */
char *base64_decode_url(struct text text, size_t *length);

#endif
