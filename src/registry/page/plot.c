/* Draws the page's plots. */
#include "registry/page/plot.h"

#include "registry/page/html.h"

enum { WIDTH = 360, HEIGHT = 100, BASE = 98, TOP = 4 };

static double x_of(unsigned step, unsigned steps) {
    return steps > 1 ? (double)WIDTH * step / (steps - 1) : 0;
}

static double y_of(double height) {
    return BASE - (BASE - TOP) * (height > 1 ? 1 : height);
}

/* One stretch without a gap, from `step` on; returns the step behind it. */
static unsigned write_stretch(struct buffer *out, const struct plot_line *line, unsigned step,
                              unsigned steps) {
    const unsigned first = step;
    buffer_printf(out, "M%.1f %.1f", x_of(step, steps),
                  line->is_area ? (double)BASE : y_of(line->heights[step]));
    for (; step < steps && line->heights[step] >= 0; step++) {
        if (line->is_area || step > first)
            buffer_printf(out, "L%.1f %.1f", x_of(step, steps), y_of(line->heights[step]));
    }
    if (line->is_area)
        buffer_printf(out, "L%.1f %dz", x_of(step - 1, steps), BASE);
    else if (step == first + 1)
        buffer_append_string(out, "h.1"); /* one point alone is seen as a dot */
    return step;
}

static void write_line(struct buffer *out, const struct plot_line *line, unsigned steps) {
    buffer_printf(out, "<path class=\"%s\" d=\"", line->class);
    for (unsigned step = 0; step < steps;) {
        if (line->heights[step] < 0)
            step++;
        else
            step = write_stretch(out, line, step, steps);
    }
    buffer_append_string(out, "\"/>");
}

void plot_write(struct buffer *out, const char *label, const struct plot_line *lines,
                unsigned line_count, unsigned steps) {
    buffer_append_string(out, "<svg role=\"img\" aria-label=\"");
    html_text(out, label);
    buffer_printf(out, "\" viewBox=\"0 0 %d %d\" preserveAspectRatio=\"none\">", WIDTH, HEIGHT);
    buffer_printf(out, "<path class=\"grid\" d=\"M0 %dH%dM0 %dH%dM0 %dH%d\"/>", TOP, WIDTH,
                  (TOP + BASE) / 2, WIDTH, BASE, WIDTH);
    for (unsigned i = 0; i < line_count; i++)
        write_line(out, &lines[i], steps);
    buffer_append_string(out, "</svg>");
}
