/*
 * Docker's signed manifests of schema 1. Their digest is not that of the whole document, but of its
 * payload: the document without its member `signatures` (distribution, "Image Manifest Version 2,
 * Schema 1", "Signed Manifests"). Pure; any thread.
 */
#ifndef OCI_SCHEMA1_H
#define OCI_SCHEMA1_H

#include <stdbool.h>
#include <stddef.h>
#include "oci/digest.h"

/*
 * Computes the digest of the payload. The signatures are not checked: a digest needs none. The
 * payload must say the same as the whole document does without its signatures, so that nothing else
 * can be sent under the payload's digest. False: it is no such document, or out of memory.
 */
bool schema1_digest(const void *bytes, size_t length, enum digest_algorithm algorithm,
                    struct digest *digest);

/* Calls `each` for every layer that the document names (`fsLayers`), at most
 * MANIFEST_DESCRIPTOR_LIMIT of them. */
void schema1_layers(const void *bytes, size_t length,
                    void (*each)(void *context, const struct digest *digest), void *context);

#endif
