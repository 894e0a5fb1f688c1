/*
 * Which images of a sealed list are shown, and in which order. Pure.
 *
 * The orders. Each one ends with: the image with the higher highest tag first (by byte), untagged
 * ones last; then by repository, then by digest.
 *   CATALOG_BY_UPLOAD  newest upload first; those without a time last
 *   CATALOG_BY_TAG     nothing before that
 *   CATALOG_BY_SIZE    largest first; those without a size last
 */
#ifndef CATALOG_SELECT_H
#define CATALOG_SELECT_H

#include "catalog/list.h"

/* Zeroed: all tagged images, newest upload first. */
struct catalog_selection {
    bool all;                /* untagged ones as well, which the children of an index usually are */
    const char *const *tags; /* globs, of which a tag must match one; NULL: any */
    const char *tag;         /* the one image with this tag; NULL: any */
    const struct digest *digest; /* the one image with this digest, tagged or not; NULL: any */
    bool has_since;
    int64_t since_us; /* uploaded at that time or later */
    enum catalog_order order;
    size_t limit; /* images of each list; 0: no limit */
};

/* Whether the image is one of those selected; order and limit do not count. An image without a time
 * of upload is not known to be newer than `since_us`. */
bool catalog_selects(const struct catalog_selection *selection, const struct catalog_image *image);

/* Drops all other images of the list and sorts the rest. Returns how many images were dropped for
 * no other reason than that they have no time of upload. */
size_t catalog_list_select(struct catalog_list *list, const struct catalog_selection *selection);

#endif
