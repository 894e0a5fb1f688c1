/*
 * What lies where in a bucket that several tarns share: the names of its objects. Pure; any thread.
 *
 * A blob, a link and a tag lie as the CNCF registry's own storage has them, so that a plain
 * registry can serve the same bucket (distribution, registry/storage/paths.go):
 *
 * - docker/registry/v2/blobs/sha256/AB/HEX/data: the bytes
 * - docker/registry/v2/repositories/HOST/NAME/_layers/sha256/HEX/link: NAME at HOST has the blob
 * - …/HOST/NAME/_manifests/revisions/sha256/HEX/link: it has the manifest, and the link's
 *   Content-Type is the manifest's type
 * - …/HOST/NAME/_manifests/tags/TAG/current/link: what the tag names
 *
 * The bytes of a link are "sha256:HEX" without a line end. In HOST, a ':' is written as '_',
 * because no part of a repository's name has a ':', and letters are lower case. No host has a '_',
 * so the host can be read back. What is tarn's own lies elsewhere:
 *
 * - tarn/v1/used/sha256/AB/HEX: empty; its date says when the blob was used
 * - tarn/v1/janitor.json: when the janitor last ran
 * - tarn/v1/probe/: what check-bucket writes and deletes
 *
 * All keys are without the bucket's configured prefix, as bucket/bucket.h takes them.
 */
#ifndef CACHE_SHARE_H
#define CACHE_SHARE_H

#include <stdbool.h>
#include "oci/digest.h"
#include "oci/reference.h"

enum { SHARE_KEY_SIZE = 768 };

/* Beginnings of keys, for lists. */
#define SHARE_BLOBS        "docker/registry/v2/blobs/"
#define SHARE_REPOSITORIES "docker/registry/v2/repositories/"
#define SHARE_USED         "tarn/v1/used/"
#define SHARE_PROBE        "tarn/v1/probe/"
#define SHARE_JANITOR      "tarn/v1/janitor.json"

/* ---- the keys; each returns `out` ---- */

const char *share_key_blob(char out[static SHARE_KEY_SIZE], const struct digest *digest);
const char *share_key_used(char out[static SHARE_KEY_SIZE], const struct digest *digest);
/* The link of a blob that is a layer or a config. */
const char *share_key_layer(char out[static SHARE_KEY_SIZE], const struct repository_name *name,
                            const struct digest *digest);
const char *share_key_revision(char out[static SHARE_KEY_SIZE], const struct repository_name *name,
                               const struct digest *digest);
/* The beginning of the keys of all tags of a repository. */
const char *share_key_tags(char out[static SHARE_KEY_SIZE], const struct repository_name *name);
const char *share_key_tag(char out[static SHARE_KEY_SIZE], const struct repository_name *name,
                          const char *tag);

/* ---- keys that a list names; false: it is none of these ---- */

bool share_parse_blob(struct text key, struct digest *digest);
bool share_parse_used(struct text key, struct digest *digest);
bool share_parse_layer(struct text key, struct repository_name *name, struct digest *digest);
bool share_parse_revision(struct text key, struct repository_name *name, struct digest *digest);
bool share_parse_tag(struct text key, struct repository_name *name, char tag[static TAG_LIMIT + 1]);

/* ---- the bytes of a link ---- */

/* False: they name no digest. White space at the end is allowed. */
bool share_parse_link(struct text bytes, struct digest *digest);

#endif
