/*
 * Pins: which blobs are never evicted, because a pattern of the configuration names their image.
 *
 * A pattern without a tag pins all that a repository is known to hold; one with a tag pins the
 * manifests of matching tags and all they name. What comes in is pinned at once where its
 * repository alone matches, so that no eviction comes between; pins_renew() then says what really
 * is.
 *
 * Threads: all calls from any thread, pins_renew() from one at a time.
 */
#ifndef RETENTION_PINS_H
#define RETENTION_PINS_H

#include <stdatomic.h>
#include <stdbool.h>
#include "base/error.h"
#include "oci/digest.h"
#include "oci/reference.h"
#include "store/store.h"

struct pins;

/* `patterns` must outlive it. NULL without patterns, or when out of memory (*ok false). */
struct pins *pins_new(struct store *store, const char *const *patterns, bool *ok);
void pins_free(struct pins *pins);

/* A digest has come in through a repository. `pins` may be NULL. */
void pins_add(struct pins *pins, const struct repository_name *repository,
              const struct digest *digest);

/* Whether something was pinned since the last renewal that may not have to be. */
bool pins_want_renewal(const struct pins *pins);

/* Finds all that is to be pinned, from the store alone. False: not all of it could be. */
bool pins_renew(struct pins *pins, const atomic_bool *stop);

/* Pins what `patterns` name in a store that no cache runs on, after its scan has ended. */
bool pins_apply(struct store *store, const char *const *patterns, struct error *error);

#endif
