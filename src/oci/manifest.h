/*
 * Manifests and indexes: media types, and what a manifest refers to. Tarn hands manifests on byte
 * for byte; it only reads them to know which blobs and manifests belong together. Pure; any thread.
 */
#ifndef OCI_MANIFEST_H
#define OCI_MANIFEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buffer.h"
#include "base/error.h"
#include "oci/digest.h"

#define MEDIA_OCI_MANIFEST    "application/vnd.oci.image.manifest.v1+json"
#define MEDIA_OCI_INDEX       "application/vnd.oci.image.index.v1+json"
#define MEDIA_DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"
#define MEDIA_DOCKER_LIST     "application/vnd.docker.distribution.manifest.list.v2+json"

/* The value of Accept that asks for every kind of manifest as it is, converted into nothing. */
#define MEDIA_ACCEPT_MANIFESTS                                                                     \
    MEDIA_OCI_INDEX ", " MEDIA_OCI_MANIFEST ", " MEDIA_DOCKER_LIST ", " MEDIA_DOCKER_MANIFEST      \
                    ", application/vnd.oci.artifact.manifest.v1+json"                              \
                    ", application/vnd.cncf.oras.artifact.manifest.v1+json, */*;q=0.1"

enum {
    MANIFEST_SIZE_LIMIT = 4 << 20, /* bytes; the size registries must accept (distribution-spec) */
    MANIFEST_DESCRIPTOR_LIMIT = 10000, /* of one manifest, config and subject included */
};

enum descriptor_role {
    DESCRIPTOR_CONFIG,
    DESCRIPTOR_LAYER,
    DESCRIPTOR_MANIFEST,
    DESCRIPTOR_SUBJECT
};

struct descriptor {
    enum descriptor_role role;
    struct digest digest;
    uint64_t size;        /* bytes, as the manifest claims */
    char media_type[128]; /* "" when not said, or too long to be a known one */
    char os[32], architecture[32], variant[32]; /* of a MANIFEST; "" when not said */
};

struct manifest {
    char media_type[128]; /* its own mediaType member; "" when it has none */
    bool is_index;
    struct descriptor *descriptors; /* owned */
    size_t count;
};

/* Reads the JSON of a manifest or index (schema 2, OCI, lists, the artifact manifests of ORAS and
 * OCI's drafts, whose `blobs` count as layers). ERROR_INVALID says what is wrong and where; a
 * document that could be both a manifest and an index is refused (CVE-2021-41190). Descriptors with
 * a digest of an unknown algorithm, and foreign (nondistributable) layers that carry `urls`, are
 * left out; the others stand in the order config, layers, manifests, subject. On success
 * manifest_free() is owed; on failure *out is empty, and manifest_free() harmless. */
bool manifest_parse(const void *bytes, size_t length, struct manifest *out, struct error *error);
void manifest_free(struct manifest *manifest);

/*
 * Builds a referrers response (distribution-spec "Listing Referrers") from `index_bytes`, an OCI
 * index: only the entries whose artifactType is `artifact_type` (NULL or "": all, byte for byte).
 * Members are kept as they are. *filtered says whether a filter was applied, so whether the header
 * `OCI-Filters-Applied: artifactType` is due. Appends to `out`. ERROR_INVALID: no OCI index.
 */
bool referrers_filter(const void *index_bytes, size_t length, const char *artifact_type,
                      struct buffer *out, bool *filtered, struct error *error);

#endif
