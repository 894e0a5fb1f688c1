/* The parts of a plan. Private to plan.c, plan_pods.c, view.c, judge.c and step.c. */
#ifndef KEEP_PLAN_PRIVATE_H
#define KEEP_PLAN_PRIVATE_H

#include <uthash.h>
#include "keep/plan.h"

/* What is known of an image on a node. */
struct plan_cell {
    uint64_t image; /* plan_wanted.key */
    struct plan_pod *pod;
    char *reason;           /* of the last failure; NULL */
    int64_t since_s;        /* wall: of the state that is shown */
    int64_t pulled_ms;      /* our last pull that ended well; 0: none since the last boot */
    int64_t gone_ms;        /* when it was last found gone; 0: never */
    int64_t retry_ms;       /* not before; 0: at once */
    int64_t retry_s;        /* the same as wall time */
    uint64_t pulled_digest; /* that our pull brought, which may be the one of a child; 0 */
    uint64_t pulled_tag;    /* the name by which it was pulled; 0 */
    uint16_t attempts;
    uint8_t deletions; /* pods that somebody else deleted, one after the other */
    bool there;        /* as far as is known */
    bool was_listed;   /* since our last pull */
    bool unlisted;     /* the last list lacked it and says nothing */
    bool failed, evicted, was_pending;
};

struct plan_node {
    struct keep_node *node;
    uint64_t uid_key;
    size_t index;             /* in plan->nodes */
    struct plan_cell **cells; /* rising by image */
    size_t cell_count, cell_capacity;
    size_t pods;
    size_t most_images; /* the longest list that it ever had */
    bool is_dirty;
    /* One for each keep: the first image to pull now (-1: none), and when to look again. */
    struct plan_next {
        int32_t image;
        int64_t wake_ms;
    } * next;
    UT_hash_handle hh; /* by uid_key */
};

struct plan_child {
    char architecture[32];
    uint64_t digest_key;
};

struct plan_wanted {
    char *name, *tag, *digest;
    char **platforms;
    size_t platform_count;
    struct plan_child *children;
    size_t child_count;
    uint64_t key;        /* the digest's, else that of the name with tag */
    uint64_t digest_key; /* 0: not known */
    uint64_t tag_key;    /* of "NAME:TAG"; 0: without tag */
    uint64_t size;       /* as a node said, else as the registry */
    char refusal[KEEP_REASON_SIZE];
    uint64_t refused_by[KEEP_SAME_REFUSALS]; /* nodes */
    size_t refused_count;
    char *refusal_text;
};

struct plan_keep {
    const struct keep_spec *spec;
    char *name;
    struct plan_wanted *wanted;
    size_t count;
    uint32_t *by_key; /* indexes of the images, rising by key; NULL: not made yet */
    uint64_t bytes;   /* of all images */
    bool is_listed;
    bool is_outdated; /* its images are those of an earlier spec: none is pulled */
    size_t pods;
    uint64_t evictions;
    int64_t create_after_ms;  /* the server does not create the keep's pods */
    unsigned create_failures; /* one after the other */
};

/* One of our own pods, from the moment that it is to be created. */
struct plan_pod {
    uint64_t id;
    char *uid, *name; /* NULL until known */
    char *keep, *image, *digest, *node;
    uint64_t node_key;      /* of the node's uid; 0: no such node */
    struct plan_cell *cell; /* that it pulls for; NULL: nobody wants it */
    struct plan_keep *owner;
    struct keep_pod *held; /* how it ended, before it was known what it pulls for; NULL */
    int64_t created_ms;
    int64_t timeout_ms;
    int64_t delete_at_ms; /* not before */
    bool unwanted;        /* to be deleted */
    bool given_up;        /* by another spec of its keep, so that it is never wanted again */
    bool ended;           /* its pull has */
    bool terminal;        /* the API deletes it at once */
    bool deleting;
    struct plan_pod *next;
};

/* An end that is to be told by the next step. */
struct plan_end {
    enum keep_outcome outcome;
    int64_t took_ms;
    char *keep, *node, *image, *reason;
    struct plan_end *next;
};

struct keep_plan {
    struct keep_names names;
    struct plan_node *by_uid; /* uthash */
    struct plan_node **nodes; /* in the order in which they were first seen */
    size_t node_count, node_capacity;
    struct plan_keep *keeps;
    size_t keep_count;
    struct plan_pod *pods;
    uint64_t last_id;
    struct plan_end *ends, **last_end;
    struct plan_end *told; /* by the last step: its strings are still in use */
    bool no_memory;
};

/* plan.c */
struct plan_cell *plan_cell_find(const struct plan_node *node, uint64_t image);
struct plan_cell *plan_cell_make(struct keep_plan *plan, struct plan_node *node, uint64_t image);
struct plan_keep *plan_find_keep(const struct keep_plan *plan, const char *name); /* NULL: none */
void plan_touch(struct keep_plan *plan); /* every node is looked at again */

/* plan_pods.c */
void plan_pod_free(struct keep_plan *plan, struct plan_pod *pod);
/* The image of the keep that the pod pulls, by its annotations; NULL: none. */
struct plan_wanted *plan_wanted_of_pod(const struct plan_keep *keep, const struct plan_pod *pod);
/* Takes up the pods that nothing of ours belongs to, or finds that nobody wants them. */
void plan_bind_pods(struct keep_plan *plan, struct keep_now now);

/* view.c */
/* Brings the cells up to date with a node's new list. */
void plan_observe(struct keep_plan *plan, struct plan_node *node, bool rebooted,
                  struct keep_now now);
/* Whether the image is in the node's list now. */
bool plan_is_listed(const struct plan_wanted *wanted, const struct plan_node *node,
                    const struct plan_cell *cell);
/* Whether the keep's image is there: its digest, and its tag where that is wanted. */
bool plan_is_there(const struct plan_keep *keep, const struct plan_wanted *wanted,
                   const struct plan_node *node, const struct plan_cell *cell);
/* Whether a pull by tag must ask the registry even if the node has the tag. */
bool plan_must_ask(const struct plan_wanted *wanted, const struct plan_node *node);
bool plan_list_is_cut(const struct plan_node *node);
/* A size in bytes that a registry or a node tells, without what cannot be: the sum of a keep's is
 * no more than 64 bits hold. */
static inline uint64_t plan_size(uint64_t size) {
    return size < UINT64_C(1) << 50 ? size : UINT64_C(1) << 50;
}
/* What of the node's disk the keep's images up to this one would take beyond what they may. */
bool plan_has_room(const struct plan_keep *keep, size_t image, const struct plan_node *node);
bool plan_has_platform(const struct plan_wanted *wanted, const struct plan_node *node);

/* judge.c */
void plan_pod_changed(struct keep_plan *plan, struct plan_pod *pod, const struct keep_pod *seen,
                      struct keep_now now);
void plan_pod_timed_out(struct keep_plan *plan, struct plan_pod *pod, struct keep_now now);
void plan_cell_retry_later(struct plan_cell *cell, unsigned attempts, struct keep_now now);
/* The pod is gone before its pull has ended. */
void plan_pod_vanished(struct keep_plan *plan, struct plan_pod *pod, struct keep_now now);

#endif
