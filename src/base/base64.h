/* Base64 (RFC 4648 §4) of secrets: what was written is the caller's to wipe. Pure. */
#ifndef BASE_BASE64_H
#define BASE_BASE64_H

#include <stdbool.h>
#include <stddef.h>
#include "base/text.h"

/* A NUL-terminated string on the heap; NULL when out of memory. */
char *base64_encode(const void *bytes, size_t length);

/* The bytes with a NUL behind them, on the heap, and their number; padding may be missing. NULL
 * when `text` is no base64 or memory is out. */
char *base64_decode(struct text text, size_t *length);

#endif
