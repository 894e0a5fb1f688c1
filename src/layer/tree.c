/* A tree of files in memory: nodes, their table of names, their order. */
#include "layer/tree.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/cleanup.h"
#include "layer/refusal.h"

enum { BLOCK_BYTES = 256 << 10, ALIGNMENT = 8, BUCKETS = 1024 };

struct tree_block {
    struct tree_block *next;
    size_t used, size;
    _Alignas(ALIGNMENT) unsigned char bytes[];
};

/* ---- memory ---- */

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "a tree of files: out of memory");
}

static bool is_over(const struct tree *tree, size_t more, struct error *error) {
    if (more <= tree->limit - tree->used)
        return false;
    layer_refuse(error, LAYER_SIZE, "its names and attributes take more than %zu MiB of memory",
                 tree->limit >> 20);
    return true;
}

void *tree_allocate(struct tree *tree, size_t bytes, struct error *error) {
    if (is_over(tree, bytes, error))
        return NULL;
    bytes = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    struct tree_block *block = tree->blocks;
    if (!block || block->size - block->used < bytes) {
        size_t size = bytes > BLOCK_BYTES ? bytes : BLOCK_BYTES;
        if (is_over(tree, size, error))
            return NULL;
        block = calloc(1, sizeof *block + size);
        if (!block) {
            no_memory(error);
            return NULL;
        }
        block->size = size;
        tree->used += size;
        if (tree->blocks && size > BLOCK_BYTES) { /* the block at the front may have room left */
            block->next = tree->blocks->next;
            tree->blocks->next = block;
        } else {
            block->next = tree->blocks;
            tree->blocks = block;
        }
    }
    void *at = block->bytes + block->used;
    block->used += bytes;
    return at;
}

const char *tree_copy_text(struct tree *tree, struct text text, struct error *error) {
    char *copy = tree_allocate(tree, text.length + 1, error);
    if (copy && text.length)
        memcpy(copy, text.at, text.length);
    return copy;
}

struct tree *tree_new(size_t limit) {
    struct tree *tree = calloc(1, sizeof *tree);
    if (!tree)
        return NULL;
    tree->limit = limit;
    tree->buckets = calloc(BUCKETS, sizeof *tree->buckets);
    tree->bucket_count = BUCKETS;
    siphash_key_fill(&tree->key);
    tree->root = tree_allocate(tree, sizeof *tree->root + 1, NULL);
    struct tree_inode *inode = tree_allocate(tree, sizeof *inode, NULL);
    if (!tree->buckets || !tree->root || !inode) {
        tree_free(tree);
        return NULL;
    }
    *inode = (struct tree_inode){.mode = S_IFDIR | 0755, .links = 2};
    tree->root->inode = inode;
    tree->root->is_implicit = true;
    return tree;
}

void tree_free(struct tree *tree) {
    if (!tree)
        return;
    for (struct tree_block *block = tree->blocks, *next; block; block = next) {
        next = block->next;
        free(block);
    }
    free(tree->buckets);
    free(tree);
}

/* ---- names ---- */

static size_t bucket_of(const struct tree *tree, const struct tree_node *parent, struct text name) {
    struct {
        const struct tree_node *parent;
        char name[TREE_NAME_LIMIT];
    } key;
    memset(&key, 0, sizeof key.parent);
    key.parent = parent;
    memcpy(key.name, name.at, name.length);
    return siphash_of(&tree->key, &key, sizeof key.parent + name.length) & (tree->bucket_count - 1);
}

static struct text name_of(const struct tree_node *node) {
    return (struct text){node->name, node->name_length};
}

/* Twice the buckets once there are as many nodes. If there is no memory, chains become longer. */
static void grow(struct tree *tree) {
    if (tree->node_count < tree->bucket_count)
        return;
    size_t count = tree->bucket_count * 2;
    struct tree_node **old = tree->buckets, **buckets = calloc(count, sizeof *buckets);
    if (!buckets)
        return;
    size_t old_count = tree->bucket_count;
    tree->buckets = buckets;
    tree->bucket_count = count;
    for (size_t i = 0; i < old_count; i++)
        for (struct tree_node *node = old[i], *next; node; node = next) {
            size_t bucket = bucket_of(tree, node->parent, name_of(node));
            next = node->chain;
            node->chain = buckets[bucket];
            buckets[bucket] = node;
        }
    free(old);
}

bool tree_is_directory(const struct tree_node *node) {
    return !node->is_whiteout && S_ISDIR(node->inode->mode);
}

struct tree_node *tree_find(const struct tree *tree, const struct tree_node *parent,
                            struct text name) {
    if (name.length == 0 || name.length > TREE_NAME_LIMIT)
        return NULL;
    struct tree_node *node = tree->buckets[bucket_of(tree, parent, name)];
    while (node && !(node->parent == parent && node->name_length == name.length &&
                     memcmp(node->name, name.at, name.length) == 0))
        node = node->chain;
    return node;
}

struct tree_node *tree_add(struct tree *tree, struct tree_node *parent, struct text name,
                           struct tree_inode *inode, struct error *error) {
    struct tree_node *node = tree_allocate(tree, sizeof *node + name.length + 1, error);
    if (!node)
        return NULL;
    grow(tree);
    tree->node_count++;
    node->parent = parent;
    node->inode = inode;
    node->name_length = (uint8_t)name.length;
    memcpy(node->name, name.at, name.length);
    size_t bucket = bucket_of(tree, parent, name);
    node->chain = tree->buckets[bucket];
    tree->buckets[bucket] = node;
    node->prev = parent->last;
    *(parent->last ? &parent->last->next : &parent->first) = node;
    parent->last = node;
    if (S_ISDIR(inode->mode)) {
        inode->links = 2;
        parent->inode->links++;
    } else {
        inode->links++;
    }
    return node;
}

static void forget_name(struct tree *tree, struct tree_node *node) {
    struct tree_node **at = &tree->buckets[bucket_of(tree, node->parent, name_of(node))];
    while (*at != node)
        at = &(*at)->chain;
    *at = node->chain;
}

void tree_remove_children(struct tree *tree, struct tree_node *top) {
    for (struct tree_node *node = tree_next(top, top); node; node = tree_next(top, node)) {
        forget_name(tree, node);
        if (!S_ISDIR(node->inode->mode))
            node->inode->links--;
    }
    top->first = top->last = NULL;
    if (S_ISDIR(top->inode->mode))
        top->inode->links = 2;
}

void tree_remove(struct tree *tree, struct tree_node *node) {
    struct tree_node *parent = node->parent;
    tree_remove_children(tree, node);
    forget_name(tree, node);
    *(node->prev ? &node->prev->next : &parent->first) = node->next;
    *(node->next ? &node->next->prev : &parent->last) = node->prev;
    if (S_ISDIR(node->inode->mode))
        parent->inode->links--;
    else
        node->inode->links--;
}

struct tree_node *tree_next(const struct tree_node *top, const struct tree_node *node) {
    if (node->first)
        return node->first;
    while (node != top && !node->next)
        node = node->parent;
    return node == top ? NULL : node->next;
}

/* ---- order ---- */

static int compare(const void *left, const void *right) {
    const struct tree_node *a = *(struct tree_node *const *)left,
                           *b = *(struct tree_node *const *)right;
    size_t shorter = a->name_length < b->name_length ? a->name_length : b->name_length;
    int order = memcmp(a->name, b->name, shorter);
    return order ? order : (int)a->name_length - (int)b->name_length;
}

/* Children that stand in `list` for the time of the sorting. */
struct children {
    struct tree_node **list;
    size_t capacity;
};

static bool sort_children(struct children *children, struct tree_node *parent) {
    size_t count = 0;
    for (struct tree_node *node = parent->first; node; node = node->next) {
        if (count == children->capacity) {
            size_t capacity = count ? count * 2 : 256;
            struct tree_node **list = realloc(children->list, capacity * sizeof *list);
            if (!list)
                return false;
            children->list = list;
            children->capacity = capacity;
        }
        children->list[count++] = node;
    }
    if (count < 2)
        return true;
    qsort(children->list, count, sizeof(struct tree_node *), compare);
    for (size_t i = 0; i < count; i++) {
        children->list[i]->prev = i ? children->list[i - 1] : NULL;
        children->list[i]->next = i + 1 < count ? children->list[i + 1] : NULL;
    }
    parent->first = children->list[0];
    parent->last = children->list[count - 1];
    return true;
}

bool tree_sort(struct tree *tree, struct error *error) {
    struct children children = {0};
    bool ok = true;
    for (struct tree_node *node = tree->root; node && ok; node = tree_next(tree->root, node))
        ok = sort_children(&children, node);
    free(children.list);
    return ok || no_memory(error);
}

/* ---- attributes ---- */

bool tree_set_xattr(struct tree *tree, struct tree_inode *inode, struct text name,
                    struct text value, struct error *error) {
    struct tree_xattr *xattr = inode->xattrs;
    while (xattr && !(xattr->name.length == name.length &&
                      memcmp(xattr->name.at, name.at, name.length) == 0))
        xattr = xattr->next;
    const char *copy = tree_copy_text(tree, value, error);
    if (!copy)
        return false;
    if (!xattr) {
        const char *own_name = tree_copy_text(tree, name, error);
        xattr = own_name ? tree_allocate(tree, sizeof *xattr, error) : NULL;
        if (!xattr)
            return false;
        xattr->name = (struct text){own_name, name.length};
        xattr->next = inode->xattrs;
        inode->xattrs = xattr;
    }
    xattr->value = (struct text){copy, value.length};
    return true;
}
