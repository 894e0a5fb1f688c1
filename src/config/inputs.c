/* The settings of the top level from the file, from the environment and from flags. */
#include "config/inputs.h"

#include <stdio.h>
#include <string.h>
#include "config/map.h"
#include "config/option_text.h"
#include "config/value.h"
#include "config/words.h"

#define FALLBACK "TARN_FALLBACK_"

/* ---- the file ---- */

/* Adds the first `length` bytes of `key` to `names`, unless `names` has them. */
static void add_name(struct config_reader *reader, const char **names, size_t *count,
                     const char *key, size_t length) {
    for (size_t i = 0; i < *count; i++) {
        if (strlen(names[i]) == length && memcmp(names[i], key, length) == 0)
            return;
    }
    const char *name = config_keep_text(reader, (struct text){key, length});
    if (name)
        names[(*count)++] = name;
}

/* The keys that are allowed in `section` ("log", "limits.per_client"; "": the top level). */
static void known_keys(struct config_reader *reader, const char *section,
                       const char *names[static OPTION_LIMIT + 4]) {
    size_t count = 0, length = strlen(section);
    const struct config_document *table = reader->loaded->table;
    for (size_t i = 0; i < table->count; i++) {
        const char *key = table->options[i].key;
        if (table->options[i].not_in_file)
            continue;
        if (length && (strncmp(key, section, length) != 0 || key[length] != '.'))
            continue;
        const char *name = length ? key + length + 1 : key;
        add_name(reader, names, &count, name, strcspn(name, "."));
    }
    if (!length) {
        add_name(reader, names, &count, "upstreams", strlen("upstreams"));
        if (table == &config_tarn_document)
            add_name(reader, names, &count, "warm", strlen("warm"));
    }
    if (table == &config_tarn_document && strcmp(section, "clients") == 0)
        add_name(reader, names, &count, "rules", strlen("rules"));
    if (table == &config_tarn_document && strcmp(section, "keep") == 0)
        add_name(reader, names, &count, "keeps", strlen("keeps"));
    names[count] = NULL;
}

/* The value of `key` ("log.level"); NULL: the file does not set it. */
static const struct yaml_node *find_key(const struct yaml_node *root, const char *key) {
    const struct yaml_node *node = root;
    for (struct text name, rest = text_of(key); node && rest.at;) {
        char word[CONFIG_NAME_SIZE];
        name = text_cut(rest, '.', &rest);
        text_copy(name, word, sizeof word);
        node = node->kind == YAML_MAP ? yaml_node_get(node, word) : NULL;
    }
    return node;
}

/* Checks the keys of a section and of those in it. False: it is no mapping. */
static bool check_section(struct config_reader *reader, const struct yaml_node *node,
                          const char *section) {
    const char *known[OPTION_LIMIT + 4], *below[OPTION_LIMIT + 4];
    known_keys(reader, section, known);
    if (!config_read_map(reader, node, section, known))
        return false;
    for (const struct yaml_node *child = node->first; child; child = child->next) {
        if (!config_is_word(child->key, known)) /* config_read_map() has refused it */
            continue;
        char path[KEY_PATH_SIZE];
        snprintf(path, sizeof path, "%s%s%s", section, *section ? "." : "", child->key);
        known_keys(reader, path, below);
        if (below[0]) /* `child` is a section */
            check_section(reader, child, path);
    }
    return true;
}

void config_read_file(struct config_reader *reader, const struct yaml_node *root) {
    if (!check_section(reader, root, ""))
        return;
    const struct config_document *table = reader->loaded->table;
    for (size_t i = 0; i < table->count; i++) {
        const struct config_option *option = &table->options[i];
        const struct yaml_node *node = option->not_in_file ? NULL : find_key(root, option->key);
        if (!node)
            continue;
        reader->loaded->set_at[i] = node->place;
        if (option->is_section_too && node->kind == YAML_MAP)
            continue; /* whoever knows the section reads it */
        config_read_value(reader, option, reader->loaded, node, option->key);
    }
}

/* ---- environment and flags ---- */

/* Reads the values of a flag or a variable. Commas separate the items of a list. */
static void read_given(struct config_reader *reader, size_t index, const char *source,
                       const char *const *values, size_t count) {
    const struct config_option *option = &reader->loaded->table->options[index];
    struct yaml_place place = {source, 0, 0};
    bool is_list = option->type == CONFIG_LIST;
    cleanup_yaml_node struct yaml_node *node =
        is_list ? yaml_node_new_list(place)
                : yaml_node_new_scalar(place, text_of(values[count - 1]));
    for (size_t i = 0; node && is_list && i < count; i++) {
        for (struct text rest = text_of(values[i]); rest.at;) {
            struct text part = text_trim(text_cut(rest, ',', &rest));
            struct yaml_node *item = yaml_node_new_scalar(place, part);
            if (!item)
                reader->no_memory = true;
            else
                yaml_node_append(node, item);
        }
    }
    if (!node) {
        reader->no_memory = true;
        return;
    }
    reader->loaded->set_at[index] = place;
    config_read_value(reader, option, reader->loaded, node, "");
}

const char *config_variable(char *const *environment, const char *name) {
    size_t length = strlen(name);
    for (; environment && *environment; environment++) {
        const char *entry = *environment;
        if (strncmp(entry, name, length) == 0 && entry[length] == '=' && entry[length + 1])
            return entry + length + 1;
    }
    return NULL;
}

static void read_variable(struct config_reader *reader, size_t index, const char *name,
                          char *const *environment) {
    const char *value = config_variable(environment, name);
    const char *source = value ? config_keep_text(reader, text_of(name)) : NULL;
    if (source)
        read_given(reader, index, source, &value, 1);
}

void config_read_environment(struct config_reader *reader, char *const *environment) {
    const struct config_document *table = reader->loaded->table;
    for (size_t i = 0; i < table->count; i++) {
        char name[CONFIG_NAME_SIZE];
        config_option_variable(&table->options[i], name);
        read_variable(reader, i, name, environment);
    }
}

void config_read_fallbacks(struct config_reader *reader, char *const *environment) {
    for (size_t i = 0; i < config_option_count; i++) {
        char name[CONFIG_NAME_SIZE], fallback[CONFIG_NAME_SIZE + sizeof FALLBACK];
        config_option_variable(&config_options[i], name);
        snprintf(fallback, sizeof fallback, FALLBACK "%s", name + strlen("TARN_"));
        if (!reader->loaded->set_at[i].source)
            read_variable(reader, i, fallback, environment);
    }
}

void config_read_flags(struct config_reader *reader, const struct config_flags *flags) {
    const char **values = flags ? config_keep(reader, (flags->count + 1) * sizeof *values) : NULL;
    const struct config_document *table = reader->loaded->table;
    for (size_t i = 0; i < table->count && values; i++) {
        size_t count = 0;
        for (size_t j = 0; j < flags->count; j++) {
            if (flags->given[j].option == &table->options[i])
                values[count++] = flags->given[j].value;
        }
        char name[CONFIG_NAME_SIZE];
        config_option_flag(&table->options[i], name);
        const char *source = count ? config_keep_text(reader, text_of(name)) : NULL;
        if (source)
            read_given(reader, i, source, values, count);
    }
}

/* Whether Kubernetes sets the variable for a Service named tarn, tarn-keep or tarn-node. */
static bool is_of_service(struct text name) {
    static const char *const services[] = {"TARN_", "TARN_KEEP_", "TARN_NODE_"};
    for (size_t i = 0; i < sizeof services / sizeof *services; i++) {
        struct text rest = text_starts(name, services[i]) ? text_from(name, strlen(services[i]))
                                                          : (struct text){0};
        if (text_starts(rest, "SERVICE_") || text_is(rest, "PORT") || text_starts(rest, "PORT_"))
            return true;
    }
    return false;
}

/* Whether the variable is another program's, or of another command of tarn: those of TARN_MIRROR_
 * are options of tarn mirror, and those of TARN_NODE_ are settings of tarn node. */
static bool is_of_others(const struct config_document *table, struct text name) {
    if (!text_starts(name, table->variable) || is_of_service(name))
        return true;
    return table == &config_tarn_document &&
           (text_starts(name, "TARN_MIRROR_") || text_starts(name, config_node_document.variable));
}

/* An unknown variable is only a warning, because other programs set variables too. */
void config_warn_of_variables(struct config_reader *reader, char *const *environment) {
    const struct config_document *table = reader->loaded->table;
    char spelled[OPTION_LIMIT][CONFIG_NAME_SIZE];
    const char *known[OPTION_LIMIT + 2] = {table->file};
    size_t known_count = 1;
    for (size_t i = 0; i < table->count; i++, known_count++) {
        config_option_variable(&table->options[i], spelled[i]);
        known[known_count] = spelled[i];
    }
    for (size_t i = 0; environment && environment[i]; i++) {
        struct text name = text_of(environment[i]);
        name = text_cut(name, '=', &(struct text){0});
        bool ours = is_of_others(table, name);
        char plain[CONFIG_NAME_SIZE];
        if (text_starts(name, FALLBACK)) {
            snprintf(plain, sizeof plain, "TARN_%.*s",
                     TEXT_PRINT(text_from(name, strlen(FALLBACK))));
            name = text_of(plain);
        }
        for (size_t j = 0; j < known_count && !ours; j++)
            ours = text_is(name, known[j]);
        if (ours)
            continue;
        char word[CONFIG_NAME_SIZE], quoted[QUOTE_SIZE];
        const char *meant =
            text_copy(name, word, sizeof word) ? config_nearest_word(word, known) : NULL;
        config_warn(reader, "%s in the environment is not a setting of tarn%s%s%s",
                    config_quote(*word ? word : "TARN_…", quoted), meant ? "; did you mean " : "",
                    meant ? meant : "", meant ? "?" : "");
    }
}
