#include "config/reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/units.h"

struct kept {
    struct kept *next;
    max_align_t bytes[];
};

void *config_keep(struct config_reader *reader, size_t size) {
    struct kept *kept = calloc(1, sizeof *kept + size);
    if (!kept) {
        reader->no_memory = true;
        return NULL;
    }
    kept->next = reader->loaded->memory;
    reader->loaded->memory = kept;
    return kept->bytes;
}

const char *config_keep_text(struct config_reader *reader, struct text text) {
    char *copy = config_keep(reader, text.length + 1);
    if (copy && text.length)
        memcpy(copy, text.at, text.length);
    return copy;
}

void config_free(struct config *config) {
    if (!config)
        return;
    struct config_loaded *loaded = (struct config_loaded *)config;
    for (struct shared_source *shared = loaded->sources; shared; shared = shared->next)
        credential_source_free(shared->source);
    for (struct kept *kept = loaded->memory, *next; kept; kept = next) {
        next = kept->next;
        free(kept);
    }
    free(loaded);
}

/* ---- mappings ---- */

static void join(const char *path, const char *key, char out[static PATH_SIZE]) {
    char shown[40]; /* keys in the file may be anything */
    size_t length = 0;
    for (; key[length] && length < sizeof shown - 1; length++)
        shown[length] = key[length] >= ' ' && key[length] < 0x7F ? key[length] : '?';
    shown[length] = '\0';
    snprintf(out, PATH_SIZE, "%.100s%s%s", path, *path ? "." : "", shown);
}

static void tell_unknown_key(struct config_reader *reader, const struct config_node *value,
                             const char *path, const char *const *known) {
    char joined[PATH_SIZE], quoted[QUOTE_SIZE];
    join(path, value->key, joined);
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
                       "unknown key %s; known here: %s", config_quote(value->key, quoted),
                       list.bytes ? list.bytes : "");
}

static bool is_known(const char *key, const char *const *known) {
    for (; *known; known++) {
        if (strcmp(key, *known) == 0)
            return true;
    }
    return false;
}

static const char *kind_words(const struct config_node *node) {
    if (node->kind == NODE_SCALAR)
        return *node->text ? "a single value" : "nothing";
    return node->kind == NODE_LIST ? "a list" : "a mapping";
}

bool config_read_map(struct config_reader *reader, const struct config_node *node, const char *path,
                     const char *const *known) {
    if (node->kind != NODE_MAP) {
        config_problem_add(&reader->problems, node->place, path,
                           "expected a mapping (key: value), found %s", kind_words(node));
        return false;
    }
    for (const struct config_node *value = node->first; value; value = value->next) {
        if (!is_known(value->key, known))
            tell_unknown_key(reader, value, path, known);
        const struct config_node *earlier = config_map_get(node, value->key);
        if (earlier != value) {
            char joined[PATH_SIZE];
            join(path, value->key, joined);
            config_problem_add(&reader->problems, value->key_place, joined,
                               "said twice; first in line %u", earlier->key_place.line);
        }
    }
    return true;
}

const struct config_node *config_map_get(const struct config_node *map, const char *key) {
    for (const struct config_node *value = map->first; value; value = value->next) {
        if (strcmp(value->key, key) == 0)
            return value;
    }
    return NULL;
}

/* ---- values ---- */

static bool tell(struct config_reader *reader, const struct config_node *node, const char *path,
                 const char *value, const char *rest) {
    char quoted[QUOTE_SIZE];
    config_problem_add(&reader->problems, node->place, path, "%s %s", config_quote(value, quoted),
                       rest);
    return false;
}

/* The scalar's text, or NULL after telling that it is none. */
static const char *scalar(struct config_reader *reader, const struct config_node *node,
                          const char *path, const char *wanted) {
    if (node->kind != NODE_SCALAR) {
        config_problem_add(&reader->problems, node->place, path, "expected %s, found %s", wanted,
                           kind_words(node));
        return NULL;
    }
    if (!*node->text) {
        config_problem_add(&reader->problems, node->place, path, "has no value; expected %s",
                           wanted);
        return NULL;
    }
    return node->text;
}

/* A checked copy of one string; NULL after telling why not. */
static const char *read_string(struct config_reader *reader, const struct config_option *option,
                               const struct config_node *node, const char *path) {
    const char *value = scalar(reader, node, path, "a string");
    if (!value)
        return NULL;
    char why[400];
    if (option->check && !option->check(value, why, sizeof why)) {
        config_problem_add(&reader->problems, node->place, path, "%s", why);
        return NULL;
    }
    return config_keep_text(reader, text_of(value));
}

static bool read_list(struct config_reader *reader, const struct config_option *option,
                      const char *const **field, const struct config_node *node, const char *path) {
    if (node->kind == NODE_MAP) {
        config_problem_add(&reader->problems, node->place, path,
                           "expected a list, found a mapping");
        return false;
    }
    size_t count = node->kind == NODE_LIST ? node->count : 1;
    if (count < option->least) {
        config_problem_add(&reader->problems, node->place, path,
                           "the list is empty; leave the key out for the default");
        return false;
    }
    const char **items = config_keep(reader, (count + 1) * sizeof *items);
    if (!items)
        return false;
    size_t read = 0;
    if (node->kind == NODE_SCALAR) {
        read += (items[0] = read_string(reader, option, node, path)) != NULL;
    } else {
        size_t index = 0;
        for (const struct config_node *item = node->first; item; item = item->next, index++) {
            char item_path[PATH_SIZE];
            snprintf(item_path, sizeof item_path, "%.120s[%zu]", path, index);
            read += (items[read] = read_string(reader, option, item, item_path)) != NULL;
        }
    }
    *field = count ? items : NULL;
    return read == count;
}

static bool read_number(struct config_reader *reader, const struct config_option *option,
                        const struct config_node *node, const char *path, uint64_t *out) {
    static const char *const wanted[] = {
        [CONFIG_SIZE] = "a size",
        [CONFIG_DURATION] = "a duration",
        [CONFIG_COUNT] = "a whole number",
    };
    const char *value = scalar(reader, node, path, wanted[option->type]);
    if (!value)
        return false;
    if (option->type == CONFIG_SIZE) {
        if (!units_parse_size(text_of(value), out))
            return tell(reader, node, path, value,
                        "is no size; write for example 10GiB, 500MB, or bytes");
    } else if (option->type == CONFIG_DURATION) {
        int64_t ms;
        if (!units_parse_duration(text_of(value), &ms))
            return tell(reader, node, path, value,
                        "is no duration; write for example 30s, 5m, 168h");
        *out = (uint64_t)ms;
    } else if (!text_to_u64(text_of(value), out)) {
        return tell(reader, node, path, value, "is no whole number; write for example 4");
    }
    bool small = *out < option->least, large = option->most && *out > option->most;
    if (!small && !large)
        return true;
    char bound[40], rest[100];
    uint64_t limit = small ? option->least : option->most;
    if (option->type == CONFIG_DURATION)
        units_format_duration((int64_t)limit, bound, sizeof bound);
    else if (option->type == CONFIG_SIZE)
        units_format_size(limit, bound, sizeof bound);
    else
        snprintf(bound, sizeof bound, "%llu", (unsigned long long)limit);
    snprintf(rest, sizeof rest, "is too %s; the %s is %s", small ? "small" : "large",
             small ? "least" : "most", bound);
    return tell(reader, node, path, value, rest);
}

static bool read_boolean(struct config_reader *reader, const struct config_node *node,
                         const char *path, bool *out) {
    static const char *const yes[] = {"true", "yes", "on", "1", NULL};
    static const char *const no[] = {"false", "no", "off", "0", NULL};
    const char *value = scalar(reader, node, path, "true or false");
    if (!value)
        return false;
    *out = is_known(value, yes);
    return *out || is_known(value, no) ||
           tell(reader, node, path, value, "is neither true nor false");
}

static bool read_choice(struct config_reader *reader, const struct config_option *option,
                        const struct config_node *node, const char *path, int *out) {
    char list[100] = "";
    size_t used = 0;
    for (size_t i = 0; option->choices[i]; i++)
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "",
                                 option->choices[i]);
    const char *value = scalar(reader, node, path, list);
    if (!value)
        return false;
    for (int i = 0; option->choices[i]; i++) {
        if (strcmp(value, option->choices[i]) == 0) {
            *out = i;
            return true;
        }
    }
    char rest[140];
    snprintf(rest, sizeof rest, "is not one of %s", list);
    return tell(reader, node, path, value, rest);
}

bool config_read_value(struct config_reader *reader, const struct config_option *option, void *base,
                       const struct config_node *node, const char *path) {
    void *field = (char *)base + option->offset;
    switch (option->type) {
    case CONFIG_STRING: {
        const char *value = read_string(reader, option, node, path);
        if (value)
            *(const char **)field = value;
        return value != NULL;
    }
    case CONFIG_LIST:
        return read_list(reader, option, field, node, path);
    case CONFIG_BOOLEAN:
        return read_boolean(reader, node, path, field);
    case CONFIG_CHOICE:
        return read_choice(reader, option, node, path, field);
    case CONFIG_SIZE:
    case CONFIG_DURATION:
    case CONFIG_COUNT:
        break;
    }
    uint64_t number;
    if (!read_number(reader, option, node, path, &number))
        return false;
    if (option->size == sizeof(uint64_t))
        memcpy(field, &number, sizeof number);
    else /* an unsigned: `most` keeps it in range */
        *(unsigned *)field = (unsigned)number;
    return true;
}

void config_read_default(struct config_reader *reader, const struct config_option *option,
                         void *base) {
    if (!option->standard)
        return;
    cleanup_config_node struct config_node *node =
        config_node_new_scalar((struct config_place){"default", 0, 0}, text_of(option->standard));
    if (!node)
        reader->no_memory = true;
    else
        config_read_value(reader, option, base, node, option->key);
}
