/* The view for people of what a repository holds at its registry: /?images=HOST/NAME. */
#include <stdio.h>
#include <stdlib.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "catalog/select.h"
#include "registry/call.h"
#include "registry/image_lists.h"
#include "registry/page/html.h"

enum { ROWS_SHOWN = 1000, NAME_SIZE = 600, FILTER_SIZE = 200, DIGEST_SHOWN = 12, TAGS_SHOWN = 20 };

/* What one view is written from. */
struct images_view {
    struct call *call;
    char name[NAME_SIZE];     /* as asked for */
    char filter[FILTER_SIZE]; /* as asked for; "": none */
    char glob[FILTER_SIZE + 2];
    enum catalog_order order;
    const struct catalog_image **rows; /* owned */
    size_t count;
};

static const struct {
    const char *order, *heading;
    enum catalog_order by;
    bool is_number;
} columns[] = {
    {"tag", "Tags", CATALOG_BY_TAG, false},     {NULL, "Digest", CATALOG_BY_TAG, false},
    {"size", "Size", CATALOG_BY_SIZE, true},    {"uploaded", "Uploaded", CATALOG_BY_UPLOAD, true},
    {NULL, "Platforms", CATALOG_BY_TAG, false},
};

enum { COLUMNS = sizeof columns / sizeof *columns };

/* ---- what is asked for ---- */

static void read_view(struct call *call, struct images_view *view) {
    char order[16];
    bool found;
    *view = (struct images_view){.call = call, .order = CATALOG_BY_UPLOAD};
    if (!http_query(call->request, "images", view->name, sizeof view->name, &found))
        view->name[0] = '\0';
    if (!http_query(call->request, "filter", view->filter, sizeof view->filter, &found))
        view->filter[0] = '\0';
    if (!http_query(call->request, "order", order, sizeof order, &found))
        return;
    for (int i = 0; i < COLUMNS; i++) {
        if (columns[i].order && strcmp(columns[i].order, order) == 0)
            view->order = columns[i].by;
    }
}

static int compare(const void *a, const void *b, void *order) {
    const struct catalog_image *const *left = a, *const *right = b;
    return catalog_image_compare(*left, *right, *(const enum catalog_order *)order);
}

/* Chooses the images that the visitor may see and that the filter matches: a glob, or a part of a
 * tag. False: no memory. */
static bool choose(struct images_view *view, const struct image_list *list) {
    bool is_glob = strpbrk(view->filter, "*?") != NULL;
    snprintf(view->glob, sizeof view->glob, "%s%s%s", is_glob ? "" : "*", view->filter,
             is_glob ? "" : "*");
    const char *const globs[] = {view->glob, NULL};
    const struct catalog_selection selection = {.tags = view->filter[0] ? globs : NULL};
    struct images_visible visible = {.call = view->call};
    view->rows = calloc(list->images.count + 1, sizeof(struct catalog_image *));
    if (!view->rows)
        return false;
    for (size_t i = 0; i < list->images.count; i++) {
        const struct catalog_image *image = &list->images.images[i];
        if (catalog_selects(&selection, image) && call_may_see_image(&visible, image))
            view->rows[view->count++] = image;
    }
    qsort_r(view->rows, view->count, sizeof(struct catalog_image *), compare, &view->order);
    return true;
}

/* ---- writing ---- */

static void write_form(const struct images_view *view, struct buffer *out) {
    buffer_append_string(out, "<form class=\"list\" action=\"./\" method=\"get\">"
                              "<label for=\"images\">Repository</label><input id=\"images\" "
                              "name=\"images\" type=\"search\" maxlength=\"500\" value=\"");
    html_text(out, view->name);
    buffer_append_string(out,
                         "\" placeholder=\"HOST/NAME\" autocomplete=\"off\" spellcheck=\"false\">"
                         "<label for=\"filter\">Filter by tag</label><input id=\"filter\" "
                         "name=\"filter\" type=\"search\" maxlength=\"150\" value=\"");
    html_text(out, view->filter);
    buffer_append_string(out, "\" placeholder=\"part of a tag, or a pattern like w_*\" "
                              "autocomplete=\"off\" spellcheck=\"false\"><button>Show</button>"
                              "</form>\n");
}

static void write_heads(const struct images_view *view, struct buffer *out) {
    for (int i = 0; i < COLUMNS; i++) {
        bool is_order = columns[i].order && columns[i].by == view->order;
        buffer_printf(out, "<th scope=\"col\"%s%s>",
                      columns[i].is_number ? " class=\"number\"" : "",
                      is_order ? " aria-sort=\"descending\"" : "");
        if (!columns[i].order) {
            buffer_printf(out, "%s", columns[i].heading);
            continue;
        }
        buffer_append_string(out, "<a href=\"./?images=");
        html_parameter(out, view->name);
        if (view->filter[0]) {
            buffer_append_string(out, "&amp;filter=");
            html_parameter(out, view->filter);
        }
        buffer_printf(out, "&amp;order=%s\">%s</a>", columns[i].order, columns[i].heading);
    }
}

static void write_words(const char *const *words, size_t count, struct buffer *out) {
    for (size_t i = 0; i < count && i < TAGS_SHOWN; i++) {
        buffer_append_string(out, i ? ", " : "");
        html_text(out, words[i]);
    }
    if (count > TAGS_SHOWN)
        buffer_printf(out, " and %zu more", count - TAGS_SHOWN);
}

static void write_row(const struct catalog_image *image, bool with_name, int64_t now_s,
                      struct buffer *out) {
    char digest[DIGEST_STRING_SIZE];
    digest_format(&image->digest, digest);
    const char *hex = strchr(digest, ':') + 1;
    buffer_append_string(out, "<tr><th scope=\"row\">");
    if (with_name) {
        html_text(out, image->repository);
        buffer_append_string(out, "<br>");
    }
    write_words(image->tags, image->tag_count, out);
    buffer_printf(out, "<td><code title=\"%s\">%.*s</code><td class=\"number\">", digest,
                  DIGEST_SHOWN, hex);
    if (image->size != CATALOG_UNTOLD)
        html_size(out, (uint64_t)image->size);
    buffer_append_string(out, "<td class=\"number\">");
    if (image->uploaded_us != CATALOG_UNTOLD)
        html_ago(out, image->uploaded_us / 1000000, now_s);
    buffer_append_string(out, "<td>");
    write_words(image->platforms, image->platform_count, out);
    buffer_append_string(out, "</tr>\n");
}

static void write_table(const struct images_view *view, bool with_names, struct buffer *out) {
    int64_t now_s = clock_wall_s();
    if (!view->count)
        return;
    buffer_append_string(out, "<div class=\"scroll\" tabindex=\"0\" role=\"region\" "
                              "aria-label=\"Table of images\"><table><thead><tr>");
    write_heads(view, out);
    buffer_append_string(out, "</thead><tbody>\n");
    for (size_t i = 0; i < view->count && i < ROWS_SHOWN; i++)
        write_row(view->rows[i], with_names, now_s, out);
    buffer_append_string(out, "</tbody></table></div>\n");
}

static void write_summary(const struct images_view *view, const struct image_lists_result *result,
                          struct buffer *out) {
    const struct image_list *list = result->list;
    buffer_append_string(out, "<p>");
    html_number(out, view->count);
    buffer_append_string(out, view->count == 1 ? " image" : " images");
    if (view->count > ROWS_SHOWN)
        buffer_printf(out, "; the first %d are shown", ROWS_SHOWN);
    buffer_printf(out, ", as %s told at %s.",
                  list->source == CATALOG_DOCKER ? "the registry" : "Artifact Registry",
                  list->listed_at);
    if (result->outcome == CACHE_STALE)
        buffer_append_string(out, " <strong>The registry does not answer now: this is the last "
                                  "list.</strong>");
    if (!list->is_whole)
        buffer_append_string(out, " <strong>These are not all images, because the registry limits "
                                  "the rate of requests.</strong>");
    buffer_append_string(out, " <a href=\"tarn/v1/images/");
    html_parameter(out, view->name);
    buffer_append_string(out, "\">As JSON</a></p>\n");
}

/* ---- answering ---- */

static int status_of(const struct error *error) {
    switch (error->kind) {
    case ERROR_NONE:
        return 200;
    case ERROR_INVALID:
    case ERROR_UNSUPPORTED:
        return 400;
    case ERROR_DENIED:
        return 403;
    case ERROR_NOT_FOUND:
        return 404;
    case ERROR_RATE_LIMITED:
        return 429;
    case ERROR_BUSY:
        return 503;
    case ERROR_TIMEOUT:
        return 504;
    case ERROR_MEMORY:
    case ERROR_IO:
    case ERROR_FILES:
    case ERROR_NO_SPACE:
        return 500;
    default:
        return 502;
    }
}

/* Whether the visitor may list the repository. What he may not pull does not exist for him. */
static bool may_list(const struct call *call, const struct catalog_question *question,
                     struct error *error) {
    return question->whole || call_may_read(call, &question->repository.name) ||
           error_set(error, ERROR_NOT_FOUND,
                     "there is no such repository, or you may not pull from it");
}

/* Finds the list. False: the error is set. */
static bool find(struct images_view *view, struct catalog_question *question,
                 struct image_lists_result *result, struct error *error) {
    struct call *call = view->call;
    if (!catalog_resolve(call->view->upstreams, text_of(view->name), question, error) ||
        !may_list(call, question, error))
        return false;
    if (call_find_images(call, question, result, error))
        return true;
    if (error->kind == ERROR_INVALID)
        error->kind = ERROR_UNAVAILABLE;
    return false;
}

static void write_content(struct images_view *view, struct buffer *out, int *status) {
    struct catalog_question question = {0};
    struct image_lists_result result = {0};
    struct error error = {0};
    write_form(view, out);
    *status = 200;
    if (!view->name[0])
        return;
    if (find(view, &question, &result, &error) && choose(view, result.list)) {
        write_summary(view, &result, out);
        write_table(view, question.whole, out);
    } else {
        *status = result.list ? 500 : status_of(&error);
        buffer_append_string(out, "<p role=\"status\">");
        html_text(out, *status == 500 ? "tarn failed; its log says why" : error.text);
        buffer_append_string(out, "</p>\n");
    }
    image_list_release(result.list);
    free(view->rows);
}

bool call_handle_images_page(struct call *call, const struct page_visitor *visitor) {
    struct images_view view;
    cleanup_buffer struct buffer content = {0}, body = {0};
    int status;
    if (call->must_not_wait)
        return false;
    read_view(call, &view);
    write_content(&view, &content, &status);
    page_write_framed(call->registry->page, visitor,
                      view.name[0] ? view.name : "Images of a repository",
                      (struct text){content.bytes, content.length}, &body);
    if (content.failed || body.failed)
        call_fail(call, 500, "UNKNOWN", "out of memory");
    else
        call_respond_page(call, status, &body);
    return true;
}
