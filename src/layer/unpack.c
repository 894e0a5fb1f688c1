/* Archive entries become nodes of a tree. */
#include "layer/unpack.h"

#include <string.h>
#include <sys/stat.h>
#include "layer/refusal.h"

#define WHITEOUT ".wh."
#define OPAQUE   ".wh..wh..opq"

enum { MAJOR_LIMIT = 1 << 12, MINOR_LIMIT = 1 << 20 }; /* Linux's dev_t */

static bool bad(struct error *error, const struct tar_entry *entry, const char *what) {
    size_t shown = entry->name.length < 200 ? entry->name.length : 200;
    return layer_refuse(error, LAYER_TAR, "the archive's entry %.*s %s", (int)shown, entry->name.at,
                        what);
}

/* ---- paths ---- */

/* The next part of a path that is neither empty nor "."; false: there is none. */
static bool next_part(struct text *rest, struct text *part) {
    while (rest->at) {
        *part = text_cut(*rest, '/', rest);
        if (part->length && !text_is(*part, "."))
            return true;
    }
    return false;
}

/* Splits a path into what is above the last part, and that part ("" for the root). */
static bool split(const struct tar_entry *entry, struct text path, struct text *above,
                  struct text *last, struct error *error) {
    struct text rest = path, part;
    *last = (struct text){"", 0};
    if (path.length >= TREE_PATH_LIMIT)
        return bad(error, entry, "has a name of more than 4095 bytes");
    while (next_part(&rest, &part)) {
        if (text_is(part, ".."))
            return bad(error, entry, "has a name with \"..\"");
        if (part.length > TREE_NAME_LIMIT)
            return bad(error, entry, "has a name with a part of more than 255 bytes");
        *last = part;
    }
    *above = (struct text){path.at, last->length ? (size_t)(last->at - path.at) : 0};
    return true;
}

static struct tree_node *add_directory(struct tree *tree, struct tree_node *parent,
                                       struct text name, struct error *error) {
    struct tree_inode *inode = tree_allocate(tree, sizeof *inode, error);
    if (!inode)
        return NULL;
    inode->mode = S_IFDIR | 0755;
    struct tree_node *node = tree_add(tree, parent, name, inode, error);
    if (node)
        node->is_implicit = true;
    return node;
}

/* The directory above the entry; missing ones are made. */
static struct tree_node *make_parents(struct tree *tree, const struct tar_entry *entry,
                                      struct text above, struct error *error) {
    struct tree_node *parent = tree->root;
    struct text part;
    while (parent && next_part(&above, &part)) {
        struct tree_node *node = tree_find(tree, parent, part);
        if (!node)
            node = add_directory(tree, parent, part, error);
        else if (!tree_is_directory(node)) {
            bad(error, entry, "is below something that is no directory");
            node = NULL;
        }
        parent = node;
    }
    return parent;
}

/* ---- attributes ---- */

/* Whether a file system takes the attribute on such a file. What it does not take containerd leaves
 * out. */
static bool is_taken(struct text name, uint32_t mode) {
    bool plain = S_ISREG(mode) || S_ISDIR(mode);
    if (text_starts(name, "user."))
        return plain;
    if (text_is(name, "system.posix_acl_access"))
        return !S_ISLNK(mode);
    if (text_is(name, "system.posix_acl_default"))
        return S_ISDIR(mode);
    return text_starts(name, "trusted.") || text_starts(name, "security.");
}

static bool set_xattrs(struct tree *tree, struct tree_inode *inode, const struct tar_entry *entry,
                       struct error *error) {
    for (size_t i = 0; i < entry->xattr_count; i++) {
        const struct tar_xattr *xattr = &entry->xattrs[i];
        if (text_starts(xattr->name, "trusted.overlay."))
            return bad(error, entry, "has an attribute that overlayfs would take for its own");
        if (xattr->name.length > 255 || xattr->value.length > 65536)
            return bad(error, entry, "has an extended attribute that is too long for Linux");
        if (!is_taken(xattr->name, inode->mode))
            continue;
        if (text_ends(xattr->name, "."))
            return bad(error, entry, "has an extended attribute without a name");
        if (!tree_set_xattr(tree, inode, xattr->name, xattr->value, error))
            return false;
    }
    return true;
}

/* What a header says of a file that is there; the header of a hard link says it of its target. */
static bool apply(struct tree *tree, struct tree_inode *inode, const struct tar_entry *entry,
                  struct error *error) {
    uint32_t type = inode->mode & S_IFMT;
    inode->mode = type | (type == S_IFLNK ? 0777 : entry->mode);
    inode->uid = entry->uid;
    inode->gid = entry->gid;
    inode->mtime_s = entry->mtime_s;
    inode->mtime_ns = entry->mtime_ns;
    return set_xattrs(tree, inode, entry, error);
}

/* ---- what an entry makes ---- */

static bool fill_file(struct tree *tree, struct tree_inode *inode, const struct tar_entry *entry,
                      struct error *error) {
    inode->size = entry->size;
    inode->device = 1;
    if (!entry->extent_count)
        return true;
    size_t bytes = entry->extent_count * sizeof *inode->extents;
    inode->extents = tree_allocate(tree, bytes, error);
    if (!inode->extents)
        return false;
    memcpy(inode->extents, entry->extents, bytes);
    inode->extent_count = entry->extent_count;
    return true;
}

static bool fill_symlink(struct tree *tree, struct tree_inode *inode, const struct tar_entry *entry,
                         struct error *error) {
    if (entry->link.length == 0 || entry->link.length > TREE_TARGET_LIMIT)
        return bad(error, entry, "is a symbolic link to nothing, or to a name that is too long");
    inode->size = entry->link.length;
    inode->target = tree_copy_text(tree, entry->link, error);
    return inode->target != NULL;
}

static bool fill_device(struct tree_inode *inode, const struct tar_entry *entry,
                        struct error *error) {
    if (entry->major >= MAJOR_LIMIT || entry->minor >= MINOR_LIMIT)
        return bad(error, entry, "is a device with a number that Linux does not have");
    if (entry->type == TAR_CHAR && entry->major == 0 && entry->minor == 0)
        return bad(error, entry, "is the device 0:0, which overlayfs would take for a whiteout");
    inode->major = entry->major;
    inode->minor = entry->minor;
    return true;
}

static uint32_t mode_of(enum tar_type type) {
    static const uint32_t modes[] = {
        [TAR_FILE] = S_IFREG,         [TAR_SYMLINK] = S_IFLNK,   [TAR_CHAR] = S_IFCHR,
        [TAR_BLOCK_DEVICE] = S_IFBLK, [TAR_DIRECTORY] = S_IFDIR, [TAR_FIFO] = S_IFIFO,
    };
    return modes[type];
}

static bool fill(struct tree *tree, struct tree_inode *inode, const struct tar_entry *entry,
                 struct error *error) {
    switch (entry->type) {
    case TAR_FILE:
        return fill_file(tree, inode, entry, error);
    case TAR_SYMLINK:
        return fill_symlink(tree, inode, entry, error);
    case TAR_CHAR:
    case TAR_BLOCK_DEVICE:
        return fill_device(inode, entry, error);
    default:
        return true;
    }
}

/* The inode that a hard link is another name of. */
static struct tree_inode *find_target(struct tree *tree, const struct tar_entry *entry,
                                      struct error *error) {
    struct text rest = entry->link, part, above, last;
    struct tree_node *node = tree->root;
    if (!split(entry, entry->link, &above, &last, error))
        return NULL;
    while (node && next_part(&rest, &part))
        node = tree_is_directory(node) ? tree_find(tree, node, part) : NULL;
    if (node && !node->is_whiteout && !tree_is_directory(node))
        return node->inode;
    bad(error, entry, "is a hard link to something that is not there, or that is a directory");
    return NULL;
}

static bool add_whiteout(struct tree *tree, struct tree_node *parent, const struct tar_entry *entry,
                         struct text hidden, struct error *error) {
    if (hidden.length == 0 || text_is(hidden, ".") || text_is(hidden, ".."))
        return bad(error, entry, "is a whiteout of nothing");
    if (tree_find(tree, parent, hidden))
        return bad(error, entry, "hides a name that the same layer has");
    struct tree_inode *inode = tree_allocate(tree, sizeof *inode, error);
    if (!inode)
        return false;
    inode->mode = S_IFCHR;
    struct tree_node *node = tree_add(tree, parent, hidden, inode, error);
    if (node)
        node->is_whiteout = true;
    return node != NULL;
}

/* A directory that is there already only gets what the header says. */
static bool refresh(struct tree *tree, struct tree_node *node, const struct tar_entry *entry,
                    struct error *error) {
    node->is_implicit = false;
    return apply(tree, node->inode, entry, error);
}

bool unpack_entry(void *context, const struct tar_entry *entry, struct error *error) {
    struct tree *tree = context;
    struct text above, last;
    if (!split(entry, entry->name, &above, &last, error))
        return false;
    if (last.length == 0)
        return true; /* containerd leaves the root as it is */
    struct tree_node *parent = make_parents(tree, entry, above, error);
    if (!parent)
        return false;
    if (text_is(last, OPAQUE)) {
        /* The upper directory's own root is merged by overlayfs whatever its attributes are. */
        parent->is_opaque = parent != tree->root;
        return true;
    }
    if (text_starts(last, WHITEOUT))
        return add_whiteout(tree, parent, entry, text_from(last, strlen(WHITEOUT)), error);
    struct tree_node *old = tree_find(tree, parent, last);
    if (old && tree_is_directory(old) && entry->type == TAR_DIRECTORY)
        return refresh(tree, old, entry, error);
    if (old)
        tree_remove(tree, old);
    struct tree_inode *inode;
    if (entry->type == TAR_HARD_LINK) {
        inode = find_target(tree, entry, error);
    } else {
        inode = tree_allocate(tree, sizeof *inode, error);
        if (inode)
            inode->mode = mode_of(entry->type);
        if (inode && !fill(tree, inode, entry, error))
            return false;
    }
    return inode && apply(tree, inode, entry, error) &&
           tree_add(tree, parent, last, inode, error) != NULL;
}
