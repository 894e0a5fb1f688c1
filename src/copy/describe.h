/* What is known of a manifest by its bytes: digest, media type, and its descriptor. Private to
 * copy/. Pure; hostile input. */
#ifndef COPY_DESCRIBE_H
#define COPY_DESCRIBE_H

#include <jansson.h>
#include "copy/source.h"

/* Sets digest and media type of a manifest whose bytes are there. The type is the manifest's own
 * `mediaType`, else `hint` (may be NULL), else that of an OCI manifest or index. `wanted` (may be
 * NULL) is the digest that the bytes must have. False: CORRUPT, or ERROR_MEMORY. */
bool copy_describe(struct copy_manifest *manifest, const char *hint, const struct digest *wanted,
                   struct error *error);

/* The descriptor as an index lists the manifest: mediaType, digest, size; the caller's to
 * json_decref(). With `as_referrer` also artifactType and annotations (distribution-spec, "Pushing
 * Manifests with Subject"). NULL: out of memory. */
json_t *copy_describe_descriptor(const struct copy_manifest *manifest, bool as_referrer);

/* The digest of the `subject` that the manifest names. False: it names none. */
bool copy_describe_subject(const struct copy_manifest *manifest, struct digest *out);

/* An OCI index of these descriptors, which is appended to `out`. `manifests` (an array) stays the
 * caller's. False: out of memory. */
bool copy_describe_index(json_t *manifests, struct buffer *out);

/* The tag under which clients keep the list of referrers where a registry has no API for it
 * (distribution-spec, "Referrers Tag Schema"). Returns `out`. */
const char *copy_describe_fallback(const struct digest *subject,
                                   char out[static DIGEST_STRING_SIZE]);

#endif
