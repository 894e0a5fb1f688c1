/*
 * What the manifest of an image tells: how large it is on a node, for which platforms it is, and
 * which manifests an index names.
 *
 * A node that pulled an index may list the digest of the index or of the manifest for its own
 * architecture. Threads: any; asking blocks.
 */
#ifndef KEEP_INSPECT_H
#define KEEP_INSPECT_H

#include "base/cancel.h"
#include "keep/plan.h"
#include "upstream/upstream.h"

enum { KEEP_INSPECT_CHILDREN = 32 };

struct keep_inspection {
    /* Manifest, config and compressed layers, which is what containerd says of it; of an index the
     * size of its first image for Linux. 0: not known. */
    uint64_t size;
    char platforms[KEEP_INSPECT_CHILDREN][100]; /* of an index; none: not known */
    struct keep_child children[KEEP_INSPECT_CHILDREN];
    size_t count; /* of both */
};

/* False: as upstream_perform(), or ERROR_INVALID: it is no manifest. */
bool keep_inspect(const struct repository *repository, const char *digest,
                  const struct cancel *cancel, struct keep_inspection *out, struct error *error);

#endif
