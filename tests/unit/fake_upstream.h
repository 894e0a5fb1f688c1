/*
 * A registry that exists only in the test. It replaces the functions of upstream/upstream.h, so
 * that flights and questions meet each fault exactly when the test wants it.
 */
#ifndef TESTS_UNIT_FAKE_UPSTREAM_H
#define TESTS_UNIT_FAKE_UPSTREAM_H

#include <stdatomic.h>
#include "upstream/current.h"

struct upstream {
    const char *host;
    struct upstream_settings settings;
    _Atomic(struct metric *) counters[UPSTREAM_COUNTERS];
    struct upstream_held held;
    atomic_uint references; /* by upstream_keep() */
    const char *repository; /* has everything; requests for others are 404 */
    const char *second;     /* another repository that has everything; may be NULL */

    const unsigned char *blob; /* what blob requests get */
    uint64_t blob_size;
    bool no_ranges;           /* responds 200 to a range */
    bool no_length;           /* does not tell the size */
    bool no_heads;            /* refuses HEAD with 405 */
    uint64_t pace;            /* bytes handed on at a time; 0: 64 KiB */
    int pause_ms;             /* before the next bytes are handed on */
    _Atomic int cuts;         /* so many requests end after half of their bytes, */
    uint64_t cut_at;          /* or, if not 0, after so many bytes */
    bool wrong_bytes;         /* the last byte of the blob is wrong */
    _Atomic bool wrong_first; /* one of its first bytes is wrong */
    _Atomic bool hold;        /* while set, no bytes are handed on */
    _Atomic bool in_queue;    /* while set, requests wait for a connection */
    _Atomic bool hold_drops;  /* while set, those that nobody waits for do not leave the queue */
    enum error_kind fail;     /* every request fails with this error */
    bool etag_changes;        /* each request has another ETag */
    const char *redirect;     /* URL that blob requests are redirected to; NULL: none */

    const char *tags, *referrers;      /* what requests for these lists get; NULL: 404 */
    const char *manifest, *media_type; /* what manifest requests get */
    struct digest manifest_digest;

    atomic_uint heads, gets, blob_heads, blob_gets;
    atomic_uint queued;           /* requests that had to wait for a connection */
    atomic_uint dropped;          /* requests that nobody waited for any more */
    atomic_uint refused_heads;    /* that cache/ told it of */
    atomic_uint direct_gets;      /* of blob_gets, those that came with the redirect's target */
    _Atomic uint64_t blob_bytes;  /* handed on */
    _Atomic uint64_t first_range; /* first byte of the first range asked for */
};

/* For the rooms above cache/: the only upstream, which is also the default. */
struct upstreams {
    struct upstream *only;
};
struct current_upstreams {
    struct upstreams set;
};

/* The repository `path` at this upstream, valid until the same thread calls it again. */
const struct repository *fake_repository(struct upstream *upstream, const char *path);

#endif
