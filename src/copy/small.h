/* Reading what is small: a whole blob that fits into memory, and the config of an image. Threads:
 * any. */
#ifndef COPY_SMALL_H
#define COPY_SMALL_H

#include "copy/platform.h"
#include "copy/source.h"

enum { COPY_SMALL_LIMIT = 8 << 20 }; /* bytes of a config */

/* Appends the blob, checked against its digest. False: as copy_source_read_blob(); CORRUPT;
 * UNAVAILABLE: it is larger than COPY_SMALL_LIMIT. */
bool copy_small_read(struct copy_source *source, const struct digest *digest, struct buffer *out,
                     struct error *error);

/* Reads the manifest of one image: what `reference` means, or, when that is an index, its image for
 * the platform. *out is empty before. */
bool copy_small_get_image(struct copy_source *source, const char *reference,
                          const struct copy_platform *platform, struct copy_manifest *out,
                          struct error *error);

/* Appends the config of the image with this manifest. */
bool copy_small_get_config(struct copy_source *source, const struct copy_manifest *manifest,
                           struct buffer *out, struct error *error);

#endif
