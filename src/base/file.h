/*
 * Small files in one piece, and whole reads and writes of descriptors.
 *
 * A system call that a signal interrupted is repeated. Any thread may call these functions.
 * The errors name no file, because only the caller knows what the file is for: it puts that in
 * front with error_wrap(error, "the password file %s", path).
 */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include "base/error.h"

/* Files that file_read_small() refuses with ERROR_INVALID. It refuses every file that is too long.
 */
enum file_rule {
    FILE_ANY = 0,
    FILE_REGULAR = 1, /* one that is not a regular file; opening a pipe then does not wait */
    FILE_TEXT = 2,    /* one that holds a NUL byte */
};

/*
 * Reads the whole file `path`, at most `limit` bytes. Returns the bytes on the heap with a NUL
 * behind them, the caller's to free(), and their number in `*length` (may be NULL). No second copy
 * of the bytes stays in memory: a caller that read a secret has to wipe only the returned bytes.
 * `rules` are those of `enum file_rule`, joined by |. `*status` (may be NULL) is what fstat() says
 * of the file that is read; it is set whenever the file could be opened.
 *
 * NULL: ERROR_NOT_FOUND (no such file, or no such folder), ERROR_INVALID (against a rule, or longer
 * than `limit`), ERROR_IO, ERROR_MEMORY.
 */
char *file_read_small(const char *path, size_t limit, unsigned rules, size_t *length,
                      struct stat *status, struct error *error);

/* The same for an open file, from its position on; the caller still closes `fd`. */
char *file_read_open(int fd, size_t limit, unsigned rules, size_t *length, struct stat *status,
                     struct error *error);

/* Reads `length` bytes from `offset` on. Returns how many were read, fewer than `length` only when
 * the file ends too early; -1 with errno set when reading failed. */
ssize_t file_read_at(int fd, void *bytes, size_t length, uint64_t offset);

/* The same, but a file that ends too early is an error (ERROR_IO), and so is a failed read. */
bool file_read_all_at(int fd, void *bytes, size_t length, uint64_t offset, struct error *error);

/* Writes all bytes, at the descriptor's position or at `offset`. False: ERROR_NO_SPACE or ERROR_IO;
 * errno tells the reason too, and any number of the bytes may have been written. */
bool file_write_all(int fd, const void *bytes, size_t length, struct error *error);
bool file_write_all_at(int fd, const void *bytes, size_t length, uint64_t offset,
                       struct error *error);

/* Whether stat() said this of two files, or of one that was changed in between. */
bool file_identity_differs(const struct stat *a, const struct stat *b);

/* Whether the file is another one than when fstat() said `identity` of it. *is_gone: there is none
 * any more; when it cannot be told, reading the file gives the reason. */
bool file_differs(const char *path, const struct stat *identity, bool *is_gone);

#endif
