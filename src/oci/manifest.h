/*
 * Manifests and indexes: their media types, and what they refer to.
 *
 * tarn sends manifests to clients byte for byte. It reads them only to learn which blobs and
 * manifests belong together. Pure; any thread.
 */
#ifndef OCI_MANIFEST_H
#define OCI_MANIFEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "base/text.h"
#include "oci/digest.h"

#define MEDIA_OCI_MANIFEST    "application/vnd.oci.image.manifest.v1+json"
#define MEDIA_OCI_INDEX       "application/vnd.oci.image.index.v1+json"
#define MEDIA_DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"
#define MEDIA_DOCKER_LIST     "application/vnd.docker.distribution.manifest.list.v2+json"

/* Stands for the media type of a manifest whose sender named none, or none that can be one. */
#define MEDIA_UNKNOWN "application/octet-stream"

/* The value of Accept that asks for any kind of manifest, without conversion. */
#define MEDIA_ACCEPT_MANIFESTS                                                                     \
    MEDIA_OCI_INDEX ", " MEDIA_OCI_MANIFEST ", " MEDIA_DOCKER_LIST ", " MEDIA_DOCKER_MANIFEST      \
                    ", application/vnd.oci.artifact.manifest.v1+json"                              \
                    ", application/vnd.cncf.oras.artifact.manifest.v1+json, */*;q=0.1"

enum {
    MANIFEST_SIZE_LIMIT = 4 << 20,     /* bytes, which registries must accept (distribution-spec) */
    MANIFEST_DESCRIPTOR_LIMIT = 10000, /* in one manifest, with config and subject */
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
    char media_type[128]; /* "" when it is absent, or too long to be a known one */
    char os[32], architecture[32], variant[32]; /* of a MANIFEST; "" when absent */
};

struct manifest {
    char media_type[128]; /* its own mediaType member; "" when it has none */
    bool is_index;
    struct descriptor *descriptors; /* owned */
    size_t count;
};

/*
 * Reads the JSON of a manifest or index: Docker's schema 2 and lists, OCI's, and the artifact
 * manifests of ORAS and of OCI's drafts, whose `blobs` count as layers.
 *
 * Descriptors with a digest of an unknown algorithm, and foreign (nondistributable) layers with
 * `urls`, are left out. The others stand in the order config, layers, manifests, subject. A
 * document that could be both a manifest and an index is refused (CVE-2021-41190). False:
 * ERROR_INVALID says what is wrong and where, or ERROR_MEMORY; *out is empty.
 */
bool manifest_parse(const void *bytes, size_t length, struct manifest *out, struct error *error);
void manifest_finish(struct manifest *manifest); /* safe on an empty one */

/* Whether `type` can be sent and stored as a media type, with or without parameters: printable
 * ASCII, type and subtype by RFC 6838 §4.2, and short enough for struct manifest. */
bool manifest_is_media_type(struct text type);

#endif
