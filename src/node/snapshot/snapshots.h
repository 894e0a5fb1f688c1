/*
 * The file systems of containerd's containers: a snapshotter for overlayfs, whose lower layers may
 * be an image that streams.
 *
 * A snapshot is active (a container or an unpacker writes to it), a view (read only), or committed
 * (a layer, the parent of others). ROOT/ID holds its files, and the file ROOT/records the record
 * of each (journal.h). An answer is given after its change is on the disk. After `kill -9` at any
 * point, every committed snapshot is there, no name stands for two, and the next start deletes
 * folders that belong to none.
 *
 * What containerd does with them is in containerd, docs/snapshotters, and in its interface
 * core/snapshots.Snapshotter: outcomes are those of its overlay snapshotter. Beyond that:
 *
 * Remote snapshots (containerd, docs/remote-snapshotter.md). A prepare with the label
 * containerd.io/snapshot.ref = CHAIN asks for the layers up to CHAIN. When `images` has them, they
 * become a committed snapshot without files, and the outcome is SNAPSHOTS_EXISTS: nobody fetches or
 * unpacks the layer. A snapshot's lower layers that are remote are one tree, which `images` mounts
 * at ROOT/ID/fs of the highest of them when it is first needed. Without the label nothing is
 * remote.
 *
 * Any thread may make any call. Changes are made one after the other, each with its I/O; reading
 * does not wait for them.
 */
#ifndef NODE_SNAPSHOT_SNAPSHOTS_H
#define NODE_SNAPSHOT_SNAPSHOTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"
#include "node/snapshot/entries.h"
#include "node/snapshot/filter.h"
#include "node/snapshot/folders.h"

enum snapshots_outcome {
    SNAPSHOTS_DONE,
    SNAPSHOTS_EXISTS,       /* the name is taken, or the layers of the label are here */
    SNAPSHOTS_PRECONDITION, /* the snapshot is not in the state for this; the error says more */
    SNAPSHOTS_FAILED,       /* the error says why */
};

/* The layers that a remote snapshot is to stand for. */
struct snapshots_wanted {
    const char *chain;    /* the chain ID */
    const char *image;    /* containerd.io/snapshot/cri.image-ref; "": not told */
    const char *manifest; /* …cri.manifest-digest; "" */
    const char *layer;    /* …cri.layer-digest; "" */
};

struct snapshots_found {
    char *image;     /* its name "HOST/NAME@DIGEST", the caller's to free() */
    unsigned layers; /* how many of its layers the chain has */
    bool is_whole;   /* these are all of them */
};

/* Where images come from that stream. Any thread may call; the calls may wait for the network. */
struct snapshots_images {
    void *context;
    /* Whether there is an image whose lowest layers have that chain ID, and that can be mounted
     * from now on without any network. False: ERROR_NOT_FOUND (it does not stream), or another
     * error; either way the layer is unpacked as usual. `*stop`: nobody waits any more. */
    bool (*find)(void *context, const struct snapshots_wanted *wanted, const atomic_bool *stop,
                 struct snapshots_found *found, struct error *error);
    /* Mounts the tree of the lowest `layers` layers at `directory`, read only. It is no error when
     * that is mounted there already. */
    bool (*mount)(void *context, const char *image, unsigned layers, const char *directory,
                  const atomic_bool *stop, struct error *error);
    /* Ends a mount. It is no error when nothing is mounted there. False: it is mounted still. */
    bool (*unmount)(void *context, const char *directory, struct error *error);
};

struct snapshots_settings {
    const char *root; /* an absolute path without `:`, `,` and `\`; made if absent */
    const struct snapshots_images *images; /* NULL: nothing is remote; copied */
};

struct snapshots;

/* Reads the records, deletes what belongs to none, and mounts again what active snapshots need. One
 * process a ROOT. NULL: ERROR_INVALID (root), ERROR_BUSY (another process has ROOT), ERROR_CORRUPT
 * (the records are damaged), ERROR_IO, ERROR_NO_SPACE, ERROR_MEMORY. */
struct snapshots *snapshots_open(const struct snapshots_settings *settings, struct error *error);
/* No call may be under way. Mounts stay. */
void snapshots_close(struct snapshots *snapshots);

/* What containerd is to mount: one file system. */
struct snapshots_mount {
    const char *type; /* "bind" or "overlay" */
    char *source;     /* owned */
    char *options[4]; /* owned */
    unsigned count;
};
void snapshots_mount_finish(struct snapshots_mount *mount);
/* snapshots_mount_finish() at the end of the scope. */
#define cleanup_snapshots_mount __attribute__((cleanup(snapshots_mount_finish)))

/* Called for a snapshot under a lock: it reads the entry and calls nothing here. */
typedef void snapshots_show(void *context, const struct entry *entry);

/* What a request says of a new snapshot. */
struct snapshots_request {
    const char *key, *parent; /* "": no parent */
    json_t *labels;           /* an object of strings; borrowed, and not changed afterwards */
    const atomic_bool *stop;  /* set when nobody waits for the outcome; NULL: never */
};

/* Makes an active snapshot, or a view, and says how to mount it. */
enum snapshots_outcome snapshots_prepare(struct snapshots *snapshots, enum entry_kind kind,
                                         const struct snapshots_request *request,
                                         struct snapshots_mount *mount, struct error *error);
enum snapshots_outcome snapshots_mounts(struct snapshots *snapshots, const char *key,
                                        const atomic_bool *stop, struct snapshots_mount *mount,
                                        struct error *error);

/* Makes an active snapshot, `request->key`, a committed one called `name`. One that has no parent
 * may get one now. */
enum snapshots_outcome snapshots_commit(struct snapshots *snapshots, const char *name,
                                        const struct snapshots_request *request,
                                        struct error *error);
enum snapshots_outcome snapshots_remove(struct snapshots *snapshots, const char *key,
                                        struct error *error);
enum snapshots_outcome snapshots_stat(struct snapshots *snapshots, const char *key,
                                      snapshots_show *show, void *context, struct error *error);

/* Replaces the labels, or those that `paths` names (`labels.KEY`, `labels`); shows the result. */
enum snapshots_outcome snapshots_update(struct snapshots *snapshots, const char *key,
                                        const json_t *labels, const char *const *paths,
                                        size_t path_count, snapshots_show *show, void *context,
                                        struct error *error);
void snapshots_list(struct snapshots *snapshots, const struct filters *filters,
                    snapshots_show *show, void *context);

/* Remote snapshots take nothing: their bytes count in the agent's own cache. */
enum snapshots_outcome snapshots_usage(struct snapshots *snapshots, const char *key, uint64_t *size,
                                       uint64_t *inodes, struct error *error);
/* Deletes folders that belong to no snapshot. */
void snapshots_cleanup(struct snapshots *snapshots);

#endif
