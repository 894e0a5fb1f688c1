/* The clock, the memory and the files, as login/ sees them in tests. */
#include "login/bench.h"

#include <stdlib.h>
#include "base/clock.h"
#include "login/watched.h"

_Atomic int64_t later_ms;
_Thread_local bool forbidden;

int64_t __real_clock_ms(void);
int64_t __wrap_clock_ms(void);
int64_t __wrap_clock_ms(void) {
    return __real_clock_ms() + later_ms;
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size) {
    if (forbidden)
        abort();
    return __real_malloc(size);
}

void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size) {
    if (forbidden)
        abort();
    return __real_calloc(count, size);
}

bool __real_file_differs(const char *path, const struct stat *identity, bool *is_gone);
bool __wrap_file_differs(const char *path, const struct stat *identity, bool *is_gone);
bool __wrap_file_differs(const char *path, const struct stat *identity, bool *is_gone) {
    if (forbidden)
        abort();
    return __real_file_differs(path, identity, is_gone);
}
