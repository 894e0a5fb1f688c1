/*
 * What a keep is to do: which nodes, which images, how they are pulled. Plain values; whoever makes
 * a spec (config/, machine.h) owns its strings, and they live as long as the spec.
 */
#ifndef KEEP_SPEC_H
#define KEEP_SPEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "keep/tag.h"

enum {
    KEEP_LIMIT = 100,        /* keeps */
    KEEP_IMAGE_LIMIT = 1000, /* images of a keep */
    KEEP_NAME_LIMIT = 63,    /* of a keep's name: it is the value of a label */
};

struct keep_pair {
    const char *key, *value;
};

/* core/v1 Toleration. NULL: the member is absent. */
struct keep_toleration {
    const char *key, *op, *value, *effect;
    bool has_seconds;
    int64_t seconds;
};

struct keep_nodes {
    struct keep_pair *labels;
    size_t label_count;
    struct keep_toleration *tolerations;
    size_t toleration_count;
};

/* What of one kind of tags is listed at all (nublado's image filter). A tag must satisfy all. */
struct keep_filter {
    bool has_number;
    uint64_t number;            /* the newest so many */
    int64_t age_ms;             /* not older; 0: any */
    int64_t cutoff_date_s;      /* not before, seconds since 1970; 0: any */
    const char *cutoff_version; /* not older, as keep_tag_parse_version() reads it; NULL: any */
    bool has_cutoff_build;
    uint64_t cutoff_build; /* not less: the RSP build, else the cycle's */
};

struct keep_rubin {
    uint64_t releases, weeklies, dailies, candidates, experimentals;
    const char *recommended;    /* NULL: none */
    const char *const *aliases; /* end with NULL; NULL: none */
    const char *const *pins;    /* the same */
    bool has_cycle;
    uint64_t cycle;
    struct keep_filter filters[KEEP_TAG_KINDS];
};

enum keep_order { KEEP_ORDER_VERSION, KEEP_ORDER_UPLOADED, KEEP_ORDER_NAME };

struct keep_tags {
    const char *const *matching; /* globs; NULL: all */
    enum keep_order order;
    bool has_newest;
    uint64_t newest;
    int64_t newer_than_ms; /* since upload; 0: any */
};

enum keep_entry_kind { KEEP_ENTRY_RUBIN, KEEP_ENTRY_TAGS, KEEP_ENTRY_IMAGE };

/* One entry of a keep's list of images. */
struct keep_entry {
    enum keep_entry_kind kind;
    const char *repository; /* HOST/NAME; IMAGE: without tag and digest */
    const char *pull_as;    /* the repository's name on the nodes; NULL: `repository` */
    const char *tag;        /* IMAGE: NULL when it has only a digest */
    const char *digest;     /* IMAGE: NULL: to be looked up */
    const char *name;       /* IMAGE: for people; NULL: its tag */
    const char *url;        /* IMAGE: as it was written, for cachemachine's pages; NULL: composed */
    struct keep_rubin rubin;
    struct keep_tags tags;
};

enum keep_pull_by { KEEP_PULL_BY_TAG, KEEP_PULL_BY_DIGEST };

struct keep_pull {
    enum keep_pull_by by;
    const char *secret;          /* NULL: none */
    const char *service_account; /* NULL: the namespace's default */
    const char *priority_class;  /* NULL: none */
    int64_t timeout_ms;
    uint64_t nodes_at_once, node_limit;
    uint64_t disk_percent; /* of a node's ephemeral storage; 0: no limit */
    struct keep_pair *pod_labels, *pod_annotations;
    size_t pod_label_count, pod_annotation_count;
};

struct keep_spec {
    const char *name;
    struct keep_nodes nodes;
    struct keep_entry *entries;
    size_t entry_count;
    struct keep_pull pull;
};

/* Whether it can be the name of a keep, which is the value of a label and a part of paths: at most
 * 63 letters, digits and `-_.`, with a letter or digit at both ends. */
bool keep_name_is_valid(const char *name);

/* Whether both keeps do the same. */
bool keep_spec_equal(const struct keep_spec *a, const struct keep_spec *b);

/* By tag, 20 minutes, 20 pods, one a node, 60 % of the disk. */
struct keep_pull keep_pull_default(void);

#endif
