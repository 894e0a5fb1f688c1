/*
 * What has still to be written to the bucket about one digest, as a file of ROOT/pending/ says it:
 * a line for each item. Pure; any thread.
 *
 *   tarn-pending 1
 *   data                              the bytes
 *   overwrite                         the bytes, in place of wrong ones that are there
 *   blob HOST/NAME                    the link of a layer or config
 *   manifest HOST/NAME MEDIA-TYPE     the link of a manifest
 *   tag HOST/NAME TAG                 a tag that names the digest
 *
 * A line that cannot be read is passed over: the file may be old, damaged or of a later version.
 */
#ifndef CACHE_PENDING_H
#define CACHE_PENDING_H

#include <stdbool.h>
#include "base/buffer.h"
#include "oci/reference.h"

enum {
    PENDING_LIMIT = 64 << 10, /* bytes of a record; what would make it longer is not remembered */
    PENDING_TEXT_SIZE = 129,  /* of a tag or a media type, with its NUL */
};

enum pending_kind {
    PENDING_DATA,
    PENDING_OVERWRITE,
    PENDING_BLOB,
    PENDING_MANIFEST,
    PENDING_TAG,
};

struct pending_item {
    enum pending_kind kind;
    struct repository_name name;  /* of the last three kinds */
    char text[PENDING_TEXT_SIZE]; /* the media type of a MANIFEST, the tag of a TAG */
};

/* Adds the item to the record, unless it is there. False: no memory, or the record is full. */
bool pending_add(struct buffer *record, const struct pending_item *item);

/* The next item of a record. `rest` is all of the record at first. False: there is no more. */
bool pending_next(struct text *rest, struct pending_item *item);

#endif
