/*
 * What the repositories of a keep hold and what of it is to be kept: a list of tags with their
 * digests and names, which the plan and the pages work from.
 *
 * Making a list asks the registries (catalog/), and blocks. What could not be listed is as it was
 * in the list before. A finished list never changes; any thread may read it.
 */
#ifndef KEEP_LIST_H
#define KEEP_LIST_H

#include "base/cancel.h"
#include "catalog/catalog.h"
#include "keep/plan.h"
#include "keep/spec.h"
#include "upstream/upstream.h"

/* A tag. Strings are never NULL unless it is said. */
struct keep_item {
    size_t entry;     /* of the keep's list of images */
    char *pull;       /* "HOST/NAME", as nodes pull it */
    char *tag;        /* NULL: an image by its digest */
    char *digest;     /* NULL: not known */
    char *url;        /* "HOST/NAME:TAG", for people and cachemachine's pages */
    char *name;       /* as cachemachine writes it */
    char *short_name; /* without an alias's siblings */
    char *flat_name;  /* as nublado writes it */
    enum keep_tag_kind kind;
    uint64_t size; /* 0: not known */
    char **platforms;
    size_t platform_count;
    struct keep_child *children; /* of an index */
    size_t child_count;
    bool may_be_index; /* it is one, or nobody has said what it is */
    bool is_inspected; /* its manifest has told size, platforms and children */
};

struct keep_list_source {
    enum catalog_source source; /* AUTO: nothing was asked */
    int64_t listed_s;           /* wall time of the last success; 0: never */
    char error[400];            /* of the last attempt; "" */
};

struct keep_list {
    struct keep_item *desired, *all;
    size_t desired_count, all_count;
    struct keep_list_source *sources; /* one for each entry */
    size_t source_count;
    bool failed; /* one of the entries could not be listed now */
};

struct keep_list_asker {
    struct catalog *catalog;
    const struct upstreams *upstreams;
    const struct cancel *cancel;
    catalog_digest_of *digest_of;
    void *digest_context;
    /* The digest of a tag that is not kept, and whose name is a version, is taken from the list
     * before: with the Docker API it costs a request for each tag. */
    bool reuses_digests;
};

/* `before` is the list of the same spec that is in use; NULL: none. NULL: out of memory. */
struct keep_list *keep_list_make(const struct keep_list_asker *asker, const struct keep_spec *spec,
                                 const struct keep_list *before, int64_t now_s);
void keep_list_free(struct keep_list *list); /* NULL is allowed */

/* Hands the images to the plan. False: out of memory. */
bool keep_list_plan(const struct keep_list *list, const char *keep, struct keep_plan *plan,
                    struct keep_now now);

#endif
