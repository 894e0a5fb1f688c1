/*
 * The page at / for people: what tarn holds and does, and how to pull through it.
 *
 * The server writes the page whole, so that it can be read without script; the script asks for the
 * same page again and exchanges what has changed. A page says nothing of a repository that its
 * visitor may not pull from. Nothing here knows HTTP: registry/ answers the requests.
 *
 * What it costs is bounded. The page that all visitors may see is written at most once a second,
 * from memory. The list of images is read from the store by a thread of its own, and only while
 * somebody looks at the page. What happened is kept in ROOT/history, which is written each minute.
 *
 * Threads: all calls from any thread, page_start() and page_stop() from one.
 */
#ifndef PAGE_PAGE_H
#define PAGE_PAGE_H

#include <stdbool.h>
#include "base/buffer.h"
#include "base/error.h"
#include "cache/cache.h"
#include "registry/page/history.h"
#include "store/store.h"
#include "upstream/upstream.h"

struct page;

struct page_settings {
    struct cache *cache;
    struct store *store;
    const struct replicas *replicas; /* NULL: none */
    bool is_tls;                     /* clients come with https */
    /* Reads what was counted since the start. `errors` is left out. Called under a lock; must
     * neither wait nor take one. */
    void (*read_figures)(void *context, struct history_figures *out);
    void *context;
};

/* Everything in `settings` outlives the page. NULL when out of memory. */
struct page *page_new(const struct page_settings *settings);
void page_free(struct page *page); /* NULL is allowed; stops it first */

/* Reads ROOT/history and starts the thread. */
bool page_start(struct page *page, struct error *error);
void page_stop(struct page *page); /* allowed if it was never started */

/* ---- what happens, for the page ---- */

/* A manifest was sent to a client. Waits for nothing. */
void page_note_pull(struct page *page, const struct repository_name *repository,
                    const struct digest *digest);
/* A request failed with this status, because of the upstream or of tarn itself, and this message.
 * Takes a short lock. */
void page_note_error(struct page *page, const struct repository *repository, const char *reference,
                     int status, const char *text);

/* ---- the pages ---- */

struct page_visitor {
    const char *host; /* name and port by which the visitor knows this tarn */
    const struct upstreams *upstreams;
    uint64_t max_size; /* bytes of the cache; 0: no limit */
    bool is_hurried;   /* takes the list of images that is there, however old, because workers are
                          scarce */
    /* Whether the visitor may pull from the repository; NULL: from all. Must not wait. */
    bool (*may_see)(void *context, const struct repository_name *repository);
    void *context;
};

enum page_result {
    PAGE_WRITTEN,
    PAGE_NOT_FOUND, /* written, and says that there is no such image */
    PAGE_BUSY,      /* too many visitors wait for the disk: try again */
    PAGE_MUST_WAIT, /* nothing is written: only a call that may wait can answer */
};

/* Writes the page for the query "" (the overview), "search=TEXT" or "image=NAME" into `out`, which
 * is empty. */
enum page_result page_write(struct page *page, const struct page_visitor *visitor,
                            struct text query, bool must_not_wait, struct buffer *out);

/* Writes a page with this heading and this content, which is HTML. Never waits. */
void page_write_framed(struct page *page, const struct page_visitor *visitor, const char *heading,
                       struct text content, struct buffer *out);

#endif
