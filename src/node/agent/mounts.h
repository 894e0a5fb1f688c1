/*
 * The mounts of the agent: what is shown at which folder, kept in the file ROOT/mounts.json, so
 * that each worker and each start has the same ones.
 *
 * A mount is in the file before it is made, and leaves the file after it was unmounted. So a crash
 * leaves no mount that nobody knows. Any thread; the orders for one folder come one after the
 * other.
 */
#ifndef NODE_AGENT_MOUNTS_H
#define NODE_AGENT_MOUNTS_H

#include <limits.h>
#include <stdatomic.h>
#include "base/buffer.h"
#include "node/agent/supervisor.h"
#include "node/agent/trees.h"

enum { MOUNTS_TOKEN_LIMIT = 64 };

struct mounts;

/* What is asked for. Texts but `image` and `folder` may be NULL. */
struct mounts_wanted {
    const char *image, *folder; /* the folder is absolute, without symbolic links */
    const char *platform, *from;
    /* Made up by who asks: the same order again, because its response was lost, succeeds. */
    const char *token;
    bool writable;
    /* Only so many of its lowest layers, and the image must stream (spans_image_open_lowest());
     * 0: all of it. */
    size_t layers;
    bool (*is_wanted)(void *context); /* whether who asks is still there; NULL: always */
    void *context;
};

/* Reads the file. `spans` and what `worker` refers to outlive the mounts. NULL: the error is set.
 */
struct mounts *mounts_open(const struct supervisor_worker *worker, struct spans *spans,
                           int64_t wait_ms, struct error *error);
/* Ends what is under way; nothing is unmounted, and nobody reads any more. NULL is allowed. */
void mounts_close(struct mounts *mounts);
/* Orders under way end soon, and later ones fail. */
void mounts_stop(struct mounts *mounts);

struct trees *mounts_trees(struct mounts *mounts);

/* Makes every mount of the file that is not there, as far as this needs no network. Then a thread
 * goes on with the rest. */
bool mounts_restore(struct mounts *mounts, struct error *error);

/* Mounts an image. `note` gets a sentence when it cannot stream. ERROR_BUSY: the folder is a mount
 * of ours; ERROR_NOT_FOUND: there is no such folder or image; and others of spans_image_open(). */
bool mounts_add(struct mounts *mounts, const struct mounts_wanted *wanted, struct buffer *note,
                struct error *error);
/* ERROR_NOT_FOUND: it is no mount of ours; ERROR_BUSY: it is in use. */
bool mounts_remove(struct mounts *mounts, const char *folder, struct error *error);

/* Appends a line of JSON for each mount. False: out of memory. */
bool mounts_write(struct mounts *mounts, struct buffer *out);
/* Sets tarn_node_mounts. */
void mounts_update_metrics(struct mounts *mounts);

#endif
