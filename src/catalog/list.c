/* The images that a source has told so far, in little memory. */
#include "catalog/list.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include "oci/reference.h"

enum { PIECE_BYTES = 256 << 10, TABLE_FIRST = 256, IMAGES_FIRST = 64, WORDS_FIRST = 64 };

/* A piece of memory from which strings and arrays are taken; it never moves. */
struct catalog_piece {
    struct catalog_piece *next;
    size_t used, size;
    _Alignas(void *) char bytes[];
};

/* ---- memory ---- */

static size_t limit_of(const struct catalog_list *list) {
    return list->limit ? list->limit : CATALOG_LIST_BYTES;
}

static bool too_large(const struct catalog_list *list, struct error *error) {
    error_set(error, ERROR_UNAVAILABLE, "the list of images takes more than %zu MiB",
              limit_of(list) >> 20);
    if (error)
        error->lasting = true;
    return false;
}

/* Counts `more` bytes that are about to be allocated. */
static bool count_bytes(struct catalog_list *list, size_t more, struct error *error) {
    if (more > limit_of(list) - list->bytes)
        return too_large(list, error);
    list->bytes += more;
    return true;
}

static void *take_bytes(struct catalog_list *list, size_t size, size_t align, struct error *error) {
    struct catalog_piece *piece = list->pieces;
    size_t at = piece ? (piece->used + align - 1) / align * align : 0;
    if (!piece || at > piece->size || size > piece->size - at) {
        size_t piece_size = size > PIECE_BYTES / 4 ? size : PIECE_BYTES;
        if (!count_bytes(list, sizeof *piece + piece_size, error))
            return NULL;
        piece = malloc(sizeof *piece + piece_size);
        if (!piece) {
            error_set(error, ERROR_MEMORY, "out of memory");
            return NULL;
        }
        *piece = (struct catalog_piece){.next = list->pieces, .size = piece_size};
        list->pieces = piece;
        at = 0;
    }
    piece->used = at + size;
    return piece->bytes + at;
}

static const char *take_string(struct catalog_list *list, struct text text, struct error *error) {
    char *copy = take_bytes(list, text.length + 1, 1, error);
    if (!copy)
        return NULL;
    memcpy(copy, text.at, text.length);
    copy[text.length] = '\0';
    return copy;
}

/* Makes an array of the list larger, from `capacity` elements to twice as many. */
static void *grow(struct catalog_list *list, void *array, size_t *capacity, size_t first,
                  size_t size, struct error *error) {
    size_t grown = *capacity ? *capacity * 2 : first;
    if (!count_bytes(list, (grown - *capacity) * size, error))
        return NULL;
    void *moved = reallocarray(array, grown, size);
    if (!moved) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    *capacity = grown;
    return moved;
}

void catalog_list_finish(struct catalog_list *list) {
    while (list->pieces) {
        struct catalog_piece *next = list->pieces->next;
        free(list->pieces);
        list->pieces = next;
    }
    free(list->images);
    free(list->words);
    free(list->image_table.slots);
    free(list->word_table.slots);
    *list = (struct catalog_list){.limit = list->limit};
}

/* ---- tables ---- */

/* A key that is looked up: its hash, and whether the element number `at` of the list has it. */
struct sought {
    uint64_t hash;
    bool (*is)(const struct catalog_list *list, size_t at, const void *key);
    const void *key;
};

/* The slot of the key, or the free slot where it belongs. */
static uint32_t *find_slot(const struct catalog_list *list, const struct catalog_table *table,
                           const struct sought *sought) {
    size_t mask = table->capacity - 1;
    size_t at = (size_t)sought->hash & mask;
    while (table->slots[at] && !sought->is(list, table->slots[at] - 1, sought->key))
        at = (at + 1) & mask;
    return &table->slots[at];
}

static uint64_t hash_of(struct catalog_list *list, const void *bytes, size_t length) {
    if (!list->is_keyed)
        siphash_key_fill(&list->key);
    list->is_keyed = true;
    return siphash_of(&list->key, bytes, length);
}

/* An image's key: repositories are kept once, so that their addresses stand for them. */
struct image_key {
    const char *repository;
    struct digest digest;
};

static uint64_t hash_image(struct catalog_list *list, const char *repository,
                           const struct digest *digest) {
    struct image_key key;
    memset(&key, 0, sizeof key); /* the padding is hashed as well */
    key.repository = repository;
    key.digest = *digest;
    return hash_of(list, &key, sizeof key);
}

static uint64_t rehash_image(struct catalog_list *list, size_t at) {
    return hash_image(list, list->images[at].repository, &list->images[at].digest);
}

static uint64_t rehash_word(struct catalog_list *list, size_t at) {
    return hash_of(list, list->words[at], strlen(list->words[at]));
}

/* Makes place for one more: at most half of the slots are used, so that a search is short. */
static bool prepare_table(struct catalog_list *list, struct catalog_table *table, size_t used,
                          uint64_t (*rehash)(struct catalog_list *list, size_t at),
                          struct error *error) {
    if (used * 2 < table->capacity)
        return true;
    size_t capacity = table->capacity ? table->capacity * 2 : TABLE_FIRST;
    if (!count_bytes(list, (capacity - table->capacity) * sizeof *table->slots, error))
        return false;
    uint32_t *slots = calloc(capacity, sizeof *slots);
    if (!slots)
        return error_set(error, ERROR_MEMORY, "out of memory");
    for (size_t i = 0; i < table->capacity; i++) {
        if (!table->slots[i])
            continue;
        size_t at = (size_t)rehash(list, table->slots[i] - 1) & (capacity - 1);
        while (slots[at])
            at = (at + 1) & (capacity - 1);
        slots[at] = table->slots[i];
    }
    free(table->slots);
    *table = (struct catalog_table){slots, capacity};
    return true;
}

/* ---- words ---- */

static bool is_word_at(const struct catalog_list *list, size_t at, const void *key) {
    return text_is(*(const struct text *)key, list->words[at]);
}

/* The one copy of a text without NUL bytes. NULL: the error is set. */
static const char *keep(struct catalog_list *list, struct text text, struct error *error) {
    if (!prepare_table(list, &list->word_table, list->word_count, rehash_word, error))
        return NULL;
    const struct sought sought = {hash_of(list, text.at, text.length), is_word_at, &text};
    uint32_t *slot = find_slot(list, &list->word_table, &sought);
    if (*slot)
        return list->words[*slot - 1];
    if (list->word_count == list->word_capacity) {
        const char **grown =
            grow(list, list->words, &list->word_capacity, WORDS_FIRST, sizeof *list->words, error);
        if (!grown)
            return NULL;
        list->words = grown;
    }
    const char *copy = take_string(list, text, error);
    if (!copy)
        return NULL;
    list->words[list->word_count++] = copy;
    *slot = (uint32_t)list->word_count;
    return copy;
}

static bool is_word(struct text text) {
    if (text.length == 0 || text.length > CATALOG_WORD_LIMIT || text.at[0] == ' ' ||
        text.at[text.length - 1] == ' ')
        return false;
    for (size_t i = 0; i < text.length; i++) {
        if (text.at[i] < ' ' || text.at[i] > '~')
            return false;
    }
    return true;
}

bool catalog_list_keep_word(struct catalog_list *list, struct text text, const char **word,
                            struct error *error) {
    *word = NULL;
    return !is_word(text) || (*word = keep(list, text, error));
}

/* ---- images ---- */

static bool is_image_at(const struct catalog_list *list, size_t at, const void *key) {
    const struct image_key *image = key;
    return list->images[at].repository == image->repository &&
           digest_equal(&list->images[at].digest, &image->digest);
}

static struct catalog_image *add_image(struct catalog_list *list, const char *repository,
                                       struct error *error) {
    if (list->count == list->capacity) {
        struct catalog_image *grown =
            grow(list, list->images, &list->capacity, IMAGES_FIRST, sizeof *list->images, error);
        if (!grown)
            return NULL;
        list->images = grown;
    }
    struct catalog_image *image = &list->images[list->count++];
    *image = (struct catalog_image){
        .repository = repository,
        .uploaded_us = CATALOG_UNTOLD,
        .created_us = CATALOG_UNTOLD,
        .size = CATALOG_UNTOLD,
    };
    return image;
}

struct catalog_image *catalog_list_enter(struct catalog_list *list, struct text repository,
                                         const struct digest *digest, struct error *error) {
    const char *name = keep(list, repository, error);
    if (!name)
        return NULL;
    if (!digest)
        return add_image(list, name, error);
    if (!prepare_table(list, &list->image_table, list->count, rehash_image, error))
        return NULL;
    const struct image_key key = {name, *digest};
    const struct sought sought = {hash_image(list, name, digest), is_image_at, &key};
    uint32_t *slot = find_slot(list, &list->image_table, &sought);
    if (*slot)
        return &list->images[*slot - 1];
    struct catalog_image *image = add_image(list, name, error);
    if (!image)
        return NULL;
    image->digest = *digest;
    *slot = (uint32_t)list->count;
    return image;
}

/* Adds a string to an array whose capacity is its length, rounded up to a power of two. */
static bool append(struct catalog_list *list, const char ***array, uint32_t *count,
                   const char *string, struct error *error) {
    if ((*count & (*count - 1)) == 0) {
        size_t capacity = *count ? (size_t)*count * 2 : 1;
        const char **grown =
            take_bytes(list, capacity * sizeof *grown, _Alignof(const char *), error);
        if (!grown)
            return false;
        if (*count)
            memcpy(grown, *array, *count * sizeof *grown);
        *array = grown;
    }
    (*array)[(*count)++] = string;
    return true;
}

static bool bad_tag(struct text tag, struct error *error) {
    char shown[64];
    size_t length = 0;
    for (; length < tag.length && length < sizeof shown - 1; length++)
        shown[length] = tag.at[length] > ' ' && tag.at[length] <= '~' ? tag.at[length] : '?';
    shown[length] = '\0';
    error_set(error, ERROR_UNAVAILABLE, "\"%s\" is listed as a tag, but is none by the grammar",
              shown);
    if (error)
        error->lasting = true;
    return false;
}

bool catalog_list_add_tag(struct catalog_list *list, struct catalog_image *image, struct text tag,
                          struct error *error) {
    if (!reference_is_tag(tag))
        return bad_tag(tag, error);
    const char *copy = take_string(list, tag, error);
    return copy && append(list, &image->tags, &image->tag_count, copy, error);
}

static bool is_platform(struct text platform) {
    if (platform.length == 0 || platform.length > CATALOG_WORD_LIMIT ||
        text_is(platform, "unknown/unknown"))
        return false;
    for (size_t i = 0; i < platform.length; i++) {
        char c = platform.at[i];
        if (!isalnum((unsigned char)c) && (c == '\0' || !strchr("._-/", c)))
            return false;
    }
    return true;
}

bool catalog_list_add_platform(struct catalog_list *list, struct catalog_image *image,
                               struct text platform, struct error *error) {
    if (!is_platform(platform))
        return true;
    const char *word = keep(list, platform, error);
    for (uint32_t i = 0; word && i < image->platform_count; i++) {
        if (image->platforms[i] == word)
            return true;
    }
    return word && append(list, &image->platforms, &image->platform_count, word, error);
}

/* ---- the end ---- */

static int compare_strings(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void sort_tags(struct catalog_image *image) {
    uint32_t kept = 0;
    qsort(image->tags, image->tag_count, sizeof *image->tags, compare_strings);
    for (uint32_t i = 0; i < image->tag_count; i++) {
        if (!kept || strcmp(image->tags[kept - 1], image->tags[i]) != 0)
            image->tags[kept++] = image->tags[i];
    }
    image->tag_count = kept;
}

static void drop_table(struct catalog_list *list, struct catalog_table *table) {
    list->bytes -= table->capacity * sizeof *table->slots;
    free(table->slots);
    *table = (struct catalog_table){0};
}

void catalog_list_seal(struct catalog_list *list) {
    for (size_t i = 0; i < list->count; i++) {
        if (list->images[i].tag_count > 1)
            sort_tags(&list->images[i]);
    }
    drop_table(list, &list->image_table);
    drop_table(list, &list->word_table);
}
