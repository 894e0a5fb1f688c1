/* A configuration of the CNCF registry while it is translated. */
#include "config/translation.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "config/go_duration.h"
#include "config/map.h"
#include "config/words.h"

/* ---- what is wrong ---- */

void translation_add_problem(struct translation *translation, const struct yaml_node *node,
                             const char *path, const char *why) {
    config_problem_add(&translation->reader->problems, node ? node->place : translation->start,
                       path, "%s", why);
}

void translation_warn_at(struct translation *translation, const struct yaml_place *place,
                         const char *shown, const char *why) {
    if (place->line)
        config_warn(translation->reader, "%.200s:%u: %s is ignored: %s", place->source, place->line,
                    shown, why);
    else
        config_warn(translation->reader, "%.100s: %s is ignored: %s", place->source, shown, why);
}

void translation_warn_ignored(struct translation *translation, const struct yaml_node *node,
                              const char *shown, const char *why) {
    translation_warn_at(translation, &node->key_place, shown, why);
}

bool translation_refuse_kind(struct translation *translation, const struct yaml_node *node,
                             enum yaml_node_kind kind, const char *path, const char *wanted) {
    if (node->kind == kind)
        return false;
    config_problem_add(&translation->reader->problems, node->place, path, "expected %s, found %s",
                       wanted, yaml_node_kind_words(node));
    return true;
}

/* ---- which keys are set ---- */

static void read_key(struct translation *translation, const struct yaml_node *node, size_t at) {
    const struct distribution_key *key = &distribution_keys[at];
    if (key->kind == DISTRIBUTION_IGNORED) {
        translation_warn_ignored(translation, node, key->name, key->why);
        return;
    }
    translation->found[at] = node; /* `auth: {htpasswd: }` chooses htpasswd, too */
    if (yaml_node_is_null(node)) {
        if (key->kind != DISTRIBUTION_SECTION)
            translation->found[at] = NULL;
        return;
    }
    switch (key->kind) {
    case DISTRIBUTION_CHOSEN:
    case DISTRIBUTION_SECTION:
        if (!translation_refuse_kind(translation, node, YAML_MAP, key->name,
                                     "a mapping (key: value)"))
            translation_read_section(translation, node, key->name);
        return;
    case DISTRIBUTION_TEXTS:
        for (const struct yaml_node *item = node->first; item; item = item->next) {
            if (translation_refuse_kind(translation, item, YAML_SCALAR, key->name,
                                        "a single value"))
                translation->found[at] = NULL;
        }
        return;
    case DISTRIBUTION_FIELDS:
        if (translation_refuse_kind(translation, node, YAML_MAP, key->name,
                                    "a mapping (key: value)"))
            translation->found[at] = NULL;
        return;
    case DISTRIBUTION_TEXT:
    case DISTRIBUTION_BOOLEAN:
    case DISTRIBUTION_TIME:
        if (translation_refuse_kind(translation, node, YAML_SCALAR, key->name, "a single value"))
            translation->found[at] = NULL;
        return;
    case DISTRIBUTION_REFUSED:
        translation_add_problem(translation, node, key->name, key->why);
        return;
    case DISTRIBUTION_IGNORED:
        return;
    }
}

/* `storage: filesystem`: the name of what was chosen, without any of its keys. */
static bool read_word(struct translation *translation, const struct yaml_node *node, size_t at) {
    char path[KEY_PATH_SIZE];
    if (distribution_keys[at].kind != DISTRIBUTION_CHOSEN || node->kind != YAML_SCALAR ||
        yaml_node_is_null(node))
        return false;
    config_path_join(distribution_keys[at].name, node->text, path);
    size_t chosen = distribution_key_find(path);
    if (chosen == distribution_key_count)
        translation_warn_ignored(translation, node, path, "tarn does not know it");
    else if (distribution_keys[chosen].kind == DISTRIBUTION_SECTION)
        translation->found[chosen] = node;
    else
        read_key(translation, node, chosen);
    return true;
}

void translation_read_section(struct translation *translation, const struct yaml_node *map,
                              const char *path) {
    for (const struct yaml_node *node = map->first; node; node = node->next) {
        char joined[KEY_PATH_SIZE], quoted[QUOTE_SIZE];
        config_path_join(path, node->key, joined);
        size_t at = distribution_key_find(joined);
        if (at == distribution_key_count)
            translation_warn_ignored(translation, node, config_quote(joined, quoted),
                                     "tarn does not know it");
        else if (config_is_first(translation->reader, map, node, path) &&
                 !read_word(translation, node, at))
            read_key(translation, node, at);
    }
}

/* ---- what was read ---- */

const struct yaml_node *translation_find(const struct translation *translation, const char *name) {
    return translation->found[distribution_key_find(name)];
}

/* yaml.v2 takes YAML 1.1's words. */
bool translation_read_boolean(struct translation *translation, const char *name, bool *out) {
    static const char *const yes[] = {"true", "y", "yes", "on", NULL};
    static const char *const no[] = {"false", "n", "no", "off", NULL};
    const struct yaml_node *node = translation_find(translation, name);
    char word[8] = "", quoted[QUOTE_SIZE];
    if (!node)
        return false;
    for (size_t i = 0; node->text[i] && i < sizeof word - 1; i++)
        word[i] = (char)tolower((unsigned char)node->text[i]);
    *out = config_is_word(word, yes);
    if (*out || config_is_word(word, no))
        return true;
    config_problem_add(&translation->reader->problems, node->place, name,
                       "%s is neither true nor false", config_quote(node->text, quoted));
    return false;
}

bool translation_read_time(struct translation *translation, const char *name, int64_t *ms) {
    const struct yaml_node *node = translation_find(translation, name);
    char quoted[QUOTE_SIZE];
    if (!node)
        return false;
    if (go_duration_parse(text_of(node->text), ms))
        return true;
    config_problem_add(&translation->reader->problems, node->place, name,
                       "%s is not a duration; write for example 90s, 24h, or 0",
                       config_quote(node->text, quoted));
    return false;
}

const char *translation_read_word(struct translation *translation, const char *name,
                                  const char *const *words) {
    const struct yaml_node *node = translation_find(translation, name);
    char quoted[QUOTE_SIZE];
    if (!node)
        return NULL;
    for (size_t i = 0; words[i]; i++) {
        if (text_is_nocase(text_of(node->text), words[i]))
            return words[i];
    }
    cleanup_buffer struct buffer list = {0};
    for (size_t i = 0; words[i]; i++)
        buffer_printf(&list, "%s%s", i ? ", " : "", words[i]);
    config_problem_add(&translation->reader->problems, node->place, name, "%s is not one of %s",
                       config_quote(node->text, quoted), list.bytes ? list.bytes : "");
    return NULL;
}

/* ---- writing tarn's tree ---- */

void translation_put(struct translation *translation, struct yaml_node *map, const char *key,
                     const struct yaml_node *from, const char *value) {
    const struct yaml_place place = from ? from->place : translation->start;
    struct text rest = text_of(key);
    for (;;) {
        char word[64];
        text_copy(text_cut(rest, '.', &rest), word, sizeof word);
        struct yaml_node *child = NULL;
        for (struct yaml_node *node = map->first; node && !child; node = node->next)
            child = strcmp(node->key, word) == 0 ? node : NULL;
        if (!child || !rest.at) {
            child =
                rest.at ? yaml_node_new_map(place) : yaml_node_new_scalar(place, text_of(value));
            if (!child || !yaml_node_put(map, word, child)) {
                translation->reader->no_memory = true;
                return;
            }
        }
        if (!rest.at)
            return;
        map = child;
    }
}

void translation_pass(struct translation *translation, const char *name) {
    const struct yaml_node *node = translation_find(translation, name);
    if (node)
        translation_put(translation, translation->own,
                        distribution_keys[distribution_key_find(name)].own, node, node->text);
}

void translation_put_time(struct translation *translation, const char *key,
                          const struct yaml_node *from, int64_t ms) {
    char text[40];
    snprintf(text, sizeof text, "%" PRId64 "%s", ms % 1000 ? ms : ms / 1000,
             ms % 1000 ? "ms" : "s");
    translation_put(translation, translation->own, key, from, ms ? text : "0");
}
