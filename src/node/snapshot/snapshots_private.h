/* What the files of the snapshotter share: its state, and the turn to change it. */
#ifndef NODE_SNAPSHOT_SNAPSHOTS_PRIVATE_H
#define NODE_SNAPSHOT_SNAPSHOTS_PRIVATE_H

#include "base/lock.h"
#include "node/snapshot/entries.h"
#include "node/snapshot/journal.h"
#include "node/snapshot/snapshots.h"

#define SNAPSHOTS_LABEL_REF "containerd.io/snapshot.ref"

/* Layers of a label that are looked for at this moment. */
struct snapshots_search {
    const char *chain;
    uint64_t parent; /* 0: none */
    struct snapshots_search *next;
};

struct snapshots {
    char *root;
    int fd; /* ROOT, locked for this process */
    bool has_images;
    struct snapshots_images images;
    bool index_off;         /* overlayfs knows the option `index` */
    struct journal journal; /* of the thread that has the turn */
    struct lock state_lock; /* guards what follows */
    struct condition changed;
    bool changing;                     /* a thread has the turn */
    struct entries entries;            /* changed only by the thread that has the turn */
    uint64_t making;                   /* the number of a folder that has no entry yet; 0: none */
    struct snapshots_search *searches; /* on the stacks of the threads that search */
};

/* A turn: the thread alone changes entries and journal, which may take I/O. */
void snapshots_begin(struct snapshots *snapshots);
void snapshots_end(struct snapshots *snapshots);

/* In a turn: records an entry, then puts it into the tree. True: the tree owns it. */
bool snapshots_put(struct snapshots *snapshots, struct entry *entry, struct error *error);
/* In a turn: a number that was never used, which `making` protects from snapshots_cleanup(). */
uint64_t snapshots_take_id(struct snapshots *snapshots);

/* Sets the error's kind and text. Returns `outcome`. */
enum snapshots_outcome snapshots_refuse(enum snapshots_outcome outcome, struct error *error,
                                        enum error_kind kind, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Wall time in nanoseconds since 1970. */
int64_t snapshots_now_ns(void);

/* The layers that the label asks for: SNAPSHOTS_EXISTS, if they are remote now; SNAPSHOTS_DONE: the
 * snapshot is to be an ordinary one; SNAPSHOTS_FAILED: nobody waits any more. */
enum snapshots_outcome snapshots_find_remote(struct snapshots *snapshots,
                                             const struct snapshots_request *request,
                                             const char *chain, struct error *error);

/* Mounts the remote layers among `name` and those below it, if there are any. `name`: a snapshot,
 * or
 * "". Nothing happens when it is not there, which the caller finds out next. */
bool snapshots_mount_lower(struct snapshots *snapshots, const char *name, const atomic_bool *stop,
                           struct error *error);

#endif
