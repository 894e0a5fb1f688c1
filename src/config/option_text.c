/* How a setting is written: its names, its placeholder, its default and its limits. */
#include "config/option_text.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "config/defaults.h"

/* ---- names ---- */

/* Writes `prefix`, then `key` with another separator between its words. */
static void spell(const char *prefix, const char *key, char separator, int (*letter)(int),
                  char out[static CONFIG_NAME_SIZE]) {
    size_t used = strlen(prefix);
    memcpy(out, prefix, used);
    for (; *key && used < CONFIG_NAME_SIZE - 1; key++)
        out[used++] = *key == '.' || *key == '_' ? separator : (char)letter((unsigned char)*key);
    out[used] = '\0';
}

void config_option_flag(const struct config_option *option, char out[static CONFIG_NAME_SIZE]) {
    const char *key = option->key;
    if (option->group == CONFIG_KEEP)
        key += strlen("keep.");
    spell("--", key, '-', tolower, out);
}

void config_option_variable(const struct config_option *option, char out[static CONFIG_NAME_SIZE]) {
    const bool is_of_node = option->group == CONFIG_NODE;
    spell(is_of_node ? config_node_document.variable : config_tarn_document.variable, option->key,
          '_', toupper, out);
}

const char *config_option_placeholder(const struct config_option *option) {
    static const char *const by_type[] = {
        [CONFIG_SIZE] = "SIZE",    [CONFIG_DURATION] = "TIME", [CONFIG_COUNT] = "NUMBER",
        [CONFIG_BOOLEAN] = "BOOL", [CONFIG_CHOICE] = "WORD",   [CONFIG_PERCENT] = "PERCENT",
    };
    return option->placeholder ? option->placeholder : by_type[option->type];
}

/* ---- values ---- */

struct unit {
    const char *name;
    uint64_t size;
};

/* `number` in the largest unit that divides it. `units`: from the largest to the one of size 1. */
static void format_in_units(uint64_t number, const struct unit *units,
                            char out[static CONFIG_VALUE_SIZE]) {
    while (number % units->size != 0 || (number == 0 && units->size > 1))
        units++;
    snprintf(out, CONFIG_VALUE_SIZE, "%" PRIu64 "%s", number / units->size, units->name);
}

void config_option_format(const struct config_option *option, uint64_t number,
                          char out[static CONFIG_VALUE_SIZE]) {
    static const struct unit durations[] = {
        {"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};
    static const struct unit sizes[] = {
        {"TiB", 1ull << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"", 1}};
    static const struct unit plain[] = {{"", 1}}, percent[] = {{"%", 1}};
    if (option->type == CONFIG_PERCENT)
        format_in_units(number, percent, out);
    else if (number == 0 || option->type == CONFIG_COUNT)
        format_in_units(number, plain, out);
    else if (option->type == CONFIG_SIZE)
        format_in_units(number, sizes, out);
    else if (number % 1000 && number > 86400000) /* in whole days, rounded down */
        format_in_units(number / 86400000 * 86400000, durations, out);
    else
        format_in_units(number, durations, out);
}

static void join(const char *const *items, char out[static CONFIG_VALUE_SIZE]) {
    size_t used = 0;
    *out = '\0';
    for (size_t i = 0; items && items[i] && used < CONFIG_VALUE_SIZE; i++)
        used +=
            (size_t)snprintf(out + used, CONFIG_VALUE_SIZE - used, "%s%s", i ? ", " : "", items[i]);
}

void config_option_show(const struct config_option *option, const void *base,
                        char out[static CONFIG_VALUE_SIZE]) {
    const void *field = (const char *)base + option->offset;
    switch (option->type) {
    case CONFIG_STRING: {
        const char *value = *(const char *const *)field;
        snprintf(out, CONFIG_VALUE_SIZE, "%s", value ? value : "");
        return;
    }
    case CONFIG_LIST:
        join(*(const char *const *const *)field, out);
        return;
    case CONFIG_BOOLEAN:
        snprintf(out, CONFIG_VALUE_SIZE, "%s", *(const bool *)field ? "true" : "false");
        return;
    case CONFIG_CHOICE:
        snprintf(out, CONFIG_VALUE_SIZE, "%s", option->choices[*(const int *)field]);
        return;
    case CONFIG_SIZE:
    case CONFIG_DURATION:
    case CONFIG_COUNT:
    case CONFIG_PERCENT:
        break;
    }
    uint64_t number =
        option->size == sizeof number ? *(const uint64_t *)field : *(const unsigned *)field;
    config_option_format(option, number, out);
}

void config_option_default(const struct config_option *option, char out[static CONFIG_VALUE_SIZE]) {
    struct config_loaded loaded = {0};
    config_set_defaults(&loaded);
    if (option->default_words)
        snprintf(out, CONFIG_VALUE_SIZE, "%s", option->default_words);
    else if (option->group == CONFIG_UPSTREAM)
        config_option_show(option, &loaded.defaults, out);
    else
        config_option_show(option, &loaded, out);
}

void config_option_limits(const struct config_option *option, char out[static CONFIG_VALUE_SIZE]) {
    char least[CONFIG_VALUE_SIZE], most[CONFIG_VALUE_SIZE];
    config_option_format(option, option->least, least);
    config_option_format(option, option->most, most);
    *out = '\0';
    if (option->type == CONFIG_LIST)
        return;
    if (option->least && option->most)
        snprintf(out, CONFIG_VALUE_SIZE, "%.50s to %.50s", least, most);
    else if (option->most)
        snprintf(out, CONFIG_VALUE_SIZE, "at most %.50s", most);
    else if (option->least)
        snprintf(out, CONFIG_VALUE_SIZE, "at least %.50s", least);
}
