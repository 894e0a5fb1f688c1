/*
 * The body of a request: bytes in memory, or a range of a file, which is read as it is sent.
 * Libcurl may send a body a second time, when a kept connection turns out to be closed; see
 * client_request.once.
 */
#ifndef CLIENT_BODY_H
#define CLIENT_BODY_H

#include <curl/curl.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"

struct client_body {
    const void *bytes; /* NULL: the file's */
    int fd;            /* read with pread(), so that its own position does not matter */
    uint64_t offset;   /* in the file */
    uint64_t length;   /* bytes to send; 0: an empty body */
};

/* Private to client/: how far a body has been sent. */
struct body_reader {
    const struct client_body *body;
    uint64_t sent;
    int64_t read_ms;     /* clock_ms() of the last read; 0: none yet */
    struct error *error; /* set when a read fails */
    bool failed;
};

/* CURLOPT_READFUNCTION and CURLOPT_SEEKFUNCTION; their data is a struct body_reader. */
size_t body_read(char *out, size_t size, size_t count, void *reader);
int body_seek(void *reader, curl_off_t offset, int origin);

#endif
