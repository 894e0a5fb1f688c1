/* The list of images, all of them or those that a search finds. */
#include <stdlib.h>
#include <string.h>
#include "base/cleanup.h"
#include "registry/page/html.h"
#include "registry/page/page_private.h"

enum { FOUND_SHOWN = 100 };

/* An image that was found, and what decides its place. */
struct found {
    const struct catalog_image *image;
    uint32_t pulls;
    int64_t used_s;
};

struct finding {
    struct found *found;
    size_t count;
};

static const struct {
    const char *order, *heading;
    bool is_number;
} columns[] = {
    {"name", "Image", false},
    {"size", "Size", true},
    {"pulls", "Pulls", true},
    {"used", "Last use", true},
};

/* ---- finding and sorting ---- */

static int by_used(const void *left, const void *right) {
    const struct found *a = left, *b = right;
    return (a->used_s < b->used_s) - (a->used_s > b->used_s);
}

static int by_size(const void *left, const void *right) {
    const struct found *a = left, *b = right;
    return (a->image->bytes < b->image->bytes) - (a->image->bytes > b->image->bytes);
}

static int by_pulls(const void *left, const void *right) {
    const struct found *a = left, *b = right;
    return (a->pulls < b->pulls) - (a->pulls > b->pulls);
}

static int by_name(const void *left, const void *right) {
    const struct catalog_image *a = ((const struct found *)left)->image,
                               *b = ((const struct found *)right)->image;
    int order = strcmp(a->host, b->host);
    order = order ? order : strcmp(a->path, b->path);
    return order ? order : strcmp(a->tags_here ? a->tags[0] : "", b->tags_here ? b->tags[0] : "");
}

static void sort(struct finding *finding, const char *order) {
    int (*compare)(const void *, const void *) = strcmp(order, "size") == 0    ? by_size
                                                 : strcmp(order, "pulls") == 0 ? by_pulls
                                                 : strcmp(order, "name") == 0  ? by_name
                                                                               : by_used;
    if (finding->count)
        qsort(finding->found, finding->count, sizeof *finding->found, compare);
}

static void find(const struct view *view, struct finding *finding) {
    const struct catalog *catalog = view->catalog;
    for (size_t i = 0; catalog && i < catalog->count; i++) {
        const struct catalog_image *image = &catalog->images[i];
        struct repository_name name;
        int64_t last_s;
        if (!catalog_matches(image, view->search.at) ||
            !view_may_see(view, image->host, image->path) ||
            !repository_name_parse(text_of(image->host), text_of(image->path), &name))
            continue;
        struct found *found = &finding->found[finding->count++];
        found->image = image;
        found->pulls = pulls_of(&view->page->pulls, &name, &image->digest, &last_s);
        found->used_s = last_s > image->last_used_s ? last_s : image->last_used_s;
    }
}

/* ---- writing ---- */

static void write_heads(const struct view *view, struct buffer *out) {
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
        const bool is_order = strcmp(view->order, columns[i].order) == 0;
        buffer_printf(out, "<th scope=\"col\"%s%s><a href=\"./?search=",
                      columns[i].is_number ? " class=\"number\"" : "",
                      !is_order                               ? ""
                      : strcmp(columns[i].order, "name") == 0 ? " aria-sort=\"ascending\""
                                                              : " aria-sort=\"descending\"");
        html_parameter(out, view->search.at);
        buffer_printf(out, "&amp;order=%s\">%s</a>", columns[i].order, columns[i].heading);
    }
}

static void write_tags(const struct catalog_image *image, struct buffer *out) {
    if (image->tag_count < 2)
        return;
    buffer_append_string(out, "<br><small>also ");
    for (unsigned i = 1; i < image->tags_here; i++) {
        buffer_append_string(out, i > 1 ? ", " : "");
        html_text(out, image->tags[i]);
    }
    if (image->tag_count > image->tags_here)
        buffer_printf(out, " and %zu more", image->tag_count - image->tags_here);
    buffer_append_string(out, "</small>");
}

static void write_found(const struct view *view, const struct found *found, struct buffer *out) {
    const struct catalog_image *image = found->image;
    buffer_append_string(out, "<tr><th scope=\"row\">");
    view_image_link(out, image);
    if (!image->complete)
        buffer_append_string(out, " <small>in part</small>");
    if (image->pinned)
        buffer_append_string(out, " <small>pinned</small>");
    write_tags(image, out);
    buffer_append_string(out, "<td class=\"number\">");
    html_size(out, image->bytes);
    buffer_append_string(out, "<td class=\"number\">");
    html_number(out, found->pulls);
    buffer_append_string(out, "<td class=\"number\">");
    html_ago(out, found->used_s, view->now_s);
    buffer_append_string(out, "</tr>\n");
}

static void write_table(const struct view *view, const struct finding *finding,
                        struct buffer *out) {
    if (!finding->count)
        return;
    buffer_append_string(out, "<div class=\"scroll\" tabindex=\"0\" role=\"region\" "
                              "aria-label=\"Table of images\"><table><thead><tr>");
    write_heads(view, out);
    buffer_append_string(out, "</thead><tbody>\n");
    for (size_t i = 0; i < finding->count && i < FOUND_SHOWN; i++)
        write_found(view, &finding->found[i], out);
    buffer_append_string(out, "</tbody></table></div>");
}

static void write_count(const struct view *view, const struct finding *finding,
                        struct buffer *out) {
    if (!view->catalog) {
        buffer_append_string(out, "The store is being read.");
        return;
    }
    html_number(out, finding->count);
    buffer_append_string(out, finding->count == 1 ? " image" : " images");
    if (finding->count > FOUND_SHOWN)
        buffer_printf(out, "; the first %d are shown", FOUND_SHOWN);
    buffer_append_string(out, ".");
    if (view->catalog->all_images > view->catalog->count) {
        buffer_append_string(out, " Only the ");
        html_number(out, view->catalog->count);
        buffer_append_string(out, " images that were used last are searched; tarn ls has all.");
    }
}

/* What a search is written from; the view's own members are used for the rest. */
struct search {
    struct view view; /* first: the same address */
    struct finding finding;
};

static void fill(void *context, struct text name, struct buffer *out) {
    struct search *search = context;
    if (text_is(name, "heading") && search->view.search.length) {
        buffer_append_string(out, "Images with “");
        html_text_of(out, search->view.search);
        buffer_append_string(out, "”");
    } else if (text_is(name, "heading")) {
        buffer_append_string(out, "All images");
    } else if (text_is(name, "found")) {
        write_count(&search->view, &search->finding, out);
    } else if (text_is(name, "table")) {
        write_table(&search->view, &search->finding, out);
    }
}

void search_write(struct view *view, struct buffer *out) {
    struct search search = {.view = *view};
    const size_t most = view->catalog ? view->catalog->count : 0;
    search.finding.found = calloc(most + 1, sizeof *search.finding.found);
    if (!search.finding.found) {
        out->failed = true;
        return;
    }
    find(&search.view, &search.finding);
    sort(&search.finding, view->order);
    search.view.title = "Images - tarn";
    search.view.main = "search";
    search.view.fill = fill;
    view_write(&search.view, out);
    free(search.finding.found);
}
