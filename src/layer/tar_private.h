/* What the files of the tar reader share. */
#ifndef LAYER_TAR_PRIVATE_H
#define LAYER_TAR_PRIVATE_H

#include "base/buffer.h"
#include "layer/refusal.h"
#include "layer/tar.h"

/* A header, as Go's archive/tar reads it (reader.go, readHeader()). */
struct tar_header {
    char type; /* the flag: '0' and so on */
    bool is_gnu;
    char name[156 + 1 + 100 + 1], link[100 + 1];
    int64_t size, mode, uid, gid, mtime_s, major, minor;
};

/* Reads one block. LAYER_TAR: its sum is wrong, or a number is none. */
bool tar_header_read(const uint8_t block[TAR_BLOCK], struct tar_header *out, struct error *error);

/* A number of `length` bytes: octal, or in base 256. */
bool tar_number(const uint8_t *at, size_t length, int64_t *out);

/* Parts of a sparse file, as they stand in the archive. */
struct tar_parts {
    int64_t (*list)[2]; /* where in the file, and length */
    size_t count, capacity;
};
bool tar_parts_add(struct tar_parts *parts, int64_t at, int64_t length, struct error *error);

/* The records of PAX that mean something to us; each is "" if there is none. */
struct tar_pax {
    struct text path, link, size, uid, gid, mtime;
    struct text sparse_major, sparse_minor, sparse_name, sparse_size, sparse_real_size;
    struct text sparse_map, sparse_blocks;
    bool has_parts; /* of the format 0.0, in `parts` */
    struct tar_xattr *xattrs;
    size_t xattr_count, xattr_capacity;
};

/* Reads the records; the texts point into `bytes`. Parts of a sparse file go to `parts`. */
bool tar_pax_read(struct text bytes, struct tar_pax *out, struct tar_parts *parts,
                  struct error *error);

/* A decimal number with an optional sign, as Go's ParseInt() takes it. */
bool tar_decimal(struct text text, int64_t *out);
/* "SECONDS.FRACTION"; a time that containerd takes for none gives 0. */
bool tar_pax_time(struct text text, uint64_t *seconds, uint32_t *nanoseconds);
/* A time before 1970, or after what Go can express in nanoseconds, is 1970 for containerd. */
uint64_t tar_bound_time(int64_t seconds);

#endif
