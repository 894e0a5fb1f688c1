/*
 * A YAML document as a tree in which every value knows its place.
 *
 * Only the plain part of YAML is read: scalars, lists, mappings with scalar keys. Anchors, aliases
 * and tags are refused (a configuration does without, and expansion is how small files become
 * large), and so is a second document. Size and depth are bounded.
 */
#ifndef CONFIG_DOCUMENT_H
#define CONFIG_DOCUMENT_H

#include "base/text.h"
#include "config/problems.h"

enum {
    DOCUMENT_SIZE_LIMIT = 1 << 20, /* bytes */
    DOCUMENT_DEPTH_LIMIT = 16,
    DOCUMENT_LIST_LIMIT = 1000, /* items of one list */
    DOCUMENT_MAP_LIMIT = 100,   /* keys of one mapping */
};

enum node_kind { NODE_SCALAR, NODE_LIST, NODE_MAP };

struct node {
    enum node_kind kind;
    struct place place;
    char *text;                /* SCALAR: never holds NUL */
    char *key;                 /* of a mapping's value */
    struct place key_place;    /* of a mapping's value */
    struct node *first, *last; /* of LIST and MAP */
    struct node *next;         /* in the same LIST or MAP */
    size_t count;              /* of LIST and MAP */
};

/* False: a problem was added. True with *root NULL: the document is empty. `source` must outlive
 * the tree. */
bool config_document_read(struct text bytes, const char *source, struct problems *problems,
                          struct node **root);

/* A scalar or, with several values, a list that was said outside a file. NULL: out of memory. */
struct node *node_new_scalar(struct place place, struct text text);
struct node *node_new_list(struct place place);
void node_append(struct node *parent, struct node *child); /* takes `child` */

void node_free(struct node *node); /* with all below it; NULL is allowed */

static inline void cleanup_node_call(struct node **node) {
    node_free(*node);
}
#define cleanup_node __attribute__((cleanup(cleanup_node_call)))

#endif
