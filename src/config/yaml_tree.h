/*
 * A YAML document as a tree in which every value knows its place.
 *
 * Only the plain part of YAML is read: scalars, lists, mappings with scalar keys. Anchors, aliases
 * and tags are refused (a configuration does without, and expansion is how small files become
 * large), and so is a second document. Size and depth are bounded.
 */
#ifndef CONFIG_YAML_TREE_H
#define CONFIG_YAML_TREE_H

#include "base/text.h"
#include "config/problems.h"

enum {
    YAML_SIZE_LIMIT = 1 << 20, /* bytes */
    YAML_DEPTH_LIMIT = 16,
    YAML_LIST_LIMIT = 1000, /* items of one list */
    YAML_MAP_LIMIT = 100,   /* keys of one mapping */
};

enum config_node_kind { NODE_SCALAR, NODE_LIST, NODE_MAP };

struct config_node {
    enum config_node_kind kind;
    struct config_place place;
    char *text;                       /* SCALAR: never holds NUL */
    char *key;                        /* of a mapping's value */
    struct config_place key_place;    /* of a mapping's value */
    struct config_node *first, *last; /* of LIST and MAP */
    struct config_node *next;         /* in the same LIST or MAP */
    size_t count;                     /* of LIST and MAP */
};

/* False: a problem was added. True with *root NULL: the document is empty. `source` must outlive
 * the tree. */
bool config_yaml_read(struct text bytes, const char *source, struct config_problems *problems,
                      struct config_node **root);

/* A scalar or, with several values, a list that was said outside a file. NULL: out of memory. */
struct config_node *config_node_new_scalar(struct config_place place, struct text text);
struct config_node *config_node_new_list(struct config_place place);
void config_node_append(struct config_node *parent, struct config_node *child); /* takes `child` */

/* "a list", for messages. */
const char *config_node_kind_words(const struct config_node *node);

void config_node_free(struct config_node *node); /* with all below it; NULL is allowed */

static inline void cleanup_config_node_call(struct config_node **node) {
    config_node_free(*node);
}
#define cleanup_config_node __attribute__((cleanup(cleanup_config_node_call)))

#endif
