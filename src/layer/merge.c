/* Lays one layer's tree over another's, as overlayfs does. */
#include <string.h>
#include <sys/stat.h>
#include "layer/refusal.h"
#include "layer/tree.h"

/* Copies what an inode says, but its number of links. */
static bool copy_contents(struct tree *tree, const struct tree_inode *from, struct tree_inode *to,
                          uint32_t device, struct error *error) {
    uint32_t links = to->links;
    *to = *from;
    to->links = links;
    to->device = device;
    to->nid = 0;
    to->copy = NULL;
    to->xattrs = NULL;
    for (const struct tree_xattr *xattr = from->xattrs; xattr; xattr = xattr->next)
        if (!tree_set_xattr(tree, to, xattr->name, xattr->value, error))
            return false;
    if (from->target) {
        to->target = tree_copy_text(tree, (struct text){from->target, (size_t)from->size}, error);
        if (!to->target)
            return false;
    }
    if (from->extent_count) {
        size_t bytes = from->extent_count * sizeof *from->extents;
        to->extents = tree_allocate(tree, bytes, error);
        if (!to->extents)
            return false;
        memcpy(to->extents, from->extents, bytes);
    }
    return true;
}

/* The copy of an inode in the tree, which names that are hard links share. */
static struct tree_inode *copy_inode(struct tree *tree, struct tree_inode *from, uint32_t device,
                                     struct error *error) {
    if (from->copy)
        return from->copy;
    struct tree_inode *to = tree_allocate(tree, sizeof *to, error);
    if (!to || !copy_contents(tree, from, to, device, error))
        return NULL;
    if (!S_ISDIR(from->mode))
        from->copy = to;
    return to;
}

/* A directory of the layer where the tree has `old`, or nothing (NULL). */
static bool merge_directory(struct tree *tree, struct tree_node *node, struct tree_node *old,
                            uint32_t device, struct error *error) {
    if (old && node->is_implicit && S_ISLNK(old->inode->mode))
        return layer_refuse(error, LAYER_TAR,
                            "it has names below %s, which is a symbolic link in a lower layer",
                            node->name);
    if (old && tree_is_directory(old)) {
        node->copy = old;
        if (node->is_opaque)
            tree_remove_children(tree, old);
        return node->is_implicit || copy_contents(tree, node->inode, old->inode, device, error);
    }
    if (old)
        tree_remove(tree, old);
    struct tree_inode *inode = copy_inode(tree, node->inode, device, error);
    if (inode)
        node->copy = tree_add(tree, node->parent->copy,
                              (struct text){node->name, node->name_length}, inode, error);
    return inode && node->copy;
}

static bool merge_node(struct tree *tree, struct tree_node *node, uint32_t device,
                       struct error *error) {
    const struct text name = {node->name, node->name_length};
    struct tree_node *parent = node->parent->copy, *old = tree_find(tree, parent, name);
    if (tree_is_directory(node))
        return merge_directory(tree, node, old, device, error);
    if (old)
        tree_remove(tree, old);
    if (node->is_whiteout)
        return true;
    struct tree_inode *inode = copy_inode(tree, node->inode, device, error);
    return inode && tree_add(tree, parent, name, inode, error);
}

bool tree_merge(struct tree *tree, struct tree *layer, uint32_t device, struct error *error) {
    layer->root->copy = tree->root;
    for (struct tree_node *node = tree_next(layer->root, layer->root); node;
         node = tree_next(layer->root, node))
        if (!merge_node(tree, node, device, error))
            return false;
    return true;
}
