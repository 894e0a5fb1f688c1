/*
 * Pins: which blobs are never evicted, because a pattern of the configuration names their image.
 *
 * A pattern without a tag pins all blobs and manifests that a repository is known to hold. A
 * pattern with a tag pins the manifests of all tags that match, and every blob that these manifests
 * name.
 *
 * When a blob arrives, pins_add() pins it at once if a pattern matches its repository, whatever the
 * pattern's tag, so that it is not evicted before anybody knows which tag it belongs to.
 * pins_renew() then finds the pins again from the store alone, and drops those that no pattern asks
 * for.
 *
 * Threads: all calls from any thread, pins_renew() from one at a time.
 */
#ifndef RETENTION_PINS_H
#define RETENTION_PINS_H

#include <stdbool.h>
#include "base/cancel.h"
#include "base/error.h"
#include "oci/digest.h"
#include "oci/reference.h"
#include "store/store.h"

struct pins;

/* `patterns` is NULL-terminated, or NULL for none, and is copied. NULL: out of memory. */
struct pins *pins_new(struct store *store, const char *const *patterns);
void pins_free(struct pins *pins); /* NULL is allowed */

/* A list of patterns that was read beforehand, so that pins_take() cannot fail. NULL: no memory. */
struct pin_patterns *pins_prepare(const char *const *patterns);
void pins_give_up(struct pin_patterns *prepared); /* NULL is allowed */
/* Whether the prepared patterns are others than those in use. */
bool pins_differ(struct pins *pins, const struct pin_patterns *prepared);
/* The prepared patterns say from now on what is pinned; if they are others, a renewal is wanted.
 * From one thread at a time. */
void pins_take(struct pins *pins, struct pin_patterns *prepared);

/* Pins a blob or manifest that has arrived through `repository`, if a pattern names that
 * repository. */
void pins_add(struct pins *pins, const struct repository_name *repository,
              const struct digest *digest);

/* Whether a pattern names the repository, with any tag. For struct record_limits. */
bool pins_name_repository(void *pins, const struct repository_name *repository);

/* Whether pins_add() has pinned something since the last renewal that no pattern may ask for, or
 * the patterns are new. */
bool pins_want_renewal(const struct pins *pins);

/* Finds all pins from the store alone. False: not all were found (logged), or cancelled; every pin
 * that was there before then stays. */
bool pins_renew(struct pins *pins, const struct cancel *cancel);

/* Pins what `patterns` name in a store that no cache runs on. The store's scan must have ended. */
bool pins_apply(struct store *store, const char *const *patterns, struct error *error);

#endif
