/* Lists of referrers: the manifests that name another as their subject. Pure; any thread. */
#ifndef OCI_REFERRERS_H
#define OCI_REFERRERS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include "base/buffer.h"
#include "base/error.h"

/*
 * Appends to `out` a list of referrers (distribution-spec "Listing Referrers"): from `index_bytes`,
 * an OCI index, the entries whose artifactType is `artifact_type`, with all their members. With
 * NULL or "" it is the whole index, byte for byte. *filtered says whether entries were filtered, so
 * that the response needs the header `OCI-Filters-Applied: artifactType`. False: ERROR_INVALID (not
 * an OCI index) or ERROR_MEMORY.
 */
bool referrers_filter(const void *index_bytes, size_t length, const char *artifact_type,
                      struct buffer *out, bool *filtered, struct error *error);

/* Whether the JSON is an OCI index, as a list of referrers is. Its `manifests` may be null. A
 * document that could be read as a manifest too is none (CVE-2021-41190). */
bool referrers_is_index(const json_t *json);

#endif
