/*
 * Private to http/. The chunked coding of a request's body (RFC 9112 §7.1), read strictly: what
 * another program could read in a different way is refused. Pure; hostile input.
 */
#ifndef HTTP_CHUNKS_H
#define HTTP_CHUNKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CHUNKS_DIGITS = 15,          /* hex digits of a chunk's size */
    CHUNKS_LINE_LIMIT = 4 << 10, /* bytes of the line with a chunk's size, extensions included */
    CHUNKS_TRAILERS_LIMIT = 16 << 10,
};

/* How far a body has been read. Zeroed: its first byte comes next. */
struct chunks {
    int state;
    uint64_t left;   /* bytes of the chunk that are still to come */
    unsigned digits; /* of its size, so far */
    size_t line;     /* bytes of the line, or of all trailers */
};

enum chunks_verdict { CHUNKS_MORE, CHUNKS_DONE, CHUNKS_BAD };

/*
 * Reads `length` bytes. Their data is moved to the beginning of `bytes`, and *data is how much of
 * it there is. DONE: the body has ended, and *used says how many bytes it took; the bytes behind
 * are left where they are. BAD: *why says what is wrong, and nothing more can be read.
 */
enum chunks_verdict chunks_read(struct chunks *chunks, char *bytes, size_t length, size_t *data,
                                size_t *used, const char **why);

#endif
