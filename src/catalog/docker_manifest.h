/*
 * What a manifest tells of its image, for a list of images. Private to catalog/. Pure; any thread.
 */
#ifndef CATALOG_DOCKER_MANIFEST_H
#define CATALOG_DOCKER_MANIFEST_H

#include "base/buffer.h"
#include "catalog/list.h"

/*
 * Writes down in image number `at` of the list what the manifest tells. The media type is the
 * manifest's own mediaType, else `content_type`, the type that it was sent with. The artifact type
 * is artifactType (OCI image-spec, manifest and index). The time is the annotation
 * org.opencontainers.image.created (OCI image-spec, annotations). The size is the sum of config and
 * layers; an index does not tell its images' sizes. The platforms are those of an index; a manifest
 * of one platform does not tell it. The manifests that an index names are entered as images without
 * tags. False: it is no manifest (ERROR_INVALID), or as catalog_list_enter().
 */
bool docker_manifest_read(struct catalog_list *list, size_t at, const struct buffer *body,
                          const char *content_type, struct error *error);

#endif
