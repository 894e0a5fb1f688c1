/* The body of a list, item by item. */
#include "kubernetes/items.h"

#include <string.h>
#include "base/json.h"

enum { IN_LIST = 1, IN_ITEMS = 2 }; /* depths */

void items_init(struct items *items,
                bool (*on_item)(void *context, const json_t *item, struct error *error),
                void *context) {
    *items = (struct items){.on_item = on_item, .context = context};
    items->item.limit = ITEMS_ITEM_LIMIT;
    items->rest.limit = ITEMS_REST_LIMIT;
}

void items_finish(struct items *items) {
    buffer_finish(&items->item);
    buffer_finish(&items->rest);
}

/* Whether the byte at hand belongs to an item. */
static bool is_in_item(const struct items *items) {
    return items->in_items && items->depth > IN_ITEMS;
}

/* Keeps bytes that belong together. */
static bool keep(struct items *items, const char *bytes, size_t length, struct error *error) {
    struct buffer *buffer = is_in_item(items) ? &items->item : &items->rest;
    if (length == 0 || buffer_append(buffer, bytes, length))
        return true;
    if (buffer->length + length <= buffer->limit)
        return error_set(error, ERROR_MEMORY, "out of memory");
    return error_set(error, ERROR_INVALID, "%s of a list is larger than %zu MiB",
                     is_in_item(items) ? "an item" : "the head", buffer->limit >> 20);
}

/* The item in the buffer has ended. */
static bool hand_over(struct items *items, struct error *error) {
    cleanup_json json_t *item = bounded_json_load(items->item.bytes, items->item.length, error);
    if (!item)
        return error_wrap(error, "an item of a list");
    buffer_clear(&items->item);
    items->wants_comma = true;
    return items->on_item(items->context, item, error);
}

/* A byte between two items. */
static bool step_between(struct items *items, char c, struct error *error) {
    if (strchr(" \t\r\n", c))
        return true;
    if (c == ',' && items->wants_comma) {
        items->wants_comma = false;
        return true;
    }
    if (c == '{' && !items->wants_comma) {
        items->depth++;
        return true;
    }
    if (c != ']')
        return error_set(error, ERROR_INVALID, "the items of a list are no objects");
    items->in_items = false;
    items->depth--;
    return true;
}

/* A byte of a string. */
static void step_string(struct items *items, char c) {
    if (items->escaped)
        items->escaped = false;
    else if (c == '\\')
        items->escaped = true;
    else if (c == '"')
        items->in_string = false;
    if (items->in_string && items->depth == IN_LIST) {
        if (items->word_length < sizeof items->word)
            items->word[items->word_length] = c;
        items->word_length++;
    }
}

/* Any other byte. False: brackets that do not match. */
static bool step_outside(struct items *items, char c, struct error *error) {
    if (c == '"') {
        items->in_string = true;
        if (items->depth == IN_LIST)
            items->word_length = 0;
    } else if (c == '{' || c == '[') {
        items->in_items = c == '[' && items->depth == IN_LIST && items->word_length == 5 &&
                          memcmp(items->word, "items", 5) == 0;
        items->wants_comma = false;
        items->depth++;
    } else if (c == '}' || c == ']') {
        if (items->depth == 0)
            return error_set(error, ERROR_INVALID, "a list with a bracket too many");
        items->depth--;
    }
    return true;
}

/* A byte inside an item, outside its strings. */
static void step_item(struct items *items, char c) {
    if (c == '"')
        items->in_string = true;
    else if (c == '{' || c == '[')
        items->depth++;
    else if (c == '}' || c == ']')
        items->depth--;
}

bool items_take(struct items *items, const void *bytes, size_t length, struct error *error) {
    const char *at = bytes, *end = at + length, *kept = at; /* from `kept` on nothing is kept yet */
    for (; at < end; at++) {
        bool between = items->in_items && items->depth == IN_ITEMS;
        if (items->in_string) {
            step_string(items, *at);
        } else if (between) {
            /* Nothing but the brackets around the items is kept. */
            if (!step_between(items, *at, error))
                return false;
            kept = items->depth == IN_ITEMS ? at + 1 : at;
        } else if (is_in_item(items)) {
            if (items->depth == IN_ITEMS + 1 && (*at == '}' || *at == ']')) {
                if (!keep(items, kept, (size_t)(at + 1 - kept), error))
                    return false;
                kept = at + 1;
                items->depth--;
                if (!hand_over(items, error))
                    return false;
            } else {
                step_item(items, *at);
            }
        } else if (*at == '[' && items->depth == IN_LIST) {
            /* Whether the items begin here: what stands before them is kept first. */
            if (!keep(items, kept, (size_t)(at + 1 - kept), error))
                return false;
            kept = at + 1;
            if (!step_outside(items, *at, error))
                return false;
        } else if (!step_outside(items, *at, error)) {
            return false;
        }
    }
    return keep(items, kept, (size_t)(end - kept), error);
}

json_t *items_end(const struct items *items, struct error *error) {
    json_t *rest =
        items->depth == 0 ? bounded_json_load(items->rest.bytes, items->rest.length, error) : NULL;
    if (items->depth)
        error_set(error, ERROR_INVALID, "the list is cut short");
    return rest;
}
