/*
 * Answers questions about manifests: by upstream, by the bucket, or by another replica. Private to
 * cache/.
 *
 * Each function is what struct inquiry has as `answer`: it blocks on the question's thread. True:
 * the question's document is set, and is kept. A 404 is kept as well.
 */
#ifndef CACHE_MANIFEST_ANSWER_H
#define CACHE_MANIFEST_ANSWER_H

#include "cache/question.h"

/* The bucket; upstream; and, if upstream fails, a bucket that did not answer in time. */
bool manifest_answer(struct question *question, struct error *error);
/* The same. A document without bytes is enough. */
bool manifest_answer_head(struct question *question, struct error *error);

/* The replica that owns the manifest. */
bool manifest_answer_by_owner(struct question *question, struct error *error);
bool manifest_answer_head_by_owner(struct question *question, struct error *error);

#endif
