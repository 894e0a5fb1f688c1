/* One keep at one moment. */
#include "keep/survey.h"

#include <stdlib.h>
#include <string.h>

static bool fill(struct keep_survey *survey, const struct keep_plan *plan) {
    size_t images = keep_plan_image_count(plan, (size_t)survey->keep);
    survey->nodes = calloc(keep_plan_node_count(plan) + 1, sizeof *survey->nodes);
    survey->kept_on = calloc(images + 1, sizeof *survey->kept_on);
    if (!survey->nodes || !survey->kept_on)
        return false;
    for (size_t n = 0; n < keep_plan_node_count(plan); n++) {
        char comment[KEEP_COMMENT_SIZE];
        if (keep_node_eligible(keep_plan_node(plan, n), &survey->kept->spec->nodes, comment) !=
            KEEP_NODE_ELIGIBLE)
            continue;
        survey->nodes[survey->node_count++] = n;
        for (size_t i = 0; i < images; i++) {
            if (keep_plan_is_kept(plan, (size_t)survey->keep, i, n))
                survey->kept_on[i]++;
        }
    }
    return true;
}

bool keep_survey_begin(struct keeper *keeper, const char *name, struct keep_survey *out,
                       struct error *error) {
    *out = (struct keep_survey){.keeper = keeper, .now = keeper_now()};
    for (size_t i = 0; i < keeper->kept_count && !out->kept; i++) {
        const struct kept *kept = &keeper->kepts[i];
        if (!kept->is_hidden && (!name || strcmp(kept->spec->name, name) == 0))
            out->kept = kept;
    }
    out->keep = out->kept ? keep_plan_find(keeper->plan, out->kept->spec->name) : -1;
    if (out->keep < 0)
        return error_set(error, ERROR_NOT_FOUND, "there is no keep of this name");
    if (fill(out, keeper->plan))
        return true;
    keep_survey_finish(out);
    return error_set(error, ERROR_MEMORY, "out of memory");
}

void keep_survey_finish(struct keep_survey *survey) {
    free(survey->nodes);
    free(survey->kept_on);
    *survey = (struct keep_survey){0};
}

int keep_survey_image(const struct keep_survey *survey, const struct keep_item *item) {
    return keep_plan_image_index(survey->keeper->plan, (size_t)survey->keep, item->digest,
                                 item->pull, item->tag);
}

/* Whether every eligible node, of which there is one at least, lists the item's digest. */
static bool is_listed_everywhere(const struct keep_survey *survey, const struct keep_item *item) {
    const struct keep_plan *plan = survey->keeper->plan;
    if (!item->digest || survey->node_count == 0)
        return false;
    uint64_t key = keep_names_key(keep_plan_names(plan), text_of(item->digest));
    for (size_t i = 0; i < survey->node_count; i++) {
        if (!keep_node_find(keep_plan_node(plan, survey->nodes[i]), key))
            return false;
    }
    return true;
}

bool keep_survey_is_everywhere(const struct keep_survey *survey, const struct keep_item *item) {
    int image = keep_survey_image(survey, item);
    if (image < 0)
        return is_listed_everywhere(survey, item);
    return survey->node_count > 0 && survey->kept_on[image] == survey->node_count;
}

bool keep_survey_digest_is_everywhere(const struct keep_survey *survey,
                                      const struct keep_item *item) {
    int image = keep_survey_image(survey, item);
    if (image < 0 || !item->digest)
        return is_listed_everywhere(survey, item);
    for (size_t i = 0; i < survey->node_count; i++) {
        if (!keep_plan_is_held(survey->keeper->plan, (size_t)survey->keep, (size_t)image,
                               survey->nodes[i]))
            return false;
    }
    return survey->node_count > 0;
}
