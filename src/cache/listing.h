/*
 * The `answer` functions of inquiries about tags and referrers: how upstream is asked for lists.
 * Private to cache/, and used by the fuzz target of upstream's pages.
 *
 * Threads: the question's own.
 */
#ifndef CACHE_LISTING_H
#define CACHE_LISTING_H

#include "cache/question.h"

bool listing_answer_tags(struct question *question, struct error *error);
bool listing_answer_referrers(struct question *question, struct error *error);

/* The same, asked of the replica that owns the list. */
bool listing_answer_tags_by_owner(struct question *question, struct error *error);
bool listing_answer_referrers_by_owner(struct question *question, struct error *error);

#endif
