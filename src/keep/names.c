/* The names of images on the nodes, each kept once. */
#include "keep/names.h"

#include <stdlib.h>

enum { SLOTS_AT_FIRST = 256 };

void keep_names_init(struct keep_names *names) {
    *names = (struct keep_names){0};
    siphash_key_fill(&names->key);
}

void keep_names_finish(struct keep_names *names) {
    for (size_t i = 0; i < names->capacity; i++)
        free(names->slots[i]);
    free(names->slots);
    *names = (struct keep_names){0};
}

uint64_t keep_names_key(const struct keep_names *names, struct text text) {
    uint64_t key = siphash_of(&names->key, text.at, text.length);
    return key ? key : 1;
}

/* The slot that holds the key, or the free one where it belongs. */
static size_t slot_of(struct keep_name *const *slots, size_t capacity, uint64_t key) {
    size_t slot = (size_t)key & (capacity - 1);
    while (slots[slot] && slots[slot]->key != key)
        slot = (slot + 1) & (capacity - 1);
    return slot;
}

static bool grow(struct keep_names *names) {
    size_t capacity = names->capacity ? names->capacity * 2 : SLOTS_AT_FIRST;
    struct keep_name **slots = calloc(capacity, sizeof(struct keep_name *));
    if (!slots)
        return false;
    for (size_t i = 0; i < names->capacity; i++) {
        if (names->slots[i])
            slots[slot_of(slots, capacity, names->slots[i]->key)] = names->slots[i];
    }
    free(names->slots);
    names->slots = slots;
    names->capacity = capacity;
    return true;
}

struct keep_name *keep_names_use(struct keep_names *names, struct text text) {
    if (names->count * 2 >= names->capacity && !grow(names))
        return NULL;
    uint64_t key = keep_names_key(names, text);
    size_t slot = slot_of(names->slots, names->capacity, key);
    struct keep_name *name = names->slots[slot];
    if (!name) {
        name = malloc(sizeof *name + text.length + 1);
        if (!name)
            return NULL;
        *name = (struct keep_name){.key = key, .length = (uint32_t)text.length};
        memcpy(name->text, text.at, text.length);
        name->text[text.length] = '\0';
        const char *at = memchr(text.at, '@', text.length);
        if (at)
            name->digest = keep_names_key(names, text_from(text, (size_t)(at - text.at) + 1));
        names->slots[slot] = name;
        names->count++;
    }
    name->uses++;
    return name;
}

void keep_names_drop(struct keep_names *names, struct keep_name *name) {
    if (--name->uses > 0)
        return;
    size_t slot = slot_of(names->slots, names->capacity, name->key);
    names->slots[slot] = NULL;
    names->count--;
    free(name);
    /* Whatever stood behind it may have to move into the gap, or it would not be found. */
    for (size_t next = (slot + 1) & (names->capacity - 1); names->slots[next];
         next = (next + 1) & (names->capacity - 1)) {
        struct keep_name *moved = names->slots[next];
        names->slots[next] = NULL;
        names->slots[slot_of(names->slots, names->capacity, moved->key)] = moved;
    }
}
