/*
 * Bytes that one thread makes and another sends: an upload's requests take their time while the
 * next bytes are packed and compressed. At most two buffers wait.
 *
 * One thread writes and finishes.
 */
#ifndef BUILD_BEHIND_H
#define BUILD_BEHIND_H

#include "copy/sink.h"

enum { BEHIND_BUFFER = 4 << 20 };

struct behind;

/* Bytes go to `sink`, on a thread of its own. NULL: ERROR_MEMORY, or there is no thread. */
struct behind *behind_new(const struct sink *sink, struct error *error);

/* False: the sink's error, also of earlier bytes. */
bool behind_write(struct behind *behind, const void *bytes, size_t length, struct error *error);

/* Waits until the sink has all bytes. Afterwards only behind_free() may follow. */
bool behind_finish(struct behind *behind, struct error *error);

/* Ends the thread, which may hand on one more buffer. NULL is allowed. */
void behind_free(struct behind *behind);

#endif
