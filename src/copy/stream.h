/*
 * A blob on its way from a source to a destination, without a file in between: a few threads read
 * ranges of it into a window of memory, and one thread takes the bytes out in their order, hashes
 * them and writes them.
 *
 * The window has a fixed size, so that memory stays flat however large the blob is: a thread that
 * has read ahead to its end waits. The last bytes are handed out only when the digest of all of
 * them is right. When the taker has lost bytes and wants earlier ones again, they are read again.
 *
 * A source that takes no ranges, or that can be read in one go only, is read by one thread.
 *
 * Threads: copy_stream_new(), the body and copy_stream_free() belong to one thread.
 */
#ifndef COPY_STREAM_H
#define COPY_STREAM_H

#include "copy/destination.h"

enum {
    COPY_STREAM_READERS = 16,     /* the most that read one blob at once */
    COPY_STREAM_WINDOW = 4 << 20, /* bytes of a window, when memory is no matter */
    COPY_STREAM_WINDOW_LEAST = 256 << 10,
};

struct copy_stream_settings {
    struct copy_source *source; /* outlives the stream */
    struct digest digest;
    uint64_t size;
    unsigned readers;        /* at once; at least 1 */
    size_t window;           /* bytes; at least COPY_STREAM_WINDOW_LEAST */
    const atomic_bool *stop; /* set: reading ends within a second (CLOSED); NULL: never */
    /* Called with the number of bytes that were handed out so far, by the thread that takes them;
     * it falls when bytes are wanted again. NULL: nobody wants to know. */
    void (*on_progress)(void *context, uint64_t bytes);
    void *context;
};

struct copy_stream;

/* Reads nothing yet: the first seek of the body begins. NULL: out of memory. */
struct copy_stream *copy_stream_new(const struct copy_stream_settings *settings,
                                    struct error *error);
/* Ends the reading, waits for its threads. NULL is allowed. */
void copy_stream_free(struct copy_stream *stream);

/* The blob as copy_destination_write_blob() takes it; lives as long as the stream. */
struct copy_body *copy_stream_body(struct copy_stream *stream);

#endif
