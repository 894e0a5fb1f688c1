/* Archives, made by the tests of layer/. */
#include "layer/archive.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>
#include <cmocka.h>
#include "layer/unpack.h"

/* An octal number of `digits` digits, with a NUL behind it. */
static void put(char *at, int digits, unsigned long long number) {
    for (at[digits] = '\0'; digits > 0; number /= 8)
        at[--digits] = (char)('0' + number % 8);
}

void archive_sum(char block[512]) {
    unsigned sum = 0;
    memset(block + 148, ' ', 8);
    for (size_t i = 0; i < 512; i++)
        sum += (unsigned char)block[i];
    put(block + 148, 6, sum);
}

void archive_header(struct buffer *out, const struct archive_entry *entry) {
    char block[512] = {0};
    size_t size = entry->body ? (entry->size ? entry->size : strlen(entry->body)) : entry->size;
    snprintf(block, 100, "%s", entry->name);
    put(block + 100, 7, entry->mode ? entry->mode : 0644);
    put(block + 108, 7, entry->uid);
    put(block + 116, 7, 0);
    put(block + 124, 11, size);
    put(block + 136, 11, (unsigned long long)entry->mtime);
    block[156] = entry->type ? entry->type : '0';
    if (entry->link)
        snprintf(block + 157, 100, "%s", entry->link);
    memcpy(block + 257,
           entry->is_gnu ? "ustar  "
                         : "ustar\0"
                           "00",
           8);
    put(block + 329, 7, entry->major);
    put(block + 337, 7, entry->minor);
    archive_sum(block);
    buffer_append(out, block, sizeof block);
}

void archive_body(struct buffer *out, const void *bytes, size_t length) {
    static const char zeros[512];
    buffer_append(out, bytes, length);
    buffer_append(out, zeros, (512 - length % 512) % 512);
}

void archive_pax(struct buffer *out, char type, const char *records) {
    cleanup_buffer struct buffer body = {0};
    for (const char *at = records; *at;) {
        size_t length = strcspn(at, "\n"), all = length + 3;
        while (all != length + 2 + (size_t)snprintf(NULL, 0, "%zu", all))
            all++;
        buffer_printf(&body, "%zu %.*s\n", all, (int)length, at);
        at += length + (at[length] == '\n');
    }
    archive_header(out, &(struct archive_entry){.type = type, .name = "pax", .size = body.length});
    archive_body(out, body.bytes, body.length);
}

void archive_add(struct buffer *out, const struct archive_entry *entry) {
    if (entry->pax)
        archive_pax(out, 'x', entry->pax);
    archive_header(out, entry);
    if (entry->body)
        archive_body(out, entry->body, entry->size ? entry->size : strlen(entry->body));
}

void archive_end(struct buffer *out) {
    static const char zeros[1024];
    buffer_append(out, zeros, sizeof zeros);
}

void archive_gzip(struct buffer *out, const void *bytes, size_t length, int level, int strategy) {
    z_stream deflater = {0};
    assert_int_equal(deflateInit2(&deflater, level, Z_DEFLATED, 15 + 16, 8, strategy), Z_OK);
    size_t bound = deflateBound(&deflater, length);
    assert_true(buffer_reserve(out, bound));
    deflater.next_in = (unsigned char *)(uintptr_t)bytes;
    deflater.avail_in = (unsigned)length;
    deflater.next_out = (unsigned char *)out->bytes + out->length;
    deflater.avail_out = (unsigned)bound;
    assert_int_equal(deflate(&deflater, Z_FINISH), Z_STREAM_END);
    out->length += deflater.total_out;
    deflateEnd(&deflater);
}

/* ---- trees as text ---- */

static void show_path(struct buffer *out, const struct tree_node *node) {
    if (!node->parent)
        return;
    show_path(out, node->parent);
    buffer_printf(out, "/%s", node->name);
}

static void show_node(struct buffer *out, const struct tree_node *node) {
    const struct tree_inode *inode = node->inode;
    const char type = node->is_whiteout ? 'w' : "?pc?d?b?-?l?s???"[inode->mode >> 12];
    buffer_printf(out, "%c%04o ", type, inode->mode & 07777);
    show_path(out, node);
    if (S_ISLNK(inode->mode))
        buffer_printf(out, " -> %s", inode->target);
    if (S_ISREG(inode->mode))
        buffer_printf(out, " %llu", (unsigned long long)inode->size);
    for (size_t i = 0; i < inode->extent_count; i++)
        buffer_printf(out, " %llu+%llu@%llu", (unsigned long long)inode->extents[i].at,
                      (unsigned long long)inode->extents[i].length,
                      (unsigned long long)inode->extents[i].where);
    if (inode->mtime_s || inode->mtime_ns)
        buffer_printf(out, " t%llu.%09u", (unsigned long long)inode->mtime_s, inode->mtime_ns);
    if (!S_ISDIR(inode->mode) && inode->links > 1)
        buffer_printf(out, " x%u", inode->links);
    if (inode->uid)
        buffer_printf(out, " u%u", inode->uid);
    if (inode->major || inode->minor)
        buffer_printf(out, " %u:%u", inode->major, inode->minor);
    for (const struct tree_xattr *xattr = inode->xattrs; xattr; xattr = xattr->next)
        buffer_printf(out, " %.*s=%.*s", TEXT_PRINT(xattr->name), TEXT_PRINT(xattr->value));
    buffer_printf(out, "%s%s\n", node->is_implicit ? " implicit" : "",
                  node->is_opaque ? " opaque" : "");
}

char *archive_tree_shown(const struct tree *tree) {
    struct buffer out = {0};
    for (const struct tree_node *node = tree_next(tree->root, tree->root); node;
         node = tree_next(tree->root, node))
        show_node(&out, node);
    return out.bytes ? out.bytes : strdup("");
}

/* Feeds the archive in pieces of `step` bytes. */
static char *shown(const struct buffer *archive, size_t step, char word[static 32]) {
    struct tree *tree = tree_new(TREE_MEMORY);
    struct tar_reader *reader = tar_reader_new(unpack_entry, tree);
    struct error error = {0};
    bool ok = true;
    for (size_t at = 0; ok && at < archive->length; at += step)
        ok = tar_reader_feed(reader, archive->bytes + at,
                             archive->length - at < step ? archive->length - at : step, &error);
    ok = ok && tar_reader_finish(reader, &error) && tree_sort(tree, &error);
    snprintf(word, 32, "%s", ok ? "" : error.code);
    char *text = ok ? archive_tree_shown(tree) : NULL;
    tar_reader_free(reader);
    tree_free(tree);
    return text;
}

char *archive_shown(const struct buffer *archive, char word[static 32]) {
    char *whole = shown(archive, archive->length + 1, word), again[32];
    static const size_t steps[] = {1, 511, 513};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        char *pieces = shown(archive, steps[i], again);
        assert_string_equal(again, word);
        if (whole)
            assert_string_equal(pieces, whole);
        free(pieces);
    }
    return whole;
}
