/*
 * A folder as the tar archive of a layer (image-spec layer.md), and removals as another.
 *
 * The archive is made while the folder is read: nothing is kept but the names of the open folders
 * and of files with several names. The same files give the same bytes on every machine and file
 * system, in every locale and time zone, whoever packs:
 *
 * - The names are sorted by their bytes, none is there twice, and all are relative.
 * - All times are the given one, and all owners 0:0 without names, unless they are to be preserved.
 * - Modes (setuid, setgid and sticky too), symlinks, hard links, fifos, devices, and the extended
 *   attributes user.* and security.capability are as they are. Sockets are left out.
 * - The holes of a sparse file are zero bytes, as image-spec layer.md demands: where a file has
 *   holes depends on the file system, and engines that rebuild an archive (tar-split) cannot
 *   rebuild its holes. Holes are not read from the disk, and compression makes nothing of them.
 *
 * A file that grows, shrinks, is written to, is replaced or vanishes while it is read is an error
 * that names it, and so is a folder in which names come or go. One thread at a time.
 */
#ifndef COPY_PACK_H
#define COPY_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include "base/buffer.h"
#include "base/error.h"
#include "base/text.h"
#include "copy/sink.h"

enum {
    PACK_DEPTH_LIMIT = 512
}; /* folders within folders: each has a descriptor while it is open */

/* Something that may become an entry. Borrowed for the call. */
struct pack_candidate {
    const char *path; /* in the archive */
    const struct stat *status;
    const char *target; /* of a symlink; else NULL */
};

enum pack_verdict {
    PACK_TAKE,
    PACK_LEAVE_OUT, /* and all that is in it */
    PACK_ENTER,     /* a folder: it is an entry only if something in it is */
    PACK_REFUSE,    /* the error is set */
};

/* Says which files become entries. */
struct pack_filter {
    void *context;
    /* Asked twice about a folder: for itself, and before it is entered. */
    enum pack_verdict (*judge)(void *context, const struct pack_candidate *candidate,
                               struct error *error);
    /* An entry is packed next; a file's status is that of the open file. False ends the packing. */
    bool (*on_entry)(void *context, const struct pack_candidate *candidate, struct error *error);
};

struct pack_settings {
    int64_t time;     /* of all entries, in seconds since 1970 */
    bool preserve;    /* owners and times of files are their own; made-up parents have `time` */
    bool is_no_layer; /* names that mean a removal in a layer are ordinary ones, each name of a file
                       * with several is a file, and there are no extended attributes */
    const struct pack_filter *filter; /* NULL: all files become entries */
};

/* Writes the path of an image that `text` names, relative and without empty parts and ".": of
 * "/opt//model/" "opt/model", of "/" "". False: it has a part "..", a part that begins with ".wh."
 * (a removal's mark), or a NUL. */
bool pack_path(struct text text, struct buffer *path, struct error *error);

/* Whether there is such a folder that can be read. False: as pack_folder(). */
bool pack_find(const char *folder, struct error *error);

/*
 * Writes the archive of what is in the folder `folder`, under the path `inside` (from pack_path()),
 * whose folders become entries of mode 0755. `folder` may be a symlink to one; below it, symlinks
 * are not followed. The error names the file, below `folder` as it was given. False:
 * ERROR_NOT_FOUND, ERROR_IO, ERROR_UNSUPPORTED (an archive or this program cannot hold it),
 * ERROR_CORRUPT (it changed), ERROR_MEMORY, or what the sink has set.
 */
bool pack_folder(const char *folder, const char *inside, const struct pack_settings *settings,
                 const struct sink *sink, struct error *error);

/* Writes the archive that removes paths (from pack_path(), none of them "") of the layers below
 * (image-spec layer.md, "Whiteouts"). The folders around them become entries of mode 0755. */
bool pack_removals(const char *const *paths, size_t count, const struct pack_settings *settings,
                   const struct sink *sink, struct error *error);

#endif
