/*
 * What is to be done: which node pulls which image now, and what is known of each image on each
 * node.
 *
 * The plan is told what happens (a repository was listed, a node or a pod changed, a pod was
 * created), and keep_plan_step() says what to do: create this pod, delete that one. It asks nobody
 * and knows no clock but the times that it is given.
 *
 * An image is known by its digest, so that the same digest twice is one pull; one whose digest is
 * not known, by its name.
 *
 * What is on a node is `status.images`, which may be cut and comes late. An image is there when its
 * digest is listed, or when our own pull of it ended well since the node's last boot. It is gone
 * when a later list lacks it and that list is whole, or holds a smaller image; else it is as last
 * known, and is asked for again after six hours by a pull that costs nothing if it is there.
 *
 * Threads: one at a time.
 */
#ifndef KEEP_PLAN_H
#define KEEP_PLAN_H

#include "base/error.h"
#include "keep/node.h"
#include "keep/pod.h"
#include "keep/spec.h"

enum {
    KEEP_RETRY_FIRST_MS = 60 * 1000, /* then doubling; each +-20 % */
    KEEP_RETRY_LAST_MS = 60 * 60 * 1000,
    KEEP_ASK_AGAIN_MS = 6 * 60 * 60 * 1000,
    KEEP_EVICTION_DAY_MS = 24 * 60 * 60 * 1000,
    KEEP_LIST_LAG_MS = 60 * 1000, /* a list this soon after a pull may not have the image yet */
    KEEP_WHOLE_LIST = 25,         /* a list with fewer images is not cut */
    KEEP_SAME_REFUSALS = 3,       /* nodes, before no further one tries an image */
    KEEP_CREATE_PAUSE_MS = 1000,  /* after a creation that failed; then doubling */
    KEEP_CREATE_PAUSE_LAST_MS = 30 * 1000,
    KEEP_DELETE_AGAIN_MS = 2000,       /* after a pod could not be deleted */
    KEEP_TIMEOUT_GRACE_MS = 30 * 1000, /* for the kubelet to say that the time is over */
};

/* A moment: monotonic for what is planned, wall time for people. */
struct keep_now {
    int64_t ms, wall_s;
};

/* A manifest that an index names. */
struct keep_child {
    char architecture[32]; /* of Linux; "": of another system */
    char digest[136];
};

/* An image that a keep wants; copied. */
struct keep_image {
    const char *name;   /* "HOST/NAME", as nodes pull it */
    const char *tag;    /* NULL: none */
    const char *digest; /* NULL: not known */
    uint64_t size;      /* bytes; 0: not known */
    const char *const *platforms;
    size_t platform_count;             /* 0: not known */
    const struct keep_child *children; /* of an index */
    size_t child_count;
};

struct keep_plan;

struct keep_plan *keep_plan_new(void); /* NULL: out of memory */
void keep_plan_free(struct keep_plan *plan);

/* ---- what happens ---- */

/* The keeps, in the order in which they are served, are now these. The specs live until the next
 * call. A keep of a name that was there keeps its images until they are set again. If its spec is
 * another one (keep_spec_equal()), its pods are to be deleted, and nothing is pulled for it until
 * its images are set. */
bool keep_plan_set_keeps(struct keep_plan *plan, const struct keep_spec *const *specs, size_t count,
                         struct keep_now now);

/* The images of a keep are now these, in order, by a fresh list of their repositories. Images with
 * the digest of an earlier one are passed over. False: out of memory, and nothing changed. */
bool keep_plan_set_images(struct keep_plan *plan, const char *keep, const struct keep_image *images,
                          size_t count, struct keep_now now);

/* A node was listed or has changed. False: ERROR_INVALID or ERROR_MEMORY. */
bool keep_plan_set_node(struct keep_plan *plan, const json_t *json, struct keep_now now,
                        struct error *error);
void keep_plan_remove_node(struct keep_plan *plan, const char *uid);

/* A pod was listed or has changed; strangers' pods are passed over. */
bool keep_plan_set_pod(struct keep_plan *plan, const json_t *json, struct keep_now now);
void keep_plan_remove_pod(struct keep_plan *plan, const char *uid, struct keep_now now);

/* ---- what to do ---- */

enum keep_action_kind {
    KEEP_CREATE, /* `id` and `wish`: then keep_plan_created() or keep_plan_not_created() */
    KEEP_DELETE, /* `uid` and `pod`: then keep_plan_deleted() */
    KEEP_ENDED,  /* a pull has ended: for the log and the metrics */
};

enum keep_outcome {
    KEEP_OUTCOME_KEPT,
    KEEP_OUTCOME_REFUSED,
    KEEP_OUTCOME_NODE,
    KEEP_OUTCOME_TIMEOUT
};

/* All strings belong to the plan, until the next call that changes it. */
struct keep_action {
    enum keep_action_kind kind;
    uint64_t id;
    struct keep_pod_wish wish;                /* CREATE: without namespace and owner */
    const char *uid, *pod;                    /* DELETE */
    const char *keep, *node, *image, *reason; /* ENDED */
    enum keep_outcome outcome;
    int64_t took_ms;
};

struct keep_actions {
    struct keep_action *list;
    size_t count, capacity;
    int64_t wake_ms; /* when to call again at the latest, if nothing happens; INT64_MAX: never */
};
void keep_actions_finish(struct keep_actions *actions);

/* Replaces *out. `may_act`: this process is the one that creates and deletes, and knows enough to;
 * else only ENDED comes. `limit`: at most so many CREATE at once. */
bool keep_plan_step(struct keep_plan *plan, struct keep_now now, bool may_act, size_t limit,
                    struct keep_actions *out);

void keep_plan_created(struct keep_plan *plan, uint64_t id, const char *name, const char *uid,
                       struct keep_now now);

/* Why a pod was not created. */
enum keep_failure_kind {
    KEEP_FAILURE_NOT_SENT, /* there is no pod, and it may be tried again at once */
    KEEP_FAILURE_REFUSED,  /* the server said no, so there is no pod */
    KEEP_FAILURE_UNKNOWN,  /* there may be one, and it is taken up when it shows */
};
struct keep_failure {
    enum keep_failure_kind kind;
    const char *why;
    int64_t pause_ms; /* that the server asks for; 0: none */
};
/* A failure that was sent lets the keep pause: 1 s, doubling to 30 s until a creation succeeds. */
void keep_plan_not_created(struct keep_plan *plan, uint64_t id, const struct keep_failure *failure,
                           struct keep_now now);
void keep_plan_deleted(struct keep_plan *plan, const char *uid, bool done, struct keep_now now);

/* ---- what is known, for pages ---- */

enum keep_state {
    KEEP_KEPT,
    KEEP_PENDING,
    KEEP_PULLING_NOW,
    KEEP_FAILED,
    KEEP_SKIPPED,
    KEEP_STATES
};
const char *keep_state_name(enum keep_state state); /* "kept", ... */

struct keep_cell_view {
    enum keep_state state;
    int64_t since_s, retry_s; /* wall; 0: not known, or none */
    unsigned attempts;        /* pulls that were started since it was last kept */
    char reason[KEEP_MESSAGE_SIZE + KEEP_REASON_SIZE + 80]; /* "" */
    uint64_t bytes;                                         /* as the node says; 0: not known */
};

size_t keep_plan_node_count(const struct keep_plan *plan);
/* In the order in which they were first seen. */
const struct keep_node *keep_plan_node(const struct keep_plan *plan, size_t index);
bool keep_plan_node_list_is_cut(const struct keep_plan *plan, size_t index);

size_t keep_plan_pod_count(const struct keep_plan *plan); /* our own, ended ones included */

/* -1: there is no such keep. */
int keep_plan_find(const struct keep_plan *plan, const char *keep);
/* Whether the keep's images have been set. */
bool keep_plan_is_listed(const struct keep_plan *plan, size_t keep);
size_t keep_plan_image_count(const struct keep_plan *plan, size_t keep);
void keep_plan_image(const struct keep_plan *plan, size_t keep, size_t index,
                     struct keep_image *out);
/* The index of the keep's image with this digest, or with this name if `digest` is NULL; -1. */
int keep_plan_image_index(const struct keep_plan *plan, size_t keep, const char *digest,
                          const char *name, const char *tag);
/* Whether the image is kept on the node, which is eligible. */
bool keep_plan_is_kept(const struct keep_plan *plan, size_t keep, size_t image, size_t node);
/* Whether the image is on the node by whatever tag, as far as is known. */
bool keep_plan_is_held(const struct keep_plan *plan, size_t keep, size_t image, size_t node);
/* The node is eligible for the keep. */
void keep_plan_cell(const struct keep_plan *plan, size_t keep, size_t image, size_t node,
                    struct keep_now now, struct keep_cell_view *out);
uint64_t keep_plan_evictions(const struct keep_plan *plan, size_t keep);
const struct keep_names *keep_plan_names(const struct keep_plan *plan);

#endif
