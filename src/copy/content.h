/*
 * The content of one file, which must not change while it is read.
 *
 * The file system's times tell a change, but they step: two writes within one step (at most 10 ms
 * on Linux) leave the same time. So a file that was changed just now is given a moment first, and
 * then each later write leaves a later time. One thread at a time.
 */
#ifndef COPY_CONTENT_H
#define COPY_CONTENT_H

#include <stdbool.h>
#include <sys/stat.h>
#include "base/error.h"
#include "copy/sink.h"

enum { CONTENT_BUFFER_SIZE = 256 << 10 };

/* Whether the file was changed just now. */
bool content_is_fresh(const struct stat *status);

/* Waits a moment and reads the status again. False: errno says why. */
bool content_let_settle(int fd, struct stat *status);

/* Writes the content of a file that was as `status` says when its header was written: exactly so
 * many bytes. Holes become zero bytes without being read. `bytes` has CONTENT_BUFFER_SIZE bytes,
 * for what is read. False: ERROR_CORRUPT (the file has changed), ERROR_IO, or the sink's. */
bool content_write(int fd, const struct stat *status, char *bytes, const struct sink *sink,
                   struct error *error);

/* Sets the error of something that "grew" or "vanished" while it was read. Returns false. */
bool content_changed(const char *how, struct error *error);

#endif
