/* The keys of a mapping. */
#include "config/map.h"

#include <stdio.h>
#include <string.h>
#include "config/words.h"

void config_path_join(const char *path, const char *key, char out[static KEY_PATH_SIZE]) {
    char shown[40]; /* a key in the file may hold any bytes */
    size_t length = 0;
    for (; key[length] && length < sizeof shown - 1; length++)
        shown[length] = key[length] >= ' ' && key[length] < 0x7F ? key[length] : '?';
    shown[length] = '\0';
    snprintf(out, KEY_PATH_SIZE, "%.100s%s%s", path, *path ? "." : "", shown);
}

static void add_unknown_key(struct config_reader *reader, const struct yaml_node *value,
                            const char *path, const char *const *known) {
    char joined[KEY_PATH_SIZE], quoted[QUOTE_SIZE];
    config_path_join(path, value->key, joined);
    const char *meant = config_nearest_word(value->key, known);
    if (meant) {
        config_problem_add(&reader->problems, value->key_place, joined,
                           "unknown key %s; did you mean %s?", config_quote(value->key, quoted),
                           meant);
        return;
    }
    cleanup_buffer struct buffer list = {0};
    for (size_t i = 0; known[i]; i++)
        buffer_printf(&list, "%s%s", i ? ", " : "", known[i]);
    config_problem_add(&reader->problems, value->key_place, joined,
                       "unknown key %s; possible keys: %s", config_quote(value->key, quoted),
                       list.bytes ? list.bytes : "");
}

bool config_is_first(struct config_reader *reader, const struct yaml_node *map,
                     const struct yaml_node *value, const char *path) {
    const struct yaml_node *earlier = yaml_node_get(map, value->key);
    if (earlier == value)
        return true;
    char joined[KEY_PATH_SIZE];
    config_path_join(path, value->key, joined);
    config_problem_add(&reader->problems, value->key_place, joined,
                       "appears twice; first on line %u", earlier->key_place.line);
    return false;
}

bool config_read_map(struct config_reader *reader, const struct yaml_node *node, const char *path,
                     const char *const *known) {
    if (node->kind != YAML_MAP) {
        config_problem_add(&reader->problems, node->place, path,
                           "expected a mapping (key: value), found %s", yaml_node_kind_words(node));
        return false;
    }
    for (const struct yaml_node *value = node->first; value; value = value->next) {
        if (!config_is_word(value->key, known))
            add_unknown_key(reader, value, path, known);
        config_is_first(reader, node, value, path);
    }
    return true;
}
