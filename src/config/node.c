/* The configuration of tarn node: its file, its environment and its flags. */
#include <stdlib.h>
#include "base/cleanup.h"
#include "config/config.h"
#include "config/defaults.h"
#include "config/inputs.h"
#include "config/upstream_list.h"

/* The registries that are asked behind the tarns: none, unless the file lists some. */
static void read_upstreams(struct config_reader *reader, const struct yaml_node *root) {
    struct config *config = &reader->loaded->config;
    const struct yaml_node *list =
        root && root->kind == YAML_MAP ? yaml_node_get(root, "upstreams") : NULL;
    if (list)
        config_read_upstreams(reader, list);
    config->node.spans.upstreams = config->upstreams;
    config->node.spans.upstream_count = config->upstream_count;
}

struct config *config_node_parse(struct text bytes, const char *name,
                                 const struct config_flags *flags, char *const *environment,
                                 struct buffer *problems) {
    cleanup_free struct config_reader *reader =
        calloc(1, sizeof *reader); /* too large for a stack */
    struct config_loaded *loaded = calloc(1, sizeof *loaded);
    cleanup_yaml_node struct yaml_node *root = NULL;
    if (!reader || !loaded) {
        free(loaded);
        buffer_printf(problems, "%s: out of memory\n", name ? name : "tarn node");
        return NULL;
    }
    reader->loaded = loaded;
    loaded->table = &config_node_document;
    config_set_defaults(loaded);
    bool is_readable = true;
    if (name) {
        loaded->config.file = name = config_keep_text(reader, text_of(name));
        is_readable = name && config_yaml_read(bytes, name, &reader->problems, &root);
    }
    bool is_empty = !root || (root->kind == YAML_SCALAR && !*root->text);
    if (!is_empty)
        config_read_file(reader, root);
    config_read_environment(reader, environment);
    config_read_flags(reader, flags);
    if (is_readable) {
        read_upstreams(reader, root);
        config_warn_of_variables(reader, environment);
    }
    if (reader->no_memory)
        buffer_printf(problems, "%s: out of memory\n", name ? name : "tarn node");
    config_problems_write(&reader->problems, problems);
    if (is_readable && !reader->no_memory && reader->problems.count == 0)
        return &loaded->config;
    config_free(&loaded->config);
    return NULL;
}
