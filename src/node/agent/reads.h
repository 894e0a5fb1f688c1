/*
 * Answers the kernel's requests for the files of images.
 *
 * The tree is the root, a folder for each number, and files in it: NUMBER/FILE, both in decimal.
 * The kernel knows a file by a node ID that is made of both, so that a new worker understands each
 * request without knowing what was asked before.
 *
 * Each channel has a thread. It answers at once what can be answered from this machine's disk. A
 * read that must wait goes to a thread of its own, so that a source that is silent stops no other
 * read; only when WAITING_LIMIT reads wait, a channel's thread waits itself.
 */
#ifndef NODE_AGENT_READS_H
#define NODE_AGENT_READS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include "node/agent/fuse.h"

enum { READS_WAITING_LIMIT = 480, READS_FILE_LIMIT = 60000 };

enum reads_outcome { READS_DONE, READS_FAILED, READS_MUST_WAIT };

struct reads_read {
    uint32_t number, file;
    uint64_t offset;
    size_t length;
    bool may_wait;
    const atomic_bool *stop; /* ends a wait */
};

/* Where the bytes come from. The functions are called by any thread. */
struct reads_source {
    /* The size of a file. False: there is no such file. Never waits. */
    bool (*size)(void *context, uint32_t number, uint32_t file, uint64_t *size);
    /* Fills all of `length` bytes, which lie in the file. MUST_WAIT only if not `may_wait`. */
    enum reads_outcome (*read)(void *context, const struct reads_read *read, void *out);
    void *context;
};

struct reads;

/* Starts the threads. `connection` stays open and the source usable until reads_free(). NULL: the
 * error is set. */
struct reads *reads_start(const struct fuse *connection, const struct reads_source *source,
                          struct error *error);

/* Ends the threads. Requests that were received and not answered stay so. NULL is allowed. */
void reads_free(struct reads *reads);

#endif
