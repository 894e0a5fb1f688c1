/*
 * The repositories of a store, and the tags and manifests of one. Private to admin/. One thread at
 * a time for each struct.
 */
#ifndef ADMIN_REPOSITORY_H
#define ADMIN_REPOSITORY_H

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

#endif
