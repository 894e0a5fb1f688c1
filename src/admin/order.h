/*
 * What the cache holds, for its operator: listed, measured, removed, pruned, verified. It works on
 * the store, so that a stopped cache is handled by the same code as a running one.
 *
 * Each answer is lines of JSON, one object a line, written as it is found. The last line holds
 * "done":true; without it the answer is not whole. Looking at the contents is no use of them: what
 * was last used when stays as it was.
 *
 * Threads: any number of calls at once.
 */
#ifndef ADMIN_ORDER_H
#define ADMIN_ORDER_H

#include <jansson.h>
#include <stdatomic.h>
#include "cache/cache.h"
#include "store/store.h"

struct contents {
    struct store *store;
    struct cache *cache;         /* the one that runs on the store; NULL: none */
    uint64_t limit;              /* bytes that the cache stays under; 0: not known */
    const atomic_bool *stopping; /* set: every call ends soon, with ERROR_CLOSED; may be NULL */
};

struct contents_sink {
    /* A whole line with its newline. False: nobody takes any more, and the call ends. */
    bool (*write)(void *context, const char *bytes, size_t length);
    /* Asked now and then while nothing is written; false ends the call. May be NULL. */
    bool (*is_wanted)(void *context);
    void *context;
};

/*
 * A name is UPSTREAM/REPOSITORY with :TAG, with @DIGEST, or with neither: then all of the
 * repository is meant. UPSTREAM, REPOSITORY and TAG may be globs (text_matches_glob()). Docker Hub
 * is meant by any of its hosts, and gets its library/ in front of one-part names.
 */
bool contents_is_name(const char *text, struct error *error); /* ERROR_INVALID says why not */
enum { CONTENTS_NAMES_LIMIT = 1000 };                         /* in one order */

/*
 * A line an image, sorted by upstream, repository and first tag: {"upstream","repository",
 * "tags":[…],"digest","size","last_used","complete","pinned"}. An image is a manifest that has a
 * tag, or that no index of its repository names; one that is not held is left out. `size` counts
 * what is held of it, `complete` says whether that is all, and `last_used` is the latest use of any
 * of it. `names` NULL or empty: all.
 */
bool contents_ls(struct contents *contents, const char *const *names,
                 const struct contents_sink *sink, struct error *error);

/* One line: {"bytes","blobs","limit","pinned_bytes","partial_bytes","upstreams":{HOST:{"bytes",
 * "blobs"},…}}. A blob counts once for each upstream that it is linked by. */
bool contents_du(struct contents *contents, const struct contents_sink *sink, struct error *error);

/*
 * Removes images. A tag goes; its manifest when no other tag of the repository names it; what only
 * that used in the repository; and from disk what no repository uses any more. A line for each
 * {"upstream","repository","tag","digest"} (tag null: it had none) and for each name that nothing
 * has: {"unmatched":NAME}. The last line has "blobs" and "bytes", those gone from disk.
 */
bool contents_rm(struct contents *contents, const char *const *names,
                 const struct contents_sink *sink, struct error *error);

struct contents_prune {
    int64_t older_than_ms; /* since last use; -1: any age stays */
    int64_t to_size;       /* bytes to be left at most; -1: any size */
    bool dry_run;
};

/* Deletes blobs, least recently used first, never what is in use or pinned: {"digest","size",
 * "last_used"} each; then the records that are left without a blob. The last line has "blobs",
 * "bytes", "dry_run" and "remaining_bytes". A blob that cannot be deleted is an error in the end;
 * after a few such in a row it ends at once. */
bool contents_prune(struct contents *contents, const struct contents_prune *what,
                    const struct contents_sink *sink, struct error *error);

struct contents_verify {
    bool repair;  /* what is bad is set aside */
    int64_t rate; /* bytes a second; 0: as fast as it comes; -1: CONTENTS_VERIFY_RATE when a cache
                     runs on the store, else 0 */
};
enum { CONTENTS_VERIFY_RATE = 64 << 20 };

/* Hashes every blob: {"blobs","bytes","of_blobs","of_bytes"} five times a second; {"bad":DIGEST,
 * "error":WHY,"set_aside":B} for each whose bytes are wrong; {"unreadable":DIGEST,"error":WHY} for
 * each that could not be hashed, which stays. The last line has "blobs", "bytes" and "repaired":
 * whether what is bad was to be set aside, and was. */
bool contents_verify(struct contents *contents, const struct contents_verify *what,
                     const struct contents_sink *sink, struct error *error);

/*
 * The same as an order in JSON: `what` is "ls" {"names":[…]}, "du" {}, "rm" {"names":[…]}, "prune"
 * {"older_than_ms":N,"to_size":N,"dry_run":B} or "verify" {"repair":B,"rate":N}; what may be left
 * out is absent or null. ERROR_INVALID: it is no such order.
 */
bool contents_order(struct contents *contents, const char *what, const json_t *order,
                    const struct contents_sink *sink, struct error *error);

#endif
