/*
 * How upstream is asked for lists: the `answer` of an inquiry about tags or referrers. Private to
 * cache/, and for the fuzz target of upstream's pages. On the question's own thread.
 */
#ifndef CACHE_LISTING_H
#define CACHE_LISTING_H

#include "cache/question.h"

bool listing_answer_tags(struct question *question, struct error *error);
bool listing_answer_referrers(struct question *question, struct error *error);

#endif
