/* Hands the body of a request to libcurl. */
#include "client/body.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "base/file.h"

/* From the source, at most `size` bytes. */
static size_t read_source(struct body_reader *reader, char *out, size_t size) {
    const struct client_body *body = reader->body;
    ssize_t got = size ? body->source->read(body->source->context, body->offset + reader->sent, out,
                                            size, reader->error)
                       : 0;
    reader->waits = got == CLIENT_SOURCE_NOTHING;
    if (reader->waits)
        return CURL_READFUNC_PAUSE;
    if (got == 0 && size && body->length != CLIENT_LENGTH_UNKNOWN)
        error_set(reader->error, ERROR_IO, "the source of the body ends too early");
    else if (got >= 0) {
        reader->sent += (uint64_t)got;
        reader->ended = got == 0 || reader->sent == body->length;
        return (size_t)got;
    }
    reader->failed = true;
    return CURL_READFUNC_ABORT;
}

size_t body_read(char *out, size_t size, size_t count, void *context) {
    struct body_reader *reader = context;
    const struct client_body *body = reader->body;
    uint64_t left = body->length - reader->sent;
    size_t wanted = size * count < left ? size * count : (size_t)left;
    reader->read_ms = clock_ms();
    if (reader->closed)
        return CURL_READFUNC_ABORT;
    /* Right before the bytes are sent, because the process may have been stopped for a while in the
     * middle of libcurl's work. */
    if (!cancel_check(reader->cancel, reader->error)) {
        reader->failed = true;
        return CURL_READFUNC_ABORT;
    }
    if (body->source)
        return read_source(reader, out, wanted);
    if (body->bytes) {
        memcpy(out, (const char *)body->bytes + reader->sent, wanted);
    } else if (wanted) {
        ssize_t got = file_read_at(body->fd, out, wanted, body->offset + reader->sent);
        if (got <= 0) {
            reader->failed = true;
            if (got < 0)
                error_set_errno(reader->error, errno, "cannot read the file to send");
            else
                error_set(reader->error, ERROR_IO, "the file to send ends %llu bytes too early",
                          (unsigned long long)left);
            return CURL_READFUNC_ABORT;
        }
        wanted = (size_t)got;
    }
    reader->sent += wanted;
    return wanted;
}

int body_seek(void *context, curl_off_t offset, int origin) {
    struct body_reader *reader = context;
    if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > reader->body->length)
        return CURL_SEEKFUNC_FAIL;
    reader->sent = (uint64_t)offset;
    reader->ended = reader->waits = false;
    return CURL_SEEKFUNC_OK;
}
