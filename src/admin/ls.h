/* The orders that say what is cached: ls lists images, du sums up sizes. Threads: any. */
#ifndef ADMIN_LS_H
#define ADMIN_LS_H

#include "admin/target.h"

/*
 * Writes one line for each image, sorted by upstream, repository and first tag: {"upstream",
 * "repository","tags":[…],"digest","size","last_used","complete","pinned"}. An image is a manifest
 * that has a tag, or a manifest that no index of its repository names. An image of which nothing is
 * stored is left out. `size` counts the bytes that are stored, `complete` says whether all of the
 * image is stored, and `last_used` is the latest use of any part. `patterns` as for
 * image_patterns_parse(); NULL or empty: all images.
 */
bool order_ls(struct order_target *target, const char *const *patterns,
              const struct line_sink *sink, struct error *error);

/* Writes one line:
 * {"bytes","blobs","limit","pinned_bytes","partial_bytes","record_bytes","records",
 * "bad_bytes","disk_bytes","upstreams":{HOST:{"bytes","blobs"},…}}. A blob counts once for each
 * upstream whose repositories link it. `with_bucket`: also "bucket":{"bytes","blobs","as_of"}, what
 * lies in the bucket now. */
bool order_du(struct order_target *target, bool with_bucket, const struct line_sink *sink,
              struct error *error);

#endif
