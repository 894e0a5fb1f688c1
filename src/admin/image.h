/* The images of a repository, put together from its tags, links and manifests. Inside the room. */
#ifndef ADMIN_IMAGE_H
#define ADMIN_IMAGE_H

#include "oci/digest_set.h"
#include "oci/reference.h"
#include "store/store.h"

/* ---- which repositories there are ---- */

struct repository_names {          /* zeroed is empty */
    struct repository_name *names; /* by host, then path */
    size_t count, capacity;
};
bool repository_names_read(struct store *store, struct repository_names *out, struct error *error);
void repository_names_free(struct repository_names *names);
#define cleanup_repository_names __attribute__((cleanup(repository_names_free)))

/* ---- what one holds ---- */

struct repository_tag {
    char tag[TAG_LIMIT + 1];
    struct digest digest;
};

struct repository_records { /* zeroed is empty */
    struct store *store;
    const struct repository_name *name;
    struct repository_tag *tags; /* by tag */
    size_t tag_count, tag_capacity;
    struct digest_set manifests; /* linked, or a tag's */
    struct digest_set tagged;    /* a tag's */
    struct digest_set children;  /* named by an index that is linked here */
};
bool repository_records_read(struct store *store, const struct repository_name *name,
                             struct repository_records *out, struct error *error);
void repository_records_free(struct repository_records *records);
#define cleanup_repository_records __attribute__((cleanup(repository_records_free)))

/* ---- one image ---- */

struct image {               /* zeroed is empty */
    struct digest_set parts; /* its manifests, configs and layers, held or not */
    uint64_t bytes;          /* of those held */
    int64_t last_used_s;     /* the latest use of one of them; 0: none is held */
    bool complete;           /* all are held */
    bool pinned;
};
/* Reads the image whose manifest or index `digest` is. What cannot be read has no parts. */
bool image_read(struct store *store, const struct digest *digest, struct image *out,
                struct error *error);
void image_free(struct image *image);
#define cleanup_image __attribute__((cleanup(image_free)))

#endif
