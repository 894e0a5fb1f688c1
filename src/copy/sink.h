/* Where bytes go to as they are made: the next step of a layer on its way to a destination. */
#ifndef COPY_SINK_H
#define COPY_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"

struct sink {
    /* Takes all bytes, and may wait. False: the error is set, and nothing more may be written. */
    bool (*write)(void *context, const void *bytes, size_t length, struct error *error);
    void *context;
};

static inline bool sink_write(const struct sink *sink, const void *bytes, size_t length,
                              struct error *error) {
    return !length || sink->write(sink->context, bytes, length, error);
}

/* Writes `count` zero bytes. */
bool sink_write_zeros(const struct sink *sink, uint64_t count, struct error *error);

#endif
