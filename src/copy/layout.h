/*
 * A folder in OCI's image layout (image-spec, "OCI Image Layout"): `oci-layout`, `index.json` and
 * `blobs/ALGORITHM/HEX`. Private to copy/.
 *
 * A layout may come from anybody. Every name in it is a digest by the grammar, and no symbolic link
 * below the folder is followed, so that nothing outside of it is read or written.
 *
 * Threads: any.
 */
#ifndef COPY_LAYOUT_H
#define COPY_LAYOUT_H

#include <jansson.h>
#include "copy/source.h"

#define COPY_LAYOUT_NAME "org.opencontainers.image.ref.name" /* image-spec, annotations */

enum { COPY_LAYOUT_INDEX_LIMIT = 16 << 20 };

struct copy_layout {
    int folder; /* descriptor */
    char *path; /* owned; for messages */
};

/* Opens a folder. `make`: makes it a layout, with its parents, when it is none. False: it is no
 * layout (ERROR_INVALID, ERROR_NOT_FOUND), or ERROR_IO. */
bool copy_layout_open(struct copy_layout *layout, const char *path, bool make, struct error *error);
void copy_layout_close(struct copy_layout *layout); /* safe on one that was not opened */

/* The descriptor of the folder that holds the blobs of the algorithm; `make`: makes it. -1: the
 * error is set. */
int copy_layout_blobs(const struct copy_layout *layout, enum digest_algorithm algorithm, bool make,
                      struct error *error);
/* Opens a blob for reading, and tells its size. -1: NOT_FOUND, or another error. */
int copy_layout_open_blob(const struct copy_layout *layout, const struct digest *digest,
                          uint64_t *size, struct error *error);

/* Reads index.json; the caller's to json_decref(). With `make` an index that is not there is an
 * empty one. NULL: the error is set. */
json_t *copy_layout_read_index(const struct copy_layout *layout, bool make, struct error *error);
/* Replaces index.json in one step. */
bool copy_layout_write_index(const struct copy_layout *layout, const json_t *index,
                             struct error *error);
/* The descriptors of index.json; never NULL, but perhaps no array. Borrowed. */
const json_t *copy_layout_manifests(const json_t *index);
/* The tag of a descriptor: the annotation, without a repository that containerd writes in front.
 * NULL: none. */
const char *copy_layout_tag(const json_t *descriptor);
/* Finds the image by tag or digest; "" is the only one that there is. NULL: NOT_FOUND, and the text
 * says which there are. */
const json_t *copy_layout_find(const struct copy_layout *layout, const json_t *index,
                               const char *reference, struct error *error);

/* The member of a descriptor as a digest. False: it has none. */
bool copy_layout_digest(const json_t *descriptor, struct digest *out);

#endif
