/* Private to registry/page/: what the page keeps, and what one page is written from. */
#ifndef PAGE_PAGE_PRIVATE_H
#define PAGE_PAGE_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include "base/cancel.h"
#include "base/lock.h"
#include "registry/page/catalog.h"
#include "registry/page/errors.h"
#include "registry/page/history.h"
#include "registry/page/page.h"
#include "registry/page/pulls.h"
#include "store/usage.h"

/* A page that several visitors are sent. */
struct page_shared {
    atomic_uint references;
    struct buffer html; /* with HTML_HOST in it */
};

struct page {
    struct page_settings settings;
    int64_t began_s; /* wall seconds */
    struct pulls pulls;
    struct errors errors;
    _Atomic uint64_t errors_noted;

    struct lock history_lock;
    struct history history GUARDED_BY(history_lock);
    struct history_figures
        counted GUARDED_BY(history_lock); /* when the history was last added to */

    struct lock shared_lock;
    struct page_shared *shared GUARDED_BY(shared_lock); /* NULL: none is written yet */
    int64_t shared_ms GUARDED_BY(shared_lock);          /* when it was written */
    bool is_writing GUARDED_BY(shared_lock);            /* a thread writes the next one */

    struct lock catalog_lock;
    struct condition catalog_changed;                 /* of what follows, and of `stopping` */
    struct catalog *catalog GUARDED_BY(catalog_lock); /* NULL: not read yet */
    int64_t catalog_ms GUARDED_BY(catalog_lock);      /* when it was read; 0: never */
    int64_t wanted_ms GUARDED_BY(catalog_lock);       /* when a visitor last came; 0: never */
    unsigned waiting GUARDED_BY(catalog_lock);        /* visitors that wait for it */
    bool is_stale GUARDED_BY(catalog_lock);           /* it is to be read now */

    atomic_uint readers; /* visitors that are shown an image, which is read from the disk */
    atomic_bool stopping;
    bool has_thread;
    pthread_t thread;
};

/* What a page is written from. */
struct view {
    struct page *page;
    const struct page_visitor *visitor;
    struct catalog *catalog; /* kept for the view; NULL: not read yet */
    int64_t now_s;
    const char *title;
    const char *main;          /* the template between the header and the footer */
    struct text search;        /* what was searched for */
    const char *order;         /* of a search: "used", "size", "pulls", "name" */
    struct overview *overview; /* of the overview */
    void (*fill)(void *view, struct text name, struct buffer *out); /* what `main` names */
};

/* Writes a page: `main` inside of the frame. */
void view_write(struct view *view, struct buffer *out);

bool view_may_see(const struct view *view, const char *host, const char *path);
/* HOST/NAME:TAG, or HOST/NAME@DIGEST when it has no tag. */
void view_image_name(const struct catalog_image *image, char *out, size_t size);
/* A link to the page of an image. */
void view_image_link(struct buffer *out, const struct catalog_image *image);
/* Adds what happened since the last call to the history. */
void page_count(struct page *page);

/* ---- overview.c, search.c, image_page.c ---- */

enum { VIEW_IMAGE_NAME = HOST_LIMIT + NAME_LIMIT + DIGEST_STRING_SIZE + 8 };

void overview_write(struct view *view, struct buffer *out);
void search_write(struct view *view, struct buffer *out);
/* False: there is no such image for this visitor; the page says so. */
bool image_page_write(struct view *view, struct text name, struct buffer *out);

#endif
