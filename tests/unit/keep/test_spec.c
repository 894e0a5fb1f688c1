/* When two keeps do the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "keep/spec.h"

struct parts {
    struct keep_spec spec;
    struct keep_pair labels[1], pod_labels[1], pod_annotations[1];
    struct keep_toleration tolerations[1];
    struct keep_entry entries[1];
    const char *aliases[2], *pins[2], *matching[2];
};

/* A keep with every member set. */
static void fill(struct parts *parts) {
    *parts = (struct parts){.labels = {{"a", "b"}},
                            .pod_labels = {{"c", "d"}},
                            .pod_annotations = {{"e", "f"}},
                            .tolerations = {{"k", "Equal", "v", "NoSchedule", true, 7}},
                            .aliases = {"x"},
                            .pins = {"y"},
                            .matching = {"z"}};
    parts->entries[0] = (struct keep_entry){
        .kind = KEEP_ENTRY_RUBIN,
        .repository = "r",
        .pull_as = "p",
        .tag = "t",
        .digest = "d",
        .name = "n",
        .url = "u",
        .rubin = {.releases = 1,
                  .recommended = "rec",
                  .aliases = parts->aliases,
                  .pins = parts->pins,
                  .has_cycle = true,
                  .cycle = 34},
        .tags = {.matching = parts->matching, .newest = 3, .has_newest = true},
    };
    parts->entries[0].rubin.filters[KEEP_TAG_WEEKLY] =
        (struct keep_filter){.has_number = true, .number = 3, .cutoff_version = "1.2.3"};
    parts->spec = (struct keep_spec){
        .name = "labs",
        .nodes = {parts->labels, 1, parts->tolerations, 1},
        .entries = parts->entries,
        .entry_count = 1,
        .pull = keep_pull_default(),
    };
    parts->spec.pull.secret = "s";
    parts->spec.pull.pod_labels = parts->pod_labels;
    parts->spec.pull.pod_label_count = 1;
    parts->spec.pull.pod_annotations = parts->pod_annotations;
    parts->spec.pull.pod_annotation_count = 1;
}

/* Each changes one thing. */
#define CHANGES(X)                                                                                 \
    X(spec.name = "other")                                                                         \
    X(labels[0].key = "other")                                                                     \
    X(labels[0].value = "other")                                                                   \
    X(spec.nodes.label_count = 0)                                                                  \
    X(tolerations[0].key = NULL)                                                                   \
    X(tolerations[0].op = "Exists")                                                                \
    X(tolerations[0].value = "w")                                                                  \
    X(tolerations[0].effect = "NoExecute")                                                         \
    X(tolerations[0].has_seconds = false)                                                          \
    X(tolerations[0].seconds = 8)                                                                  \
    X(spec.nodes.toleration_count = 0)                                                             \
    X(spec.entry_count = 0)                                                                        \
    X(entries[0].kind = KEEP_ENTRY_TAGS)                                                           \
    X(entries[0].repository = "other")                                                             \
    X(entries[0].pull_as = NULL)                                                                   \
    X(entries[0].tag = NULL)                                                                       \
    X(entries[0].digest = "other")                                                                 \
    X(entries[0].name = NULL)                                                                      \
    X(entries[0].url = NULL)                                                                       \
    X(entries[0].rubin.releases = 2)                                                               \
    X(entries[0].rubin.weeklies = 2)                                                               \
    X(entries[0].rubin.dailies = 2)                                                                \
    X(entries[0].rubin.candidates = 2)                                                             \
    X(entries[0].rubin.experimentals = 2)                                                          \
    X(entries[0].rubin.recommended = NULL)                                                         \
    X(aliases[0] = "other")                                                                        \
    X(pins[0] = "other")                                                                           \
    X(entries[0].rubin.has_cycle = false)                                                          \
    X(entries[0].rubin.cycle = 35)                                                                 \
    X(entries[0].rubin.filters[KEEP_TAG_WEEKLY].number = 4)                                        \
    X(entries[0].rubin.filters[KEEP_TAG_WEEKLY].has_number = false)                                \
    X(entries[0].rubin.filters[KEEP_TAG_WEEKLY].cutoff_version = "1")                              \
    X(entries[0].rubin.filters[KEEP_TAG_UNKNOWN].age_ms = 1)                                       \
    X(entries[0].rubin.filters[KEEP_TAG_DAILY].cutoff_date_s = 1)                                  \
    X(entries[0].rubin.filters[KEEP_TAG_DAILY].has_cutoff_build = true)                            \
    X(entries[0].rubin.filters[KEEP_TAG_DAILY].cutoff_build = 1)                                   \
    X(matching[0] = "other")                                                                       \
    X(entries[0].tags.order = KEEP_ORDER_NAME)                                                     \
    X(entries[0].tags.newest = 4)                                                                  \
    X(entries[0].tags.has_newest = false)                                                          \
    X(entries[0].tags.newer_than_ms = 1)                                                           \
    X(spec.pull.by = KEEP_PULL_BY_DIGEST)                                                          \
    X(spec.pull.secret = NULL)                                                                     \
    X(spec.pull.service_account = "a")                                                             \
    X(spec.pull.priority_class = "p")                                                              \
    X(spec.pull.timeout_ms = 1)                                                                    \
    X(spec.pull.nodes_at_once = 1)                                                                 \
    X(spec.pull.node_limit = 9)                                                                    \
    X(spec.pull.disk_percent = 1)                                                                  \
    X(pod_labels[0].value = "other")                                                               \
    X(pod_annotations[0].key = "other")

static void test_every_member_makes_another_keep(void **state) {
    (void)state;
    struct parts a, b;
    fill(&a);
    fill(&b);
    assert_true(keep_spec_equal(&a.spec, &b.spec));
#define CHANGE(change)                                                                             \
    fill(&b);                                                                                      \
    b.change;                                                                                      \
    if (keep_spec_equal(&a.spec, &b.spec) || keep_spec_equal(&b.spec, &a.spec))                    \
        fail_msg("%s makes no difference", #change);
    CHANGES(CHANGE)
#undef CHANGE
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_member_makes_another_keep)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
