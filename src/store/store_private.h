/* Private to store/: what an open store consists of. */
#ifndef STORE_STORE_PRIVATE_H
#define STORE_STORE_PRIVATE_H

#include <stdatomic.h>
#include <stdint.h>
#include "base/lock.h"
#include "store/aside.h"
#include "store/index.h"
#include "store/store.h"

enum { BOOT_ID_SIZE = 40, REMOVAL_GROUPS = 1024 };

struct store {
    int root;      /* the directory; all paths are relative to it; holds a flock */
    int lock_file; /* open, and holds a flock as well */
    char *path;
    bool ignores_case;                      /* the file system: `V1` and `v1` are one name there */
    char boot_id[BOOT_ID_SIZE];             /* of the machine's present boot, zero-padded */
    uint32_t session;                       /* begins the names of this process's temporary files */
    _Atomic uint64_t temporaries;           /* how many it has made */
    struct lock open_partials_lock;         /* guards open_partials and the two figures */
    struct condition open_partials_changed; /* an entry left open_partials */
    struct open_partial *open_partials;
    uint64_t left_partials, left_bytes; /* of partials that nobody has open; bytes on disk */
    _Atomic uint64_t upload_bytes;      /* on disk, of uploads that were there at the last count */
    struct index index;                 /* of the blobs; has its own lock */
    _Atomic uint64_t removals;          /* blobs that this process deleted or quarantined */
    _Atomic uint64_t group_removals[REMOVAL_GROUPS]; /* the same of each group of digests */
    _Atomic bool scanned;                            /* a scan has ended */
    _Atomic unsigned unread; /* directories and blobs that the last scan could not read */
    /* Of the records and of all directories; of blobs in quarantine. Bytes are those on disk. */
    _Atomic int64_t record_bytes, record_entries, bad_bytes;
    _Atomic int64_t aside_bytes; /* of files beside blobs, on disk */
    _Atomic int64_t aside_files[ASIDE_KINDS];
    _Atomic bool has_asides; /* there may be such files */
    _Atomic unsigned making; /* threads that make directories which are not synced yet */
};

/* A blob was deleted or quarantined. */
void store_count_removal(struct store *store, const struct digest *digest);

struct store_usage;
/* Fills in what is known of the partials that nobody has open. */
void store_partials_usage(struct store *store, struct store_usage *out);

#endif
