/* Which upstream, and which of its repositories, a name means (design, section 5). Any thread. */
#ifndef UPSTREAM_NAME_H
#define UPSTREAM_NAME_H

#include "oci/reference.h"
#include "upstream/upstream.h"

/*
 * Resolves `name`, with or without an upstream's host in front (never when `ns`, the host that
 * containerd names, is not ""), to the upstream and its own name for the repository: host cut,
 * Docker Hub's library/ added, inside the allow list. False: the error's `code` is OCI's, its kind
 * NOT_FOUND (no such upstream), INVALID or DENIED; *upstream is then the one that refuses, or NULL.
 */
bool name_resolve(struct upstreams *upstreams, const char *ns, struct text name,
                  struct upstream **upstream, char repository[static NAME_LIMIT + 1],
                  struct error *error);

#endif
