/* Archives, made by the tests of layer/. */
#ifndef ARCHIVE_H
#define ARCHIVE_H

#include <stdint.h>
#include "base/buffer.h"
#include "layer/tree.h"

struct archive_entry {
    char type; /* '0' and so on; 0: '0' */
    const char *name, *link;
    uint32_t mode;    /* 0: 0644 */
    const char *body; /* NULL: none; of `size` bytes, or up to its NUL */
    size_t size;
    const char *pax; /* "key=value\nkey=value": a PAX header comes before */
    int64_t mtime;
    uint32_t uid, major, minor;
    bool is_gnu;
};

/* Each appends to the archive. */
void archive_add(struct buffer *out, const struct archive_entry *entry);
void archive_header(struct buffer *out, const struct archive_entry *entry);
void archive_sum(char block[512]); /* writes the sum of a header */
void archive_body(struct buffer *out, const void *bytes, size_t length);
void archive_pax(struct buffer *out, char type, const char *records);
void archive_end(struct buffer *out);

/* Packs bytes with gzip: a member. `strategy` is zlib's. */
void archive_gzip(struct buffer *out, const void *bytes, size_t length, int level, int strategy);

/* The tree of an archive as one line an entry; NULL: refused, and `word` has why. */
char *archive_shown(const struct buffer *archive, char word[static 32]);
char *archive_tree_shown(const struct tree *tree);

#endif
