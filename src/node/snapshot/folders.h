/*
 * The folders of snapshots: ROOT/ID/fs holds the files of a snapshot, and ROOT/ID/work is what
 * overlayfs needs beside the files that a container writes.
 *
 * What is deleted gets another name first, ROOT/gone-ID, so that nobody finds half of it. Names and
 * depths come from containers, so every walk opens below a descriptor, follows no symbolic link,
 * stays in its file system and is bounded in depth. Any thread.
 */
#ifndef NODE_SNAPSHOT_FOLDERS_H
#define NODE_SNAPSHOT_FOLDERS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/error.h"

enum { FOLDERS_PATH_LIMIT = 1024 }; /* bytes of a folder's path with its NUL */

/* Writes ROOT/ID/fs, or another `part` in its place. */
void folders_path(const char *root, uint64_t id, const char *part,
                  char out[static FOLDERS_PATH_LIMIT]);

/* Makes ROOT/ID with `fs`, which `owner` and `group` own, and `work` if wanted. `fd` is ROOT.
 * False: nothing of it is there. */
bool folders_make(int fd, uint64_t id, bool with_work, uid_t owner, gid_t group,
                  struct error *error);

/* What the files below ROOT/ID/fs take: bytes of the disk, and files. A file with several names
 * counts once. */
bool folders_measure(int fd, uint64_t id, uint64_t *size, uint64_t *inodes, struct error *error);

/* Deletes ROOT/ID with all below; no error when it is not there. */
bool folders_delete(int fd, uint64_t id, struct error *error);

/* Deletes every folder of ROOT for whose number `is_known` returns false, and what an earlier
 * folders_delete() has left. Returns how many could not be deleted. */
unsigned folders_sweep(int fd, bool (*is_known)(void *context, uint64_t id), void *context);

#endif
