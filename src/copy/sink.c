/* Zero bytes for a sink. */
#include "copy/sink.h"

bool sink_write_zeros(const struct sink *sink, uint64_t count, struct error *error) {
    static const char zeros[64 << 10];
    while (count) {
        const size_t length = count < sizeof zeros ? (size_t)count : sizeof zeros;
        if (!sink_write(sink, zeros, length, error))
            return false;
        count -= length;
    }
    return true;
}
