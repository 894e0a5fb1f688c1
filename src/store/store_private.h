/*
 * Inside of store/: the open root, the names of what lies below it, and how files get there. Every
 * path is relative to the root's descriptor and is made only by the path_ functions, which take
 * nothing that the grammars of oci/ do not allow: no name from outside can climb out.
 */
#ifndef STORE_STORE_PRIVATE_H
#define STORE_STORE_PRIVATE_H

#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/types.h>
#include "store/index.h"
#include "store/store.h"

enum {
    /* "repositories/" HOST "/" NAME "/_manifests/sha512/" HEX is the longest: 673 with its NUL. */
    PATH_SIZE = 704,
    BOOT_ID_SIZE = 40,
    FILE_MODE = 0600,
    DIRECTORY_MODE = 0700,
};

struct store {
    int root; /* the directory; what all paths are relative to */
    int lock; /* holds the flock for as long as it is open */
    char *path;
    char boot_id[BOOT_ID_SIZE];           /* of the machine's present boot, zero-padded */
    uint32_t session;                     /* begins the names of this process's temporary files */
    _Atomic uint64_t temporaries;         /* how many it has made */
    pthread_mutex_t open_partials_lock;   /* guards open_partials */
    pthread_cond_t open_partials_changed; /* an entry left open_partials */
    struct open_partial *open_partials;
    struct index index;             /* of the blobs; has its own lock */
    _Atomic bool scanned;           /* a scan has ended */
    _Atomic unsigned unread;        /* directories and blobs that the last one could not read */
    _Atomic uint64_t partial_bytes; /* of those that nobody has open, as of the last look */
    _Atomic unsigned making;        /* threads that make directories which are not synced yet */
};

/* The directories of a repository's records; what path_link() calls a kind. */
#define LINKED_BLOBS     "_blobs"
#define LINKED_MANIFESTS "_manifests"

/* ---- names; false when a part of the name breaks its grammar ---- */

bool path_blob(char out[static PATH_SIZE], const struct digest *digest);
/* `folder` "/sha256-" HEX `suffix`: partials, their states, what was set aside. */
bool path_flat(char out[static PATH_SIZE], const char *folder, const struct digest *digest,
               const char *suffix);
/* The directory of a repository's links of one kind and algorithm. */
bool path_links(char out[static PATH_SIZE], const char *host, const char *repository,
                const char *kind, enum digest_algorithm algorithm);
bool path_link(char out[static PATH_SIZE], const char *host, const char *repository,
               const char *kind, const struct digest *digest);
bool path_tags(char out[static PATH_SIZE], const char *host, const char *repository);
bool path_tag(char out[static PATH_SIZE], const char *host, const char *repository,
              const char *tag);

/* ---- files ---- */

enum durability {
    DURABILITY_NONE,      /* after power loss it may be gone, or empty */
    DURABILITY_FILE,      /* the bytes are there before the name */
    DURABILITY_DIRECTORY, /* and the name is there on return */
};

/* Puts a file of these bytes in place of whatever had the name, in one step. */
bool root_replace(struct store *store, const char *path, const void *bytes, size_t length,
                  enum durability durability, struct error *error);

/* Opens relative to the root, never through a symbolic link at the end and never blocking. With
 * O_CREAT, missing directories on the way are made, and synced (but those of blob links). -1 with
 * errno set. */
int root_open(struct store *store, const char *path, int flags);

/* A new empty file under ROOT/tmp, open for reading and writing; its name goes to `path`. */
int root_temporary(struct store *store, char path[static PATH_SIZE], struct error *error);

/* Renames, making (and syncing) the directories of `to` where they are missing. */
bool root_rename(struct store *store, const char *from, const char *to, enum durability durability,
                 struct error *error);

/* Syncs a directory, which makes the names in it durable. */
bool root_sync(struct store *store, const char *path, struct error *error);
/* Syncs the directory that holds `path`, which makes that name durable. */
bool root_sync_parent(struct store *store, const char *path, struct error *error);

/* The entries of a directory, never through a symbolic link; closedir() is the caller's. NULL with
 * errno 0 when it is gone or no directory. */
DIR *root_open_directory(struct store *store, const char *path);

/* Reads a record of less than `size` bytes, NUL-terminated in `out`; -1 when it is absent, not a
 * regular file, empty, or too long. */
ssize_t root_read_record(struct store *store, const char *path, char *out, size_t size);

/* A regular file's state; false with errno set (ENOENT when it is something else). */
bool root_stat(struct store *store, const char *path, struct stat *out);

bool root_write_all(int fd, const void *bytes, size_t length); /* false with errno set */

/* Deletes what earlier processes left under ROOT/tmp. */
void root_clean_temporaries(struct store *store);

/* Counts the bytes of the partials that nobody has open; see partial.c. */
void partials_count(struct store *store);

#endif
