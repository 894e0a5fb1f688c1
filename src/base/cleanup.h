/*
 * Variables that are released when their scope ends, whichever way it ends.
 *
 * The macro stands in front of the declaration: `cleanup_free char *path = NULL;`. A value that
 * outlives the scope is handed on with take() or take_fd(). Other types have a cleanup_NAME of
 * their own beside their `_free`.
 */
#ifndef BASE_CLEANUP_H
#define BASE_CLEANUP_H

#include <dirent.h>
#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_free_call(void *slot) {
    free(*(void **)slot);
}

static inline void cleanup_close_call(int *fd) {
    if (*fd >= 0)
        close(*fd);
}

static inline void cleanup_directory_call(DIR **directory) {
    if (*directory)
        closedir(*directory);
}

/* free() at the end of the scope. */
#define cleanup_free      __attribute__((cleanup(cleanup_free_call)))
/* close() at the end of the scope, unless negative. */
#define cleanup_close     __attribute__((cleanup(cleanup_close_call)))
/* closedir() at the end of the scope, unless NULL. */
#define cleanup_directory __attribute__((cleanup(cleanup_directory_call)))

/* The value of a marked pointer, which becomes NULL. The receiver then owns the memory. */
#define take(pointer)                                                                              \
    __extension__({                                                                                \
        __typeof__(pointer) taken_ = (pointer);                                                    \
        (pointer) = NULL;                                                                          \
        taken_;                                                                                    \
    })

/* The value of a marked descriptor, which becomes -1. */
#define take_fd(fd)                                                                                \
    __extension__({                                                                                \
        int taken_ = (fd);                                                                         \
        (fd) = -1;                                                                                 \
        taken_;                                                                                    \
    })

#endif
