/*
 * Private to store/: files below the root, opened, written and renamed so that a crash leaves each
 * either as it was or as it should be. Every path comes from paths.h.
 */
#ifndef STORE_ROOT_H
#define STORE_ROOT_H

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>
#include "base/cancel.h"
#include "base/error.h"
#include "store/paths.h"
#include "store/store.h"

enum {
    FILE_MODE = 0600,
    DIRECTORY_MODE = 0700,
};

enum durability {
    DURABILITY_NONE,      /* after a power loss the file may be gone, or empty */
    DURABILITY_FILE,      /* the bytes are durable before the file gets its name */
    DURABILITY_DIRECTORY, /* and the name is durable on return */
};

/* Whether nobody but tarn's user and root can put files into the root. False: ERROR_DENIED says who
 * can, and what to do. */
bool root_check_owner(const struct store *store, struct error *error);

/* Puts a file of these bytes in place of whatever had the name, in one step. */
bool root_replace(struct store *store, const char *path, const void *bytes, size_t length,
                  enum durability durability, struct error *error);

/* Opens a file; never follows a symbolic link at the end, and never blocks. With O_CREAT, missing
 * directories on the way are made, and synced (except those of blob links). -1 with errno set. */
int root_open(struct store *store, const char *path, int flags);

/* Opens a regular file for reading, and tells its state. -1: ERROR_NOT_FOUND (there is none, or it
 * is no regular file) or ERROR_IO. */
int root_open_file(struct store *store, const char *path, struct stat *state, struct error *error);

/* A new empty file under ROOT/tmp, open for reading and writing; its name goes to `path`. */
int root_temporary(struct store *store, char path[static PATH_SIZE], struct error *error);

/* Renames; makes (and syncs) the directories of `to` if they are missing. */
bool root_rename(struct store *store, const char *from, const char *to, enum durability durability,
                 struct error *error);

/* Deletes the file of a record. False: errno says why. */
bool root_unlink_record(struct store *store, const char *path);
/* Deletes a record, and then the directories above it that are empty, up to the top one. True also
 * if there is no such record. */
bool root_delete_record(struct store *store, const char *path, struct error *error);

/* Syncs a directory, which makes the names in it durable. */
bool root_sync(struct store *store, const char *path, struct error *error);
/* Syncs the directory that holds `path`, which makes that name durable. */
bool root_sync_parent(struct store *store, const char *path, struct error *error);

/* The entries of a directory; never follows a symbolic link. The caller calls closedir(). NULL with
 * errno 0: there is none, or it is no directory. */
DIR *root_open_directory(struct store *store, const char *path);

/* Reads a record of less than `size` bytes, NUL-terminated in `out`; -1 when it is absent, not a
 * regular file, empty, or too long. */
ssize_t root_read_record(struct store *store, const char *path, char *out, size_t size);

/* Deletes a directory if it is empty. */
bool root_remove_directory(struct store *store, const char *path);

/* Counts the records and all directories anew: store_usage.record_bytes. */
bool root_count_records(struct store *store, const struct cancel *cancel, struct error *error);

/* A regular file's state; false with errno set (ENOENT when it is no regular file). */
bool root_stat(struct store *store, const char *path, struct stat *out);

/* Deletes what earlier processes left under ROOT/tmp. */
void root_clean_temporaries(struct store *store);

#endif
