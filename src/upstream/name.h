/* Finds which upstream a name means, and which of its repositories (design, section 5). Threads:
 * any. */
#ifndef UPSTREAM_NAME_H
#define UPSTREAM_NAME_H

#include "oci/reference.h"
#include "upstream/upstream.h"

/*
 * Finds the repository that `name` means. `name` may begin with an upstream's host. If `ns`, the
 * host that containerd names, is not "", it names the upstream, and `name` may begin with the same
 * host once more, but with no other. The host is cut off, Docker Hub's library/ is added, and the
 * repository must be in the upstream's allow list. False: the error's `code` is OCI's, and
 * its kind is NOT_FOUND (no such upstream), INVALID or DENIED; repository->upstream and
 * repository->name.host then say which upstream refuses, or the upstream is NULL.
 */
bool name_resolve(const struct upstreams *upstreams, const char *ns, struct text name,
                  struct repository *repository, struct error *error);

#endif
