/* Time. Intervals are measured on the monotonic clock; only what is shown or stored is wall time.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

int64_t clock_ms(void);     /* monotonic milliseconds; never goes back */
int64_t clock_us(void);     /* monotonic microseconds */
int64_t clock_wall_s(void); /* seconds since 1970-01-01T00:00:00Z */
void clock_sleep_ms(int64_t ms);

/* The absolute CLOCK_MONOTONIC time that lies `ms` from now, for pthread_cond_clockwait(). */
struct timespec clock_deadline(int64_t ms);

/* "2026-11-21T03:55:00.123Z", now; needs 25 bytes. */
void clock_format_now(char *out, size_t size);

/* A random whole number in [0, bound): jitter, not secrets. */
uint32_t clock_jitter(uint32_t bound);

#endif
