/*
 * A page of `tags/list`, with what Google's registries add to it. Private to catalog/. Pure; any
 * thread.
 *
 * gcr.io and Artifact Registry tell the images beside the tags:
 *
 *     {"name": "P/R/IMAGE", "tags": ["v1"], "child": ["below"],
 *      "manifest": {"sha256:…": {"tag": ["v1"], "mediaType": "…", "imageSizeBytes": "123",
 *                                "timeCreatedMs": "0", "timeUploadedMs": "1618000000000"}}}
 *
 * The numbers are strings. A time of 0 is unknown. An image without tags has an empty `tag`.
 */
#ifndef CATALOG_DOCKER_PAGE_H
#define CATALOG_DOCKER_PAGE_H

#include <jansson.h>
#include "catalog/list.h"

/* The tags whose digests are not known yet. Zeroed: none. */
struct docker_tags {
    char **names; /* owned */
    size_t count, capacity;
    size_t bytes; /* of all of them */
};
void docker_tags_finish(struct docker_tags *tags);

/*
 * Adds the page's tags, and enters the images that it tells into the list. A string that is no tag
 * by the grammar is passed over, because nobody can pull it. False: the page is malformed, or is
 * too much (ERROR_INVALID), or ERROR_MEMORY.
 */
bool docker_page_read(const json_t *page, const char *repository, struct catalog_list *list,
                      struct docker_tags *tags, struct error *error);

/* After the last page: sorts the tags, and drops those that repeat and those of the list's images.
 * False: out of memory. */
bool docker_tags_settle(struct docker_tags *tags, const struct catalog_list *list);

#endif
