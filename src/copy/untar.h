/*
 * Reading tar archives by libarchive, and decompressing layers. Private to copy/.
 *
 * Archives are hostile: nothing in them is written to the file system, and no name in them is used
 * as a path there. Threads: any; an open archive belongs to one thread.
 */
#ifndef COPY_UNTAR_H
#define COPY_UNTAR_H

#include <archive.h>
#include <archive_entry.h>
#include "copy/destination.h"

enum { COPY_UNTAR_ENTRIES = 200000, COPY_UNTAR_NAME_LIMIT = 1024 };

/* Opens the file as a tar archive, compressed or not. NULL: the error is set. */
struct archive *copy_untar_open(const char *path, struct error *error);

/* The next entry. *entry NULL: there is none left. False: the archive is broken. */
bool copy_untar_next(struct archive *archive, const char *path, struct archive_entry **entry,
                     struct error *error);

/* Writes the name that `name` means inside the archive, seen from the folder of `from` (clean;
 * NULL: the top): without ".", ".." and doubled slashes. False: it is too long, or leads outside.
 */
bool copy_untar_clean_name(const char *from, const char *name,
                           char out[static COPY_UNTAR_NAME_LIMIT + 1]);

/* Calls `take` with the data of the current entry. False: the archive is broken, or `take` failed.
 */
bool copy_untar_read(struct archive *archive, const char *path,
                     bool (*take)(void *context, const void *bytes, size_t length,
                                  struct error *error),
                     void *context, struct error *error);

/* Calls `take` with the decompressed bytes of the body, or with its own bytes if it is not
 * compressed (gzip, zstd, xz, bzip2). */
bool copy_untar_inflate(struct copy_body *body,
                        bool (*take)(void *context, const void *bytes, size_t length,
                                     struct error *error),
                        void *context, struct error *error);

/* How the bytes begin of what is compressed. */
bool copy_untar_is_gzip(const void *bytes, size_t length);
bool copy_untar_is_zstd(const void *bytes, size_t length);

#endif
