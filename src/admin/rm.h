/* The order that removes images. Threads: any. */
#ifndef ADMIN_RM_H
#define ADMIN_RM_H

#include "admin/target.h"

/*
 * Removes the tags that match, and with a tag:
 * - its manifest, unless another tag of the repository names it;
 * - what only that manifest uses in the repository;
 * - from disk, the blobs that no repository links any more.
 * Writes one line for each removed image, {"upstream","repository","tag","digest"} (tag null: it
 * had none), and one for each pattern that matches nothing: {"unmatched":PATTERN}. The last line
 * has "blobs" and "bytes", the number and size of what was deleted from disk.
 *
 * Where a bucket is configured, the links of these images go there, too: a line for each image with
 * "bucket":true. When the bucket fails, the rest is done, and then the order fails.
 *
 * Where there are replicas, they remove the same images. One that is not reached gets a line,
 * {"unreached":"ADDRESS:PORT","why":…}, and the order goes on. A pattern that matches something
 * there alone is no unmatched one.
 */
bool order_rm(struct order_target *target, const char *const *patterns,
              const struct line_sink *sink, struct error *error);

#endif
