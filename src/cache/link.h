/*
 * Whether a repository's readers may still have what they were given before. Private to cache/.
 *
 * A link says that a repository of an upstream holds a digest. With link_ttl of the upstream, a
 * link is believed for so long after upstream has last said so. Then upstream is asked once for the
 * manifest or blob, at the next hit. A registry's own 401, 403 or 404 removes the link. A failure
 * says nothing: what is held is served, as stale. Without link_ttl a link is believed for ever.
 *
 * Threads: any.
 */
#ifndef CACHE_LINK_H
#define CACHE_LINK_H

#include "cache/cache.h"
#include "store/records.h"

enum link_verdict {
    LINK_GOOD,
    LINK_UNSURE, /* there is a link, and upstream fails, as the error says */
    LINK_REFUSED /* upstream refuses, or it fails and there is no link; the error is upstream's. Or
                    the caller was cancelled (ERROR_CLOSED). */
};

/* How long an answer of upstream about a digest is believed; INT64_MAX: for ever. */
int64_t link_ttl(const struct repository *repository);

/* Whether the link is known to be good. Looks in memory alone, and never waits. */
bool link_is_good(struct cache *cache, const struct repository *repository, enum link_kind kind,
                  const struct digest *digest);

/* Finds out whether it is good, if need be by asking upstream. */
enum link_verdict link_check(struct cache *cache, const struct cache_caller *caller,
                             enum link_kind kind, const struct digest *digest, struct error *error);

/* Upstream has said `age_ms` ago that the repository holds the digest. */
void link_confirm(struct cache *cache, const struct repository *repository, enum link_kind kind,
                  const struct digest *digest, int64_t age_ms);
/* The link was made just now by what another replica has sent: it is as old as the replica's own,
 * which was confirmed `age_ms` ago. */
void link_set_age(struct cache *cache, const struct repository *repository, enum link_kind kind,
                  const struct digest *digest, int64_t age_ms);

/* The repository's link was used. */
void link_note_use(struct cache *cache, const struct repository *repository, enum link_kind kind,
                   const struct digest *digest);

/* Whether the registry itself refuses: 401, 403 or 404 with a registry's marks. */
bool link_is_refusal(const struct error *error);

#endif
