/* Copies one blob: finds it at the destination, mounts it, or sends its bytes. Threads: any. */
#ifndef COPY_BLOB_H
#define COPY_BLOB_H

#include "copy/destination.h"
#include "copy/stream.h"

enum copy_state { COPY_STATE_COPIED, COPY_STATE_MOUNTED, COPY_STATE_PRESENT };

const char *copy_state_name(enum copy_state state); /* "copied", "mounted", "present" */

struct copy_blob {
    struct copy_source *source;
    struct copy_destination *destination;
    struct digest digest;
    uint64_t size;
    unsigned readers;                                   /* connections at once; copy_blob_share() */
    size_t window;                                      /* bytes of memory */
    bool dry_run;                                       /* only find out what would be done */
    const atomic_bool *stop;                            /* may be NULL */
    void (*on_progress)(void *context, uint64_t bytes); /* as in stream.h; may be NULL */
    void *context;
};

/* How many connections and bytes each of so many blobs gets that are copied at once, so that all of
 * them together stay within a bound. */
void copy_blob_share(const struct copy_source *source, unsigned at_once, unsigned *readers,
                     size_t *window);

bool copy_blob(const struct copy_blob *blob, enum copy_state *state, struct error *error);

#endif
