/* Chooses and sorts the images of a list. */
#include "catalog/select.h"

#include <stdlib.h>
#include <string.h>

/* Tags are sorted by byte. */
static bool has_tag(const struct catalog_image *image, const char *tag) {
    size_t from = 0, to = image->tag_count;
    while (from < to) {
        size_t middle = from + (to - from) / 2;
        int order = strcmp(tag, image->tags[middle]);
        if (order == 0)
            return true;
        if (order < 0)
            to = middle;
        else
            from = middle + 1;
    }
    return false;
}

static bool matches_any(const struct catalog_image *image, const char *const *globs) {
    for (; *globs; globs++) {
        for (uint32_t i = 0; i < image->tag_count; i++) {
            if (text_matches_glob(*globs, text_of(image->tags[i])))
                return true;
        }
    }
    return false;
}

static bool is_named(const struct catalog_selection *selection, const struct catalog_image *image) {
    if (selection->digest && !digest_equal(selection->digest, &image->digest))
        return false;
    if (!selection->all && !selection->digest && image->tag_count == 0)
        return false;
    return (!selection->tag || has_tag(image, selection->tag)) &&
           (!selection->tags || matches_any(image, selection->tags));
}

bool catalog_selects(const struct catalog_selection *selection, const struct catalog_image *image) {
    return is_named(selection, image) &&
           (!selection->has_since ||
            (image->uploaded_us != CATALOG_UNTOLD && image->uploaded_us >= selection->since_us));
}

static int compare(const void *a, const void *b, void *order) {
    return catalog_image_compare(a, b, *(const enum catalog_order *)order);
}

size_t catalog_list_select(struct catalog_list *list, const struct catalog_selection *selection) {
    size_t kept = 0, undated = 0;
    for (size_t i = 0; i < list->count; i++) {
        const struct catalog_image *image = &list->images[i];
        if (catalog_selects(selection, image))
            list->images[kept++] = *image;
        else if (image->uploaded_us == CATALOG_UNTOLD && is_named(selection, image))
            undated++;
    }
    list->count = kept;
    enum catalog_order order = selection->order;
    if (list->count > 1)
        qsort_r(list->images, list->count, sizeof *list->images, compare, &order);
    if (selection->limit && list->count > selection->limit)
        list->count = selection->limit;
    return undated;
}
