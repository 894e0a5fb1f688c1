/* Plots of the history: requests, hit ratio, bytes, errors and times to the first byte. Any thread.
 */
#ifndef PAGE_TIMELINE_H
#define PAGE_TIMELINE_H

#include "base/buffer.h"
#include "registry/page/history.h"

void timeline_write(struct buffer *out, const struct history *history,
                    const struct history_figures totals[HISTORY_RANGES], int64_t now_s);

#endif
