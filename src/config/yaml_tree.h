/*
 * A YAML document as a tree. Each node has its place in the file. Private to config/.
 *
 * Only scalars, lists and mappings with scalar keys are read. Anchors, aliases and tags are
 * refused, because a configuration does not need them and because expanding aliases makes a small
 * file large. A second document is refused too. Size and depth are limited.
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
    char *text;                       /* SCALAR: has no NUL inside */
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

/* Nodes for values that are not from a file. NULL: out of memory. */
struct config_node *config_node_new_scalar(struct config_place place, struct text text);
struct config_node *config_node_new_list(struct config_place place);
struct config_node *config_node_new_map(struct config_place place);
void config_node_append(struct config_node *parent,
                        struct config_node *child); /* owns `child` from now on */

/* Makes `child` the value of `key` in a mapping, in place of the value that it had. Owns `child`
 * from now on, even if it fails. False: out of memory. */
bool config_node_put(struct config_node *map, const char *key, struct config_node *child);

/* Puts `child` in place of `old`, a child of `parent`, and frees `old`. Owns `child` from now on.
 */
void config_node_replace(struct config_node *parent, struct config_node *old,
                         struct config_node *child);

/* Whether the value is left out, or written as YAML's null. */
bool config_node_is_null(const struct config_node *node);

/* "a list", for messages. */
const char *config_node_kind_words(const struct config_node *node);

void config_node_free(struct config_node *node); /* and all its children; NULL is allowed */

static inline void cleanup_config_node_call(struct config_node **node) {
    config_node_free(*node);
}
#define cleanup_config_node __attribute__((cleanup(cleanup_config_node_call)))

#endif
