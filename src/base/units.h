/* Sizes and durations as people write them in configuration, flags and environment. Pure. */
#ifndef BASE_UNITS_H
#define BASE_UNITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/text.h"

/* "10GiB", "500MB", "1.5TiB", "4096" or "4096B": bytes. The letters are k or K, M, G, T and P. They
 * are powers of 1000 when "B" follows, else (nothing, "i" or "iB" follows) powers of 1024. False:
 * no size, negative, or more than 2^63-1; *bytes stays as it was. */
bool units_parse_size(struct text text, uint64_t *bytes);

/* "30s", "5m", "168h", "250ms", "7d", "1h30m", or "0": milliseconds. A number other than 0 needs a
 * unit. False: no duration, negative, or more than 100 years; *ms stays as it was. */
bool units_parse_duration(struct text text, int64_t *ms);

/* "1.5 GiB", "812 B"; needs 16 bytes. */
void units_format_size(uint64_t bytes, char *out, size_t size);

/* "250ms" or "1h30m0s": what units_parse_duration() reads back as `ms`; needs 40 bytes. */
void units_format_duration(int64_t ms, char *out, size_t size);

#endif
