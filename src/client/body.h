/*
 * The body of a request: bytes in memory, a range of a file, which is read as it is sent, or what a
 * source of the caller's has at each moment.
 * Libcurl may send a body a second time, when a kept connection turns out to be closed; see
 * client_request.once.
 */
#ifndef CLIENT_BODY_H
#define CLIENT_BODY_H

#include <curl/curl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/cancel.h"
#include "base/error.h"

enum { CLIENT_SOURCE_NOTHING = -1, CLIENT_SOURCE_FAILED = -2 };

/* Hands out the bytes of a body as they become known. Called by the thread that makes the request.
 */
struct client_source {
    void *context;
    /*
     * Copies at most `size` bytes that begin at `offset` to `out`. Returns how many, at least one;
     * 0: the body ends there; CLIENT_SOURCE_NOTHING: no byte is there yet; CLIENT_SOURCE_FAILED,
     * with the error set. Never waits. `offset` follows the last byte that was handed out, or is
     * any earlier one, when the body is sent again.
     */
    ssize_t (*read)(void *context, uint64_t offset, void *out, size_t size, struct error *error);
    int wake_fd; /* can be read when read() is worth a call; -1: it is called every 10 ms */
};

#define CLIENT_LENGTH_UNKNOWN UINT64_MAX

struct client_body {
    const void *bytes;                  /* NULL: the file's or the source's */
    const struct client_source *source; /* NULL: the file's */
    int fd;          /* read with pread(), so that its own position does not matter */
    uint64_t offset; /* in the file, or of the source */
    /* Bytes to send; 0: an empty body; of a source, CLIENT_LENGTH_UNKNOWN: as many as it has, which
     * are sent chunked. */
    uint64_t length;
};

/* Private to client/: how far a body has been sent. */
struct body_reader {
    const struct client_body *body;
    const struct cancel *cancel; /* of the request: what is cancelled sends no further byte */
    uint64_t sent;
    int64_t read_ms;     /* clock_ms() of the last read; 0: none yet */
    bool waits;          /* the source had nothing; the request goes on when it has */
    bool ended;          /* all of the body was handed over */
    bool closed;         /* nothing more is to be sent, because the response is here */
    struct error *error; /* set when a read fails, or is cancelled */
    bool failed;
};

/* CURLOPT_READFUNCTION and CURLOPT_SEEKFUNCTION; their data is a struct body_reader. */
size_t body_read(char *out, size_t size, size_t count, void *reader);
int body_seek(void *reader, curl_off_t offset, int origin);

#endif
