/* Whether two keeps do the same. */
#include <string.h>
#include "base/text.h"
#include "keep/spec.h"

static bool same(const char *a, const char *b) {
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool same_pairs(const struct keep_pair *a, size_t a_count, const struct keep_pair *b,
                       size_t b_count) {
    bool equal = a_count == b_count;
    for (size_t i = 0; equal && i < a_count; i++)
        equal = same(a[i].key, b[i].key) && same(a[i].value, b[i].value);
    return equal;
}

static bool same_toleration(const struct keep_toleration *a, const struct keep_toleration *b) {
    return same(a->key, b->key) && same(a->op, b->op) && same(a->value, b->value) &&
           same(a->effect, b->effect) && a->has_seconds == b->has_seconds &&
           a->seconds == b->seconds;
}

static bool same_nodes(const struct keep_nodes *a, const struct keep_nodes *b) {
    bool equal = same_pairs(a->labels, a->label_count, b->labels, b->label_count) &&
                 a->toleration_count == b->toleration_count;
    for (size_t i = 0; equal && i < a->toleration_count; i++)
        equal = same_toleration(&a->tolerations[i], &b->tolerations[i]);
    return equal;
}

static bool same_filter(const struct keep_filter *a, const struct keep_filter *b) {
    return a->has_number == b->has_number && a->number == b->number && a->age_ms == b->age_ms &&
           a->cutoff_date_s == b->cutoff_date_s && same(a->cutoff_version, b->cutoff_version) &&
           a->has_cutoff_build == b->has_cutoff_build && a->cutoff_build == b->cutoff_build;
}

static bool same_rubin(const struct keep_rubin *a, const struct keep_rubin *b) {
    bool equal = a->releases == b->releases && a->weeklies == b->weeklies &&
                 a->dailies == b->dailies && a->candidates == b->candidates &&
                 a->experimentals == b->experimentals && same(a->recommended, b->recommended) &&
                 text_lists_equal(a->aliases, b->aliases) && text_lists_equal(a->pins, b->pins) &&
                 a->has_cycle == b->has_cycle && a->cycle == b->cycle;
    for (size_t i = 0; equal && i < KEEP_TAG_KINDS; i++)
        equal = same_filter(&a->filters[i], &b->filters[i]);
    return equal;
}

static bool same_tags(const struct keep_tags *a, const struct keep_tags *b) {
    return text_lists_equal(a->matching, b->matching) && a->order == b->order &&
           a->has_newest == b->has_newest && a->newest == b->newest &&
           a->newer_than_ms == b->newer_than_ms;
}

static bool same_entry(const struct keep_entry *a, const struct keep_entry *b) {
    return a->kind == b->kind && same(a->repository, b->repository) &&
           same(a->pull_as, b->pull_as) && same(a->tag, b->tag) && same(a->digest, b->digest) &&
           same(a->name, b->name) && same(a->url, b->url) && same_rubin(&a->rubin, &b->rubin) &&
           same_tags(&a->tags, &b->tags);
}

static bool same_pull(const struct keep_pull *a, const struct keep_pull *b) {
    return a->by == b->by && same(a->secret, b->secret) &&
           same(a->service_account, b->service_account) &&
           same(a->priority_class, b->priority_class) && a->timeout_ms == b->timeout_ms &&
           a->nodes_at_once == b->nodes_at_once && a->node_limit == b->node_limit &&
           a->disk_percent == b->disk_percent &&
           same_pairs(a->pod_labels, a->pod_label_count, b->pod_labels, b->pod_label_count) &&
           same_pairs(a->pod_annotations, a->pod_annotation_count, b->pod_annotations,
                      b->pod_annotation_count);
}

bool keep_spec_equal(const struct keep_spec *a, const struct keep_spec *b) {
    bool equal = same(a->name, b->name) && same_nodes(&a->nodes, &b->nodes) &&
                 a->entry_count == b->entry_count && same_pull(&a->pull, &b->pull);
    for (size_t i = 0; equal && i < a->entry_count; i++)
        equal = same_entry(&a->entries[i], &b->entries[i]);
    return equal;
}
