/*
 * The orders that are about the bucket, which any number of tarns share, instead of about the
 * cache's own files. Threads: any.
 *
 * Each fails with ERROR_INVALID when the target has no bucket, and with the bucket's error when
 * the bucket cannot be read or written.
 */
#ifndef ADMIN_BUCKET_ORDERS_H
#define ADMIN_BUCKET_ORDERS_H

#include "admin/image_pattern.h"
#include "admin/prune.h"
#include "admin/target.h"
#include "admin/verify.h"

/* Writes {"upstream","repository","tag"} for each tag, in the order of the bucket's keys, and at
 * last "tags". `patterns` as for order_ls(); a pattern with a digest matches no tag. */
bool bucket_orders_ls(struct order_target *target, const char *const *patterns,
                      const struct line_sink *sink, struct error *error);

/* Sets *sum to {"bytes","blobs","as_of"}, counted now. */
bool bucket_orders_du(struct order_target *target, const struct line_sink *sink, json_t **sum,
                      struct error *error);

/* Deletes blobs by the limits alone, those used longest ago first, and aborts uploads that were
 * begun more than a day ago. Writes {"digest","size","last_used"} for each blob, and at last
 * "dry_run", "blobs" and "bytes", what went or would go. Without a limit only uploads go. Without
 * the right to delete it fails. */
bool bucket_orders_prune(struct order_target *target, const struct prune_options *options,
                         const struct line_sink *sink, struct error *error);

/* Reads and hashes every blob. Writes {"bad":DIGEST,"error":WHY,"set_aside":B} for each whose bytes
 * are wrong, which `repair` deletes, and {"unreadable":DIGEST,"error":WHY}; at last "blobs",
 * "bytes" and "repaired". */
bool bucket_orders_verify(struct order_target *target, const struct verify_options *options,
                          const struct line_sink *sink, struct error *error);

/* Deletes the links of the tags and manifests that match, and all links of a repository that
 * matches as a whole. Blobs stay, because other repositories and other tarns may use them. Adds to
 * *removed how many tags and manifests went. Does nothing without a bucket, or when it is only
 * read. */
bool bucket_orders_rm(struct order_target *target, const struct image_pattern *pattern,
                      const struct line_sink *sink, uint64_t *removed, struct error *error);

#endif
