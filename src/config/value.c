/* The value of one setting, by type. */
#include "config/value.h"

#include <stdio.h>
#include <string.h>
#include "base/units.h"
#include "config/option_text.h"
#include "config/words.h"

static bool refuse(struct config_reader *reader, const struct yaml_node *node, const char *path,
                   const char *value, const char *rest) {
    char quoted[QUOTE_SIZE];
    config_problem_add(&reader->problems, node->place, path, "%s %s", config_quote(value, quoted),
                       rest);
    return false;
}

/* The text of a scalar; NULL: a problem was added. */
static const char *scalar(struct config_reader *reader, const struct yaml_node *node,
                          const char *path, const char *wanted) {
    if (node->kind != YAML_SCALAR) {
        config_problem_add(&reader->problems, node->place, path, "expected %s, found %s", wanted,
                           yaml_node_kind_words(node));
        return NULL;
    }
    if (!*node->text) {
        config_problem_add(&reader->problems, node->place, path, "has no value; expected %s",
                           wanted);
        return NULL;
    }
    return node->text;
}

/* A checked copy of one string; NULL: a problem was added, or memory ran out. */
static const char *read_string(struct config_reader *reader, const struct config_option *option,
                               const struct yaml_node *node, const char *path) {
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
                      const char *const **field, const struct yaml_node *node, const char *path) {
    if (node->kind == YAML_MAP) {
        config_problem_add(&reader->problems, node->place, path,
                           "expected a list, found a mapping");
        return false;
    }
    size_t count = node->kind == YAML_LIST ? node->count : 1;
    if (count < option->least) {
        config_problem_add(&reader->problems, node->place, path,
                           "the list is empty; remove the key to get the default");
        return false;
    }
    const char **items = config_keep(reader, (count + 1) * sizeof *items);
    if (!items)
        return false;
    size_t read = 0;
    if (node->kind == YAML_SCALAR) {
        read += (items[0] = read_string(reader, option, node, path)) != NULL;
    } else {
        size_t index = 0;
        for (const struct yaml_node *item = node->first; item; item = item->next, index++) {
            char item_path[KEY_PATH_SIZE];
            snprintf(item_path, sizeof item_path, "%.120s[%zu]", path, index);
            read += (items[read] = read_string(reader, option, item, item_path)) != NULL;
        }
    }
    *field = count ? items : NULL;
    return read == count;
}

static bool read_number(struct config_reader *reader, const struct config_option *option,
                        const struct yaml_node *node, const char *path, uint64_t *out) {
    static const char *const wanted[] = {
        [CONFIG_SIZE] = "a size",
        [CONFIG_DURATION] = "a duration",
        [CONFIG_COUNT] = "a whole number",
        [CONFIG_PERCENT] = "a percentage",
    };
    const char *value = scalar(reader, node, path, wanted[option->type]);
    if (!value)
        return false;
    if (option->type == CONFIG_SIZE) {
        if (!units_parse_size(text_of(value), out))
            return refuse(reader, node, path, value,
                          "is not a size; write for example 10GiB, 500MB, or bytes");
    } else if (option->type == CONFIG_DURATION) {
        int64_t ms;
        if (!units_parse_duration(text_of(value), &ms))
            return refuse(reader, node, path, value,
                          "is not a duration; write for example 30s, 5m, 168h");
        *out = (uint64_t)ms;
    } else if (option->type == CONFIG_PERCENT) {
        struct text rest, number = text_cut(text_of(value), '%', &rest);
        if (!rest.at || rest.length || !text_to_u64(number, out))
            return refuse(reader, node, path, value, "is not a percentage; write for example 50%");
    } else if (!text_to_u64(text_of(value), out)) {
        return refuse(reader, node, path, value, "is not a whole number; write for example 4");
    }
    bool small = *out < option->least, large = option->most && *out > option->most;
    if (!small && !large)
        return true;
    char bound[CONFIG_VALUE_SIZE], rest[200];
    config_option_format(option, small ? option->least : option->most, bound);
    snprintf(rest, sizeof rest, "is too %s; the %s is %s", small ? "small" : "large",
             small ? "minimum" : "maximum", bound);
    return refuse(reader, node, path, value, rest);
}

static bool read_boolean(struct config_reader *reader, const struct yaml_node *node,
                         const char *path, bool *out) {
    static const char *const yes[] = {"true", "yes", "on", "1", NULL};
    static const char *const no[] = {"false", "no", "off", "0", NULL};
    const char *value = scalar(reader, node, path, "true or false");
    if (!value)
        return false;
    *out = config_is_word(value, yes);
    return *out || config_is_word(value, no) ||
           refuse(reader, node, path, value, "is neither true nor false");
}

static bool read_choice(struct config_reader *reader, const struct config_option *option,
                        const struct yaml_node *node, const char *path, int *out) {
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
    return refuse(reader, node, path, value, rest);
}

bool config_read_value(struct config_reader *reader, const struct config_option *option, void *base,
                       const struct yaml_node *node, const char *path) {
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
    case CONFIG_PERCENT:
        break;
    }
    uint64_t number;
    if (!read_number(reader, option, node, path, &number))
        return false;
    if (option->size == sizeof(uint64_t))
        memcpy(field, &number, sizeof number);
    else /* an unsigned, which `most` keeps in range */
        *(unsigned *)field = (unsigned)number;
    return true;
}
