/* The REGISTRY_ variables: configuration/parser.go of distribution. */
#include "config/distribution_environment.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include "config/distribution_keys.h"
#include "config/map.h"
#include "config/words.h"

#define PREFIX "REGISTRY_"

enum { VARIABLE_LIMIT = 1000, NAME_SIZE = 200 };

/* Whether the part of a variable's name is the key in capital letters. */
static bool is_key(struct text part, const char *key) {
    size_t i = 0;
    for (; i < part.length && key[i]; i++) {
        if (part.at[i] != toupper((unsigned char)key[i]))
            return false;
    }
    return part.length > 0 && i == part.length && !key[i];
}

/* The key of the top level; NULL: there is none of that name. */
static const struct distribution_key *find_top_level(struct text part) {
    for (size_t i = 0; i < distribution_key_count; i++) {
        if (!strchr(distribution_keys[i].name, '.') && is_key(part, distribution_keys[i].name))
            return &distribution_keys[i];
    }
    return NULL;
}

static void ignore(struct config_reader *reader, const char *name, const char *why) {
    char quoted[QUOTE_SIZE];
    config_warn(reader, "%s in the environment is ignored: %s", config_quote(name, quoted), why);
}

/* A variable has no line. */
static void forget_lines(struct yaml_node *node, const char *name) {
    node->place = node->key_place = (struct yaml_place){name, 0, 0};
    for (struct yaml_node *child = node->first; child; child = child->next)
        forget_lines(child, name);
}

/* The tree of the value; NULL: a problem was added, or memory ran out. */
static struct yaml_node *read_payload(struct config_reader *reader, const char *name,
                                      const char *value) {
    struct yaml_node *node = NULL;
    if (!config_yaml_read(text_of(value), name, &reader->problems, &node))
        return NULL;
    if (!node)
        node = yaml_node_new_scalar((struct yaml_place){name, 0, 0}, text_of(""));
    if (node)
        forget_lines(node, name);
    else
        reader->no_memory = true;
    return node;
}

/* ---- where a value belongs ---- */

static struct yaml_node *child_of_map(const struct yaml_node *map, struct text part) {
    struct yaml_node *child = map->first;
    while (child && !is_key(part, child->key))
        child = child->next;
    return child;
}

static struct yaml_node *item_of_list(const struct yaml_node *list, struct text part) {
    uint64_t index;
    if (!text_to_u64(part, &index))
        return NULL;
    struct yaml_node *child = list->first;
    while (child && index-- > 0)
        child = child->next;
    return child;
}

/* Puts `child`, which it owns, below `parent`. False: there is no such place, or no memory. */
static bool put_child(struct config_reader *reader, struct yaml_node *parent, struct text part,
                      struct yaml_node *child) {
    char key[NAME_SIZE];
    uint64_t index;
    if (parent->kind == YAML_MAP) {
        struct yaml_node *old = child_of_map(parent, part);
        text_copy(old ? text_of(old->key) : part, key, sizeof key);
        for (char *c = key; !old && *c; c++)
            *c = (char)tolower((unsigned char)*c);
        if (yaml_node_put(parent, key, child))
            return true;
        reader->no_memory = true;
        return false;
    }
    struct yaml_node *old = item_of_list(parent, part);
    if (old) {
        yaml_node_replace(parent, old, child);
        return true;
    }
    if (text_to_u64(part, &index) && index == parent->count) {
        yaml_node_append(parent, child);
        return true;
    }
    yaml_node_free(child);
    return false;
}

/* What `part` of `parent` is. Nothing becomes a mapping, and so does, if it `may_be_word`, one word
 * (storage: filesystem). NULL: there is no such place, or no memory. */
static struct yaml_node *descend(struct config_reader *reader, struct yaml_node *parent,
                                 struct text part, bool may_be_word, const char *name) {
    struct yaml_node *child =
        parent->kind == YAML_MAP ? child_of_map(parent, part) : item_of_list(parent, part);
    if (child && child->kind != YAML_SCALAR)
        return child;
    bool is_word = child && !yaml_node_is_null(child);
    if (is_word && !may_be_word)
        return NULL;
    const struct yaml_place place = {name, 0, 0};
    struct yaml_node *map = yaml_node_new_map(place);
    struct yaml_node *chosen = map && is_word ? yaml_node_new_scalar(place, text_of("")) : NULL;
    if (!map || (is_word && (!chosen || !yaml_node_put(map, child->text, chosen)))) {
        yaml_node_free(map);
        reader->no_memory = true;
        return NULL;
    }
    return put_child(reader, parent, part, map) ? map : NULL;
}

/* ---- all variables ---- */

static void read_variable(struct config_reader *reader, struct yaml_node *root,
                          const char *variable) {
    char shown[NAME_SIZE];
    struct text value, rest, name = text_cut(text_of(variable), '=', &value);
    struct text part = text_cut(text_from(name, strlen(PREFIX)), '_', &rest);
    if (!text_copy(name, shown, sizeof shown)) {
        ignore(reader, PREFIX "…", "its name is too long");
        return;
    }
    const struct distribution_key *key = find_top_level(part);
    if (!key) {
        ignore(reader, shown, "the CNCF registry has no such setting");
        return;
    }
    const char *source = config_keep_text(reader, name);
    struct yaml_node *payload = source ? read_payload(reader, source, value.at) : NULL;
    if (!payload)
        return;
    struct yaml_node *parent = root;
    while (parent && rest.at) {
        bool may_be_word = parent == root && key->kind == DISTRIBUTION_CHOSEN;
        parent = descend(reader, parent, part, may_be_word, source);
        part = text_cut(rest, '_', &rest);
    }
    bool is_put = parent && put_child(reader, parent, part, payload);
    if (!parent)
        yaml_node_free(payload);
    if (!is_put && !reader->no_memory)
        ignore(reader, shown, "the CNCF registry has no such setting");
}

static int by_name(const void *left, const void *right) {
    const char *const *a = left, *const *b = right;
    struct text names[2] = {text_of(*a), text_of(*b)}, value;
    for (int i = 0; i < 2; i++)
        names[i] = text_cut(names[i], '=', &value);
    size_t shorter = names[0].length < names[1].length ? names[0].length : names[1].length;
    int order = memcmp(names[0].at, names[1].at, shorter);
    return order ? order
                 : (names[0].length > names[1].length) - (names[0].length < names[1].length);
}

void distribution_read_environment(struct config_reader *reader, struct yaml_node *root,
                                   char *const *environment) {
    const char *found[VARIABLE_LIMIT];
    size_t count = 0;
    for (; environment && *environment; environment++) {
        if (!text_starts(text_of(*environment), PREFIX) || !strchr(*environment, '='))
            continue;
        if (count == VARIABLE_LIMIT) {
            ignore(reader, PREFIX "…", "there are more than 1000 such variables");
            break;
        }
        found[count++] = *environment;
    }
    qsort(found, count, sizeof *found, by_name);
    for (size_t i = 0; i < count; i++)
        read_variable(reader, root, found[i]);
}
