/*
 * The state of an archive that is read as it comes: headers, the extended headers before them, maps
 * of sparse files, and the bytes of files, which are skipped.
 */
#include "layer/tar.h"

#include <stdlib.h>
#include <string.h>
#include "base/cleanup.h"
#include "layer/tar_private.h"

enum { SPECIAL_LIMIT = 1 << 20 }; /* as Go's archive/tar */

enum state {
    AT_HEADER,  /* the next block is a header */
    AT_ZERO,    /* one block of zeros has come */
    IN_SPECIAL, /* bytes of an extended header or of a long name are gathered */
    IN_OLD_MAP, /* blocks that go on with a map of GNU's old format */
    IN_NEW_MAP, /* blocks of a map that stands before the bytes of the file: format 1.0 */
    SKIPPING,   /* the bytes of a file, and what fills the last block */
    AT_END
};

struct tar_reader {
    tar_entry_taker *accept;
    void *context;
    enum state state;
    uint64_t offset;           /* bytes that were read of the archive */
    uint8_t block[TAR_BLOCK];  /* gathers what is read block by block */
    size_t filled;             /* of the block */
    struct tar_header header;  /* of the entry under way */
    struct buffer special;     /* bytes of the header under way that is gathered */
    uint64_t missing, padding; /* bytes still to be gathered or skipped, and behind them */
    struct buffer pax_bytes, long_name, long_link; /* for the next entry */
    bool has_pax, has_long_name, has_long_link;
    struct tar_pax pax;
    struct tar_parts parts;
    uint64_t map_left;    /* of the new map: bytes of the file that are not read yet */
    struct buffer digits; /* of the new map: what is read of it */
    uint64_t newlines;    /* in the digits */
    struct tree_extent *extents;
    size_t extent_capacity;
};

static bool bad(struct error *error, const char *what) {
    return layer_refuse(error, LAYER_TAR, "the archive has %s", what);
}

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "read an archive: out of memory");
}

struct tar_reader *tar_reader_new(tar_entry_taker *take, void *context) {
    struct tar_reader *reader = calloc(1, sizeof *reader);
    if (reader) {
        reader->accept = take;
        reader->context = context;
    }
    return reader;
}

void tar_reader_free(struct tar_reader *reader) {
    if (!reader)
        return;
    buffer_finish(&reader->special);
    buffer_finish(&reader->pax_bytes);
    buffer_finish(&reader->long_name);
    buffer_finish(&reader->long_link);
    buffer_finish(&reader->digits);
    free(reader->pax.xattrs);
    free(reader->parts.list);
    free(reader->extents);
    free(reader);
}

static uint64_t padding_of(uint64_t length) {
    return (TAR_BLOCK - length % TAR_BLOCK) % TAR_BLOCK;
}

/* What was gathered for an entry is used up. */
static void forget_extensions(struct tar_reader *reader) {
    buffer_clear(&reader->pax_bytes);
    buffer_clear(&reader->long_name);
    buffer_clear(&reader->long_link);
    reader->has_pax = reader->has_long_name = reader->has_long_link = false;
    struct tar_xattr *xattrs = reader->pax.xattrs;
    size_t capacity = reader->pax.xattr_capacity;
    reader->pax = (struct tar_pax){.xattrs = xattrs, .xattr_capacity = capacity};
    reader->parts.count = 0;
}

/* ---- the bytes of a file ---- */

static bool reserve_extents(struct tar_reader *reader, size_t count) {
    if (count <= reader->extent_capacity)
        return true;
    void *list = realloc(reader->extents, count * sizeof *reader->extents);
    if (!list)
        return false;
    reader->extents = list;
    reader->extent_capacity = count;
    return true;
}

/* Turns the parts of a sparse file into extents: in their order, inside of the file, and as many
 * bytes as the archive has of it (Go's validateSparseEntries()). */
static bool place_parts(struct tar_reader *reader, uint64_t size, uint64_t stored, size_t *count,
                        struct error *error) {
    uint64_t end = 0, where = reader->offset, used = 0;
    if (!reserve_extents(reader, reader->parts.count))
        return no_memory(error);
    *count = 0;
    for (size_t i = 0; i < reader->parts.count; i++) {
        int64_t at = reader->parts.list[i][0], length = reader->parts.list[i][1];
        if (at < 0 || length < 0 || (uint64_t)at < end || at > INT64_MAX - length ||
            (uint64_t)(at + length) > size)
            return bad(error, "a sparse file whose parts overlap or are outside of it");
        end = (uint64_t)(at + length);
        if (length > 0)
            reader->extents[(*count)++] =
                (struct tree_extent){(uint64_t)at, (uint64_t)length, where};
        where += (uint64_t)length;
        used += (uint64_t)length;
    }
    return used == stored || bad(error, "a sparse file of another length than its map says");
}

static bool take_time(const struct tar_reader *reader, struct tar_entry *entry) {
    entry->mtime_s = tar_bound_time(reader->header.mtime_s);
    return reader->pax.mtime.length == 0 ||
           tar_pax_time(reader->pax.mtime, &entry->mtime_s, &entry->mtime_ns);
}

/* An owner of more than 32 bits, or the one that means "as it is", belongs to nobody. */
static bool take_owner(int64_t number, struct text pax, uint32_t *out) {
    if (pax.length && !tar_decimal(pax, &number))
        return false;
    *out = (uint32_t)number;
    return number >= 0 && number < UINT32_MAX;
}

static bool type_of(char flag, enum tar_type *out) {
    static const struct {
        char flag;
        enum tar_type type;
    } types[] = {{'0', TAR_FILE}, {'1', TAR_HARD_LINK},    {'2', TAR_SYMLINK},
                 {'3', TAR_CHAR}, {'4', TAR_BLOCK_DEVICE}, {'5', TAR_DIRECTORY},
                 {'6', TAR_FIFO}, {'S', TAR_FILE}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].flag == flag) {
            *out = types[i].type;
            return true;
        }
    return false;
}

static struct text buffer_text(const struct buffer *buffer) {
    return text_of(buffer->bytes ? buffer->bytes : ""); /* up to the first NUL */
}

/* The names of the entry, which GNU's long names replace. */
static void take_names(const struct tar_reader *reader, bool is_sparse, struct tar_entry *entry) {
    const struct tar_pax *pax = &reader->pax;
    entry->name = pax->path.length ? pax->path : text_of(reader->header.name);
    entry->link = pax->link.length ? pax->link : text_of(reader->header.link);
    if (reader->has_long_name && buffer_text(&reader->long_name).length)
        entry->name = buffer_text(&reader->long_name);
    if (reader->has_long_link && buffer_text(&reader->long_link).length)
        entry->link = buffer_text(&reader->long_link);
    if (is_sparse && pax->sparse_name.length)
        entry->name = pax->sparse_name;
}

/* Hands the entry on. `stored` bytes of the file follow in the archive. */
static bool deliver(struct tar_reader *reader, bool is_sparse, uint64_t size, uint64_t stored,
                    struct error *error) {
    struct tar_entry entry = {.mode = (uint32_t)reader->header.mode & 07777,
                              .xattrs = reader->pax.xattrs,
                              .xattr_count = reader->pax.xattr_count};
    take_names(reader, is_sparse, &entry);
    char flag = reader->header.type ? reader->header.type : text_ends(entry.name, "/") ? '5' : '0';
    const int64_t major = reader->header.major, minor = reader->header.minor;
    if (!type_of(flag, &entry.type))
        return bad(error, "an entry of a type that nobody unpacks");
    if (!take_time(reader, &entry) ||
        !take_owner(reader->header.uid, reader->pax.uid, &entry.uid) ||
        !take_owner(reader->header.gid, reader->pax.gid, &entry.gid) || major < 0 || minor < 0 ||
        major > UINT32_MAX || minor > UINT32_MAX)
        return bad(error, "an entry whose time, owner or device is none");
    entry.major = (uint32_t)major;
    entry.minor = (uint32_t)minor;
    if (entry.type == TAR_FILE) {
        entry.size = size;
        if (!is_sparse && stored) {
            reader->parts.count = 0;
            if (!tar_parts_add(&reader->parts, 0, (int64_t)stored, error))
                return false;
        }
        if (stored || is_sparse) {
            if (!place_parts(reader, size, stored, &entry.extent_count, error))
                return false;
            entry.extents = reader->extents;
        }
    }
    if (!reader->accept(reader->context, &entry, error))
        return false;
    forget_extensions(reader);
    reader->missing = stored;
    reader->padding = padding_of(stored);
    reader->state = stored ? SKIPPING : AT_HEADER;
    return true;
}

/* ---- maps of sparse files ---- */

/* The size of the file with its holes. */
static bool real_size(struct tar_reader *reader, uint64_t stored, uint64_t *out,
                      struct error *error) {
    struct text text =
        reader->pax.sparse_size.length ? reader->pax.sparse_size : reader->pax.sparse_real_size;
    int64_t size = (int64_t)stored;
    if ((text.length && !tar_decimal(text, &size)) || size < 0)
        return bad(error, "a sparse file without a size");
    *out = (uint64_t)size;
    return true;
}

/* The map in one record: "0,512,4096,512". */
static bool read_map_record(struct tar_reader *reader, struct error *error) {
    struct text rest = reader->pax.sparse_map;
    int64_t count = 0, pair[2];
    if (!tar_decimal(reader->pax.sparse_blocks, &count) && !reader->pax.has_parts)
        return bad(error, "a sparse file without a number of parts");
    while (!reader->pax.has_parts && rest.length) {
        for (int i = 0; i < 2; i++) {
            struct text number = text_cut(rest, ',', &rest);
            if (!tar_decimal(number, &pair[i]) || (i == 0 && !rest.at))
                return bad(error, "a sparse file whose map is malformed");
        }
        if (!tar_parts_add(&reader->parts, pair[0], pair[1], error))
            return false;
    }
    return (int64_t)reader->parts.count == count ||
           bad(error, "a sparse file with another number of parts than it says");
}

/* Reads a number and the newline behind it. False: it is not here yet. */
static bool next_number(struct text *rest, int64_t *out, bool *malformed) {
    struct text after, number = text_cut(*rest, '\n', &after);
    if (!after.at) {
        *malformed = rest->length > 20;
        return false;
    }
    *malformed = !tar_decimal(number, out);
    *rest = after;
    return !*malformed;
}

/* Reads the map of the format 1.0 once all of it is here: the number of parts, and two numbers for
 * each. It ends with the block in which its last number is. */
static bool read_new_map(struct tar_reader *reader, bool *complete, struct error *error) {
    struct text rest = {reader->digits.bytes, reader->digits.length};
    int64_t count, pair[2];
    bool malformed = false;
    *complete = false;
    if (!next_number(&rest, &count, &malformed))
        return !malformed || bad(error, "a sparse file without a map");
    if (count < 0 || count > TAR_SPARSE_LIMIT)
        return layer_refuse(error, LAYER_SIZE, "a sparse file has %lld parts", (long long)count);
    if (reader->newlines < 1 + (uint64_t)count * 2)
        return true;
    for (int64_t i = 0; i < count; i++) {
        if (!next_number(&rest, &pair[0], &malformed) || !next_number(&rest, &pair[1], &malformed))
            return bad(error, "a sparse file whose map is malformed");
        if (!tar_parts_add(&reader->parts, pair[0], pair[1], error))
            return false;
    }
    *complete = true;
    return true;
}

static bool take_map_block(struct tar_reader *reader, struct error *error) {
    bool complete;
    uint64_t size;
    if (reader->map_left < TAR_BLOCK)
        return bad(error, "a sparse file whose map is longer than the file");
    reader->map_left -= TAR_BLOCK;
    if (reader->digits.length > (size_t)TAR_SPARSE_LIMIT * 42 + TAR_BLOCK)
        return bad(error, "a sparse file whose map is too long");
    if (!buffer_append(&reader->digits, reader->block, TAR_BLOCK))
        return no_memory(error);
    for (size_t i = 0; i < TAR_BLOCK; i++)
        reader->newlines += reader->block[i] == '\n';
    return read_new_map(reader, &complete, error) &&
           (!complete || (real_size(reader, reader->map_left, &size, error) &&
                          deliver(reader, true, size, reader->map_left, error)));
}

/* The parts in a block of GNU's old format; the last one says whether another block follows. */
static bool read_old_map(struct tar_reader *reader, const uint8_t *at, size_t count, bool *more,
                         struct error *error) {
    for (size_t i = 0; i < count && at[i * 24]; i++) {
        int64_t offset, length;
        if (!tar_number(at + i * 24, 12, &offset) || !tar_number(at + i * 24 + 12, 12, &length))
            return bad(error, "a sparse file whose map is malformed");
        if (!tar_parts_add(&reader->parts, offset, length, error))
            return false;
    }
    *more = at[count * 24] != 0;
    return true;
}

/* The map has been read: `missing` is the file's stored length, `padding` its real one. */
static bool end_old_map(struct tar_reader *reader, bool more, struct error *error) {
    if (more) {
        reader->state = IN_OLD_MAP;
        return true;
    }
    return deliver(reader, true, reader->padding, reader->missing, error);
}

/* ---- headers ---- */

static bool begin_special(struct tar_reader *reader, struct error *error) {
    if (reader->header.size < 0 || reader->header.size > SPECIAL_LIMIT)
        return bad(error, "an extended header of more than 1 MiB");
    buffer_clear(&reader->special);
    reader->missing = (uint64_t)reader->header.size;
    reader->padding = padding_of(reader->missing);
    reader->state = IN_SPECIAL;
    return true;
}

static void exchange(struct buffer *a, struct buffer *b) {
    struct buffer kept = *a;
    *a = *b;
    *b = kept;
}

/* An extended header is here as a whole. */
static bool end_special(struct tar_reader *reader, struct error *error) {
    reader->state = AT_HEADER;
    switch (reader->header.type) {
    case 'L':
        exchange(&reader->long_name, &reader->special);
        reader->has_long_name = true;
        return true;
    case 'K':
        exchange(&reader->long_link, &reader->special);
        reader->has_long_link = true;
        return true;
    case 'x':
        exchange(&reader->pax_bytes, &reader->special);
        reader->has_pax = true;
        return true;
    default: { /* 'g': checked, and ignored as containerd does; for Go an entry ends here */
        struct tar_pax ignored = {0};
        forget_extensions(reader);
        bool ok = tar_pax_read((struct text){reader->special.bytes, reader->special.length},
                               &ignored, &reader->parts, error);
        free(ignored.xattrs);
        reader->parts.count = 0;
        return ok;
    }
    }
}

static bool begin_sparse(struct tar_reader *reader, uint64_t stored, bool *is_sparse,
                         struct error *error) {
    const struct tar_pax *pax = &reader->pax;
    bool old = text_is(pax->sparse_major, "0") &&
               (text_is(pax->sparse_minor, "0") || text_is(pax->sparse_minor, "1"));
    bool unnamed = !pax->sparse_major.length && !pax->sparse_minor.length &&
                   (pax->sparse_map.length || pax->has_parts);
    uint64_t size;
    *is_sparse = true;
    if (text_is(pax->sparse_major, "1") && text_is(pax->sparse_minor, "0")) {
        buffer_clear(&reader->digits);
        reader->newlines = 0;
        reader->map_left = stored;
        reader->state = IN_NEW_MAP;
        return true;
    }
    if (old || unnamed)
        return read_map_record(reader, error) && real_size(reader, stored, &size, error) &&
               deliver(reader, true, size, stored, error);
    *is_sparse = false;
    return true;
}

/* Whether an entry of this type has no bytes, whatever its size says. */
static bool is_header_only(char flag) {
    return flag >= '1' && flag <= '6';
}

static bool begin_entry(struct tar_reader *reader, struct error *error) {
    const struct tar_header *header = &reader->header;
    reader->parts.count = 0;
    if (reader->has_pax &&
        !tar_pax_read((struct text){reader->pax_bytes.bytes, reader->pax_bytes.length},
                      &reader->pax, &reader->parts, error))
        return false;
    int64_t size = header->size, real;
    if ((reader->pax.size.length && !tar_decimal(reader->pax.size, &size)) || size < 0)
        return bad(error, "an entry whose size is none");
    /* "name/" of the oldest archives is a directory, too; it has bytes like a file. */
    uint64_t stored = is_header_only(header->type) ? 0 : (uint64_t)size;
    if (stored > (uint64_t)1 << 60)
        return layer_refuse(error, LAYER_SIZE, "a file has %llu bytes", (unsigned long long)stored);
    if (header->type == 'S') {
        bool more;
        if (!header->is_gnu || !tar_number(reader->block + 483, 12, &real) || real < 0)
            return bad(error, "a sparse file without a size");
        reader->missing = stored;
        reader->padding = (uint64_t)real;
        return read_old_map(reader, reader->block + 386, 4, &more, error) &&
               end_old_map(reader, more, error);
    }
    bool is_sparse = false;
    if (!is_header_only(header->type) && !begin_sparse(reader, stored, &is_sparse, error))
        return false;
    return is_sparse || deliver(reader, false, (uint64_t)size, stored, error);
}

static bool is_zero(const uint8_t block[TAR_BLOCK]) {
    return block[0] == 0 && memcmp(block, block + 1, TAR_BLOCK - 1) == 0;
}

static bool take_header(struct tar_reader *reader, struct error *error) {
    bool zero = is_zero(reader->block);
    if (reader->state == AT_ZERO) {
        reader->state = AT_END;
        return zero || bad(error, "a block of zeros in its middle");
    }
    if (zero) {
        reader->state = AT_ZERO;
        return true;
    }
    if (!tar_header_read(reader->block, &reader->header, error))
        return false;
    switch (reader->header.type) {
    case 'x':
    case 'g':
    case 'L':
    case 'K':
        return begin_special(reader, error);
    default:
        return begin_entry(reader, error);
    }
}

/* ---- the way through the archive ---- */

static bool take_block(struct tar_reader *reader, struct error *error) {
    bool more;
    switch (reader->state) {
    case IN_OLD_MAP:
        return read_old_map(reader, reader->block, 21, &more, error) &&
               end_old_map(reader, more, error);
    case IN_NEW_MAP:
        return take_map_block(reader, error);
    default:
        return take_header(reader, error);
    }
}

/* Skips or gathers as many of the bytes as belong to the entry under way. Returns their number. */
static size_t take_body(struct tar_reader *reader, const uint8_t *bytes, size_t length) {
    uint64_t *left = reader->missing ? &reader->missing : &reader->padding;
    size_t used = length < *left ? length : (size_t)*left;
    if (reader->state == IN_SPECIAL && left == &reader->missing)
        buffer_append(&reader->special, bytes, used);
    *left -= used;
    return used;
}

static bool step(struct tar_reader *reader, const uint8_t *bytes, size_t length, size_t *used,
                 struct error *error) {
    if (reader->state == SKIPPING || reader->state == IN_SPECIAL) {
        *used = take_body(reader, bytes, length);
        reader->offset += *used;
        if (reader->missing || reader->padding)
            return true;
        if (reader->state == IN_SPECIAL)
            return reader->special.failed ? no_memory(error) : end_special(reader, error);
        reader->state = AT_HEADER;
        return true;
    }
    *used = TAR_BLOCK - reader->filled < length ? TAR_BLOCK - reader->filled : length;
    memcpy(reader->block + reader->filled, bytes, *used);
    reader->filled += *used;
    reader->offset += *used;
    if (reader->filled < TAR_BLOCK)
        return true;
    reader->filled = 0;
    return take_block(reader, error);
}

bool tar_reader_feed(struct tar_reader *reader, const void *bytes, size_t length,
                     struct error *error) {
    const uint8_t *at = bytes;
    while (length && reader->state != AT_END) {
        size_t used;
        if (!step(reader, at, length, &used, error))
            return false;
        /* An extended header without bytes ends before any come. */
        if (reader->state == IN_SPECIAL && !reader->missing && !reader->padding &&
            !end_special(reader, error))
            return false;
        at += used;
        length -= used;
    }
    return true;
}

bool tar_reader_finish(struct tar_reader *reader, struct error *error) {
    bool whole = reader->filled == 0 &&
                 (reader->state == AT_HEADER || reader->state == AT_ZERO ||
                  reader->state == AT_END || (reader->state == SKIPPING && !reader->missing));
    return whole || bad(error, "an entry that is cut off at its end");
}
