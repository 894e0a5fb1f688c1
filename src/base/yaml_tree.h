/*
 * A YAML document as a tree. Each node has its place in the file.
 *
 * Only scalars, lists and mappings with scalar keys are read. Anchors, aliases and tags are
 * refused, because a configuration does not need them and because expanding aliases makes a small
 * file large. A second document is refused too. Size and depth are limited. Pure; any thread.
 */
#ifndef BASE_YAML_TREE_H
#define BASE_YAML_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include "base/text.h"

enum {
    YAML_SIZE_LIMIT = 1 << 20, /* bytes */
    YAML_DEPTH_LIMIT = 16,
    YAML_LIST_LIMIT = 1000, /* items of one list */
    YAML_MAP_LIMIT = 100,   /* keys of one mapping */
};

/* Where a value was given. Line 0: not in a file; `source` is the flag or the variable. */
struct yaml_place {
    const char *source;
    unsigned line, column; /* from 1, in characters */
};

/* Why a document cannot be read. */
struct yaml_problem {
    struct yaml_place place;
    bool is_memory; /* there was none left; the document may be right */
    char text[256];
};

enum yaml_node_kind { YAML_SCALAR, YAML_LIST, YAML_MAP };

struct yaml_node {
    enum yaml_node_kind kind;
    struct yaml_place place;
    char *text;                     /* SCALAR: has no NUL inside */
    bool plain;                     /* SCALAR: written without quotes */
    char *key;                      /* of a mapping's value */
    struct yaml_place key_place;    /* of a mapping's value */
    struct yaml_node *first, *last; /* of LIST and MAP */
    struct yaml_node *next;         /* in the same LIST or MAP */
    size_t count;                   /* of LIST and MAP */
};

/* False: *problem says why. True with *root NULL: the document is empty. `source` must outlive the
 * tree. */
bool yaml_read(struct text bytes, const char *source, struct yaml_problem *problem,
               struct yaml_node **root);

/* Nodes for values that are not from a file. NULL: out of memory. */
struct yaml_node *yaml_node_new_scalar(struct yaml_place place, struct text text);
struct yaml_node *yaml_node_new_list(struct yaml_place place);
struct yaml_node *yaml_node_new_map(struct yaml_place place);
void yaml_node_append(struct yaml_node *parent,
                      struct yaml_node *child); /* owns `child` from now on */

/* Makes `child` the value of `key` in a mapping, in place of the value that it had. Owns `child`
 * from now on, even if it fails. False: out of memory. */
bool yaml_node_put(struct yaml_node *map, const char *key, struct yaml_node *child);

/* Puts `child` in place of `old`, a child of `parent`, and frees `old`. Owns `child` from now on.
 */
void yaml_node_replace(struct yaml_node *parent, struct yaml_node *old, struct yaml_node *child);

/* The value of the first `key`; NULL when absent. `map` is a mapping. */
const struct yaml_node *yaml_node_get(const struct yaml_node *map, const char *key);

/* Whether the value is left out, or written as YAML's null. */
bool yaml_node_is_null(const struct yaml_node *node);

/* "a list", for messages. */
const char *yaml_node_kind_words(const struct yaml_node *node);

void yaml_node_free(struct yaml_node *node); /* and all its children; NULL is allowed */

static inline void cleanup_yaml_node_call(struct yaml_node **node) {
    yaml_node_free(*node);
}
#define cleanup_yaml_node __attribute__((cleanup(cleanup_yaml_node_call)))

#endif
