/* The list of images that are pulled before a client asks for them. */
#include "config/warm_list.h"

#include <stdio.h>
#include "config/checks.h"
#include "config/map.h"
#include "config/value.h"

static const struct config_option warm_options[] = {
    {.key = "images",
     .type = CONFIG_LIST,
     .offset = offsetof(struct warm_entry, images),
     .least = 1,
     .check = config_check_image},
    {.key = "platforms",
     .type = CONFIG_LIST,
     .offset = offsetof(struct warm_entry, platforms),
     .least = 1,
     .check = config_check_platform},
    {.key = "every",
     .type = CONFIG_DURATION,
     .offset = offsetof(struct warm_entry, every_ms),
     .size = sizeof(int64_t),
     .least = 1000},
};

void config_read_warm(struct config_reader *reader, const struct yaml_node *node) {
    static const char *const known[] = {"images", "platforms", "every", NULL};
    if (node->kind != YAML_LIST) {
        config_problem_add(&reader->problems, node->place, "warm",
                           "expected a list; write for example - images: [alpine:3.20]");
        return;
    }
    struct config *config = &reader->loaded->config;
    config->warm = config_keep(reader, (node->count + 1) * sizeof *config->warm);
    if (!config->warm)
        return;
    size_t index = 0;
    for (const struct yaml_node *entry = node->first; entry; entry = entry->next, index++) {
        char path[KEY_PATH_SIZE];
        snprintf(path, sizeof path, "warm[%zu]", index);
        if (!config_read_map(reader, entry, path, known))
            continue;
        struct warm_entry *warm = &config->warm[config->warm_count++];
        for (size_t i = 0; i < sizeof warm_options / sizeof *warm_options; i++) {
            const struct yaml_node *value = yaml_node_get(entry, warm_options[i].key);
            char value_path[KEY_PATH_SIZE];
            snprintf(value_path, sizeof value_path, "%.100s.%s", path, warm_options[i].key);
            if (value)
                config_read_value(reader, &warm_options[i], warm, value, value_path);
        }
        if (!yaml_node_get(entry, "images"))
            config_problem_add(&reader->problems, entry->place, path,
                               "images is missing; write for example images: [alpine:3.20]");
    }
}
