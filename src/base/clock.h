/*
 * Time. Intervals and deadlines are on the monotonic clock; only times that are shown to people or
 * kept on disk are wall time. Any thread.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int64_t clock_ms(void);     /* monotonic milliseconds; never goes back */
int64_t clock_us(void);     /* monotonic microseconds */
int64_t clock_wall_s(void); /* seconds since 1970-01-01T00:00:00Z */
void clock_sleep_ms(int64_t ms);

enum { CLOCK_NOW_SIZE = sizeof "2026-11-21T03:55:00.123Z" };
/* Writes the wall time in that form, with a NUL. */
void clock_format_now(char out[static CLOCK_NOW_SIZE]);

/* Seconds since 1970 of an RFC 3339 time such as "2024-05-01T12:34:56.5Z"; a fraction is cut.
 * False: `text` is no such time, or the time is before 1970. */
bool clock_parse_rfc3339(const char *text, int64_t *seconds);

/* A random whole number in [0, bound), for jitter and not for secrets. */
uint32_t clock_jitter(uint32_t bound);

#endif
