/*
 * A tree of files in memory: what a layer, or a whole image, unpacks to, without the files' bytes.
 *
 * A file's bytes are extents of devices: a device is the uncompressed archive of one layer. Names
 * that share an inode are hard links. All nodes live as long as the tree and are freed with it; the
 * memory that a tree takes is bounded by its limit. Pure. One thread at a time.
 */
#ifndef LAYER_TREE_H
#define LAYER_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "base/siphash.h"
#include "base/text.h"

enum {
    TREE_NAME_LIMIT = 255,
    TREE_PATH_LIMIT = 4096, /* bytes of a whole path with its slashes: Linux's PATH_MAX */
    TREE_TARGET_LIMIT = 4095,
    TREE_MEMORY = 512 << 20, /* the usual limit: about 2,000,000 files */
};

/* Bytes of a file that are not a hole. */
struct tree_extent {
    uint64_t at;     /* where in the file they begin */
    uint64_t length; /* not 0 */
    uint64_t where;  /* where on the device they begin */
};

struct tree_xattr {
    struct tree_xattr *next;
    struct text name; /* with its prefix: "security.capability" */
    struct text value;
};

struct tree_inode {
    uint32_t mode; /* type and permissions, as in struct stat */
    uint32_t uid, gid;
    uint32_t links; /* names; of a directory 2 and its subdirectories */
    uint32_t major, minor;
    uint32_t mtime_ns;
    uint32_t device;  /* of the extents, from 1 on */
    uint64_t mtime_s; /* since 1970 */
    uint64_t size;    /* of a file or of a symbolic link's target */
    struct tree_xattr *xattrs;
    const char *target;          /* of a symbolic link */
    struct tree_extent *extents; /* in their order, without overlaps */
    size_t extent_count;
    uint64_t nid;            /* its place in the EROFS image that is written or was read */
    struct tree_inode *copy; /* of this inode in the tree that tree_merge() makes */
};

struct tree_node {
    struct tree_node *parent;                     /* of the root: NULL */
    struct tree_node *first, *last, *next, *prev; /* children and siblings */
    struct tree_node *chain;                      /* in the table of names */
    struct tree_node *copy;                       /* as in the inode */
    struct tree_inode *inode;
    bool is_implicit; /* a directory that is only there because something is in it */
    bool is_opaque;   /* a directory that hides what lower layers have in it */
    bool is_whiteout; /* hides this name of lower layers, and is nothing itself */
    uint8_t name_length;
    char name[]; /* with a NUL behind it */
};

struct tree_block;

struct tree {
    struct tree_node *root;
    struct tree_block *blocks;
    size_t used, limit; /* bytes */
    struct tree_node **buckets;
    size_t bucket_count, node_count; /* with those that were removed */
    struct siphash_key key;
};

/* A tree with a root: a directory of root's, 0755, of the year 1970. NULL: out of memory. */
struct tree *tree_new(size_t limit);
void tree_free(struct tree *tree); /* NULL is allowed */

/* Zeroed memory that lives as long as the tree. NULL: out of memory, or LAYER_SIZE. */
void *tree_allocate(struct tree *tree, size_t bytes, struct error *error);
/* A copy with a NUL behind it. */
const char *tree_copy_text(struct tree *tree, struct text text, struct error *error);

bool tree_is_directory(const struct tree_node *node);

struct tree_node *tree_find(const struct tree *tree, const struct tree_node *parent,
                            struct text name);
/* Adds a name that the directory does not have. The inode gets one more link. NULL: see above. */
struct tree_node *tree_add(struct tree *tree, struct tree_node *parent, struct text name,
                           struct tree_inode *inode, struct error *error);
/* Removes a node, which is not the root, with all below. */
void tree_remove(struct tree *tree, struct tree_node *node);
void tree_remove_children(struct tree *tree, struct tree_node *node);

/* The node after `node` of those at or below `top`: a directory comes before what is in it. NULL:
 * it was the last one. */
struct tree_node *tree_next(const struct tree_node *top, const struct tree_node *node);

/* Puts the children of every directory into the order of their names' bytes. False: no memory. */
bool tree_sort(struct tree *tree, struct error *error);

/* Sets or replaces an extended attribute; both texts are copied. */
bool tree_set_xattr(struct tree *tree, struct tree_inode *inode, struct text name,
                    struct text value, struct error *error);

/*
 * Lays a layer over the tree, as overlayfs does. The layer's extents, which are of device 1, get
 * `device`. Whiteouts, opaque directories and hidden files are gone afterwards. LAYER_TAR: the
 * layer has a name below one that is a symbolic link in the tree.
 */
bool tree_merge(struct tree *tree, struct tree *layer, uint32_t device, struct error *error);

#endif
