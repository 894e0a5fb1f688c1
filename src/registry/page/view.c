/* The frame of every page, and how pages write images. */
#include <stdio.h>
#include "registry/page/files.h"
#include "registry/page/html.h"
#include "registry/page/page_private.h"

/* How many upstreams there are, and how many of them are not asked for now. */
static void count_upstreams(const struct upstreams *upstreams, unsigned *all,
                            unsigned *left_alone) {
    struct upstream *upstream = NULL;
    char reason[UPSTREAM_REASON_SIZE];
    *all = *left_alone = 0;
    while ((upstream = upstreams_next(upstreams, upstream))) {
        ++*all;
        *left_alone += !upstream_is_asked(upstream, reason);
    }
}

static void write_state(const struct view *view, bool as_class, struct buffer *out) {
    unsigned all, left_alone;
    count_upstreams(view->visitor->upstreams, &all, &left_alone);
    const bool degraded = cache_is_degraded(view->page->settings.cache);
    if (as_class)
        buffer_append_string(out, degraded ? "bad" : left_alone ? "warn" : "good");
    else if (degraded)
        buffer_append_string(out, "Nothing new can be kept: see the log");
    else if (left_alone)
        buffer_printf(out, "%u of %u upstreams not responding", left_alone, all);
    else
        buffer_append_string(out, "Serving");
}

static void append_hash(struct buffer *out, const char *path) {
    buffer_append_string(out, files_find(text_of(path))->hash);
}

static void fill_frame(void *context, struct text name, struct buffer *out) {
    struct view *view = context;
    if (text_is(name, "title"))
        html_text(out, view->title);
    else if (text_is(name, "icon"))
        append_hash(out, "/tarn/page.svg");
    else if (text_is(name, "style"))
        append_hash(out, "/tarn/page.css");
    else if (text_is(name, "script"))
        append_hash(out, "/tarn/page.js");
    else if (text_is(name, "search"))
        html_text_of(out, view->search);
    else if (text_is(name, "state"))
        write_state(view, false, out);
    else if (text_is(name, "state-class"))
        write_state(view, true, out);
    else if (text_is(name, "main"))
        html_fill(out, files_template(view->main), view->fill, view);
    else if (text_is(name, "version"))
        buffer_append_string(out, TARN_VERSION);
    else if (text_is(name, "uptime"))
        html_duration(out, view->now_s - view->page->began_s);
}

void view_write(struct view *view, struct buffer *out) {
    html_fill(out, files_template("page"), fill_frame, view);
}

bool view_may_see(const struct view *view, const char *host, const char *path) {
    const struct page_visitor *visitor = view->visitor;
    struct repository_name name;
    if (!visitor->may_see)
        return true;
    return repository_name_parse(text_of(host), text_of(path), &name) &&
           visitor->may_see(visitor->context, &name);
}

void view_image_name(const struct catalog_image *image, char *out, size_t size) {
    char digest[DIGEST_STRING_SIZE];
    if (image->tags_here)
        snprintf(out, size, "%s/%s:%s", image->host, image->path, image->tags[0]);
    else
        snprintf(out, size, "%s/%s@%s", image->host, image->path,
                 digest_format(&image->digest, digest));
}

void view_image_link(struct buffer *out, const struct catalog_image *image) {
    char name[VIEW_IMAGE_NAME], digest[DIGEST_STRING_SIZE];
    snprintf(name, sizeof name, "%s/%s@%s", image->host, image->path,
             digest_format(&image->digest, digest));
    buffer_append_string(out, "<a href=\"./?image=");
    html_parameter(out, name);
    buffer_append_string(out, "\">");
    html_text(out, image->host);
    buffer_append_string(out, "/<wbr>");
    html_text(out, image->path);
    if (image->tags_here) {
        buffer_append_string(out, "<wbr>:");
        html_text(out, image->tags[0]);
    } else {
        buffer_append_string(out, "<wbr>@");
        html_text_of(out, (struct text){digest, 19}); /* sha256: and 12 digits */
    }
    buffer_append_string(out, "</a>");
}
