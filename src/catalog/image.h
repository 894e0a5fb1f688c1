/*
 * An image of a repository, as a registry tells it: a digest with all its tags.
 *
 * What a source does not tell is absent here and `null` in JSON. It is never guessed, and never 0.
 * All strings belong to the list that holds the image (catalog/list.h). Pure; any thread.
 */
#ifndef CATALOG_IMAGE_H
#define CATALOG_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buffer.h"
#include "oci/digest.h"

/* Of a number in struct catalog_image: the source does not tell it. */
#define CATALOG_UNTOLD INT64_C(-1)

struct catalog_image {
    const char *repository;    /* "HOST/NAME", as one pulls it; never NULL */
    struct digest digest;      /* algorithm 0: untold */
    const char **tags;         /* sorted by byte, each one once, after catalog_list_seal() */
    uint32_t tag_count;        /* 0: untagged */
    uint32_t platform_count;   /* 0: untold */
    const char **platforms;    /* "linux/amd64", "linux/arm/v7"; in the order of the source */
    int64_t uploaded_us;       /* microseconds since 1970, or CATALOG_UNTOLD */
    int64_t created_us;        /* the same */
    int64_t size;              /* bytes of the whole image, or CATALOG_UNTOLD */
    const char *media_type;    /* NULL: untold */
    const char *artifact_type; /* NULL: untold */
};

/* Reads an RFC 3339 time, with a fraction or without one, which is cut at microseconds. 1970 itself
 * stands for "unknown" where registries send it, and is CATALOG_UNTOLD, as is every text that is no
 * such time. */
int64_t catalog_time_parse(const char *text);

/* Writes "2023-03-27T13:02:39Z", with as many groups of three decimals as are needed. `us` is not
 * CATALOG_UNTOLD. Returns `out`. */
enum { CATALOG_TIME_SIZE = 40 };
const char *catalog_time_format(int64_t us, char out[static CATALOG_TIME_SIZE]);

/* Appends the image as one JSON object on one line, without a newline. All keys are always there:
 * repository, digest, tags, uploaded, created, size, media_type, platforms, artifact_type. */
void catalog_image_append_json(const struct catalog_image *image, struct buffer *out);

/* "newest upload first, then tag descending": see catalog/select.h for what each order means. */
enum catalog_order { CATALOG_BY_UPLOAD, CATALOG_BY_TAG, CATALOG_BY_SIZE };

/* Less than 0: `a` comes first. 0 for two images that differ neither in the order's value, nor in
 * their highest tag, nor in digest and repository. The images are of sealed lists. */
int catalog_image_compare(const struct catalog_image *a, const struct catalog_image *b,
                          enum catalog_order order);

#endif
