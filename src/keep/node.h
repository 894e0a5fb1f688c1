/*
 * A node of the cluster: what a keep needs to know of a core/v1 Node, and whether a keep wants it.
 *
 * `status.images` lists the largest N images of the node (kubelet: 50; GKE often 25; -1: all),
 * largest first, each with at most five names, digests first. So a list may be cut.
 *
 * Pure. Threads: one at a time, because nodes share their images' names.
 */
#ifndef KEEP_NODE_H
#define KEEP_NODE_H

#include <jansson.h>
#include "base/error.h"
#include "keep/names.h"
#include "keep/spec.h"

enum {
    KEEP_NODE_IMAGES = 2000, /* further ones of a list are not read */
    KEEP_NODE_NAMES = 32,    /* of one image */
    KEEP_NODE_PAIRS = 500,   /* labels, and taints */
    /* The kubelet's own limit of names of an image (nodestatus.MaxNamesPerImageInNodeStatus). */
    KEEP_NODE_NAMES_CUT = 5,
};

struct keep_node_image {
    uint64_t size; /* bytes; 0: not told */
    uint32_t first_name;
    uint32_t name_count;
};

/* Where a digest stands in `images`. */
struct keep_node_digest {
    uint64_t key;
    uint32_t image;
};

struct keep_taint {
    const char *key, *value, *effect;
};

struct keep_node {
    const char *name, *uid, *boot_id, *architecture, *os; /* "": not told */
    bool cordoned, ready, deleting, disk_pressure;
    uint64_t storage; /* bytes of ephemeral storage; 0: not told */
    struct keep_pair *labels;
    size_t label_count;
    struct keep_taint *taints;
    size_t taint_count;
    struct keep_node_image *images; /* in the order of the list */
    size_t image_count;
    struct keep_name **names; /* of all images, one after the other */
    size_t name_count;
    struct keep_node_digest *digests; /* rising by key */
    size_t digest_count;
    char *strings; /* all of the texts above, in one piece */
};

/* Reads a Node. NULL: ERROR_INVALID (it has no metadata.name or metadata.uid), or ERROR_MEMORY. */
struct keep_node *keep_node_read(const json_t *json, struct keep_names *names, struct error *error);
void keep_node_free(struct keep_node *node, struct keep_names *names); /* NULL is allowed */

enum keep_eligibility {
    KEEP_NODE_OTHER,      /* its labels are not those that the keep wants */
    KEEP_NODE_INELIGIBLE, /* it is one of the keep's, but nothing is pulled on it now */
    KEEP_NODE_ELIGIBLE,
};

enum { KEEP_COMMENT_SIZE = 400 };
/* Writes why not, for people: "Node is tainted (NoSchedule, only = labs)"; "" if eligible. */
enum keep_eligibility keep_node_eligible(const struct keep_node *node,
                                         const struct keep_nodes *wanted,
                                         char comment[static KEEP_COMMENT_SIZE]);

/* Whether the taint keeps pods with these tolerations away. PreferNoSchedule never does, and a
 * toleration for some seconds only tolerates no NoExecute taint. */
bool keep_node_taint_counts(const struct keep_taint *taint, const struct keep_nodes *wanted);

/* The image with this digest, by keep_names_key(); NULL: it is not in the list. */
const struct keep_node_image *keep_node_find(const struct keep_node *node, uint64_t digest);

/* The image that has this name ("HOST/NAME:TAG"), by key. */
const struct keep_node_image *keep_node_find_name(const struct keep_node *node, uint64_t name);

/* A quantity of the API ("98868448Ki", "120G", "1e9", "500m") in whole units. False: it is none. */
bool keep_node_quantity(const char *text, uint64_t *value);

#endif
