/* Reads the EROFS images that erofs_write.c makes, and trusts nothing in them. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/cleanup.h"
#include "layer/erofs_format.h"

struct reader {
    const uint8_t *bytes;
    size_t length;
    const uint64_t *device_bytes;
    size_t device_count;
    struct tree *tree;
    struct tree_inode **inodes; /* by nid; NULL: not read yet */
};

static bool bad(struct error *error, const char *what) {
    return error_set(error, ERROR_INVALID, "the metadata of an image has %s", what);
}

/* Bytes of the image; NULL: they are not all inside. */
static const uint8_t *part(const struct reader *reader, uint64_t offset, uint64_t length) {
    return offset <= reader->length && length <= reader->length - offset ? reader->bytes + offset
                                                                         : NULL;
}

/* ---- attributes ---- */

static const struct erofs_prefix *prefix_of(uint8_t index) {
    for (size_t i = 0; i < sizeof erofs_prefixes / sizeof *erofs_prefixes; i++)
        if (erofs_prefixes[i].index == index)
            return &erofs_prefixes[i];
    return NULL;
}

/* Reads one attribute. Returns its bytes; 0: it is malformed. */
static uint64_t read_xattr(struct reader *reader, struct tree_inode *inode, const uint8_t *at,
                           uint64_t left, struct error *error) {
    char name[300];
    if (left < XATTR_ENTRY)
        return 0;
    const struct erofs_prefix *prefix = prefix_of(at[1]);
    uint64_t name_length = at[0], value_length = bytes_get16(at + 2);
    uint64_t bytes = erofs_round(XATTR_ENTRY + name_length + value_length, 4);
    if (!prefix || bytes > left || prefix->is_whole == (name_length > 0) ||
        memchr(at + XATTR_ENTRY, '\0', name_length))
        return 0;
    size_t used = strlen(prefix->text);
    memcpy(name, prefix->text, used);
    memcpy(name + used, at + XATTR_ENTRY, name_length);
    struct text value = {(const char *)at + XATTR_ENTRY + name_length, value_length};
    return tree_set_xattr(reader->tree, inode, (struct text){name, used + name_length}, value,
                          error)
               ? bytes
               : 0;
}

/* Reads the attributes behind an inode; *bytes is what they take. */
static bool read_xattrs(struct reader *reader, struct tree_inode *inode, uint64_t offset,
                        uint16_t count, uint64_t *bytes, struct error *error) {
    *bytes = count ? XATTR_HEADER + (uint64_t)(count - 1) * 4 : 0;
    const uint8_t *at = part(reader, offset, *bytes);
    if (!at)
        return bad(error, "attributes outside of it");
    for (uint64_t used = XATTR_HEADER; used < *bytes;) {
        uint64_t step = read_xattr(reader, inode, at + used, *bytes - used, error);
        if (step == 0)
            return (error && error->kind != ERROR_NONE) || bad(error, "a malformed attribute");
        used += step;
    }
    return true;
}

/* ---- the bytes of files ---- */

/* Adds the chunk to the file's extents, joined with the one before if it goes on there. */
static void add_chunk(struct tree_inode *inode, uint64_t at, uint64_t length, uint64_t where) {
    struct tree_extent *last =
        inode->extent_count ? &inode->extents[inode->extent_count - 1] : NULL;
    if (last && last->at + last->length == at && last->where + last->length == where)
        last->length += length;
    else
        inode->extents[inode->extent_count++] = (struct tree_extent){at, length, where};
}

static bool read_chunks(struct reader *reader, struct tree_inode *inode, uint64_t offset,
                        uint32_t form, struct error *error) {
    uint32_t bits = form & 0x1f;
    uint64_t chunk = (uint64_t)EROFS_BLOCK << bits;
    uint64_t count = inode->size / chunk + (inode->size % chunk != 0);
    offset = erofs_round(offset, CHUNK_SIZE);
    const uint8_t *at =
        count <= EROFS_CHUNK_LIMIT ? part(reader, offset, count * CHUNK_SIZE) : NULL;
    if ((form & ~UINT32_C(0x1f)) != CHUNK_INDEXES || !at)
        return bad(error, "a file whose chunks are outside of it");
    inode->extents = tree_allocate(reader->tree, count * sizeof *inode->extents + 1, error);
    if (!inode->extents)
        return false;
    for (uint64_t i = 0; i < count; i++, at += CHUNK_SIZE) {
        uint64_t left = inode->size - i * chunk, length = left < chunk ? left : chunk;
        uint64_t where = (uint64_t)bytes_get32(at + 4) * EROFS_BLOCK;
        uint32_t device = bytes_get16(at + 2);
        if (bytes_get32(at + 4) == CHUNK_HOLE)
            continue;
        if (device == 0 || device > reader->device_count ||
            (inode->device && device != inode->device) ||
            where > reader->device_bytes[device - 1] ||
            length > reader->device_bytes[device - 1] - where)
            return bad(error, "a file whose bytes are outside of its layer");
        inode->device = device;
        add_chunk(inode, i * chunk, length, where);
    }
    return true;
}

static bool read_target(struct reader *reader, struct tree_inode *inode, uint64_t offset,
                        struct error *error) {
    const uint8_t *at = part(reader, offset, inode->size);
    if (inode->size == 0 || inode->size > TREE_TARGET_LIMIT || !at ||
        memchr(at, '\0', (size_t)inode->size))
        return bad(error, "a malformed symbolic link");
    inode->target =
        tree_copy_text(reader->tree, (struct text){(const char *)at, (size_t)inode->size}, error);
    return inode->target != NULL;
}

/* ---- inodes ---- */

static bool read_contents(struct reader *reader, struct tree_inode *inode, const uint8_t *at,
                          uint64_t behind, struct error *error) {
    uint16_t format = bytes_get16(at + INODE_FORMAT);
    uint32_t where = bytes_get32(at + INODE_WHERE);
    switch (inode->mode & S_IFMT) {
    case S_IFREG:
        if (inode->size == 0)
            return format == FORMAT_PLAIN || bad(error, "a malformed file");
        return format == FORMAT_CHUNKS ? read_chunks(reader, inode, behind, where, error)
                                       : bad(error, "a malformed file");
    case S_IFLNK:
        if (format == FORMAT_INLINE)
            return read_target(reader, inode, behind, error);
        return format == FORMAT_PLAIN
                   ? read_target(reader, inode, (uint64_t)where * EROFS_BLOCK, error)
                   : bad(error, "a malformed symbolic link");
    case S_IFCHR:
    case S_IFBLK:
        inode->major = where >> 8 & 0xfff;
        inode->minor = (where & 0xff) | (where >> 12 & 0xfff00);
        return format == FORMAT_PLAIN || bad(error, "a malformed device");
    case S_IFDIR:
    case S_IFIFO:
        return format == FORMAT_PLAIN || bad(error, "a malformed inode");
    default:
        return bad(error, "a file of a type that no archive has");
    }
}

/* The inode, which is read when its first name is. */
static struct tree_inode *read_inode(struct reader *reader, uint64_t nid, struct error *error) {
    const uint8_t *at =
        nid < reader->length / NID_UNIT ? part(reader, nid * NID_UNIT, INODE_SIZE) : NULL;
    if (!at || nid * NID_UNIT < SUPER_OFFSET + SUPER_SIZE) {
        bad(error, "an inode outside of it");
        return NULL;
    }
    if (reader->inodes[nid])
        return reader->inodes[nid];
    struct tree_inode *inode = tree_allocate(reader->tree, sizeof *inode, error);
    if (!inode)
        return NULL;
    inode->nid = nid;
    inode->mode = bytes_get16(at + INODE_MODE);
    inode->size = bytes_get64(at + INODE_BYTES);
    inode->uid = bytes_get32(at + INODE_UID);
    inode->gid = bytes_get32(at + INODE_GID);
    inode->mtime_s = bytes_get64(at + INODE_MTIME);
    inode->mtime_ns = bytes_get32(at + INODE_MTIME_NS);
    uint64_t behind = nid * NID_UNIT + INODE_SIZE, xattrs;
    if (inode->mtime_ns >= 1000000000 || inode->mtime_s > INT64_MAX || inode->size > INT64_MAX) {
        bad(error, "an inode with an impossible time or size");
        return NULL;
    }
    if (!read_xattrs(reader, inode, behind, bytes_get16(at + INODE_XATTRS), &xattrs, error) ||
        !read_contents(reader, inode, at, behind + xattrs, error))
        return NULL;
    reader->inodes[nid] = inode;
    return inode;
}

/* ---- directories ---- */

/* Whiteouts and opaque directories of a layer are marks of overlayfs. */
static void take_marks(struct tree_node *node) {
    struct tree_inode *inode = node->inode;
    node->is_whiteout = S_ISCHR(inode->mode) && inode->major == 0 && inode->minor == 0;
    if (!S_ISDIR(inode->mode))
        return;
    for (struct tree_xattr **at = &inode->xattrs; *at; at = &(*at)->next)
        if (text_is((*at)->name, XATTR_OPAQUE)) {
            *at = (*at)->next;
            node->is_opaque = true;
            return;
        }
}

static bool add_entry(struct reader *reader, struct tree_node *directory, struct text name,
                      const uint8_t *dirent, struct error *error) {
    uint64_t nid = bytes_get64(dirent);
    if (name.length == 0 || memchr(name.at, '/', name.length) || memchr(name.at, '\0', name.length))
        return bad(error, "a malformed name");
    if (text_is(name, ".") || text_is(name, ".."))
        return true;
    bool was_read = nid < reader->length / NID_UNIT && reader->inodes[nid];
    struct tree_inode *inode = read_inode(reader, nid, error);
    if (!inode)
        return false;
    if (was_read && S_ISDIR(inode->mode))
        return bad(error, "a directory with two names");
    if (tree_find(reader->tree, directory, name))
        return bad(error, "a name twice");
    struct tree_node *node = tree_add(reader->tree, directory, name, inode, error);
    if (node)
        take_marks(node);
    return node != NULL;
}

/* Reads a block of a directory: its entries, and behind them their names. */
static bool read_block(struct reader *reader, struct tree_node *directory, const uint8_t *at,
                       size_t length, struct error *error) {
    size_t names = length >= DIRENT_SIZE ? bytes_get16(at + 8) : 0;
    size_t count = names / DIRENT_SIZE;
    if (count == 0 || names % DIRENT_SIZE || names > length)
        return bad(error, "a malformed directory");
    for (size_t i = 0; i < count; i++) {
        const uint8_t *dirent = at + i * DIRENT_SIZE;
        size_t begin = bytes_get16(dirent + 8);
        size_t end = i + 1 < count ? bytes_get16(dirent + DIRENT_SIZE + 8) : length;
        if (begin < names || begin >= end || end > length)
            return bad(error, "a malformed directory");
        struct text name = {(const char *)at + begin, end - begin};
        if (i + 1 == count)
            name.length = strnlen(name.at, name.length);
        if (name.length > TREE_NAME_LIMIT || !add_entry(reader, directory, name, dirent, error))
            return (error && error->kind != ERROR_NONE) ? false : bad(error, "a name too long");
    }
    return true;
}

static size_t depth_of(const struct tree_node *node) {
    size_t depth = 0;
    for (; node->parent; node = node->parent)
        depth++;
    return depth;
}

static bool read_directory(struct reader *reader, struct tree_node *directory,
                           struct error *error) {
    const uint8_t *inode = reader->bytes + directory->inode->nid * NID_UNIT;
    uint64_t left = directory->inode->size;
    uint64_t offset = (uint64_t)bytes_get32(inode + INODE_WHERE) * EROFS_BLOCK;
    if (depth_of(directory) > TREE_PATH_LIMIT / 2)
        return bad(error, "too many directories inside of each other");
    while (left) {
        size_t length = left < EROFS_BLOCK ? (size_t)left : EROFS_BLOCK;
        const uint8_t *at = part(reader, offset, length);
        if (!at)
            return bad(error, "a directory outside of it");
        if (!read_block(reader, directory, at, length, error))
            return false;
        left -= length;
        offset += length;
    }
    return true;
}

/* ---- the whole image ---- */

static bool read_super(struct reader *reader, uint64_t *root, struct error *error) {
    const uint8_t *super =
        part(reader, SUPER_OFFSET, SUPER_SIZE + reader->device_count * SLOT_SIZE);
    if (!super || bytes_get32(super) != SUPER_MAGIC || super[SUPER_BLOCK_BITS] != BLOCK_BITS ||
        bytes_get32(super + SUPER_FEATURES) != (FEATURE_CHUNKS | FEATURE_DEVICES) ||
        bytes_get16(super + SUPER_DEVICES) != reader->device_count ||
        bytes_get16(super + SUPER_DEVICE_SLOT) != (SUPER_OFFSET + SUPER_SIZE) / SLOT_SIZE)
        return bad(error, "another form than ours");
    *root = bytes_get16(super + SUPER_ROOT);
    return true;
}

static bool read_all(struct reader *reader, struct error *error) {
    uint64_t root;
    if (!read_super(reader, &root, error))
        return false;
    struct tree_inode *inode = read_inode(reader, root, error);
    if (!inode)
        return false;
    if (!S_ISDIR(inode->mode))
        return bad(error, "a root that is no directory");
    inode->links = 2;
    struct tree_node *top = reader->tree->root;
    top->inode = inode;
    take_marks(top);
    for (struct tree_node *node = top; node; node = tree_next(top, node))
        if (tree_is_directory(node) && !read_directory(reader, node, error))
            return false;
    return true;
}

struct tree *erofs_read(const void *bytes, size_t length, const uint64_t *device_bytes,
                        size_t device_count, struct error *error) {
    struct reader reader = {bytes, length, device_bytes, device_count, NULL, NULL};
    struct error why = {0};
    if (length > EROFS_IMAGE_LIMIT || device_count > EROFS_DEVICE_LIMIT) {
        bad(error, "too many bytes or layers");
        return NULL;
    }
    reader.tree = tree_new((size_t)TREE_MEMORY * 2);
    reader.inodes = calloc(length / NID_UNIT + 1, sizeof(struct tree_inode *));
    bool ok = reader.tree && reader.inodes ? read_all(&reader, &why)
                                           : error_set(&why, ERROR_MEMORY, "out of memory");
    free(reader.inodes);
    if (ok)
        return reader.tree;
    tree_free(reader.tree);
    if (error)
        *error = why;
    return NULL;
}
