/*
 * The janitor: cleans the bucket once a day, by the configured retention and size (cleaning.h), and
 * watches over a bucket that is down.
 *
 * Any number of tarns may share the bucket. Of several replicas, the one that owns the key
 * "janitor" does the work. When the object janitor.json is younger than a day by the bucket's own
 * clock, one of them has done the day's work. Each looks shortly after its start and then every
 * hour. Two that find it old at the same moment both clean, which costs requests and does no harm.
 * One that dies leaves the object as it was, so that another one goes on.
 *
 * While the bucket's breaker is open, the janitor probes it as soon as that may be, so that
 * tarn_bucket_up is true without any traffic as well, and warns once a minute. That is all it does
 * for a bucket that is only read.
 *
 * A thread of its own; it waits for nothing but the bucket, and nothing waits for it.
 */
#ifndef CACHE_JANITOR_H
#define CACHE_JANITOR_H

#include <stdbool.h>
#include "base/error.h"
#include "bucket/bucket.h"

struct replicas;

struct janitor;

/* Retention and size are those of the bucket's settings. The bucket and the replicas (NULL: none)
 * outlive the janitor. Nothing happens before janitor_start(). NULL: out of memory. */
struct janitor *janitor_new(struct bucket *bucket, const struct replicas *replicas);
/* Starts its thread. */
bool janitor_start(struct janitor *janitor, struct error *error);
/* Ends its thread, whose request under way ends soon. NULL is allowed. */
void janitor_free(struct janitor *janitor);

/* Names the metrics before there are any. */
void janitor_declare_metrics(void);

#endif
