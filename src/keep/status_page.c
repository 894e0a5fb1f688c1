/* The page for people: one row an image, one column a node. */
#include <stdio.h>
#include <string.h>
#include "base/units.h"
#include "keep/status.h"
#include "keep/survey.h"

enum { COLUMN_LIMIT = 50 }; /* nodes; with more, a row has counts */

static const char head[] =
    "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>tarn keep</title>"
    "<meta name=\"viewport\" content=\"width=device-width\">"
    "<meta http-equiv=\"refresh\" content=\"30\"><style>"
    ":root{color-scheme:light dark}"
    "body{font:15px/1.5 system-ui,sans-serif;margin:2em;color:CanvasText;background:Canvas}"
    "table{border-collapse:collapse;margin:1em 0}"
    "th,td{padding:.25em .6em;text-align:left;border-bottom:1px solid #8886}"
    ".kept{color:light-dark(#176b2c,#7fd695)}.pulling{color:light-dark(#1455b8,#8ab8ff)}"
    ".failed{color:light-dark(#b3261e,#ff9d94)}.pending,.skipped{opacity:.75}"
    "code{font-size:.93em}</style></head><body><h1>tarn keep</h1>\n";

static void append_text(struct buffer *out, const char *text) {
    for (; *text; text++) {
        unsigned char byte = (unsigned char)*text;
        if (strchr("<>&\"'", byte))
            buffer_printf(out, "&#%d;", byte);
        else if (byte >= ' ' && byte != 0x7f)
            buffer_append(out, text, 1);
    }
}

static void append_image_name(struct buffer *out, const struct keep_image *image) {
    buffer_append_string(out, "<code>");
    append_text(out, image->name);
    buffer_append_string(out, image->tag ? ":" : "@");
    append_text(out, image->tag ? image->tag : image->digest);
    buffer_append_string(out, "</code>");
}

static void append_cell(struct buffer *out, const struct keep_cell_view *cell) {
    const char *state = keep_state_name(cell->state);
    buffer_printf(out, "<td class=\"%s\" title=\"", state);
    append_text(out, cell->reason);
    buffer_printf(out, "\">%s</td>", state);
}

static void append_row(struct buffer *out, const struct keep_survey *survey, size_t index,
                       struct buffer *failures) {
    const struct keep_plan *plan = survey->keeper->plan;
    size_t counts[KEEP_STATES] = {0};
    struct keep_image image;
    char size[24];
    keep_plan_image(plan, (size_t)survey->keep, index, &image);
    units_format_size(image.size, size, sizeof size);
    buffer_append_string(out, "<tr><td>");
    append_image_name(out, &image);
    buffer_printf(out, "</td><td>%s</td>", image.size ? size : "");
    for (size_t i = 0; i < survey->node_count; i++) {
        struct keep_cell_view cell;
        keep_plan_cell(plan, (size_t)survey->keep, index, survey->nodes[i], survey->now, &cell);
        counts[cell.state]++;
        if (survey->node_count <= COLUMN_LIMIT)
            append_cell(out, &cell);
        if (cell.state != KEEP_FAILED || failures->length > 200000)
            continue;
        buffer_append_string(failures, "<li>");
        append_image_name(failures, &image);
        buffer_append_string(failures, " on ");
        append_text(failures, keep_plan_node(plan, survey->nodes[i])->name);
        buffer_append_string(failures, ": ");
        append_text(failures, cell.reason);
        buffer_append_string(failures, "</li>\n");
    }
    for (int state = 0; survey->node_count > COLUMN_LIMIT && state < KEEP_STATES; state++)
        buffer_printf(out, "<td class=\"%s\">%zu</td>", keep_state_name((enum keep_state)state),
                      counts[state]);
    buffer_append_string(out, "</tr>\n");
}

static void append_columns(struct buffer *out, const struct keep_survey *survey) {
    buffer_append_string(out, "<table><tr><th>image</th><th>size</th>");
    for (size_t i = 0; survey->node_count <= COLUMN_LIMIT && i < survey->node_count; i++) {
        buffer_append_string(out, "<th>");
        append_text(out, keep_plan_node(survey->keeper->plan, survey->nodes[i])->name);
        buffer_append_string(out, "</th>");
    }
    for (int state = 0; survey->node_count > COLUMN_LIMIT && state < KEEP_STATES; state++)
        buffer_printf(out, "<th>%s</th>", keep_state_name((enum keep_state)state));
    buffer_append_string(out, "</tr>\n");
}

static void append_refused_nodes(struct buffer *out, const struct keep_survey *survey) {
    const struct keep_plan *plan = survey->keeper->plan;
    size_t count = 0;
    for (size_t n = 0; n < keep_plan_node_count(plan) && count < COLUMN_LIMIT; n++) {
        const struct keep_node *node = keep_plan_node(plan, n);
        char comment[KEEP_COMMENT_SIZE];
        if (keep_node_eligible(node, &survey->kept->spec->nodes, comment) != KEEP_NODE_INELIGIBLE)
            continue;
        buffer_append_string(out, count++ ? "<li>" : "<h3>Nodes left out</h3><ul><li>");
        append_text(out, node->name);
        buffer_append_string(out, ": ");
        append_text(out, comment);
        buffer_append_string(out, "</li>\n");
    }
    if (count)
        buffer_append_string(out, "</ul>\n");
}

static void append_sources(struct buffer *out, const struct keep_survey *survey) {
    const struct keep_list *list = survey->kept->list;
    if (!list)
        buffer_append_string(out, "<p>Its repositories were not listed yet.</p>\n");
    for (size_t i = 0; list && i < list->source_count; i++) {
        if (!*list->sources[i].error)
            continue;
        buffer_append_string(out, "<p class=\"failed\">");
        append_text(out, list->sources[i].error);
        buffer_append_string(out, "</p>\n");
    }
}

static void append_keep(struct buffer *out, const struct keep_survey *survey) {
    size_t images = keep_plan_image_count(survey->keeper->plan, (size_t)survey->keep);
    cleanup_buffer struct buffer failures = {0};
    buffer_append_string(out, "<h2>");
    append_text(out, survey->kept->spec->name);
    buffer_printf(out, "</h2>\n<p>%zu image%s on %zu node%s.</p>\n", images, images == 1 ? "" : "s",
                  survey->node_count, survey->node_count == 1 ? "" : "s");
    append_sources(out, survey);
    append_columns(out, survey);
    for (size_t i = 0; i < images; i++)
        append_row(out, survey, i, &failures);
    buffer_append_string(out, "</table>\n");
    if (failures.length)
        buffer_printf(out, "<h3>Failed</h3><ul>%s</ul>\n", failures.bytes);
    append_refused_nodes(out, survey);
}

bool keep_status_write_page(struct keeper *keeper, struct buffer *out) {
    char why[600];
    buffer_append_string(out, head);
    if (!keeper_is_ready(keeper, why, sizeof why)) {
        buffer_append_string(out, "<p class=\"failed\">");
        append_text(out, why);
        buffer_append_string(out, "</p>\n");
    }
    lock_acquire(&keeper->state_lock);
    size_t shown = 0;
    for (size_t i = 0; i < keeper->kept_count; i++) {
        struct keep_survey survey;
        if (keeper->kepts[i].is_hidden ||
            !keep_survey_begin(keeper, keeper->kepts[i].spec->name, &survey, NULL))
            continue;
        append_keep(out, &survey);
        keep_survey_finish(&survey);
        shown++;
    }
    lock_release(&keeper->state_lock);
    buffer_append_string(out, shown ? "</body></html>\n"
                                    : "<p>Nothing is to be kept. The section keep of the "
                                      "configuration says what is.</p></body></html>\n");
    return !out->failed;
}
