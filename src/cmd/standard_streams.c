/* Reads standard input and writes standard output without stdio. */
#include "cmd/standard_streams.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"

bool standard_input_read(size_t limit, struct buffer *out) {
    ssize_t got = 1;
    if (!buffer_reserve(out,
                        limit + 1)) /* all at once, because a buffer that grows leaves copies */
        return false;
    while (got > 0 && out->length <= limit) {
        got = read(STDIN_FILENO, out->bytes + out->length, limit + 1 - out->length);
        if (got < 0 && errno == EINTR)
            got = 1;
        else if (got > 0)
            out->length += (size_t)got;
    }
    out->bytes[out->length] = '\0';
    return got == 0;
}

bool standard_output_write(const struct buffer *bytes) {
    if (bytes->failed) {
        fputs("tarn: out of memory\n", stderr);
        return false;
    }
    if (!file_write_all(STDOUT_FILENO, bytes->bytes, bytes->length, NULL)) {
        fprintf(stderr, "tarn: write to standard output: %s\n", strerror(errno));
        return false;
    }
    return true;
}
