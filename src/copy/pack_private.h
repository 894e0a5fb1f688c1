/* What packing a folder and packing removals share: entries of the archive, and its end. */
#ifndef COPY_PACK_PRIVATE_H
#define COPY_PACK_PRIVATE_H

#include "copy/pack.h"
#include "copy/tar.h"

#define PACK_WHITEOUT ".wh."

/* Where the entries of one archive go to. */
struct pack_archive {
    const struct pack_settings *settings;
    const struct sink *sink;
    struct buffer header; /* of one entry; its memory is used again */
};

bool pack_header(struct pack_archive *archive, const struct tar_entry *entry, struct error *error);

/* The entry of a folder that no folder on the disk stands for. */
bool pack_parent(struct pack_archive *archive, const char *path, struct error *error);

/* The zero bytes that end an archive. */
bool pack_end(struct pack_archive *archive, struct error *error);

#endif
