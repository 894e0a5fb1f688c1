/* Measures how fast a client is while a worker waits for it. */
#include "http/pace.h"

enum { WINDOW_MS = 2000 };

bool pace_is_kept(struct pace *pace, const struct bulkheads *bulkheads, uint64_t bytes,
                  int64_t now_ms) {
    if (!bulkheads || bulkheads->least_rate == 0 || !pot_is_empty(&bulkheads->workers)) {
        pace->since_ms = 0;
        return true;
    }
    int64_t elapsed_ms = now_ms - pace->since_ms;
    if (pace->since_ms != 0 && elapsed_ms < WINDOW_MS)
        return true;
    bool is_kept = pace->since_ms == 0 ||
                   (bytes > pace->bytes &&
                    (bytes - pace->bytes) * 1000 >= bulkheads->least_rate * (uint64_t)elapsed_ms);
    pace->since_ms = now_ms;
    pace->bytes = bytes;
    return is_kept;
}
