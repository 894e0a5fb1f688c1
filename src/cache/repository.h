/*
 * The repositories of a store, and the tags, manifests and images of one. One thread at a time for
 * each struct.
 */
#ifndef CACHE_REPOSITORY_H
#define CACHE_REPOSITORY_H

#include "oci/digest_set.h"
#include "oci/reference.h"
#include "store/store.h"

/* ---- which repositories there are ---- */

struct repository_names {          /* zeroed is empty */
    struct repository_name *names; /* by host, then path */
    size_t count, capacity;
};
bool repository_names_read(struct store *store, struct repository_names *out, struct error *error);
void repository_names_finish(struct repository_names *names);
#define cleanup_repository_names __attribute__((cleanup(repository_names_finish)))

/* ---- what one repository holds ---- */

struct repository_tag {
    char tag[TAG_LIMIT + 1];
    struct digest digest;
};

struct repository_records { /* zeroed is empty */
    struct store *store;
    const struct repository_name *name;
    struct repository_tag *tags; /* by tag */
    size_t tag_count, tag_capacity;
    struct digest_set manifests; /* those that are linked, and those of a tag */
    struct digest_set tagged;    /* those of a tag */
    struct digest_set children;  /* those that an index of this repository names */
};
bool repository_records_read(struct store *store, const struct repository_name *name,
                             struct repository_records *out, struct error *error);
void repository_records_finish(struct repository_records *records);
#define cleanup_repository_records __attribute__((cleanup(repository_records_finish)))

/* ---- the images of one repository ---- */

/* A manifest that has a tag, or that no index of the repository names; with its tags. */
struct repository_image {
    struct digest digest;
    const struct repository_tag *const *tags; /* in the order of their names */
    size_t tag_count;
};

struct repository_images {                /* zeroed is empty; borrows the tags of the records */
    struct repository_image *images;      /* by first tag; those without a tag come first */
    const struct repository_tag **sorted; /* all tags, by digest */
    size_t count;
};
/* ERROR_MEMORY. */
bool repository_images_make(const struct repository_records *records, struct repository_images *out,
                            struct error *error);
void repository_images_finish(struct repository_images *images);
#define cleanup_repository_images __attribute__((cleanup(repository_images_finish)))

#endif
