/*
 * One keep at one moment, for the pages: its eligible nodes, and which images are on all of them.
 * Private to the pages; lives while the keeper's lock is held.
 */
#ifndef KEEP_SURVEY_H
#define KEEP_SURVEY_H

#include "keep/keeper_private.h"

struct keep_survey {
    struct keeper *keeper;
    const struct kept *kept;
    int keep;      /* index in the plan */
    size_t *nodes; /* of the eligible nodes, in the plan */
    size_t node_count;
    size_t *kept_on; /* for each image of the plan: on how many of them it is kept */
    struct keep_now now;
};

/* False: there is no such keep (`error` is NOT_FOUND), or memory is out. `name` NULL: the first. */
bool keep_survey_begin(struct keeper *keeper, const char *name, struct keep_survey *out,
                       struct error *error) REQUIRES(keeper->state_lock);
void keep_survey_finish(struct keep_survey *survey);

/* The plan's image of the item; -1: the plan has none. */
int keep_survey_image(const struct keep_survey *survey, const struct keep_item *item);
/* Whether the item's image is on every eligible node, of which there is one at least. */
bool keep_survey_is_everywhere(const struct keep_survey *survey, const struct keep_item *item);

/* The same of its digest, whatever the tags by which the nodes have it. */
bool keep_survey_digest_is_everywhere(const struct keep_survey *survey,
                                      const struct keep_item *item);

#endif
