/*
 * Private to upstream/. A set of upstreams: the entries of one configuration. Nothing in it changes
 * once it is made, so that a host is looked up without a lock.
 */
#ifndef UPSTREAM_SET_H
#define UPSTREAM_SET_H

#include "base/shared.h"
#include "upstream/upstream.h"

struct upstream_commons;

struct upstreams {
    struct shared_value value; /* the first member; for upstream/current.h */
    struct upstream_commons *commons;
    struct upstream **all;   /* in the order of the configuration, with NULL at the end; owned */
    struct upstream **named; /* the same, sorted by name; those of one name in the same order */
    size_t count;
    struct upstream *default_upstream; /* the first entry of its name */
};

/* A set with these settings. An entry that `before` (NULL: none) has with the same settings is
 * taken over. NULL: ERROR_INVALID or ERROR_MEMORY. */
struct upstreams *upstreams_make(struct upstream_commons *commons, const struct upstreams *before,
                                 const struct upstream_settings *settings, size_t count,
                                 struct error *error);
/* How many entries of `from` are not in `in`. */
size_t upstreams_count_missing(const struct upstreams *in, const struct upstreams *from);
/* Frees the set; the entries that nobody else refers to are left to upstream_sweep(). NULL is
 * allowed. Never waits. */
void upstreams_drop(struct upstreams *upstreams);

#endif
