/* Draws the progress of tarn warm as bars on a terminal. */
#include "cmd/warm_progress.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/json.h"
#include "base/units.h"
#include "cmd/order_line.h"

enum {
    DRAW_MS = 100,
    LABEL_WIDTH = 24,   /* "4f4fb700ef54 manifest  " */
    FIGURES_WIDTH = 36, /* "1023.9 MiB of 1023.9 MiB, 12.0 MiB/s" */
    BAR_MOST = 50,
    BAR_LEAST = 8,
    LINES_LIMIT = 10000,
};

/* One manifest or blob. */
struct part {
    char digest[16], role[12], state[12];
    bool was_cached;
    uint64_t size, bytes;
};

struct warm_progress {
    FILE *terminal;
    char *image; /* the image in progress; NULL: none */
    struct part *parts;
    size_t count, capacity;
    unsigned drawn; /* lines above the cursor that the next drawing overwrites */
    int64_t drawn_ms, began_ms;
};

struct warm_progress *warm_progress_new(FILE *terminal) {
    struct warm_progress *progress = calloc(1, sizeof *progress);
    if (progress)
        progress->terminal = terminal;
    return progress;
}

static void reset(struct warm_progress *progress) {
    free(progress->image);
    progress->image = NULL;
    progress->count = 0;
    progress->drawn = 0;
}

void warm_progress_free(struct warm_progress *progress) {
    if (!progress)
        return;
    reset(progress);
    free(progress->parts);
    free(progress);
}

/* ---- drawing ---- */

static void size_of_terminal(const struct warm_progress *progress, unsigned *columns,
                             unsigned *rows) {
    struct winsize size = {0};
    ioctl(fileno(progress->terminal), TIOCGWINSZ, &size);
    *columns = size.ws_col ? size.ws_col : 80;
    *rows = size.ws_row ? size.ws_row : 24;
}

static void draw_bar(FILE *out, unsigned columns, uint64_t bytes, uint64_t size) {
    unsigned width = columns > LABEL_WIDTH + FIGURES_WIDTH + BAR_LEAST
                         ? columns - LABEL_WIDTH - FIGURES_WIDTH - 6
                         : 0;
    if (width > BAR_MOST)
        width = BAR_MOST;
    if (width < BAR_LEAST)
        return;
    unsigned full = bytes >= size ? width : (unsigned)((double)bytes / (double)size * width);
    putc('[', out);
    for (unsigned i = 0; i < width; i++)
        putc(i < full ? '=' : i == full ? '>' : ' ', out);
    fputs("] ", out);
}

/* Prints one line, cut to the width of the terminal so that it never takes up two. */
static void draw_line(struct warm_progress *progress, unsigned columns, const char *label,
                      uint64_t bytes, uint64_t size, const char *more) {
    char have[16], all[16], figures[80];
    units_format_size(bytes, have, sizeof have);
    units_format_size(size, all, sizeof all);
    snprintf(figures, sizeof figures, "%s of %s%s", have, all, more);
    int label_width = columns > LABEL_WIDTH ? LABEL_WIDTH - 2 : columns > 3 ? (int)columns - 3 : 0;
    fprintf(progress->terminal, "\r\033[K  %-*.*s", label_width, label_width, label);
    draw_bar(progress->terminal, columns, bytes, size);
    int space = columns > LABEL_WIDTH + 1 ? (int)(columns - LABEL_WIDTH - 1) : 0;
    fprintf(progress->terminal, "%.*s\n", space < FIGURES_WIDTH ? space : FIGURES_WIDTH, figures);
    progress->drawn++;
}

static void draw_part(struct warm_progress *progress, unsigned columns, const struct part *part) {
    char label[32];
    snprintf(label, sizeof label, "%s %s", part->digest, part->role);
    const char *more = strcmp(part->state, "failed") == 0 ? ", failed" : "";
    draw_line(progress, columns, label, part->bytes, part->size, more);
}

static void draw_total(struct warm_progress *progress, unsigned columns) {
    uint64_t bytes = 0, size = 0, fetched = 0;
    char rate[16], more[32] = "";
    for (size_t i = 0; i < progress->count; i++) {
        const struct part *part = &progress->parts[i];
        bytes += part->bytes;
        size += part->size;
        fetched += part->was_cached ? 0 : part->bytes;
    }
    double seconds = (double)(clock_ms() - progress->began_ms) / 1000;
    if (fetched > 0 && seconds > 0.2) {
        units_format_size((uint64_t)((double)fetched / seconds), rate, sizeof rate);
        snprintf(more, sizeof more, ", %s/s", rate);
    }
    draw_line(progress, columns, "total", bytes, size, more);
}

static bool is_under_way(const struct part *part) {
    return strcmp(part->state, "fetching") == 0 || strcmp(part->state, "failed") == 0;
}

/* Draws all parts if the terminal is high enough, else only those that move. */
static void draw(struct warm_progress *progress) {
    unsigned columns, rows;
    size_of_terminal(progress, &columns, &rows);
    unsigned space = rows > 4 ? rows - 3 : 1;
    bool all = progress->count <= space;
    if (progress->drawn)
        fprintf(progress->terminal, "\033[%uA", progress->drawn);
    progress->drawn = 0;
    fprintf(progress->terminal, "\r\033[K%.*s\n", (int)columns - 1, progress->image);
    progress->drawn++;
    for (size_t i = 0; i < progress->count && progress->drawn <= space; i++) {
        if (all || is_under_way(&progress->parts[i]))
            draw_part(progress, columns, &progress->parts[i]);
    }
    draw_total(progress, columns);
    fputs("\033[J", progress->terminal); /* lines of an earlier, longer drawing */
    fflush(progress->terminal);
    progress->drawn_ms = clock_ms();
}

/* ---- the lines of the response ---- */

static struct part *find_part(struct warm_progress *progress, const char *digest) {
    for (size_t i = 0; i < progress->count; i++) {
        if (strcmp(progress->parts[i].digest, digest) == 0)
            return &progress->parts[i];
    }
    if (progress->count == progress->capacity) {
        size_t capacity = progress->capacity ? progress->capacity * 2 : 32;
        struct part *grown = progress->count < LINES_LIMIT
                                 ? realloc(progress->parts, capacity * sizeof *grown)
                                 : NULL;
        if (!grown)
            return NULL;
        progress->parts = grown;
        progress->capacity = capacity;
    }
    struct part *part = &progress->parts[progress->count++];
    *part = (struct part){0};
    snprintf(part->digest, sizeof part->digest, "%s", digest);
    return part;
}

static void record_part(struct warm_progress *progress, const json_t *line) {
    char digest[13] = "";
    const char *hex = strchr(json_member_text(line, "digest"), ':');
    snprintf(digest, sizeof digest, "%.12s", hex ? hex + 1 : "");
    struct part *part = find_part(progress, digest);
    if (!part)
        return;
    snprintf(part->role, sizeof part->role, "%s", json_member_text(line, "role"));
    snprintf(part->state, sizeof part->state, "%s", json_member_text(line, "state"));
    part->size = order_line_number(line, "size");
    part->bytes = order_line_number(line, "bytes");
    part->was_cached = json_is_true(json_object_get(line, "was_cached"));
}

static void print_end(struct warm_progress *progress, const json_t *line) {
    char fetched[16], cached[16];
    double seconds = json_number_value(json_object_get(line, "seconds"));
    units_format_size(order_line_number(line, "bytes_fetched"), fetched, sizeof fetched);
    units_format_size(order_line_number(line, "bytes_cached"), cached, sizeof cached);
    bool failed = strcmp(json_member_text(line, "state"), "done") != 0;
    fprintf(progress->terminal, "%s: %s, %s fetched, %s had been cached, %.1f s\n",
            json_member_text(line, "image"), failed ? "failed" : "done", fetched, cached, seconds);
    fflush(progress->terminal);
    reset(progress);
}

void warm_progress_record(struct warm_progress *progress, const json_t *line) {
    bool is_end = !json_object_get(line, "digest");
    const char *image = json_member_text(line, "image");
    if (!progress->image) {
        progress->image = strdup(image);
        progress->began_ms = clock_ms();
    }
    if (!progress->image)
        return;
    if (!is_end)
        record_part(progress, line);
    if (progress->count && (is_end || clock_ms() - progress->drawn_ms >= DRAW_MS))
        draw(progress);
    if (is_end)
        print_end(progress, line);
}
