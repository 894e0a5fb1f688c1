/* Private to upstream/: one entry of the configuration. */
#ifndef UPSTREAM_UPSTREAM_PRIVATE_H
#define UPSTREAM_UPSTREAM_PRIVATE_H

#include <stdatomic.h>
#include <uthash.h>
#include "base/metric.h"
#include "upstream/counts.h"
#include "upstream/health.h"
#include "upstream/peer.h"
#include "upstream/upstream.h"

/* What all entries share, those of earlier configurations included. */
struct upstream_commons {
    struct client *client;
    struct peers peers;
    /* All entries that have not been freed. */
    struct upstream *entries GUARDED_BY(peers.peers_lock);
};

struct upstream {
    atomic_uint references; /* of the sets, and of flights and questions */
    struct client *client;
    struct upstream_commons *commons;
    struct peers *peers_of_all;        /* those of commons */
    struct upstream *before, *after;   /* in the entries of commons, guarded like these */
    struct upstream_settings settings; /* a copy */
    void *settings_memory;             /* its strings */
    char name[HOST_LIMIT + 1];         /* the canonical host, or the pattern in lower case */
    char pattern[HOST_LIMIT + 1];      /* the pattern as a glob of labels; "": it is a host */
    unsigned locations_count;          /* of each peer */
    struct peer *own;                  /* the host's; NULL: it is a pattern */
    struct peer *peers; /* the pattern's, by host; guarded by the lock of peers_of_all */
    struct counts counts;
    _Atomic(struct metric *) counters[UPSTREAM_COUNTERS]; /* upstream_counters() */
    struct health health;
    struct upstream_held held;  /* upstream_held() */
    atomic_uint connections;    /* at once for one blob, when that was lowered; 0: never */
    _Atomic int64_t lowered_ms; /* clock_ms() then */
};

/* NULL: the settings are impossible (ERROR_INVALID), or no memory. The caller has one reference. */
struct upstream *upstream_new(struct upstream_commons *commons,
                              const struct upstream_settings *settings, struct error *error);
/* The name that an upstream with these settings has. False: the host is none. */
bool upstream_name_of(const struct upstream_settings *settings, char out[static HOST_LIMIT + 1]);
/* Frees the entries that nobody refers to any more. May wait, because it closes connections. */
void upstream_sweep(struct upstream_commons *commons);

/* A host as patterns are compared with it: labels take the place of a path's parts, because a `*`
 * stands for letters within one label. False: no pattern matches it, because it is an address or a
 * name without a dot. */
bool upstream_labels_of(const char *host, char out[static HOST_LIMIT + 1]);

/* ---- settings.c ---- */

/* Whether an upstream with the one behaves as an upstream with the other. */
bool upstream_settings_equal(const struct upstream_settings *a, const struct upstream_settings *b);
/* A copy that lasts until the returned memory is freed; NULL: no memory. The source of credentials
 * is not copied. */
void *upstream_settings_copy(const struct upstream_settings *from, struct upstream_settings *out);

#endif
