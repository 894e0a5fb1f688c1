/* Writes a tree as an EROFS image. First every inode gets its place, then all is written. */
#include <string.h>
#include <sys/stat.h>
#include "layer/erofs_format.h"
#include "layer/refusal.h"

/* The image that is written. */
struct writer {
    struct tree *tree;
    uint64_t end;    /* bytes that have a place */
    uint64_t data;   /* where the blocks of directories and long targets begin */
    uint8_t *at;     /* all bytes; NULL while places are given */
    uint64_t inodes; /* that are written */
};

/* ---- attributes ---- */

static const struct erofs_prefix *prefix_of(struct text name) {
    for (size_t i = 0; i < sizeof erofs_prefixes / sizeof *erofs_prefixes; i++)
        if (erofs_prefixes[i].is_whole ? text_is(name, erofs_prefixes[i].text)
                                       : text_starts(name, erofs_prefixes[i].text))
            return &erofs_prefixes[i];
    return NULL; /* unpack.c leaves all other attributes out */
}

/* Writes one attribute at `at`, if it is not NULL. Returns its bytes. */
static uint64_t put_xattr(uint8_t *at, struct text name, struct text value) {
    const struct erofs_prefix *prefix = prefix_of(name);
    if (!prefix)
        return 0;
    name = text_from(name, strlen(prefix->text));
    if (at) {
        at[0] = (uint8_t)name.length;
        at[1] = prefix->index;
        bytes_put16(at + 2, (uint16_t)value.length);
        memcpy(at + XATTR_ENTRY, name.at, name.length);
        if (value.length)
            memcpy(at + XATTR_ENTRY + name.length, value.at, value.length);
    }
    return erofs_round(XATTR_ENTRY + name.length + value.length, 4);
}

/* All attributes of a node, with the header. */
static uint64_t put_xattrs(uint8_t *at, const struct tree_node *node) {
    uint64_t bytes = XATTR_HEADER;
    for (const struct tree_xattr *xattr = node->inode->xattrs; xattr; xattr = xattr->next)
        bytes += put_xattr(at ? at + bytes : NULL, xattr->name, xattr->value);
    if (node->is_opaque)
        bytes += put_xattr(at ? at + bytes : NULL, text_of(XATTR_OPAQUE), text_of("y"));
    return bytes == XATTR_HEADER ? 0 : bytes;
}

/* ---- chunks of files ---- */

/* log2 of the blocks of a chunk: the largest chunks whose borders all borders of extents are.
 * False: some border lies inside of a block. */
static bool chunk_bits(const struct tree_inode *inode, uint32_t *bits) {
    uint64_t borders = 0;
    bool alone = inode->extent_count == 1 && inode->extents[0].at == 0 &&
                 inode->extents[0].length == inode->size;
    for (size_t i = 0; i < inode->extent_count; i++) {
        const struct tree_extent *extent = &inode->extents[i];
        bool is_last = extent->at + extent->length == inode->size;
        borders |= extent->at | (is_last ? 0 : extent->length);
        if (extent->where % EROFS_BLOCK)
            return false;
    }
    *bits = 0;
    if (borders % EROFS_BLOCK)
        return false;
    uint64_t wanted = alone || borders == 0 ? inode->size : borders & -borders;
    while (*bits < CHUNK_BITS_LIMIT &&
           (alone || borders == 0 ? (uint64_t)EROFS_BLOCK << *bits < wanted
                                  : (uint64_t)EROFS_BLOCK << (*bits + 1) <= wanted))
        ++*bits;
    return true;
}

static uint64_t chunk_count(const struct tree_inode *inode, uint32_t bits) {
    uint64_t chunk = (uint64_t)EROFS_BLOCK << bits;
    return inode->size / chunk + (inode->size % chunk != 0);
}

static void put_chunks(uint8_t *at, const struct tree_inode *inode, uint32_t bits) {
    const uint64_t chunk = (uint64_t)EROFS_BLOCK << bits, count = chunk_count(inode, bits);
    const struct tree_extent *extent = inode->extents, *end = extent + inode->extent_count;
    for (uint64_t i = 0; i < count; i++, at += CHUNK_SIZE) {
        uint64_t offset = i * chunk;
        while (extent < end && extent->at + extent->length <= offset)
            extent++;
        bool is_hole = extent == end || extent->at > offset;
        uint64_t where = is_hole ? 0 : extent->where + (offset - extent->at);
        bytes_put16(at, 0);
        bytes_put16(at + 2, is_hole ? 0 : (uint16_t)inode->device);
        bytes_put32(at + 4, is_hole ? CHUNK_HOLE : (uint32_t)(where / EROFS_BLOCK));
    }
}

/* ---- directories ---- */

struct entry {
    struct text name;
    const struct tree_node *node;
};

/* The entries of a directory in their order, in which "." and ".." have no fixed place. */
struct entries {
    const struct tree_node *directory, *child;
    int dots; /* how many of "." and ".." were given */
};

static int compare(struct text a, struct text b) {
    int order = memcmp(a.at, b.at, a.length < b.length ? a.length : b.length);
    return order ? order : (a.length > b.length) - (a.length < b.length);
}

static bool next_entry(struct entries *entries, struct entry *out) {
    const struct tree_node *directory = entries->directory, *child = entries->child;
    const struct text dots = {"..", (size_t)entries->dots + 1};
    if (child)
        *out = (struct entry){{child->name, child->name_length}, child};
    if (entries->dots < 2 && (!child || compare(dots, out->name) < 0)) {
        const struct tree_node *parent = directory->parent ? directory->parent : directory;
        *out = (struct entry){dots, entries->dots ? parent : directory};
        entries->dots++;
        return true;
    }
    if (child)
        entries->child = child->next;
    return child != NULL;
}

/* Writes the entries of one block; as many as fit. */
static void put_block(uint8_t *at, struct entries entries, size_t count) {
    size_t names = count * DIRENT_SIZE;
    struct entry entry;
    for (size_t i = 0; i < count && next_entry(&entries, &entry); i++) {
        uint8_t *dirent = at + i * DIRENT_SIZE;
        bytes_put64(dirent, entry.node->inode->nid);
        bytes_put16(dirent + 8, (uint16_t)names);
        dirent[10] = erofs_type(entry.node->inode->mode);
        memcpy(at + names, entry.name.at, entry.name.length);
        names += entry.name.length;
    }
}

/* Writes the directory's blocks at `at`, if it is not NULL. Returns the directory's size. */
static uint64_t put_directory(uint8_t *at, const struct tree_node *directory) {
    struct entries entries = {directory, directory->first, 0}, begin = entries, before = entries;
    struct entry entry;
    uint64_t block = 0;
    size_t used = 0, count = 0;
    while (next_entry(&entries, &entry)) {
        size_t needed = DIRENT_SIZE + entry.name.length;
        if (used + needed > EROFS_BLOCK) {
            if (at)
                put_block(at + block * EROFS_BLOCK, begin, count);
            begin = before;
            used = count = 0;
            block++;
        }
        used += needed;
        count++;
        before = entries;
    }
    if (at)
        put_block(at + block * EROFS_BLOCK, begin, count);
    return block * EROFS_BLOCK + used;
}

/* ---- inodes ---- */

/* Whether the target of a symbolic link can stand behind its inode: Linux wants it in one block. */
static bool is_inline(const struct tree_inode *inode) {
    return S_ISLNK(inode->mode) && !inode->xattrs && inode->size <= EROFS_BLOCK - INODE_SIZE;
}

/* Bytes of an inode with all that stands behind it; false: a file that cannot be told so. */
static bool inode_bytes(const struct tree_node *node, uint64_t *bytes, struct error *error) {
    const struct tree_inode *inode = node->inode;
    uint64_t xattrs = put_xattrs(NULL, node);
    uint32_t bits;
    if (xattrs > XATTR_HEADER + UINT64_C(65534) * 4)
        return layer_refuse(error, LAYER_SIZE, "the attributes of %s are too large", node->name);
    *bytes = INODE_SIZE + xattrs;
    if (is_inline(inode))
        *bytes += inode->size;
    if (!S_ISREG(inode->mode) || inode->size == 0)
        return true;
    if (!chunk_bits(inode, &bits))
        return layer_refuse(error, LAYER_TAR, "the sparse file %s has parts that lie in no blocks",
                            node->name);
    uint64_t chunks = chunk_count(inode, bits);
    if (chunks > EROFS_CHUNK_LIMIT)
        return layer_refuse(error, LAYER_SIZE, "the sparse file %s has too many parts", node->name);
    *bytes = erofs_round(*bytes, CHUNK_SIZE) + chunks * CHUNK_SIZE;
    return true;
}

static bool place_inodes(struct writer *writer, struct error *error) {
    struct tree_node *root = writer->tree->root;
    for (struct tree_node *node = root; node; node = tree_next(root, node))
        node->inode->nid = 0;
    for (struct tree_node *node = root; node; node = tree_next(root, node)) {
        uint64_t bytes;
        if (node->inode->nid)
            continue;
        if (!inode_bytes(node, &bytes, error))
            return false;
        writer->end = erofs_round(writer->end, NID_UNIT);
        if (is_inline(node->inode) && writer->end % EROFS_BLOCK + bytes > EROFS_BLOCK)
            writer->end = erofs_round(writer->end, EROFS_BLOCK);
        node->inode->nid = writer->end / NID_UNIT;
        writer->end += bytes;
        if (writer->end > EROFS_IMAGE_LIMIT)
            return layer_refuse(error, LAYER_SIZE, "it has too many files");
    }
    return true;
}

/* Writes the data that stands in blocks of the image, at writer->data. Returns its size. */
static uint64_t put_data(struct writer *writer, const struct tree_node *node, uint8_t *at) {
    const struct tree_inode *inode = node->inode;
    uint64_t bytes = 0;
    if (S_ISDIR(inode->mode)) {
        bytes = put_directory(at, node);
    } else if (S_ISLNK(inode->mode) && !is_inline(inode)) {
        bytes = inode->size;
        if (at)
            memcpy(at, inode->target, bytes);
    }
    writer->data += erofs_round(bytes, EROFS_BLOCK);
    return bytes;
}

static bool place_data(struct writer *writer, struct error *error) {
    struct tree_node *root = writer->tree->root;
    writer->data = erofs_round(writer->end, EROFS_BLOCK);
    for (struct tree_node *node = root; node; node = tree_next(root, node)) {
        put_data(writer, node, NULL);
        if (writer->data > EROFS_IMAGE_LIMIT)
            return layer_refuse(error, LAYER_SIZE, "it has too many files");
    }
    writer->end = writer->data;
    writer->data = 0;
    return true;
}

/* As Linux's new_encode_dev(). */
static uint32_t encode_device(const struct tree_inode *inode) {
    return (inode->minor & 0xff) | inode->major << 8 | (inode->minor & ~UINT32_C(0xff)) << 12;
}

static void put_special(const struct tree_inode *inode, uint8_t *at, uint64_t xattrs,
                        uint16_t *format) {
    uint32_t bits;
    if (is_inline(inode)) {
        *format = FORMAT_INLINE;
        memcpy(at + INODE_SIZE + xattrs, inode->target, inode->size);
    } else if (S_ISREG(inode->mode) && inode->size) {
        *format = FORMAT_CHUNKS;
        chunk_bits(inode, &bits);
        bytes_put32(at + INODE_WHERE, CHUNK_INDEXES | bits);
        put_chunks(at + erofs_round(INODE_SIZE + xattrs, CHUNK_SIZE), inode, bits);
    } else if (S_ISCHR(inode->mode) || S_ISBLK(inode->mode)) {
        bytes_put32(at + INODE_WHERE, encode_device(inode));
    }
}

static void put_inode(struct writer *writer, const struct tree_node *node) {
    const struct tree_inode *inode = node->inode;
    uint8_t *at = writer->at + inode->nid * NID_UNIT;
    uint16_t format = FORMAT_PLAIN;
    uint64_t first = writer->data / EROFS_BLOCK;
    uint64_t data = put_data(writer, node, writer->at + writer->data);
    uint64_t xattrs = put_xattrs(at + INODE_SIZE, node);
    if (bytes_get16(at + INODE_FORMAT)) /* written already: this is another name of it */
        return;
    if (data)
        bytes_put32(at + INODE_WHERE, (uint32_t)first);
    put_special(inode, at, xattrs, &format);
    bytes_put16(at + INODE_FORMAT, format);
    bytes_put16(at + INODE_XATTRS, xattrs ? (uint16_t)((xattrs - XATTR_HEADER) / 4 + 1) : 0);
    bytes_put16(at + INODE_MODE, (uint16_t)inode->mode);
    bytes_put64(at + INODE_BYTES, S_ISDIR(inode->mode) ? data : inode->size);
    /* INODE_NUMBER stays 0: Linux goes by the nid, and numbers would not compress. */
    writer->inodes++;
    bytes_put32(at + INODE_UID, inode->uid);
    bytes_put32(at + INODE_GID, inode->gid);
    bytes_put64(at + INODE_MTIME, inode->mtime_s);
    bytes_put32(at + INODE_MTIME_NS, inode->mtime_ns);
    bytes_put32(at + INODE_LINKS, inode->links);
}

static void put_super(struct writer *writer, const uint64_t *device_bytes, size_t device_count) {
    uint8_t *super = writer->at + SUPER_OFFSET, *slot = super + SUPER_SIZE;
    uint64_t unified = writer->end / EROFS_BLOCK;
    bytes_put32(super, SUPER_MAGIC);
    bytes_put32(super + SUPER_COMPATIBLE, COMPATIBLE_MTIME);
    super[SUPER_BLOCK_BITS] = BLOCK_BITS;
    bytes_put16(super + SUPER_ROOT, (uint16_t)writer->tree->root->inode->nid);
    bytes_put64(super + SUPER_INODES, writer->inodes);
    bytes_put32(super + SUPER_BLOCKS, (uint32_t)unified);
    bytes_put32(super + SUPER_FEATURES, FEATURE_CHUNKS | FEATURE_DEVICES);
    bytes_put16(super + SUPER_DEVICES, (uint16_t)device_count);
    bytes_put16(super + SUPER_DEVICE_SLOT, (SUPER_OFFSET + SUPER_SIZE) / SLOT_SIZE);
    for (size_t i = 0; i < device_count; i++, slot += SLOT_SIZE) {
        uint64_t blocks = device_bytes[i] / EROFS_BLOCK + (device_bytes[i] % EROFS_BLOCK != 0);
        bytes_put32(slot + SLOT_BLOCKS, (uint32_t)blocks);
        bytes_put32(slot + SLOT_UNIFIED, (uint32_t)unified);
        unified += blocks;
    }
}

bool erofs_write(struct tree *tree, const uint64_t *device_bytes, size_t device_count,
                 struct buffer *out, struct error *error) {
    struct writer writer = {.tree = tree};
    uint64_t all = EROFS_IMAGE_LIMIT;
    if (device_count > EROFS_DEVICE_LIMIT)
        return layer_refuse(error, LAYER_SIZE, "it has more than %d layers", EROFS_DEVICE_LIMIT);
    for (size_t i = 0; i < device_count; i++)
        if (device_bytes[i] > ((uint64_t)UINT32_MAX - 1) * EROFS_BLOCK ||
            (all += device_bytes[i]) > ((uint64_t)UINT32_MAX - 1) * EROFS_BLOCK)
            return layer_refuse(error, LAYER_SIZE, "it unpacks to more than 2 TiB");
    writer.end = SUPER_OFFSET + SUPER_SIZE + device_count * SLOT_SIZE;
    if (!tree_sort(tree, error) || !place_inodes(&writer, error))
        return false;
    uint64_t data = erofs_round(writer.end, EROFS_BLOCK);
    if (!place_data(&writer, error))
        return false;
    if (!buffer_reserve(out, writer.end))
        return error_set(error, ERROR_MEMORY, "write metadata: out of memory");
    writer.at = (uint8_t *)out->bytes + out->length;
    memset(writer.at, 0, writer.end);
    writer.data = data;
    for (struct tree_node *node = tree->root; node; node = tree_next(tree->root, node))
        put_inode(&writer, node);
    put_super(&writer, device_bytes, device_count);
    out->length += writer.end;
    out->bytes[out->length] = '\0';
    return true;
}
