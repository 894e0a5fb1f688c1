/* The overview: figures, plots, transfers, upstreams, storage, images and errors. */
#include <stdio.h>
#include <stdlib.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "registry/page/advice.h"
#include "registry/page/commands.h"
#include "registry/page/html.h"
#include "registry/page/page_private.h"
#include "registry/page/timeline.h"
#include "replica/replicas.h"

enum { FLIGHTS_READ = 200, FLIGHTS_SHOWN = 20, IMAGES_SHOWN = 8, ERRORS_SHOWN = 12, SHARES = 8 };

struct overview {
    struct store_usage usage;
    struct history history;
    struct history_figures totals[HISTORY_RANGES];
    struct flight_figures flights[FLIGHTS_READ];
    size_t flight_count; /* there are perhaps more */
    struct errors_entry errors[ERRORS_KEPT];
    size_t error_count; /* that the visitor may see */
};

/* ---- what happens now ---- */

static void read_errors(struct view *view) {
    struct overview *overview = view->overview;
    size_t count = errors_read(&view->page->errors, overview->errors);
    for (size_t i = 0; i < count; i++) {
        const struct errors_entry *entry = &overview->errors[i];
        if (view_may_see(view, entry->repository.host, entry->repository.path))
            overview->errors[overview->error_count++] = *entry;
    }
}

static void read_flights(struct view *view) {
    struct overview *overview = view->overview;
    size_t count = cache_flights(view->page->settings.cache, overview->flights, FLIGHTS_READ);
    count = count < FLIGHTS_READ ? count : FLIGHTS_READ;
    for (size_t i = 0; i < count; i++) {
        const struct flight_figures *flight = &overview->flights[i];
        if (view_may_see(view, flight->upstream, flight->repository))
            overview->flights[overview->flight_count++] = *flight;
    }
}

static void read_overview(struct view *view) {
    struct overview *overview = view->overview;
    struct page *page = view->page;
    page_count(page);
    lock_acquire(&page->history_lock);
    overview->history = page->history;
    lock_release(&page->history_lock);
    for (enum history_range range = 0; range < HISTORY_RANGES; range++)
        overview->totals[range] = history_total(&overview->history, range, view->now_s);
    store_usage(page->settings.store, &overview->usage);
    read_flights(view);
    read_errors(view);
}

/* ---- figures ---- */

static void write_stored_note(const struct view *view, struct buffer *out) {
    const struct store_usage *usage = &view->overview->usage;
    const uint64_t limit = view->visitor->max_size;
    if (!usage->complete)
        buffer_append_string(out, "counted so far; the store is still being read");
    else if (limit) {
        html_percent(out, usage->bytes, limit);
        buffer_append_string(out, " of ");
        html_size(out, limit);
    } else {
        buffer_append_string(out, "in ");
        html_number(out, usage->blobs);
        buffer_append_string(out, " blobs, without a limit");
    }
}

/* ---- transfers ---- */

static void write_flight(const struct flight_figures *flight, struct buffer *out) {
    buffer_append_string(out, "<tr data-key=\"");
    html_text(out, flight->digest);
    buffer_append_string(out, "\"><th scope=\"row\">");
    html_text(out, flight->upstream);
    buffer_append_string(out, "/<wbr>");
    html_text(out, flight->repository);
    buffer_append_string(out, "<br><code>");
    html_text_of(out, (struct text){flight->digest, strnlen(flight->digest, 19)});
    buffer_append_string(out, "</code><td>");
    if (flight->size) {
        buffer_printf(out, "<progress max=\"%llu\" value=\"%llu\" aria-label=\"Progress of ",
                      (unsigned long long)flight->size, (unsigned long long)flight->present);
        html_text(out, flight->repository);
        buffer_append_string(out, "\"></progress> ");
    }
    html_size(out, flight->present);
    if (flight->size) {
        buffer_append_string(out, " of ");
        html_size(out, flight->size);
    }
    buffer_append_string(out, "<td class=\"number\">");
    html_size(out, flight->rate > 0 ? (uint64_t)flight->rate : 0);
    buffer_printf(out,
                  "/s<td class=\"number\">%u<td class=\"number\">%u<td class=\"number\">%u</tr>\n",
                  flight->readers, flight->connections, flight->retries);
}

static void write_flights(const struct view *view, struct buffer *out) {
    const struct overview *overview = view->overview;
    if (!overview->flight_count) {
        buffer_append_string(out, "<p class=\"calm\">Nothing: the water is still.</p>");
        return;
    }
    buffer_append_string(
        out, "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Table of "
             "transfers\"><table>"
             "<thead><tr><th scope=\"col\">Blob<th scope=\"col\">Progress<th scope=\"col\" "
             "class=\"number\">Rate<th scope=\"col\" class=\"number\">Readers<th scope=\"col\" "
             "class=\"number\">Connections<th scope=\"col\" class=\"number\">Retries</thead>"
             "<tbody>\n");
    for (size_t i = 0; i < overview->flight_count && i < FLIGHTS_SHOWN; i++)
        write_flight(&overview->flights[i], out);
    buffer_append_string(out, "</tbody></table></div>");
    if (overview->flight_count > FLIGHTS_SHOWN)
        buffer_printf(out, "<p>And %zu more.</p>", overview->flight_count - FLIGHTS_SHOWN);
}

/* ---- upstreams ---- */

static const struct errors_entry *last_error_of(const struct overview *overview,
                                                const char *upstream) {
    for (size_t i = 0; i < overview->error_count; i++) {
        if (strcmp(overview->errors[i].upstream, upstream) == 0)
            return &overview->errors[i];
    }
    return NULL;
}

static void write_upstream(const struct view *view, struct upstream *upstream, struct buffer *out) {
    const struct upstream_settings *settings = upstream_settings(upstream);
    const struct errors_entry *error = last_error_of(view->overview, upstream_name(upstream));
    char reason[UPSTREAM_REASON_SIZE];
    const bool is_asked = upstream_is_asked(upstream, reason);
    buffer_append_string(out, "<tr><th scope=\"row\">");
    html_text(out, upstream_name(upstream));
    if (settings->is_default)
        buffer_append_string(out, " <small>default</small>");
    buffer_append_string(out, "<br><small>");
    if (settings->url) {
        html_text(out, settings->url);
        buffer_append_string(out, ", ");
    }
    html_text(out,
              settings->credentials ? credential_source_name(settings->credentials) : "anonymous");
    buffer_append_string(out, "</small><td>");
    if (is_asked) {
        buffer_append_string(out, "<span class=\"good\">asked</span>");
    } else {
        buffer_append_string(out, "<span class=\"bad\">left alone</span>: ");
        html_text(out, reason);
    }
    buffer_append_string(out, "<td>");
    if (error) {
        html_ago(out, error->last_s, view->now_s);
        buffer_append_string(out, ": ");
        html_text(out, error->text);
    } else {
        buffer_append_string(out, "none");
    }
    buffer_append_string(out, "<td>");
    if (error || !is_asked)
        html_text(out, advice_for(error ? error->status : 0, is_asked ? error->text : reason));
    else
        buffer_append_string(out, "nothing");
    buffer_append_string(out, "</tr>\n");
}

static void write_upstreams(const struct view *view, struct buffer *out) {
    struct upstream *upstream = NULL;
    buffer_append_string(
        out, "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Table of "
             "upstreams\"><table>"
             "<thead><tr><th scope=\"col\">Registry<th scope=\"col\">Health<th scope=\"col\">Last "
             "error<th scope=\"col\">What to do</thead><tbody>\n");
    while ((upstream = upstreams_next(view->visitor->upstreams, upstream)))
        write_upstream(view, upstream, out);
    buffer_append_string(out, "</tbody></table></div>");
}

/* ---- storage ---- */

enum { BAR = 1000 }; /* the width of the bar in its own units */

/* One part of the bar, from *at on. */
/* A section of its own, which is there only if there are replicas. */
static void write_replicas(const struct view *view, struct buffer *out) {
    static const char *const states[] = {[MEMBER_SELF] = "<span class=\"good\">this one</span>",
                                         [MEMBER_LIVE] = "<span class=\"good\">asked</span>",
                                         [MEMBER_DOWN] = "<span class=\"bad\">down</span>"};
    const struct replicas *replicas = view->page->settings.replicas;
    struct member_figures members[MEMBERS_LIMIT];
    if (!replicas)
        return;
    const size_t count = members_describe(replicas_members(replicas), clock_ms(), members);
    buffer_append_string(out, "<section aria-labelledby=\"replicas-heading\">"
                              "<h2 id=\"replicas-heading\">Replicas</h2>");
    buffer_append_string(
        out, "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Table of "
             "replicas\"><table><thead><tr><th scope=\"col\">Address<th scope=\"col\">State"
             "<th scope=\"col\" class=\"number\">Share of the work</thead><tbody>\n");
    for (size_t i = 0; i < count; i++) {
        buffer_append_string(out, "<tr><th scope=\"row\">");
        html_text(out, members[i].member.text);
        buffer_printf(out, "<td>%s<td class=\"number\">%.0f %%</tr>\n", states[members[i].state],
                      100 * members[i].share);
    }
    buffer_append_string(out, "</tbody></table></div></section>\n");
}

static void write_part(struct buffer *out, uint64_t bytes, uint64_t whole, unsigned colour,
                       double *at) {
    const double width = whole ? (double)BAR * ((double)bytes / (double)whole) : 0;
    buffer_printf(out, "<rect class=\"share-%u\" x=\"%.1f\" width=\"%.1f\" height=\"20\"/>", colour,
                  *at, width);
    *at += width;
}

static void write_share(struct buffer *out, const char *name, uint64_t bytes, uint64_t whole,
                        unsigned colour) {
    buffer_printf(out,
                  "<li><svg class=\"key\" viewBox=\"0 0 10 10\" aria-hidden=\"true\"><rect "
                  "class=\"share-%u\" width=\"10\" height=\"10\"/></svg> ",
                  colour);
    html_text(out, name);
    buffer_append_string(out, ": ");
    html_size(out, bytes);
    buffer_append_string(out, ", ");
    html_percent(out, bytes, whole);
    buffer_append_string(out, "</li>");
}

static void write_shares(const struct view *view, uint64_t whole, struct buffer *out) {
    const struct catalog *catalog = view->catalog;
    double at = 0;
    buffer_printf(out,
                  "<svg class=\"bar\" viewBox=\"0 0 %d 20\" preserveAspectRatio=\"none\" "
                  "aria-hidden=\"true\"><rect class=\"free\" width=\"%d\" height=\"20\"/>",
                  BAR, BAR);
    for (unsigned i = 0; i < catalog->upstream_count && i < SHARES; i++)
        write_part(out, catalog->upstreams[i].bytes, whole, i, &at);
    buffer_append_string(out, "</svg><ul class=\"shares\">");
    for (unsigned i = 0; i < catalog->upstream_count && i < SHARES; i++)
        write_share(out, catalog->upstreams[i].host, catalog->upstreams[i].bytes, whole, i);
    buffer_append_string(out, "</ul>");
}

static void write_storage(const struct view *view, struct buffer *out) {
    const struct store_usage *usage = &view->overview->usage;
    const uint64_t limit = view->visitor->max_size;
    uint64_t whole = limit;
    buffer_append_string(out, "<p>");
    html_size(out, usage->bytes);
    buffer_append_string(out, " in ");
    html_number(out, usage->blobs);
    buffer_append_string(out, " blobs");
    if (limit) {
        buffer_append_string(out, ", of at most ");
        html_size(out, limit);
    }
    buffer_append_string(out, "; ");
    html_size(out, usage->pinned_bytes);
    buffer_append_string(out, " pinned, ");
    html_size(out, usage->reserved_bytes + usage->partial_bytes);
    buffer_append_string(out, " of unfinished transfers.</p>");
    if (!view->catalog)
        return;
    for (size_t i = 0; !limit && i < view->catalog->upstream_count; i++)
        whole += view->catalog->upstreams[i].bytes;
    write_shares(view, whole, out);
    buffer_append_string(out, "<p class=\"note\">Layers that several registries share count for "
                              "each of them.</p>");
}

/* ---- images ---- */

typedef int (*comparison)(const struct view *view, const struct catalog_image *a,
                          const struct catalog_image *b);

static uint32_t pulls_of_image(const struct view *view, const struct catalog_image *image,
                               int64_t *last_s) {
    struct repository_name name;
    *last_s = 0;
    return repository_name_parse(text_of(image->host), text_of(image->path), &name)
               ? pulls_of(&view->page->pulls, &name, &image->digest, last_s)
               : 0;
}

/* What decides the order of a list of images. */
enum by { BY_PULLS, BY_TIME, BY_SIZE };

static uint64_t rank(const struct view *view, const struct catalog_image *image, enum by by) {
    int64_t last_s;
    const uint32_t pulls = by == BY_SIZE ? 0 : pulls_of_image(view, image, &last_s);
    if (by == BY_SIZE)
        return image->bytes;
    return by == BY_PULLS ? pulls
                          : (uint64_t)(last_s > image->last_used_s ? last_s : image->last_used_s);
}

struct ranked {
    const struct catalog_image *image;
    uint64_t rank;
};

/* Puts an image into its place of the first IMAGES_SHOWN. */
static void insert(struct ranked *list, size_t *count, struct ranked entry) {
    size_t at = *count;
    while (at > 0 && list[at - 1].rank < entry.rank)
        at--;
    if (at == IMAGES_SHOWN)
        return;
    const size_t last = *count < IMAGES_SHOWN ? (*count)++ : IMAGES_SHOWN - 1;
    memmove(&list[at + 1], &list[at], (last - at) * sizeof *list);
    list[at] = entry;
}

static void write_list(const struct view *view, const char *heading, enum by by,
                       struct buffer *out) {
    struct ranked list[IMAGES_SHOWN];
    size_t count = 0;
    for (size_t i = 0; i < view->catalog->count; i++) {
        const struct catalog_image *image = &view->catalog->images[i];
        const struct ranked entry = {image, rank(view, image, by)};
        if (entry.rank && (count < IMAGES_SHOWN || entry.rank > list[count - 1].rank) &&
            view_may_see(view, image->host, image->path))
            insert(list, &count, entry);
    }
    buffer_printf(out, "<div><h3>%s</h3>", heading);
    buffer_append_string(out, count ? "<ol class=\"images\">" : "<p class=\"calm\">None yet.</p>");
    for (size_t i = 0; i < count; i++) {
        buffer_append_string(out, "<li>");
        view_image_link(out, list[i].image);
        buffer_append_string(out, " <span class=\"amount\">");
        if (by == BY_SIZE)
            html_size(out, list[i].rank);
        else if (by == BY_TIME)
            html_ago(out, (int64_t)list[i].rank, view->now_s);
        else
            html_number(out, list[i].rank);
        buffer_append_string(out, "</span></li>");
    }
    buffer_append_string(out, count ? "</ol></div>" : "</div>");
}

static void write_images(const struct view *view, struct buffer *out) {
    const struct catalog *catalog = view->catalog;
    if (!catalog) {
        buffer_append_string(out, "<p class=\"calm\">The store is being read.</p>");
        return;
    }
    if (!view->visitor->may_see) {
        buffer_append_string(out, "<p>");
        html_number(out, catalog->all_images);
        buffer_append_string(out, " images in ");
        html_number(out, catalog->all_repositories);
        buffer_append_string(out, " repositories. <a href=\"./?search=\">Show all</a></p>");
    } else {
        buffer_append_string(out, "<p><a href=\"./?search=\">Show all</a></p>");
    }
    buffer_append_string(out, "<div class=\"lists\">");
    write_list(view, "Most pulled", BY_PULLS, out);
    write_list(view, "Latest", BY_TIME, out);
    write_list(view, "Largest", BY_SIZE, out);
    buffer_append_string(out, "</div>");
}

/* ---- errors ---- */

static void write_errors(const struct view *view, struct buffer *out) {
    const struct overview *overview = view->overview;
    if (!overview->error_count) {
        buffer_append_string(out, "<p class=\"calm\">None since tarn started.</p>");
        return;
    }
    buffer_append_string(out, "<ul class=\"errors\">");
    for (size_t i = 0; i < overview->error_count && i < ERRORS_SHOWN; i++) {
        const struct errors_entry *error = &overview->errors[i];
        buffer_printf(out, "<li><strong>%d</strong> ", error->status);
        html_text(out, error->text);
        buffer_append_string(out, " <span class=\"amount\">");
        html_text(out, error->repository.path);
        buffer_append_string(out, " ");
        html_text(out, error->reference);
        buffer_append_string(out, ", ");
        html_ago(out, error->last_s, view->now_s);
        if (error->count > 1)
            buffer_printf(out, ", %u times", error->count);
        buffer_append_string(out, "</span></li>");
    }
    buffer_append_string(out, "</ul>");
}

/* ---- all of it ---- */

static void write_default(const struct view *view, struct buffer *out) {
    const struct upstream *fallback = upstreams_default(view->visitor->upstreams);
    if (!fallback)
        return;
    buffer_append_string(out, " A name without a registry is one of ");
    html_text(out, upstream_name(fallback));
    buffer_append_string(out, ".");
}

static void fill(void *context, struct text name, struct buffer *out) {
    struct view *view = context;
    struct overview *overview = view->overview;
    const struct history_figures *hour = &overview->totals[HISTORY_HOUR],
                                 *month = &overview->totals[HISTORY_MONTH];
    if (text_is(name, "host"))
        buffer_append_string(out, HTML_HOST);
    else if (text_is(name, "default"))
        write_default(view, out);
    else if (text_is(name, "hit-ratio"))
        html_percent(out, hour->hits, hour->hits + hour->misses);
    else if (text_is(name, "saved"))
        html_size(out, month->pushed > month->pulled ? month->pushed - month->pulled : 0);
    else if (text_is(name, "sent"))
        html_size(out, overview->totals[HISTORY_DAY].pushed);
    else if (text_is(name, "stored"))
        html_size(out, overview->usage.bytes);
    else if (text_is(name, "stored-note"))
        write_stored_note(view, out);
    else if (text_is(name, "clients"))
        commands_write(view, out);
    else if (text_is(name, "history"))
        timeline_write(out, &overview->history, overview->totals, view->now_s);
    else if (text_is(name, "flights"))
        write_flights(view, out);
    else if (text_is(name, "upstreams"))
        write_upstreams(view, out);
    else if (text_is(name, "replicas"))
        write_replicas(view, out);
    else if (text_is(name, "storage"))
        write_storage(view, out);
    else if (text_is(name, "images"))
        write_images(view, out);
    else if (text_is(name, "errors"))
        write_errors(view, out);
}

void overview_write(struct view *view, struct buffer *out) {
    cleanup_free struct overview *overview = calloc(1, sizeof *overview);
    if (!overview) {
        out->failed = true;
        return;
    }
    view->overview = overview;
    read_overview(view);
    view->title = "tarn";
    view->main = "overview";
    view->fill = fill;
    view_write(view, out);
    view->overview = NULL;
}
