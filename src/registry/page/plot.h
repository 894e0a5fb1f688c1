/* Draws lines over time as SVG. Pure; any thread. */
#ifndef PAGE_PLOT_H
#define PAGE_PLOT_H

#include <stdbool.h>
#include "base/buffer.h"

enum { PLOT_STEPS = 180, PLOT_SERIES = 2 };

struct plot_line {
    const char *class; /* of the path, for its colour */
    bool is_area;
    /* The oldest first; 0 is at the bottom and 1 at the top. Below 0: nothing is known. */
    double heights[PLOT_STEPS];
};

/* `label` says in words what is to be seen; it is escaped here. */
void plot_write(struct buffer *out, const char *label, const struct plot_line *lines,
                unsigned line_count, unsigned steps);

#endif
