/*
 * Reads small files whose file system may hang, and asks what is known of files and file systems.
 *
 * A call that reads from a network file system whose server has gone ends when the server comes
 * back, and nothing can interrupt it. So a thread of its own reads, and the caller waits for it no
 * longer than it wants. While a file hangs, it has that one thread: all who want it wait for the
 * same outcome, and whoever comes after the file has hung for as long as that fails at once.
 *
 * Threads: any.
 */
#ifndef BASE_FILE_READER_H
#define BASE_FILE_READER_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include "base/error.h"

struct file_reader;

struct file_reader *file_reader_new(void); /* NULL: out of memory */
/* Nobody waits for a file any more. Threads that hang go on, and free what they have in the end. */
void file_reader_free(struct file_reader *reader); /* NULL is allowed */

/*
 * As file_read_small() with FILE_REGULAR: the bytes are the caller's to free(), and secrets to be
 * wiped are the returned ones alone. `status` may be NULL. ERROR_TIMEOUT: they are not here after
 * `patience_ms`.
 */
char *file_reader_read(struct file_reader *reader, const char *path, size_t limit,
                       int64_t patience_ms, size_t *length, struct stat *status,
                       struct error *error);

/* What stat() says of the file, if this process may read it. False: ERROR_NOT_FOUND, ERROR_IO with
 * the reason alone as text, ERROR_MEMORY, or ERROR_TIMEOUT. */
bool file_reader_look(struct file_reader *reader, const char *path, int64_t patience_ms,
                      struct stat *status, struct error *error);

/* What statvfs() says of the file system of a file or a folder. False: as file_reader_look(). */
bool file_reader_space(struct file_reader *reader, const char *path, int64_t patience_ms,
                       struct statvfs *space, struct error *error);

#endif
