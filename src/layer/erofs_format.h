/* Where what is in an EROFS image (fs/erofs/erofs_fs.h). Private to layer/. All numbers are
 * little-endian; an offset is in bytes. */
#ifndef LAYER_EROFS_FORMAT_H
#define LAYER_EROFS_FORMAT_H

#include "layer/bytes.h"
#include "layer/erofs.h"

enum {
    SUPER_OFFSET = 1024,
    SUPER_SIZE = 128,
    SUPER_BLOCK_BITS = 12,  /* u8: log2 of a block */
    SUPER_ROOT = 14,        /* u16: nid of the root */
    SUPER_INODES = 16,      /* u64 */
    SUPER_BLOCKS = 36,      /* u32, of the primary device */
    SUPER_FEATURES = 80,    /* u32: incompatible features */
    SUPER_COMPATIBLE = 8,   /* u32 */
    SUPER_DEVICES = 86,     /* u16 */
    SUPER_DEVICE_SLOT = 88, /* u16: where the table of devices is, in slots */
    BLOCK_BITS = 9,

    SLOT_SIZE = 128, /* of a device */
    SLOT_BLOCKS = 64,
    SLOT_UNIFIED = 68, /* the device's first block, if all devices are one file */

    INODE_SIZE = 64, /* of the extended form */
    INODE_FORMAT = 0,
    INODE_XATTRS = 2, /* u16: 0, or 1 and the number of 4 bytes behind the header */
    INODE_MODE = 4,
    INODE_BYTES = 8,   /* u64: size */
    INODE_WHERE = 16,  /* u32: first block, device number, or form of chunks */
    INODE_NUMBER = 20, /* u32, which Linux does not use */
    INODE_UID = 24,
    INODE_GID = 28,
    INODE_MTIME = 32, /* u64 */
    INODE_MTIME_NS = 40,
    INODE_LINKS = 44,
    FORMAT_PLAIN = 1 | 0 << 1,  /* extended, data in blocks of the primary device */
    FORMAT_INLINE = 1 | 2 << 1, /* extended, data behind the inode */
    FORMAT_CHUNKS = 1 | 4 << 1, /* extended, chunks of devices */
    NID_UNIT = 32,

    CHUNK_INDEXES = 0x20, /* in INODE_WHERE: chunks have 8 bytes; the low 5 bits: log2 of blocks */
    CHUNK_SIZE = 8,
    CHUNK_BITS_LIMIT = 31,

    XATTR_HEADER = 12,
    XATTR_ENTRY = 4, /* u8 length of the name, u8 prefix, u16 length of the value */

    DIRENT_SIZE = 12, /* u64 nid, u16 offset of the name, u8 type, u8 0 */
};

#define SUPER_MAGIC      UINT32_C(0xE0F5E1E2)
#define FEATURE_CHUNKS   UINT32_C(0x4)
#define FEATURE_DEVICES  UINT32_C(0x8)
#define COMPATIBLE_MTIME UINT32_C(0x2)
#define CHUNK_HOLE       UINT32_C(0xffffffff)

#define XATTR_OPAQUE "trusted.overlay.opaque"

/* Prefixes that an attribute's name is stored without. */
static const struct erofs_prefix {
    uint8_t index;
    bool is_whole; /* the name is nothing else */
    const char *text;
} erofs_prefixes[] = {
    {1, false, "user."},
    {2, true, "system.posix_acl_access"},
    {3, true, "system.posix_acl_default"},
    {4, false, "trusted."},
    {6, false, "security."},
};

static inline uint64_t erofs_round(uint64_t value, uint64_t unit) {
    return (value + unit - 1) / unit * unit;
}

/* The type of a directory's entry: EROFS_FT_*, which are those of readdir() on ext4. */
static inline uint8_t erofs_type(uint32_t mode) {
    switch (mode & 0170000) {
    case 0100000:
        return 1;
    case 0040000:
        return 2;
    case 0020000:
        return 3;
    case 0060000:
        return 4;
    case 0010000:
        return 5;
    default:
        return 7; /* symbolic link */
    }
}

#endif
