/*
 * Manifests in the bucket: by digest before upstream is asked, by tag when upstream does not tell.
 * Private to cache/.
 *
 * A manifest is served only with a link of its repository. Of an upstream that is to confirm links,
 * what the bucket says is served and not kept.
 *
 * Threads: the question's. The functions wait for the bucket.
 */
#ifndef CACHE_MANIFEST_BUCKET_H
#define CACHE_MANIFEST_BUCKET_H

#include "cache/question.h"
#include "cache/tier.h"

/* How the bucket is asked for the question's manifest. */
struct tier_visit manifest_bucket_visit(struct question *question);

/* The answer to a question by digest, if the bucket has it. */
bool manifest_bucket_answer(struct question *question, struct tier_visit *visit);

/* What the bucket's tag names. Upstream is silent and may answer yet: a bucket that counts as down
 * is not waited for. */
bool manifest_bucket_answer_tag(struct question *question, struct error *error);
/* The same. Upstream has failed: only the bucket can tell. */
bool manifest_bucket_answer_last_tag(struct question *question, struct error *error);

#endif
