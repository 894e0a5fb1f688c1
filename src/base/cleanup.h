/*
 * Scope-bound release: a variable marked with one of these is released when its scope ends,
 * whichever way it ends. Ownership that outlives the scope is handed on with `take`.
 */
#ifndef BASE_CLEANUP_H
#define BASE_CLEANUP_H

#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_free_call(void *slot) {
    free(*(void **)slot);
}

static inline void cleanup_close_call(int *fd) {
    if (*fd >= 0)
        close(*fd);
}

/* free() at the end of the scope. */
#define cleanup_free  __attribute__((cleanup(cleanup_free_call)))
/* close() at the end of the scope, unless negative. */
#define cleanup_close __attribute__((cleanup(cleanup_close_call)))

/* Hands a marked pointer's ownership on: yields its value and leaves NULL behind. */
#define take(pointer)                                                                              \
    __extension__({                                                                                \
        __typeof__(pointer) taken_ = (pointer);                                                    \
        (pointer) = NULL;                                                                          \
        taken_;                                                                                    \
    })

/* The same for a descriptor: yields it and leaves -1 behind. */
#define take_fd(fd)                                                                                \
    __extension__({                                                                                \
        int taken_ = (fd);                                                                         \
        (fd) = -1;                                                                                 \
        taken_;                                                                                    \
    })

#endif
