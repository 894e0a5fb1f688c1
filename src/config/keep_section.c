/* The section `keep`, but for the lists of images (keep_images.c). */
#include "config/keep_section.h"

#include <stdio.h>
#include <string.h>
#include "config/checks.h"
#include "config/map.h"
#include "config/value.h"
#include "config/words.h"

bool config_read_table(struct config_reader *reader, const struct config_table *table, void *base,
                       const struct yaml_node *node, const char *path) {
    if (!config_read_map(reader, node, path, table->known))
        return false;
    for (size_t i = 0; i < table->count; i++) {
        const struct yaml_node *value = yaml_node_get(node, table->options[i].key);
        char key_path[KEY_PATH_SIZE];
        config_path_join(path, table->options[i].key, key_path);
        if (value)
            config_read_value(reader, &table->options[i], base, value, key_path);
    }
    return true;
}

static bool refuse(const char *value, const char *what, char *why, size_t size) {
    char quoted[QUOTE_SIZE];
    snprintf(why, size, "%s %s", config_quote(value, quoted), what);
    return false;
}

bool config_check_keep_name(const char *value, char *why, size_t size) {
    return keep_name_is_valid(value) ||
           refuse(value,
                  "is not the name of a keep; write at most 63 letters, digits, \"-\", \"_\" or "
                  "\".\", with a letter or digit at both ends",
                  why, size);
}

bool config_check_keep_prefix(const char *value, char *why, size_t size) {
    return keep_name_is_valid(value) ||
           refuse(value, "is not one part of a path; write for example cachemachine", why, size);
}

bool config_check_operators(const char *value, char *why, size_t size) {
    char fault[300];
    if (strcmp(value, "anyone") == 0 || config_check_file(value, fault, sizeof fault))
        return true;
    snprintf(why, size, "%s; write an htpasswd file, or anyone", fault);
    return false;
}

/* ---- pairs and tolerations ---- */

/* Reads a mapping of strings. */
static void read_pairs(struct config_reader *reader, const struct yaml_node *node, const char *path,
                       struct keep_pair **pairs, size_t *count) {
    if (node->kind != YAML_MAP) {
        config_problem_add(&reader->problems, node->place, path,
                           "expected a mapping; write for example {pool: user}");
        return;
    }
    *pairs = config_keep(reader, (node->count + 1) * sizeof **pairs);
    for (const struct yaml_node *item = node->first; *pairs && item; item = item->next) {
        char key_path[KEY_PATH_SIZE];
        config_path_join(path, item->key, key_path);
        if (item->kind != YAML_SCALAR) {
            config_problem_add(&reader->problems, item->place, key_path,
                               "expected a string, found %s", yaml_node_kind_words(item));
            continue;
        }
        if (!config_is_first(reader, node, item, path))
            continue;
        (*pairs)[*count].key = config_keep_text(reader, text_of(item->key));
        (*pairs)[*count].value = config_keep_text(reader, text_of(item->text));
        (*count)++;
    }
}

static bool check_operator(const char *value, char *why, size_t size) {
    return strcmp(value, "Equal") == 0 || strcmp(value, "Exists") == 0 ||
           refuse(value, "is neither Equal nor Exists", why, size);
}

static bool check_effect(const char *value, char *why, size_t size) {
    static const char *const effects[] = {"NoSchedule", "PreferNoSchedule", "NoExecute", NULL};
    return config_is_word(value, effects) ||
           refuse(value, "is not one of NoSchedule, PreferNoSchedule, NoExecute", why, size);
}

static void read_toleration(struct config_reader *reader, const struct yaml_node *node,
                            const char *path, struct keep_toleration *out) {
    static const struct config_option options[] = {
        {.key = "key", .type = CONFIG_STRING, .offset = offsetof(struct keep_toleration, key)},
        {.key = "operator",
         .type = CONFIG_STRING,
         .offset = offsetof(struct keep_toleration, op),
         .check = check_operator},
        {.key = "value", .type = CONFIG_STRING, .offset = offsetof(struct keep_toleration, value)},
        {.key = "effect",
         .type = CONFIG_STRING,
         .offset = offsetof(struct keep_toleration, effect),
         .check = check_effect},
        {.key = "tolerationSeconds",
         .type = CONFIG_COUNT,
         .offset = offsetof(struct keep_toleration, seconds),
         .size = sizeof(int64_t),
         .most = INT32_MAX},
    };
    static const char *const known[] = {"key",    "operator",          "value",
                                        "effect", "tolerationSeconds", NULL};
    const struct config_table table = {options, sizeof options / sizeof *options, known};
    if (!config_read_table(reader, &table, out, node, path))
        return;
    out->has_seconds = yaml_node_get(node, "tolerationSeconds") != NULL;
    if (!out->key && !(out->op && strcmp(out->op, "Exists") == 0))
        config_problem_add(&reader->problems, node->place, path,
                           "key is missing; without a key, write operator: Exists");
    if (out->has_seconds && !(out->effect && strcmp(out->effect, "NoExecute") == 0))
        config_problem_add(&reader->problems, node->place, path,
                           "tolerationSeconds needs effect: NoExecute");
}

static void read_nodes(struct config_reader *reader, const struct yaml_node *node, const char *path,
                       struct keep_nodes *out) {
    static const char *const known[] = {"labels", "tolerations", NULL};
    char key_path[KEY_PATH_SIZE], item_path[KEY_PATH_SIZE];
    if (!config_read_map(reader, node, path, known))
        return;
    const struct yaml_node *labels = yaml_node_get(node, "labels");
    config_path_join(path, "labels", key_path);
    if (labels)
        read_pairs(reader, labels, key_path, &out->labels, &out->label_count);
    const struct yaml_node *list = yaml_node_get(node, "tolerations");
    config_path_join(path, "tolerations", key_path);
    if (!list)
        return;
    if (list->kind != YAML_LIST) {
        config_problem_add(&reader->problems, list->place, key_path,
                           "expected a list; write for example [{key: only, operator: Equal, "
                           "value: labs, effect: NoSchedule}]");
        return;
    }
    out->tolerations = config_keep(reader, (list->count + 1) * sizeof *out->tolerations);
    for (const struct yaml_node *item = list->first; out->tolerations && item; item = item->next) {
        snprintf(item_path, sizeof item_path, "%.120s[%zu]", key_path, out->toleration_count);
        read_toleration(reader, item, item_path, &out->tolerations[out->toleration_count++]);
    }
}

/* ---- pull ---- */

static void read_pull(struct config_reader *reader, const struct yaml_node *node, const char *path,
                      struct keep_pull *out) {
    static const char *const ways[] = {
        [KEEP_PULL_BY_TAG] = "tag", [KEEP_PULL_BY_DIGEST] = "digest", NULL};
#define PULL(name) .offset = offsetof(struct keep_pull, name), .size = sizeof(uint64_t)
    static const struct config_option options[] = {
        {.key = "by", .type = CONFIG_CHOICE, PULL(by), .choices = ways},
        {.key = "timeout",
         .type = CONFIG_DURATION,
         PULL(timeout_ms),
         .least = 1000,
         .most = 86400000},
        {.key = "nodes_at_once",
         .type = CONFIG_COUNT,
         PULL(nodes_at_once),
         .least = 1,
         .most = 10000},
        {.key = "node_limit", .type = CONFIG_COUNT, PULL(node_limit), .least = 1, .most = 100},
        {.key = "disk", .type = CONFIG_PERCENT, PULL(disk_percent), .least = 1, .most = 100},
    };
#undef PULL
    static const struct {
        const char *key;
        size_t offset;
    } strings[] = {{"secret", offsetof(struct keep_pull, secret)},
                   {"service_account", offsetof(struct keep_pull, service_account)},
                   {"priority_class", offsetof(struct keep_pull, priority_class)}};
    static const char *const known[] = {
        "by",     "timeout",         "nodes_at_once",  "node_limit", "disk",
        "secret", "service_account", "priority_class", "pod_labels", "pod_annotations",
        NULL};
    const struct config_table table = {options, sizeof options / sizeof *options, known};
    char key_path[KEY_PATH_SIZE];
    if (!config_read_table(reader, &table, out, node, path))
        return;
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++) {
        const struct yaml_node *value = yaml_node_get(node, strings[i].key);
        config_path_join(path, strings[i].key, key_path);
        if (value && value->kind != YAML_SCALAR)
            config_problem_add(&reader->problems, value->place, key_path,
                               "expected a string, found %s", yaml_node_kind_words(value));
        else if (value && *value->text) /* "" is as if the key were not there */
            *(const char **)((char *)out + strings[i].offset) =
                config_keep_text(reader, text_of(value->text));
    }
    const struct yaml_node *labels = yaml_node_get(node, "pod_labels");
    const struct yaml_node *annotations = yaml_node_get(node, "pod_annotations");
    config_path_join(path, "pod_labels", key_path);
    if (labels)
        read_pairs(reader, labels, key_path, &out->pod_labels, &out->pod_label_count);
    config_path_join(path, "pod_annotations", key_path);
    if (annotations)
        read_pairs(reader, annotations, key_path, &out->pod_annotations,
                   &out->pod_annotation_count);
}

/* ---- keeps ---- */

static void read_images(struct config_reader *reader, const struct yaml_node *node,
                        const char *path, struct keep_spec *out) {
    char item_path[KEY_PATH_SIZE];
    if (node->kind != YAML_LIST || !node->first) {
        config_problem_add(&reader->problems, node->place, path,
                           "expected a list; write for example - image: "
                           "docker.io/library/python:3.12");
        return;
    }
    out->entries = config_keep(reader, (node->count + 1) * sizeof *out->entries);
    for (const struct yaml_node *item = node->first; out->entries && item; item = item->next) {
        snprintf(item_path, sizeof item_path, "%.120s[%zu]", path, out->entry_count);
        config_read_keep_image(reader, item, item_path, &out->entries[out->entry_count++]);
    }
}

static void read_one(struct config_reader *reader, const struct yaml_node *node, const char *path,
                     struct keep_spec *out) {
    static const struct config_option options[] = {{.key = "name",
                                                    .type = CONFIG_STRING,
                                                    .offset = offsetof(struct keep_spec, name),
                                                    .check = config_check_keep_name}};
    static const char *const known[] = {"name", "nodes", "images", "pull", NULL};
    const struct config_table table = {options, 1, known};
    char key_path[KEY_PATH_SIZE];
    out->pull = keep_pull_default();
    if (!config_read_table(reader, &table, out, node, path))
        return;
    if (!yaml_node_get(node, "name"))
        config_problem_add(&reader->problems, node->place, path,
                           "name is missing; write for example name: jupyter");
    if (!yaml_node_get(node, "images"))
        config_problem_add(&reader->problems, node->place, path,
                           "images is missing; write for example images: [{image: "
                           "docker.io/library/python:3.12}]");
    for (const struct yaml_node *item = node->first; item; item = item->next) {
        config_path_join(path, item->key, key_path);
        if (strcmp(item->key, "nodes") == 0 && config_is_first(reader, node, item, key_path))
            read_nodes(reader, item, key_path, &out->nodes);
        else if (strcmp(item->key, "images") == 0)
            read_images(reader, item, key_path, out);
        else if (strcmp(item->key, "pull") == 0)
            read_pull(reader, item, key_path, &out->pull);
    }
}

static void check_repeated(struct config_reader *reader, const struct yaml_node *node,
                           const struct keep_settings *keep, const char *path) {
    const char *name = keep->keeps[keep->keep_count - 1].name;
    for (size_t i = 0; name && i + 1 < keep->keep_count; i++) {
        if (keep->keeps[i].name && strcmp(keep->keeps[i].name, name) == 0)
            config_problem_add(&reader->problems, node->place, path,
                               "the name \"%s\" appears twice; first as keep.keeps[%zu]", name, i);
    }
}

static void read_keeps(struct config_reader *reader, const struct yaml_node *node) {
    struct keep_settings *keep = &reader->loaded->config.keep;
    if (node->kind != YAML_LIST) {
        config_problem_add(&reader->problems, node->place, "keep.keeps",
                           "expected a list; write for example - {name: jupyter, images: [{image: "
                           "docker.io/library/python:3.12}]}");
        return;
    }
    if (node->count > KEEP_LIMIT) {
        config_problem_add(&reader->problems, node->place, "keep.keeps",
                           "%zu keeps are too many; the most is %d", node->count, KEEP_LIMIT);
        return;
    }
    keep->keeps = config_keep(reader, (node->count + 1) * sizeof *keep->keeps);
    for (const struct yaml_node *item = node->first; keep->keeps && item; item = item->next) {
        char path[KEY_PATH_SIZE];
        snprintf(path, sizeof path, "keep.keeps[%zu]", keep->keep_count);
        read_one(reader, item, path, &keep->keeps[keep->keep_count++]);
        check_repeated(reader, item, keep, path);
    }
}

void config_read_keep(struct config_reader *reader, const struct yaml_node *node) {
    const struct yaml_node *keeps = node->kind == YAML_MAP ? yaml_node_get(node, "keeps") : NULL;
    if (keeps)
        read_keeps(reader, keeps);
}
