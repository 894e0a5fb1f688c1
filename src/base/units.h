/* Sizes and durations as people write them in configuration, flags and environment. */
#ifndef BASE_UNITS_H
#define BASE_UNITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/text.h"

/* "10GiB", "500MB", "1.5TiB", "4096" or "4096B": bytes. k/K M G T P; with "iB" powers of 1024,
 * with "B" powers of 1000. False: no size, negative, or over 2^63-1. */
bool units_parse_size(struct text text, uint64_t *bytes);

/* "30s", "5m", "168h", "250ms", "7d", "1h30m", or "0": milliseconds. A number other than 0 needs
 * its unit. False: no duration, negative, or over 100 years. */
bool units_parse_duration(struct text text, int64_t *ms);

/* "1.5 GiB", "812 B"; needs 16 bytes. */
void units_format_size(uint64_t bytes, char *out, size_t size);

/* "250ms", "1h30m0s" style; the inverse of units_parse_duration(); needs 40 bytes. */
void units_format_duration(int64_t ms, char *out, size_t size);

#endif
