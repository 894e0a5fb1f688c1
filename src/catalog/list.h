/*
 * The images that a source has told so far.
 *
 * A source enters each image by its repository and digest. Whatever it tells of a digest that is
 * there already is added to that image, so that a page that repeats an image changes nothing. All
 * strings are kept in large pieces of memory that never move, and equal words (repositories, media
 * types, platforms) are kept once: 50,000 images with 150,000 tags take some 20 MB.
 *
 * A list holds at most CATALOG_LIST_BYTES, whatever a registry sends.
 *
 * Threads: one at a time. A zeroed list is empty and valid.
 */
#ifndef CATALOG_LIST_H
#define CATALOG_LIST_H

#include "base/error.h"
#include "base/siphash.h"
#include "base/text.h"
#include "catalog/image.h"

enum { CATALOG_LIST_BYTES = 256 << 20, CATALOG_WORD_LIMIT = 255 };

/* Which of the list's images or words has a key: open addressing, at most half full. */
struct catalog_table {
    uint32_t *slots; /* 0: free; else the index + 1 */
    size_t capacity; /* a power of two */
};

struct catalog_list {
    size_t limit; /* bytes; 0: CATALOG_LIST_BYTES */
    struct catalog_image *images;
    size_t count;

    /* The list's own. */
    size_t capacity;
    size_t bytes; /* all that is allocated */
    struct catalog_piece *pieces;
    const char **words;
    size_t word_count, word_capacity;
    struct catalog_table image_table, word_table;
    struct siphash_key key;
    bool is_keyed;
};

/* Frees everything: empty again, with the same limit. */
void catalog_list_finish(struct catalog_list *list);

#define cleanup_catalog_list __attribute__((cleanup(catalog_list_finish)))

/* ---- for sources: each returns NULL or false with the error set (ERROR_MEMORY; ERROR_UNAVAILABLE,
 * lasting: the list would be larger than CATALOG_LIST_BYTES) ---- */

/*
 * The image of this repository ("HOST/NAME") and digest, which is new when there is none, with
 * everything untold. `digest` NULL: untold, always a new image. The pointer is valid until the next
 * call of this function; its numbers may be set directly.
 */
struct catalog_image *catalog_list_enter(struct catalog_list *list, struct text repository,
                                         const struct digest *digest, struct error *error);

/* Adds a tag. ERROR_UNAVAILABLE, lasting: it is no tag by the grammar. */
bool catalog_list_add_tag(struct catalog_list *list, struct catalog_image *image, struct text tag,
                          struct error *error);

/* Adds a platform, unless it is there already. One that is empty, or has other characters than
 * letters, digits and ". _ - /", and "unknown/unknown", which stands for no platform, are passed
 * over. */
bool catalog_list_add_platform(struct catalog_list *list, struct catalog_image *image,
                               struct text platform, struct error *error);

/* Keeps a word such as a media type, once. *word becomes NULL (untold) for a text that is empty,
 * longer than CATALOG_WORD_LIMIT, or not of printable ASCII without spaces at its ends. */
bool catalog_list_keep_word(struct catalog_list *list, struct text text, const char **word,
                            struct error *error);

/* The source has told everything: sorts the tags of each image, and drops those that repeat. No
 * image is entered afterwards. */
void catalog_list_seal(struct catalog_list *list);

#endif
