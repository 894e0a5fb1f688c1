/* The life of the page: its thread, its file, and which page a query means. */
#include "registry/page/page.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "registry/page/html.h"
#include "registry/page/page_private.h"
#include "registry/page/saved.h"
#include "store/note.h"

enum {
    SAVE_MS = 60 * 1000,      /* between two writes of ROOT/history */
    SHARED_MS = 1000,         /* as long a page is sent to all */
    WAIT_MS = 1500,           /* that a visitor waits for the list of images */
    WAITING_MOST = 4,         /* visitors */
    READERS_MOST = 4,         /* visitors for whom an image is read from the disk */
    CATALOG_LEAST_MS = 2000,  /* between two readings of the store */
    CATALOG_SHARE = 50,       /* reading takes at most so small a part of the time */
    CATALOG_MOST_MS = 300000, /* between two readings of the store, however long one takes */
    LOOKING_MS = 15000,       /* after which a visitor that does not come back has left */
    FORGET_MS = 600 * 1000,   /* after which nobody's list of images is freed */
    RETRY_MS = 300,           /* while the store is still being scanned */
};

/* ---- life ---- */

struct page *page_new(const struct page_settings *settings) {
    struct page *page = calloc(1, sizeof *page);
    if (!page)
        return NULL;
    page->settings = *settings;
    page->began_s = clock_wall_s();
    pulls_init(&page->pulls);
    errors_init(&page->errors);
    lock_init(&page->history_lock);
    lock_init(&page->shared_lock);
    lock_init(&page->catalog_lock);
    condition_init(&page->catalog_changed);
    return page;
}

static void shared_release(struct page_shared *shared) {
    if (!shared || atomic_fetch_sub(&shared->references, 1) != 1)
        return;
    buffer_finish(&shared->html);
    free(shared);
}

void page_free(struct page *page) {
    if (!page)
        return;
    page_stop(page);
    shared_release(page->shared);
    catalog_release(page->catalog);
    pulls_finish(&page->pulls);
    errors_finish(&page->errors);
    lock_finish(&page->history_lock);
    lock_finish(&page->shared_lock);
    lock_finish(&page->catalog_lock);
    condition_finish(&page->catalog_changed);
    free(page);
}

/* ---- what happens ---- */

void page_note_pull(struct page *page, const struct repository_name *repository,
                    const struct digest *digest) {
    pulls_note(&page->pulls, repository, digest, clock_wall_s());
}

void page_note_error(struct page *page, const struct repository *repository, const char *reference,
                     int status, const char *text) {
    struct errors_entry entry = {.status = status, .repository = repository->name};
    snprintf(entry.upstream, sizeof entry.upstream, "%s", upstream_name(repository->upstream));
    snprintf(entry.reference, sizeof entry.reference, "%s", reference);
    snprintf(entry.text, sizeof entry.text, "%s", text);
    errors_note(&page->errors, &entry, clock_wall_s());
    atomic_fetch_add_explicit(&page->errors_noted, 1, memory_order_relaxed);
}

void page_count(struct page *page) {
    struct history_figures now = {0};
    lock_acquire(&page->history_lock); /* so that no thread adds figures older than `counted` */
    page->settings.read_figures(page->settings.context, &now);
    now.errors = atomic_load_explicit(&page->errors_noted, memory_order_relaxed);
    const struct history_figures more = history_difference(&page->counted, &now);
    history_add(&page->history, clock_wall_s(), &more);
    page->counted = now;
    lock_release(&page->history_lock);
}

/* ---- ROOT/history ---- */

static void load(struct page *page) {
    struct error error = {0};
    cleanup_buffer struct buffer file = {0};
    struct text rest;
    const size_t content = history_length() + pulls_length();
    bool ok =
        store_note_read(page->settings.store, NOTE_HISTORY, saved_length(content), &file, &error);
    if (!ok && error.kind == ERROR_NOT_FOUND)
        return;
    if (ok && !saved_open((struct text){file.bytes, file.length}, content, &rest))
        ok = error_set(&error, ERROR_CORRUPT, "the file is cut, or its checksum is wrong");
    if (!ok) {
        log_at(LOG_WARN, "the history of the page begins anew", LOG_STRING("error", error.text));
        return;
    }
    lock_acquire(&page->history_lock);
    history_read(&page->history, &rest, clock_wall_s());
    lock_release(&page->history_lock);
    pulls_read(&page->pulls, &rest);
}

/* `*failed`: it could not be written the last time, which is logged once. */
static void save(struct page *page, bool *failed) {
    struct error error = {0};
    cleanup_buffer struct buffer file = {0};
    page_count(page);
    saved_begin(&file);
    lock_acquire(&page->history_lock);
    history_write(&page->history, &file);
    lock_release(&page->history_lock);
    pulls_write(&page->pulls, &file);
    bool ok = saved_end(&file) || error_set(&error, ERROR_MEMORY, "out of memory");
    ok =
        ok && store_note_write(page->settings.store, NOTE_HISTORY, file.bytes, file.length, &error);
    if (!ok && !*failed)
        log_at(LOG_WARN, "the history of the page is not kept", LOG_STRING("error", error.text));
    *failed = !ok;
}

/* ---- the list of images ---- */

/* How long a list of images is shown before it is read again. */
static int64_t catalog_pause_ms(const struct catalog *catalog) {
    const int64_t pause_ms = catalog->took_ms * CATALOG_SHARE;
    return pause_ms < CATALOG_LEAST_MS  ? CATALOG_LEAST_MS
           : pause_ms > CATALOG_MOST_MS ? CATALOG_MOST_MS
                                        : pause_ms;
}

/* Reads the store. False: it is to be tried again soon. */
static bool renew_catalog(struct page *page) {
    struct error error = {0};
    struct store_usage usage;
    const struct cancel cancel = {.stop = &page->stopping};
    store_usage(page->settings.store, &usage);
    if (!usage.complete)
        return false;
    struct catalog *catalog = catalog_read(page->settings.store, &cancel, &error);
    if (!catalog && error.kind != ERROR_CLOSED)
        log_at(LOG_WARN, "the page cannot list the images", LOG_STRING("error", error.text));
    lock_acquire(&page->catalog_lock);
    struct catalog *old = catalog ? page->catalog : NULL;
    if (catalog)
        page->catalog = catalog;
    page->catalog_ms = clock_ms();
    page->is_stale = false;
    condition_broadcast(&page->catalog_changed);
    lock_release(&page->catalog_lock);
    catalog_release(old);
    return true;
}

static void forget_catalog(struct page *page) {
    lock_acquire(&page->catalog_lock);
    struct catalog *old = NULL;
    if (page->catalog && clock_ms() - page->wanted_ms > FORGET_MS) {
        old = page->catalog;
        page->catalog = NULL;
    }
    lock_release(&page->catalog_lock);
    catalog_release(old);
}

/* The list that is there, with a reference; NULL: none. Has it read again when it is old. *is_old:
 * nobody has looked for so long that a visitor should wait for the next one; `must_not_wait`: this
 * visitor comes again for that. */
static struct catalog *take_catalog(struct page *page, bool must_not_wait, bool *is_old) {
    const int64_t now = clock_ms();
    lock_acquire(&page->catalog_lock);
    struct catalog *catalog = page->catalog;
    const int64_t age = now - page->catalog_ms;
    const bool was_watched = page->wanted_ms && now - page->wanted_ms < LOOKING_MS;
    *is_old = page->has_thread && !was_watched && (!catalog || age > catalog_pause_ms(catalog));
    if (!*is_old || !must_not_wait)
        page->wanted_ms = now;
    if (!page->is_stale && (!catalog ? !page->catalog_ms || age > CATALOG_LEAST_MS
                                     : age > catalog_pause_ms(catalog))) {
        page->is_stale = true;
        condition_broadcast(&page->catalog_changed);
    }
    if (catalog)
        catalog_keep(catalog);
    lock_release(&page->catalog_lock);
    return catalog;
}

/* Waits until the list has been read again, but not for long. */
static void wait_for_catalog(struct page *page) {
    const int64_t until_ms = clock_ms() + WAIT_MS;
    lock_acquire(&page->catalog_lock);
    if (page->waiting < WAITING_MOST) {
        page->waiting++;
        while (page->is_stale && !atomic_load(&page->stopping) &&
               condition_wait_until(&page->catalog_changed, &page->catalog_lock, until_ms))
            ;
        page->waiting--;
    }
    lock_release(&page->catalog_lock);
}

/* ---- the thread ---- */

/* Waits until `until_ms`, or until the list of images is wanted. */
static bool wait_for_work(struct page *page, int64_t until_ms) {
    lock_acquire(&page->catalog_lock);
    while (!atomic_load(&page->stopping) && !page->is_stale &&
           condition_wait_until(&page->catalog_changed, &page->catalog_lock, until_ms))
        ;
    const bool wanted = page->is_stale;
    lock_release(&page->catalog_lock);
    return wanted;
}

/* Waits a moment, but not for the list of images. */
static void pause_ms(struct page *page, int64_t ms) {
    const struct cancel cancel = {.stop = &page->stopping};
    cancel_sleep(&cancel, clock_ms() + ms, NULL);
}

static void run(void *argument) {
    struct page *page = argument;
    int64_t save_ms = clock_ms() + SAVE_MS;
    bool failed = false;
    setpriority(PRIO_PROCESS, 0, 10); /* of this thread, on Linux */
    while (!atomic_load(&page->stopping)) {
        const bool wanted = wait_for_work(page, save_ms);
        if (wanted && !atomic_load(&page->stopping) && !renew_catalog(page))
            pause_ms(page, RETRY_MS);
        if (clock_ms() >= save_ms) {
            save(page, &failed);
            forget_catalog(page);
            save_ms = clock_ms() + SAVE_MS;
        }
    }
    save(page, &failed);
}

bool page_start(struct page *page, struct error *error) {
    load(page);
    page->has_thread = thread_start("page", THREAD_STACK_SYSTEM, run, page, &page->thread, error);
    return page->has_thread;
}

void page_stop(struct page *page) {
    lock_acquire(&page->catalog_lock);
    atomic_store(&page->stopping, true);
    condition_broadcast(&page->catalog_changed);
    lock_release(&page->catalog_lock);
    if (page->has_thread)
        pthread_join(page->thread, NULL);
    page->has_thread = false;
}

/* ---- the pages ---- */

/* The page that all may see, at most SHARED_MS old, with a reference. NULL: another thread writes
 * the first one, or out of memory. */
static struct page_shared *take_shared(struct page *page, bool *must_write) {
    lock_acquire(&page->shared_lock);
    const bool is_old = !page->shared || clock_ms() - page->shared_ms >= SHARED_MS;
    *must_write = is_old && !page->is_writing;
    if (*must_write)
        page->is_writing = true;
    struct page_shared *shared = *must_write ? NULL : page->shared;
    if (shared)
        atomic_fetch_add(&shared->references, 1);
    lock_release(&page->shared_lock);
    return shared;
}

/* Puts a new page in the place of the old one; NULL: it could not be written. */
static void put_shared(struct page *page, struct page_shared *shared) {
    struct page_shared *old = NULL;
    lock_acquire(&page->shared_lock);
    page->is_writing = false;
    if (shared) {
        old = page->shared;
        page->shared = shared;
        page->shared_ms = clock_ms();
        atomic_fetch_add(&shared->references, 1);
    }
    lock_release(&page->shared_lock);
    shared_release(old);
}

static struct page_shared *write_shared(struct view *view) {
    struct page_shared *shared = calloc(1, sizeof *shared);
    if (!shared)
        return NULL;
    atomic_init(&shared->references, 1);
    overview_write(view, &shared->html);
    if (!shared->html.failed)
        return shared;
    shared_release(shared);
    return NULL;
}

static void write_overview(struct view *view, struct buffer *out) {
    cleanup_buffer struct buffer html = {0};
    bool must_write = false;
    struct page_shared *shared =
        view->visitor->may_see ? NULL : take_shared(view->page, &must_write);
    if (must_write) {
        shared = write_shared(view);
        put_shared(view->page, shared);
    }
    if (!shared)
        overview_write(view, &html);
    const struct buffer *page = shared ? &shared->html : &html;
    html_put_host(out, (struct text){page->bytes, page->length}, view->visitor->host);
    out->failed = out->failed || page->failed;
    shared_release(shared);
}

/* The value of a parameter, decoded; "" when it is malformed or too long. False: it is not there.
 */
static bool parameter(struct text query, const char *name, char *out, size_t size) {
    while (query.length) {
        char plain[600];
        struct text rest, value, key = text_cut(text_cut(query, '&', &rest), '=', &value);
        if (text_is(key, name) && value.at) {
            text_copy(value, plain, sizeof plain);
            for (char *c = plain; *c; c++)
                *c = *c == '+' ? ' ' : *c; /* as a form sends a space */
            if (!text_percent_decode(text_of(plain), out, size))
                out[0] = '\0';
            return true;
        }
        query = rest.at ? rest : (struct text){"", 0};
    }
    return false;
}

static enum page_result write_image(struct view *view, struct text name, struct buffer *out) {
    struct page *page = view->page;
    enum page_result result = PAGE_BUSY;
    if (atomic_fetch_add(&page->readers, 1) < READERS_MOST) {
        cleanup_buffer struct buffer html = {0};
        result = image_page_write(view, name, &html) ? PAGE_WRITTEN : PAGE_NOT_FOUND;
        html_put_host(out, (struct text){html.bytes, html.length}, view->visitor->host);
        out->failed = out->failed || html.failed;
    }
    atomic_fetch_sub(&page->readers, 1);
    return result;
}

static enum page_result write_search(struct view *view, struct buffer *out) {
    cleanup_buffer struct buffer html = {0};
    search_write(view, &html);
    html_put_host(out, (struct text){html.bytes, html.length}, view->visitor->host);
    out->failed = out->failed || html.failed;
    return PAGE_WRITTEN;
}

enum page_result page_write(struct page *page, const struct page_visitor *visitor,
                            struct text query, bool must_not_wait, struct buffer *out) {
    char search[200], image[600], order[16];
    bool is_old;
    const bool is_image = parameter(query, "image", image, sizeof image),
               is_search = !is_image && parameter(query, "search", search, sizeof search);
    if (must_not_wait && (is_image || is_search || visitor->may_see))
        return PAGE_MUST_WAIT;
    struct view view = {.page = page, .visitor = visitor, .now_s = clock_wall_s()};
    view.catalog = take_catalog(page, must_not_wait && !visitor->is_hurried, &is_old);
    if (is_old && !visitor->is_hurried) {
        catalog_release(view.catalog);
        if (must_not_wait)
            return PAGE_MUST_WAIT;
        wait_for_catalog(page);
        view.catalog = take_catalog(page, false, &is_old);
    }
    enum page_result result = PAGE_WRITTEN;
    if (is_image) {
        result = write_image(&view, text_of(image), out);
    } else if (is_search) {
        view.search = text_of(search);
        view.order = parameter(query, "order", order, sizeof order) ? order : "used";
        result = write_search(&view, out);
    } else {
        write_overview(&view, out);
    }
    catalog_release(view.catalog);
    return result;
}

/* ---- pages that others write ---- */

struct framed {
    struct view view; /* first: the same address */
    const char *heading;
    struct text content;
};

static void fill_framed(void *context, struct text name, struct buffer *out) {
    const struct framed *framed = context;
    if (text_is(name, "heading"))
        html_text(out, framed->heading);
    else if (text_is(name, "content"))
        buffer_append(out, framed->content.at, framed->content.length);
}

void page_write_framed(struct page *page, const struct page_visitor *visitor, const char *heading,
                       struct text content, struct buffer *out) {
    struct framed framed = {
        .view = {.page = page,
                 .visitor = visitor,
                 .now_s = clock_wall_s(),
                 .title = "Images of a repository - tarn",
                 .main = "images",
                 .fill = fill_framed},
        .heading = heading,
        .content = content,
    };
    view_write(&framed.view, out);
}
