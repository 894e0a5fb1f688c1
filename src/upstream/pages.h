/*
 * The pages of a list that upstream sends: tags (distribution-spec, "Listing Tags") and referrers.
 *
 * What a registry says of the next page is followed at the registry's own origin alone
 * (struct upstream_head, `next`). A chain of pages has a bound, and so has each page.
 *
 *     struct pages *pages = pages_new(&repository, UPSTREAM_TAGS, NULL);
 *     do {
 *         ok = pages_get(pages, error);
 *         // pages->page is the next page
 *     } while (ok && pages_find_next(pages, &more, error) && more);
 *     pages_free(pages);
 *
 * Threads: any; the pages of a list belong to one thread at a time.
 */
#ifndef UPSTREAM_PAGES_H
#define UPSTREAM_PAGES_H

#include <jansson.h>
#include "base/siphash.h"
#include "oci/reference.h"
#include "upstream/asking.h"

enum {
    PAGES_LIMIT = 1000, /* pages of one list; with more, upstream probably repeats itself */
    PAGES_SIZE_LIMIT = 16 << 20, /* bytes of one page */
    PAGES_TAGS = 1000, /* tags that a page should have; unasked, some registries send 50 */
};

/* A list under way. On the heap, because a head is large. */
struct pages {
    struct asking asking; /* its request's stop and abandoned are the caller's to set */
    const struct repository *repository; /* borrowed */
    const char *member;                  /* the array of each page whose entries make up the list */
    json_t *page;                        /* owned: the page that came last */
    unsigned count;                      /* of pages that were asked for */

    char next[sizeof((struct upstream_head *)0)->next]; /* "": no further page */
    char last[TAG_LIMIT + 1];                           /* the last tag so far */
    struct siphash_key key;
    uint64_t *seen; /* owned: a hash of each page and of each link to one */
    size_t seen_count;
};

/* `what` is TAGS or REFERRERS; `reference` (borrowed) is that of struct upstream_request. NULL: out
 * of memory. */
struct pages *pages_new(const struct repository *repository, enum upstream_what what,
                        const char *reference);
void pages_free(struct pages *pages); /* NULL is allowed */

/*
 * Gets the next page. False, by the error's kind: as upstream_perform(); UNAVAILABLE, if it is no
 * page of such a list; UNSUPPORTED, if that is the first page of referrers, because whatever
 * responded is then no referrers API. A later page that is missing is UNAVAILABLE without a status,
 * because the list exists, but not all of it can be had.
 */
bool pages_get(struct pages *pages, struct error *error);

/*
 * Finds out whether there is a further page, which pages_get() then gets: the page that the
 * response names, or, when it names none but is as long as was asked for, the tags after its last
 * one, because some registries cut a list without saying so. False (UNAVAILABLE): the list has more
 * than PAGES_LIMIT pages, or a page came again to which a link has led.
 */
bool pages_find_next(struct pages *pages, bool *more, struct error *error);

/* Whether a refusal with this status is about the request, not about who sends it or how often. */
bool pages_is_about_request(int status);

/* Sets an error about the list: "upstream HOST: the list of tags of NAME <why>". Returns false. */
bool pages_fail(const struct pages *pages, struct error *error, const char *why);

#endif
