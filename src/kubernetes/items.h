/*
 * Takes the body of a list apart while it arrives: one item at a time, so that a list of any length
 * needs the memory of its largest item. Private to kubernetes/. Pure; hostile input.
 */
#ifndef KUBERNETES_ITEMS_H
#define KUBERNETES_ITEMS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include "base/buffer.h"
#include "base/error.h"

enum {
    ITEMS_ITEM_LIMIT = 8 << 20, /* bytes of one item */
    ITEMS_REST_LIMIT = 1 << 20, /* bytes of the list without its items */
};

struct items {
    bool (*on_item)(void *context, const json_t *item, struct error *error);
    void *context;
    struct buffer item; /* which has begun */
    struct buffer rest; /* the list with an empty array in place of its items */
    size_t depth;       /* of the brackets that are open */
    bool in_string, escaped;
    bool in_items;    /* in the array of the member `items` */
    bool wants_comma; /* an item has ended */
    char word[8];     /* the last string that stands in the list itself; cut */
    size_t word_length;
};

void items_init(struct items *items,
                bool (*on_item)(void *context, const json_t *item, struct error *error),
                void *context);
void items_finish(struct items *items);

/* Takes the next bytes. False: they are no list (ERROR_INVALID), an item is too large or no JSON,
 * or on_item() said so. */
bool items_take(struct items *items, const void *bytes, size_t length, struct error *error);

/* The list without its items, the caller's to json_decref(). NULL: it is not whole. */
json_t *items_end(const struct items *items, struct error *error);

#endif
