/* Bytes in memory as the body of a blob. */
#include "copy/held.h"

#include <string.h>

static bool seek(void *context, uint64_t offset, struct error *error) {
    struct held *held = context;
    (void)error;
    held->at = (size_t)offset;
    return true;
}

static bool read_some(void *context, void *bytes, size_t size, size_t *length, bool *ended,
                      struct error *error) {
    struct held *held = context;
    const size_t left = held->bytes->length - held->at;
    (void)error;
    *length = left < size ? left : size;
    if (*length)
        memcpy(bytes, held->bytes->bytes + held->at, *length);
    held->at += *length;
    *ended = held->at == held->bytes->length;
    return true;
}

struct copy_body held_body(struct held *held, const struct buffer *bytes,
                           const struct digest *digest, const atomic_bool *stop) {
    *held = (struct held){.bytes = bytes};
    return (struct copy_body){
        .context = held,
        .digest = *digest,
        .has_size = true,
        .size = bytes->length,
        .seek = seek,
        .read = read_some,
        .wake_fd = -1,
        .stop = stop,
    };
}
