/* Reads the chunked coding, byte by byte outside of the chunks' data. */
#include "http/chunks.h"

#include <string.h>

enum {
    SIZE,      /* the hex digits of a size */
    EXTENSION, /* behind the digits, up to CR */
    SIZE_LF,   /* behind that CR */
    DATA,
    DATA_CR, /* behind the data */
    DATA_LF,
    TRAILER_START, /* at the beginning of a line behind the last chunk */
    TRAILER_NAME,
    TRAILER_VALUE,
    TRAILER_LF, /* behind the CR of a trailer */
    END_LF,     /* behind the CR of the empty line */
    ENDED,
};

static int digit_of(char byte) {
    if (byte >= '0' && byte <= '9')
        return byte - '0';
    if (byte >= 'a' && byte <= 'f')
        return byte - 'a' + 10;
    return byte >= 'A' && byte <= 'F' ? byte - 'A' + 10 : -1;
}

/* A byte of an extension or of a trailer's value: tab, space, visible, or above 0x7f. */
static bool is_text(char byte) {
    return byte == '\t' || ((unsigned char)byte >= ' ' && byte != 0x7f);
}

static bool is_token(char byte) {
    return byte && ((byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'z') ||
                    (byte >= 'A' && byte <= 'Z') || strchr("!#$%&'*+-.^_`|~", byte));
}

/* The line with the size has ended. */
static int begin_chunk(const struct chunks *chunks) {
    return chunks->left > 0 ? DATA : TRAILER_START;
}

/* One byte of the line with the size. NULL: it is right. */
static const char *read_size(struct chunks *chunks, char byte) {
    int digit = digit_of(byte);
    if (chunks->state == SIZE && digit >= 0) {
        if (++chunks->digits > CHUNKS_DIGITS)
            return "the size of a chunk has more than 15 digits";
        chunks->left = chunks->left * 16 + (uint64_t)digit;
        return NULL;
    }
    if (chunks->digits == 0)
        return "the size of a chunk is malformed";
    if (byte == '\r') {
        chunks->state = SIZE_LF;
        return NULL;
    }
    bool begins = chunks->state == SIZE;
    chunks->state = EXTENSION;
    if (begins && byte != ';')
        return "the size of a chunk is malformed";
    return is_text(byte) ? NULL : "an extension of a chunk is malformed";
}

/* One byte of the trailers. NULL: it is right. */
static const char *read_trailer(struct chunks *chunks, char byte) {
    static const char malformed[] = "a trailer is malformed";
    if (chunks->state == TRAILER_START && byte == '\r') {
        chunks->state = END_LF;
        return NULL;
    }
    if (chunks->state == TRAILER_VALUE) {
        chunks->state = byte == '\r' ? TRAILER_LF : TRAILER_VALUE;
        return byte == '\r' || is_text(byte) ? NULL : malformed;
    }
    if (chunks->state == TRAILER_NAME && byte == ':') {
        chunks->state = TRAILER_VALUE;
        return NULL;
    }
    chunks->state = TRAILER_NAME;
    return is_token(byte) ? NULL : malformed;
}

/* One byte outside of the data. NULL: it is right. */
static const char *read_byte(struct chunks *chunks, char byte) {
    switch (chunks->state) {
    case SIZE:
    case EXTENSION:
        if (++chunks->line > CHUNKS_LINE_LIMIT)
            return "the line with the size of a chunk is too long";
        return read_size(chunks, byte);
    case SIZE_LF:
        chunks->state = begin_chunk(chunks);
        chunks->line = 0;
        return byte == '\n' ? NULL : "the line with the size of a chunk has a CR without LF";
    case DATA_CR:
        chunks->state = DATA_LF;
        return byte == '\r' ? NULL : "a chunk is longer than its size";
    case DATA_LF:
        chunks->state = SIZE;
        chunks->digits = 0;
        return byte == '\n' ? NULL : "a chunk does not end with CRLF";
    case TRAILER_LF:
        chunks->state = TRAILER_START;
        return byte == '\n' ? NULL : "a trailer has a CR without LF";
    case END_LF:
        chunks->state = ENDED;
        return byte == '\n' ? NULL : "the end of the chunks has a CR without LF";
    default:
        if (++chunks->line > CHUNKS_TRAILERS_LIMIT)
            return "the trailers are too long";
        return read_trailer(chunks, byte);
    }
}

enum chunks_verdict chunks_read(struct chunks *chunks, char *bytes, size_t length, size_t *data,
                                size_t *used, const char **why) {
    size_t at = 0;
    *data = 0;
    while (at < length && chunks->state != ENDED) {
        if (chunks->state == DATA) {
            size_t now = length - at < chunks->left ? length - at : (size_t)chunks->left;
            memmove(bytes + *data, bytes + at, now);
            *data += now;
            at += now;
            chunks->left -= now;
            if (chunks->left == 0)
                chunks->state = DATA_CR;
        } else if ((*why = read_byte(chunks, bytes[at++]))) {
            return CHUNKS_BAD;
        }
    }
    *used = at;
    return chunks->state == ENDED ? CHUNKS_DONE : CHUNKS_MORE;
}
