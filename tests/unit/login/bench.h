/*
 * What the tests of who a client is have in common: a clock that can be moved, and a thread that
 * may not wait. The linker hands clock_ms(), malloc(), calloc() and file_differs() to bench.c.
 */
#ifndef TESTS_LOGIN_BENCH_H
#define TESTS_LOGIN_BENCH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

extern _Atomic int64_t later_ms;     /* added to the clock */
extern _Thread_local bool forbidden; /* this thread may neither allocate nor look at a file */

#endif
