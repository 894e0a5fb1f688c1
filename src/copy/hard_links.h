/*
 * The first name of each file that has several, so that the later names become hard links to it.
 *
 * A file is forgotten when all its names were seen. What is kept is bounded, because other names of
 * a file may lie outside the folder, and then it is never forgotten. One thread at a time.
 */
#ifndef COPY_HARD_LINKS_H
#define COPY_HARD_LINKS_H

#include <stdbool.h>
#include <sys/stat.h>
#include "base/buffer.h"
#include "base/error.h"

enum { HARD_LINKS_LIMIT = 16 << 20 }; /* bytes of names and entries that are kept at once */

struct hard_link;

struct hard_links { /* zeroed: empty */
    struct hard_link *links;
    size_t bytes; /* as HARD_LINKS_LIMIT counts them */
};

/* Whether a name of the file that `status` describes was seen before. Then `first` becomes that
 * name, and this name counts as seen. False with `first->failed`: out of memory. */
bool hard_links_find(struct hard_links *links, const struct stat *status, struct buffer *first);

/* Keeps `path` as the first name of a file, if the file has more than one. It is called when the
 * file's content is in the archive. False: ERROR_MEMORY, or ERROR_UNSUPPORTED over the limit. */
bool hard_links_add(struct hard_links *links, const struct stat *status, const char *path,
                    struct error *error);

void hard_links_finish(struct hard_links *links);

#endif
